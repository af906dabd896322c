#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod check;
pub mod error;
pub mod format;
pub mod lock;
pub mod read;
pub mod write;

pub use self::check::recover::{Recovered, recover};
pub use self::check::repair::{Repaired, Unrepaired, repair_dir};
pub use self::check::verify::{Verified, verify};
pub use self::error::{Error, LogError};
pub use self::lock::Lock;
pub use self::read::catalog;
pub use self::read::messages::{Message, Reader, Tail, Visitor, Wanted};
pub use self::write::log::{Channel, Log, LogOptions};
pub use self::write::segment::{ChannelSpec, Compression, SchemaSpec};
