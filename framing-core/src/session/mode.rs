//! What a sender of a session can do beside the protocol's minimum: [`Mode`].

use crate::sealed::Sealed;

/// What a [`SessionSender`](super::SessionSender) can do beside the protocol's minimum. Costs code only if it is chosen. Sealed.
pub trait Mode: Sealed + Copy {
    /// The session can be continued after a reset, so the check value of a WELCOME is compared.
    #[doc(hidden)]
    const IS_RETAINED: bool;
    /// Messages can be sent before the WELCOME.
    #[doc(hidden)]
    const IS_EAGER: bool;
    /// Before the first HELLO.
    #[doc(hidden)]
    const NEW: Self;

    /// Stores the number after the messages that a HELLO offers, in its low 32 bits.
    #[doc(hidden)]
    fn offer(&mut self, _number: u32) {}

    /// The stored number.
    #[doc(hidden)]
    fn offered(&self) -> u32 {
        0
    }
}

/// The ring is lost with the session at a reset, and messages wait for the WELCOME.
impl Mode for () {
    const IS_RETAINED: bool = false;
    const IS_EAGER: bool = false;
    const NEW: Self = ();
}

/// [`Mode`]: the ring and the session can outlive a reset: see [`Saved`](super::Saved).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Retained {
    _private: (),
}

/// [`Mode`]: as [`Retained`], and a sender of a known session does not wait for the WELCOME if its device asks for
/// [it](super::Device::with_eager_start).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Eager {
    offered: u32,
}

impl Sealed for () {}
impl Sealed for Retained {}
impl Sealed for Eager {}

impl Mode for Retained {
    const IS_RETAINED: bool = true;
    const IS_EAGER: bool = false;
    const NEW: Self = Self { _private: () };
}

impl Mode for Eager {
    const IS_RETAINED: bool = true;
    const IS_EAGER: bool = true;
    const NEW: Self = Self { offered: 0 };

    fn offer(&mut self, number: u32) {
        self.offered = number;
    }

    fn offered(&self) -> u32 {
        self.offered
    }
}
