#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod advice;
mod assembler;
mod batch;
mod check;
mod confirm;
mod connect;
mod cursor;
mod dispatch;
mod failure;
mod fetched;
mod files;
mod forwarder;
mod gaps;
mod gather;
mod identity;
mod lane;
mod linger;
mod list;
pub mod message;
mod nats;
pub mod place;
mod progress;
mod raw;
pub mod reader;
pub mod stored;
pub mod stream;
pub mod subject;

pub use self::batch::Kind;
pub use self::check::{CheckError, Wish};
pub use self::confirm::{Confirm, NumberGap, Unsettled};
pub use self::connect::{ConnectError, Credentials, NatsOptions};
pub use self::cursor::CURSOR_FILES;
pub use self::forwarder::{Forwarder, Forwarding};
pub use self::identity::instance_of;
pub use self::nats::{BODY_MAX, Nats};
pub use self::progress::{Progress, ProgressSnapshot, REASONS, Unread};
