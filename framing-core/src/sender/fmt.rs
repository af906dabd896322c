//! `Debug` and `defmt::Format` of a [`Sender`].

use core::fmt;

use super::Sender;
use crate::framing::Framing;

impl<F: Framing<Encoder: fmt::Debug>> fmt::Debug for Sender<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("encoder", &self.encoder)
            .field("at", &self.at)
            .field("left", &self.left)
            .field("torn", &self.is_mid_block())
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<F: Framing<Encoder: defmt::Format>> defmt::Format for Sender<F> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Sender({}, left {}, torn {})",
            self.encoder,
            self.left,
            self.is_mid_block()
        );
    }
}
