//! The sessions of a recording: an [`Entry`] states numbers, [`fold`] returns where each session
//! continues, and a [`SessionAudit`] whether all its messages are there.
//!
//! A recording is the journal of its sessions. The numbers of their messages are in the same chunks as the messages, and
//! everything else that moves a number is an entry in these chunks.

mod audit;
mod audited;
mod entry;
mod fold;
mod numbers;
mod records;
mod snapshot;
mod table;

pub use self::audit::SessionAudit;
pub use self::audited::AuditedSession;
pub use self::entry::{Entry, Snapshot, numbering, sessions_channel};
pub use self::fold::{Folded, FoldedSession, Unread, UnreadCause, fold};
pub(crate) use self::numbers::NumberSet;
pub(crate) use self::records::NumberTracker;
pub(crate) use self::table::SessionTable;
pub use blocksd_engine::session::GapCause;
pub use blocksd_recording::topic::{FIRST_KEY, SESSION_KEY, SESSIONS_TOPIC};
