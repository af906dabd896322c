//! The file format: file names, records, chunks, and the nonce of a file.

pub(crate) mod chunk;
pub(crate) mod encode;
pub mod filename;
pub(crate) mod index;
pub(crate) mod nonce;
pub(crate) mod record;
