//! The file format: names, records, chunks, and the nonce of a file.

pub mod chunk;
pub mod encode;
pub mod filename;
pub mod nonce;
pub mod record;
