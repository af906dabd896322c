//! Appends the records that rustls writes to a buffer that grows: [`append`].

use rustls::unbuffered::{EncodeError, EncryptError};

/// An error that may say how much room is needed.
pub(super) trait NeedsRoom: std::error::Error + Send + Sync + 'static {
    fn required(&self) -> Option<usize>;
}

impl NeedsRoom for EncodeError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl NeedsRoom for EncryptError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Appends what `encode` writes, with `room` bytes or as many as it needs.
pub(super) fn append<E: NeedsRoom>(
    to: &mut Vec<u8>,
    room: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), rustls::Error> {
    let start = to.len();
    let mut room = room;
    for _ in 0..2 {
        to.resize(start + room, 0);
        match encode(to.get_mut(start..).unwrap_or_default()) {
            Ok(len) => {
                to.truncate(start + len);
                return Ok(());
            }
            Err(error) => {
                to.truncate(start);
                match error.required() {
                    Some(required) => room = required,
                    None => return Err(rustls::Error::General(error.to_string())),
                }
            }
        }
    }
    Err(rustls::Error::General("a record has no length".to_owned()))
}
