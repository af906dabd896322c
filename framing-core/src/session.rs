//! Acknowledged sessions: a sender learns that each of its messages is durable at the receiver, and no message is
//! recorded twice.
//!
//! A device keeps its messages in the ring of a [`SessionSender`] until the receiver acknowledges them, and sends the rest
//! again after each interruption. A host counts with a [`SessionReceiver`] for each session. Both are sans-IO: they do no
//! I/O, read no clock, and can be explored by a model. The frames are in [`wire`]. Every frame is a message of
//! [`Blocks`](crate::Blocks), in both directions, and a message of a session has no byte more than without one.
//!
//! The wire format and the state machines are those of `docs/sessions.md`, version 1.
//!
//! ```
//! use framing_core::session::wire::HELLO_WIRE_MAX;
//! use framing_core::session::{Device, Full, Heard, SessionSender};
//!
//! let mut ring = [0; 64];
//! let mut sender: SessionSender<_> = SessionSender::new(&mut ring, Full::DropOldest);
//! sender.push(b"temp=21.5")?;
//!
//! // After the connect: write the HELLO, then wait for the WELCOME.
//! let device = Device::new("boiler-7").expect("letters, digits and hyphens");
//! let mut hello = [0; HELLO_WIRE_MAX];
//! let hello = sender.hello(&device, 0, &mut hello);
//! assert_eq!(&hello[..4], [0, 0, 0, 56]);
//! assert!(sender.chunk(0).is_empty());
//!
//! // The host answers: nothing is durable yet, and the session has the number 9.
//! let mut welcome = [0; 44];
//! welcome[0] = 1;
//! welcome[23] = 9;
//! assert!(matches!(sender.heard(&welcome), Ok(Heard::Welcome { .. })));
//!
//! // Write what `chunk` returns, and report how much of it was written.
//! while let len @ 1.. = sender.chunk(0).len() {
//!     sender.wrote(len);
//! }
//! assert_eq!(sender.unacknowledged().blocks, 1);
//!
//! // Everything below 1 is durable.
//! assert_eq!(sender.heard(&[2, 0, 0, 0, 0, 0, 0, 1]), Ok(Heard::Acknowledged));
//! assert!(sender.is_settled());
//! # Ok::<(), framing_core::session::PushError>(())
//! ```

mod clock;
mod crc;
mod device;
mod heard;
pub(crate) mod link;
mod mode;
mod push;
mod receiver;
mod ring;
mod saved;
mod sender;
pub mod wire;
mod words;

pub use self::clock::HostClock;
pub use self::crc::crc32;
pub use self::device::{Device, DeviceError};
pub use self::heard::{Heard, HeardError};
pub use self::link::LinkError;
pub use self::mode::{Eager, Mode, Retained};
pub use self::push::PushError;
pub use self::receiver::{
    Continued, Counted, Gap, NotOwner, Resumed, SessionReceiver, Unresumable, Written,
};
pub use self::saved::Saved;
pub use self::sender::{Full, SessionSender, Unacknowledged};
