//! Chunks of an MCAP file: [`check`] says whether one is whole, and [`content`] returns its records.

use std::fmt;
use std::io::Read;

use mcap::records::{ChunkHeader, Record, op};

use crate::format::nonce::{self, FileNonce};
use crate::format::origin;
use crate::format::private;
use crate::format::record::{GAP, HEAD_LEN, Raw, head};

/// Longest chunk that is read, in bytes, compressed or not: a message of 1 GiB, which is the longest that is kept
/// whole, and the records that may precede it.
pub(crate) const CHUNK_MAX: u64 = (1 << 30) + (64 << 20);

/// Longest content of a compressed chunk that is always read, in bytes.
const PLAIN_MIN: u64 = 16 << 20;
/// A longer content is read if it is at most this many times as long as its compressed form.
const RATIO_MAX: u64 = 64;

/// Longest schema or channel that is read, in bytes.
pub(crate) const DEFINITION_MAX: usize = 4 << 20;

/// Bytes from the start of a chunk record to its data, without the name of the compression.
const FIXED_LEN: u64 = HEAD_LEN as u64 + 28 + 4 + 8;

/// Bytes that [`Extent::of`] needs for a chunk of this library.
pub(crate) const EXTENT_LEN: usize = FIXED_LEN as usize + 4;

/// Longest name of a compression in a chunk of another program, in bytes.
const NAME_MAX: usize = 32;

/// Bytes that [`Extent::of`] needs for any chunk.
pub(crate) const EXTENT_MAX: usize = FIXED_LEN as usize + NAME_MAX;

/// The names of the compressions that are read.
const COMPRESSIONS: [&[u8]; 3] = [b"", b"lz4", b"zstd"];

/// Bytes of a chunk record that [`nonce()`] needs. The first compressed block ends within them.
pub(crate) const HEAD_MAX: usize = 256 << 10;

/// Largest window of Zstandard for [`nonce()`], as a power of two. This library writes smaller ones.
const WINDOW_LOG_MAX: u32 = 24;

/// Length of the record with the nonce, in bytes.
const NONCE_LEN: u64 = HEAD_LEN as u64 + 8;

/// The first bytes of content compressed with Zstandard.
pub(crate) const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// The first bytes of content compressed with LZ4.
pub(crate) const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

/// A whole chunk: its lengths agree and its CRC is correct.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// Offset of its record in the file.
    pub offset: u64,
    /// Its header.
    pub header: ChunkHeader,
    /// Its record, as stored in the file.
    pub bytes: &'a [u8],
    /// Its content, decompressed.
    pub records: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Iterates over the records of the chunk. Each comes with its offset in the content.
    pub fn records(&self) -> impl Iterator<Item = (u64, Raw<'a>)> + use<'a> {
        let (all, mut rest) = (self.records.len(), self.records);
        std::iter::from_fn(move || {
            let offset = (all - rest.len()) as u64;
            Raw::take(&mut rest).map(|raw| (offset, raw))
        })
    }
}

/// Why a chunk is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkFault {
    /// It extends beyond the end of the file.
    Cut {
        /// Its length in bytes.
        len: u64,
        /// Bytes that the file has of it.
        have: u64,
    },
    /// Its lengths contradict each other or its content, or exceed a limit.
    Lengths,
    /// Its compression is not supported.
    Compression(String),
    /// It cannot be decompressed.
    Corrupt,
    /// The CRC of its content does not match.
    Crc {
        /// The stored CRC.
        stored: u32,
        /// The calculated CRC.
        calculated: u32,
    },
    /// Its content contains an invalid record.
    Records {
        /// Offset of the first invalid record in the content, in bytes.
        offset: u64,
    },
    /// It is whole, but belongs to another recording: a payload that looks like a chunk.
    Foreign,
    /// It is short, and its content is long. Such chunks are not read, because each would take the memory of its content.
    TooLong {
        /// Length of its content in bytes.
        len: u64,
        /// Longest content of a chunk of its length, in bytes.
        max: u64,
    },
    /// A schema or channel is too long, or all of the file are too long together. A reader would keep them in memory.
    Definitions {
        /// The limit, in bytes.
        max: u64,
    },
}

/// The decompressed content of chunks, one after another.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    bytes: Vec<u8>,
    /// Whether the last chunk has schemas or channels.
    has_definitions: bool,
}

impl Plain {
    /// Returns whether the last chunk has schemas or channels.
    pub(crate) const fn has_definitions(&self) -> bool {
        self.has_definitions
    }
}

/// Returns the length of the longest content of a chunk with this compressed length, in bytes.
#[must_use]
pub(crate) const fn plain_max(compressed_len: u64) -> u64 {
    let max = compressed_len.saturating_mul(RATIO_MAX);
    match max {
        ..=PLAIN_MIN => PLAIN_MIN,
        CHUNK_MAX.. => CHUNK_MAX,
        max => max,
    }
}

/// The declared length of a chunk, if all of its lengths agree. A damaged length is detected because it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Length of its record, including opcode and length, in bytes.
    pub len: u64,
    /// Length of its decompressed content, in bytes.
    pub uncompressed_len: u64,
}

impl Extent {
    /// Parses the first [`EXTENT_MAX`] bytes of a chunk record. With `strict`, it must be as this library writes it:
    /// without fields of a later version, and in a known compression.
    #[must_use]
    pub(crate) fn of(bytes: &[u8], strict: bool) -> Option<Self> {
        let (opcode, _) = head(bytes)?;
        (opcode == op::CHUNK).then(|| Self::of_any(bytes, strict))?
    }

    /// As [`of`](Self::of), for any opcode. A record with another opcode and the lengths of a chunk is a damaged chunk.
    #[must_use]
    pub(crate) fn of_any(bytes: &[u8], strict: bool) -> Option<Self> {
        let (_, len) = head(bytes)?;
        let long = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let uncompressed_len = long(HEAD_LEN + 16)?;
        let name_len =
            usize::try_from(u32::from_le_bytes(*bytes.get(37..)?.first_chunk()?)).ok()?;
        let name = bytes.get(41..41_usize.checked_add(name_len)?)?;
        let compressed_len = long(41 + name_len)?;
        let fixed = FIXED_LEN + name_len as u64;
        let len = len.checked_add(HEAD_LEN as u64)?;
        let known_len = compressed_len.checked_add(fixed)?;
        let is_known = COMPRESSIONS.contains(&name);
        let is_name = || name.len() <= NAME_MAX && name.iter().all(u8::is_ascii_graphic);
        let agree = (is_known || (!strict && is_name()))
            && (len == known_len || (!strict && known_len < len))
            && len <= CHUNK_MAX.saturating_add(fixed)
            && compressed_len <= CHUNK_MAX
            && uncompressed_len <= CHUNK_MAX
            && (!name.is_empty() || compressed_len == uncompressed_len);
        agree.then_some(Self {
            len,
            uncompressed_len,
        })
    }
}

/// Returns the name of the compression of a chunk whose lengths agree, if it is not supported.
#[must_use]
pub(crate) fn unknown_compression(bytes: &[u8]) -> Option<String> {
    let is_strict = Extent::of(bytes, true).is_some();
    Extent::of(bytes, false).filter(|_| !is_strict)?;
    let name_len = usize::try_from(u32::from_le_bytes(*bytes.get(37..)?.first_chunk()?)).ok()?;
    let name = bytes.get(41..41_usize.checked_add(name_len)?)?;
    let is_known = COMPRESSIONS.contains(&name);
    (!is_known).then(|| String::from_utf8_lossy(name).into_owned())
}

/// Checks the record of a chunk. If it is compressed, `plain` holds the content afterwards. A stored CRC of 0 means
/// that there is none, and a record may have fields of a later version; with `strict`, neither is accepted.
///
/// # Errors
/// Why the chunk is not whole.
pub(crate) fn check(
    bytes: &[u8],
    strict: bool,
    plain: &mut Plain,
) -> Result<ChunkHeader, ChunkFault> {
    let mut rest = bytes;
    let raw = Raw::take(&mut rest).ok_or(ChunkFault::Lengths)?;
    let Some(Record::Chunk { header, data }) = raw.parse() else {
        return Err(ChunkFault::Lengths);
    };
    if CHUNK_MAX < header.uncompressed_size || (strict && !raw.is_well_formed()) {
        return Err(ChunkFault::Lengths);
    }
    let data: &[u8] = &data;
    plain.has_definitions = false;
    plain.bytes.clear();
    let content = if header.compression.is_empty() {
        data
    } else {
        decompress(&header, data, &mut plain.bytes)?;
        &plain.bytes
    };
    if content.len() as u64 != header.uncompressed_size {
        return Err(ChunkFault::Lengths);
    }
    let (stored, calculated) = (header.uncompressed_crc, crc32fast::hash(content));
    if stored != calculated && (strict || stored != 0) {
        return Err(ChunkFault::Crc { stored, calculated });
    }
    let mut has_definitions = false;
    let mut records = content;
    while !records.is_empty() {
        let offset = (content.len() - records.len()) as u64;
        let raw = Raw::take(&mut records).ok_or(ChunkFault::Records { offset })?;
        let sound = match raw.opcode {
            op::MESSAGE => raw.is_well_formed(),
            op::SCHEMA | op::CHANNEL => {
                has_definitions = true;
                // Parsing takes memory.
                if DEFINITION_MAX < raw.body.len() {
                    let max = DEFINITION_MAX as u64;
                    return Err(ChunkFault::Definitions { max });
                }
                raw.parse().is_some() && (!strict || raw.is_well_formed())
            }
            // Other records have no meaning in a chunk.
            _ => true,
        };
        if !sound {
            return Err(ChunkFault::Records { offset });
        }
    }
    plain.has_definitions = has_definitions;
    Ok(header)
}

/// Returns the content of a chunk that [`check`] has accepted.
#[must_use]
pub(crate) fn content<'a>(bytes: &'a [u8], header: &ChunkHeader, plain: &'a Plain) -> &'a [u8] {
    if header.compression.is_empty() {
        let begin = usize::try_from(FIXED_LEN).unwrap_or_default();
        let data = bytes.get(begin..).unwrap_or_default();
        // Fields of a later version may follow.
        let len = usize::try_from(header.compressed_size).unwrap_or(usize::MAX);
        data.get(..len).unwrap_or(data)
    } else {
        &plain.bytes
    }
}

/// Returns the nonce of a chunk from the beginning of its record; [`HEAD_MAX`] bytes are enough. Does not check the
/// CRC.
#[must_use]
pub(crate) fn nonce(bytes: &[u8]) -> Option<FileNonce> {
    let name_len = u32::from_le_bytes(*bytes.get(37..)?.first_chunk()?);
    let name_end = 41_usize.checked_add(usize::try_from(name_len).ok()?)?;
    let name = str::from_utf8(bytes.get(41..name_end)?).ok()?;
    nonce_of_content(name, bytes.get(name_end.checked_add(8)?..)?)
}

/// Whether the last bytes of a file are the beginning of an unfinished chunk of that file, as far as they show: the
/// nonce is admitted, and the records are of the types that a chunk contains.
#[must_use]
pub(crate) fn is_begun(bytes: &[u8], admits: &dyn Fn(Option<FileNonce>) -> bool) -> bool {
    let own = nonce(bytes.get(..HEAD_MAX).unwrap_or(bytes));
    let begin = usize::try_from(FIXED_LEN).unwrap_or_default();
    let is_compressed = bytes.get(37..41).is_some_and(|name_len| name_len != [0; 4]);
    let mut rest = bytes.get(begin..).unwrap_or_default();
    if is_compressed || (rest.len() as u64) < NONCE_LEN {
        // The first compressed block may be missing.
        return own.is_none() || admits(own);
    }
    let is_known = |opcode| {
        matches!(
            opcode,
            op::SCHEMA
                ..=op::MESSAGE
                    | nonce::OPCODE
                    | GAP
                    | origin::OPCODE
                    | private::VOID
                    | private::SYNCED
        )
    };
    while let Some(raw) = Raw::take(&mut rest) {
        if !is_known(raw.opcode) || (raw.opcode <= op::MESSAGE && !raw.is_well_formed()) {
            return false;
        }
    }
    admits(own) && rest.first().is_none_or(|&opcode| is_known(opcode))
}

/// Returns the nonce at the beginning of compressed content.
#[must_use]
pub(crate) fn nonce_of_content(compression: &str, content: &[u8]) -> Option<FileNonce> {
    let mut plain = Vec::new();
    let read = match compression {
        "" => return FileNonce::of_chunk(content),
        "lz4" => {
            lz4::Decoder::new(content).and_then(|it| it.take(NONCE_LEN).read_to_end(&mut plain))
        }
        "zstd" => zstd::stream::read::Decoder::with_buffer(content).and_then(
            |mut it: zstd::stream::read::Decoder<'_, &[u8]>| {
                it.window_log_max(WINDOW_LOG_MAX)?;
                it.take(NONCE_LEN).read_to_end(&mut plain)
            },
        ),
        _ => return None,
    };
    read.ok().and_then(|_| FileNonce::of_chunk(&plain))
}

/// Decompresses the content of a chunk. Takes memory of the declared length, which has a limit.
fn decompress(header: &ChunkHeader, data: &[u8], plain: &mut Vec<u8>) -> Result<(), ChunkFault> {
    let (len, max) = (header.uncompressed_size, plain_max(data.len() as u64));
    if max < len {
        return Err(ChunkFault::TooLong { len, max });
    }
    plain.reserve_exact(usize::try_from(len).unwrap_or_default());
    let read = match header.compression.as_str() {
        // One byte more reveals content that is longer than declared.
        "lz4" => lz4::Decoder::new(data).and_then(|it| it.take(len + 1).read_to_end(plain)),
        // In one step, so that the content is the window.
        "zstd" => zstd::bulk::Decompressor::new()
            .and_then(|mut zstd| zstd.decompress_to_buffer(data, plain)),
        other => return Err(ChunkFault::Compression(other.to_owned())),
    };
    read.map_err(|_| ChunkFault::Corrupt).map(|_| ())
}

impl fmt::Display for ChunkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { len, have } => write!(f, "chunk of {len} bytes ends after {have}"),
            Self::Lengths => f.write_str("lengths of the chunk do not agree"),
            Self::Compression(name) => {
                write!(f, "compression `{name}` of the chunk is not supported")
            }
            Self::Corrupt => f.write_str("chunk cannot be decompressed"),
            Self::Crc { stored, calculated } => {
                write!(
                    f,
                    "CRC of the chunk: expected {stored:08x}, found {calculated:08x}"
                )
            }
            Self::Records { offset } => {
                write!(f, "invalid record at {offset} of the chunk's content")
            }
            Self::Foreign => f.write_str("chunk of another recording"),
            Self::TooLong { len, max } => write!(
                f,
                "chunk has {len} bytes decompressed, more than the limit of {max} for its length"
            ),
            Self::Definitions { max } => write!(
                f,
                "chunk has schemas or channels beyond the limit of {max} bytes"
            ),
        }
    }
}
