//! The file format: file names, records, chunks, the nonce of a file, the origins of messages, and private
//! records about syncs.

pub(crate) mod chunk;
pub(crate) mod definition;
pub(crate) mod encode;
pub mod filename;
pub(crate) mod index;
pub(crate) mod nonce;
pub(crate) mod origin;
pub(crate) mod private;
pub(crate) mod record;
