//! The file format: file names, records, chunks, the nonce of a file, and the origins of messages.

pub(crate) mod chunk;
pub(crate) mod definition;
pub(crate) mod encode;
pub mod filename;
pub(crate) mod index;
pub(crate) mod nonce;
pub(crate) mod origin;
pub(crate) mod record;
