//! Who a sender of a session is, and what it asks for: [`Device`].

use core::error::Error;
use core::fmt;

use super::wire::{DEVICE_MAX, TIME, is_device};

/// A device id: 1 to 64 letters, digits and `.`, `_`, `:`, `-`; and what the device asks for in its HELLO.
///
/// ```
/// use framing_core::session::Device;
///
/// let device = Device::new("pump-3").expect("an id").with_heartbeat(6).with_time();
/// assert_eq!(device.id(), "pump-3");
/// assert!(Device::new("pump 3").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Device<'a> {
    id: &'a str,
    pub(super) heartbeat: u8,
    pub(super) flags: u8,
    pub(super) is_eager: bool,
}

/// The text is no device id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceError {
    /// Its length in bytes.
    pub len: usize,
}

impl<'a> Device<'a> {
    /// A device that leaves the heartbeat to the host, and waits for each WELCOME.
    ///
    /// # Errors
    /// [`DeviceError`] if the text is no device id.
    pub const fn new(id: &'a str) -> Result<Self, DeviceError> {
        match is_device(id.as_bytes()) {
            true => Ok(Self {
                id,
                heartbeat: 0,
                flags: 0,
                is_eager: false,
            }),
            false => Err(DeviceError { len: id.len() }),
        }
    }

    /// The device id.
    #[must_use]
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// Asks for a heartbeat every `tens` times 10 s; 0: as the host likes; 255: none.
    #[must_use]
    pub const fn with_heartbeat(mut self, tens: u8) -> Self {
        self.heartbeat = tens;
        self
    }

    /// Asks for the host's time in each ACK.
    #[must_use]
    pub const fn with_time(mut self) -> Self {
        self.flags |= TIME;
        self
    }

    /// Sends messages of a known session without waiting for the WELCOME, in the [mode](super::Mode) [`Eager`](super::Eager): saves a round trip on each connection, and sends
    /// what the host may have already.
    #[must_use]
    pub const fn with_eager_start(mut self) -> Self {
        self.is_eager = true;
        self
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len } = self;
        write!(
            f,
            "the text of {len} bytes is no device id: 1 to {DEVICE_MAX} letters, digits, `.`, `_`, `:` or `-`"
        )
    }
}

impl Error for DeviceError {}
