//! Compresses the content of chunks: [`Compressor`].

use std::io::{self, Write};

use crate::format::chunk::plain_max;

/// The fastest level of zstd: a third less processor time than the default level, and a sixth more space.
const ZSTD_LEVEL: i32 = 1;

/// Compression of chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Zstandard for chunks that a commit ends, and no compression for chunks that fill up before a commit, so that a busy
    /// recorder spends no time on it. A chunk that compression does not shorten is stored uncompressed.
    #[default]
    Auto,
    /// No compression.
    None,
    /// LZ4: two to three times the processor time, and two thirds of the space for slowly changing samples.
    Lz4,
    /// Zstandard at its fastest level: three to four times the processor time, and a little over half of the space.
    Zstd,
}

/// Why a chunk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkEnd {
    /// It is full.
    Full,
    /// A commit makes its messages durable.
    Commit,
}

/// Compresses one chunk after another.
#[derive(Default)]
pub(super) struct Compressor {
    compression: Compression,
    /// The content of the last chunk, compressed.
    packed: Vec<u8>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            compression,
            ..Self::default()
        }
    }

    /// Compresses the content of a chunk. Returns the name of the compression and the compressed content, or `None` if the
    /// content is to be stored uncompressed.
    ///
    /// # Errors
    /// The error of the compression library, which fails only for lack of memory.
    pub(super) fn compress(
        &mut self,
        content: &[u8],
        end: ChunkEnd,
    ) -> io::Result<Option<(&'static str, &[u8])>> {
        self.packed.clear();
        let name = match (self.compression, end) {
            (Compression::None, _) | (Compression::Auto, ChunkEnd::Full) => return Ok(None),
            (Compression::Lz4, _) => {
                self.lz4(content)?;
                "lz4"
            }
            (Compression::Zstd | Compression::Auto, _) => {
                self.zstd(content)?;
                "zstd"
            }
        };
        let is_auto = self.compression == Compression::Auto;
        let is_smaller = self.packed.len() < content.len();
        // Readers refuse a chunk that takes much memory and is short.
        let is_read = content.len() as u64 <= plain_max(self.packed.len() as u64);
        Ok((is_read && (is_smaller || !is_auto)).then_some((name, self.packed.as_slice())))
    }

    fn lz4(&mut self, content: &[u8]) -> io::Result<()> {
        // Block checksums are off: the chunk has a CRC, and some MCAP readers calculate block checksums wrongly.
        let mut encoder = lz4::EncoderBuilder::new()
            .level(0)
            .block_checksum(lz4::liblz4::BlockChecksum::NoBlockChecksum)
            .build(std::mem::take(&mut self.packed))?;
        encoder.write_all(content)?;
        let (packed, finished) = encoder.finish();
        self.packed = packed;
        finished
    }

    fn zstd(&mut self, content: &[u8]) -> io::Result<()> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        self.packed
            .reserve(zstd::zstd_safe::compress_bound(content.len()));
        zstd.compress_to_buffer(content, &mut self.packed)
            .map(|_| ())
    }

    /// Frees memory beyond `len` bytes, which a long chunk has taken.
    pub(super) fn shrink_to(&mut self, len: usize) {
        self.packed.clear();
        self.packed.shrink_to(len);
    }
}
