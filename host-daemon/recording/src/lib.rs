#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod check;
mod durability;
mod durable;
mod error;
mod format;
mod lock;
mod pack;
mod read;
mod write;

pub use self::check::finding::{Finding, FindingKind};
pub use self::check::recover::Recovered;
pub use self::check::repair::{Repaired, Unrepaired};
pub use self::check::sequences::{SequenceRange, SequenceRanges};
pub use self::check::verify::Verified;
pub use self::check::{Checker, recover, repair_dir, verify};
pub use self::durability::Durability;
pub use self::durable::sync_directory;
pub use self::error::{Error, ErrorKind, LogError};
pub use self::format::filename::parent;
pub use self::format::nonce::FileNonce;
pub use self::format::origin::MessageOrigin;
pub use self::lock::Lock;
pub use self::pack::{Packed, Packer};
pub use self::read::catalog;
pub use self::read::gaps::Missed;
pub use self::read::loss::{LossCause, Losses, LostRange};
pub use self::read::message::{ChannelInfo, Message, Wanted};
pub use self::read::messages::{Reader, Visitor};
pub use self::read::position::TailPosition;
pub use self::read::tail::Tail;
pub use self::read::unreadable::UnreadableRange;
pub use self::read::window::WindowedFile;
pub use self::write::channel::{Channel, ChannelSpec, SchemaSpec};
pub use self::write::compress::Compression;
pub use self::write::epoch::CommitOutcome;
pub use self::write::log::Log;
pub use self::write::options::LogOptions;
pub use self::write::report::{LogReport, SpaceLimit};
pub use self::write::retention::Retention;
pub use self::write::retry::LogContext;
pub use self::write::stats::{SYNC_BOUNDS_MS, Stats, StatsSnapshot, WriteErrorKind};

/// Reads one file chunk by chunk: the level below [`Reader`]. Start with [`Scan`](scan::Scan).
pub mod scan {
    pub use crate::format::chunk::{Chunk, ChunkFault};
    pub use crate::format::origin::Origins;
    pub use crate::format::record::Raw;
    pub use crate::read::scan::{Found, Scan};
    pub use crate::read::summary::{ChunkLocation, Summary, SummaryFault};
}

/// The topics that `blocksd` uses, and the [`Kind`](topic::Kind) of messages in each.
pub mod topic {
    pub use crate::format::private::{FIRST_KEY, SESSION_KEY};
    pub use crate::format::record::{
        DEVICE, EVENTS_TOPIC, Kind, SESSIONS_TOPIC, UNCONFIRMED, UNKNOWN_TOPIC, device,
    };
}

/// For the tests of this workspace. May change at any time.
#[doc(hidden)]
pub mod internals {
    pub use crate::format::filename;
    pub use crate::read::unreadable::ReadAt;
    pub use crate::write::storage;
}
