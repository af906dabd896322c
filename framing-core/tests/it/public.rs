//! Every public item of the crate has an example, and every public type a `defmt::Format`.

use std::fs;
use std::path::{Path, PathBuf};

/// Items that occur in signatures, and that programs do not name.
const HIDDEN: [&str; 23] = [
    "AnyDecoder",
    "AnyEncoder",
    "CheckedDecoder",
    "CheckedEncoder",
    "CheckedPiecesEncoder",
    "Checksum",
    "CobsDecoder",
    "CobsEncoder",
    "CobsPiecesEncoder",
    "CountedDecoder",
    "CountedEncoder",
    "Crc16",
    "Crc32",
    "DelimitedDecoder",
    "DelimitedEncoder",
    "Escaped",
    "ExactWindow",
    "SkipMax",
    "SlidingWindow",
    "Stage",
    "StreamDecoder",
    "StreamEncoder",
    "Window",
];

#[test]
fn every_public_type_trait_and_function_has_an_example() {
    let facade = fs::read_to_string(sources().join("lib.rs")).unwrap();
    let mut seen = 0;
    for path in files(&sources()) {
        let text = fs::read_to_string(&path).unwrap();
        let mut has_example = false;
        for line in text.lines() {
            if let Some(name) = public_name(line)
                && is_exported(&facade, name)
                && !HIDDEN.contains(&name)
            {
                assert!(has_example, "{name} in {} has no example", path.display());
                seen += 1;
            }
            if line.starts_with("///") {
                has_example |= line.starts_with("/// ```");
            } else if !line.starts_with("#[") && !line.starts_with("    ") && !line.starts_with(')')
            {
                has_example = false;
            }
        }
    }
    assert!(30 <= seen, "{seen} items were found");
}

/// Whether programs can name an item: it is in the facade, or in one of the public modules.
fn is_exported(facade: &str, name: &str) -> bool {
    let mut words = facade.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| word == name) || ["Framed", "Reader", "Writer"].contains(&name)
}

/// The name of the public item that a line at the top level declares.
fn public_name(line: &str) -> Option<&str> {
    let item = line.strip_prefix("pub ")?;
    let rest = ["struct ", "enum ", "trait ", "fn "]
        .iter()
        .find_map(|kind| item.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let (folders, mut found): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    for folder in folders {
        found.extend(files(&folder));
    }
    found
}

/// Checked when the crate is built with its feature `defmt`.
#[cfg(feature = "defmt")]
mod formats {
    use framing_core::embedded_io::ErrorKind;
    use framing_core::{
        AnyDecoder, AnyEncoder, AnyFraming, Blocks, CheckedDecoder, CheckedEncoder,
        CheckedPiecesEncoder, Cobs, CobsCrc16, CobsCrc16Pieces, CobsCrc32, CobsCrc32Pieces,
        CobsDecoder, CobsEncoder, CobsPieces, CobsPiecesEncoder, CountedDecoder, CountedEncoder,
        Crc16, Crc32, Delimited, DelimitedDecoder, DelimitedEncoder, Escaped, ExactWindow, Fault,
        Fixed, Length, Limits, Lines, Netstring, OctetCounted, Parsed, Part, Polled, ReceiveError,
        Received, ReceivedPiece, Receiver, Refusal, Scanned, SendError, Sender, SlidingWindow,
        SpecError, Step, Stream, StreamDecoder, StreamEncoder, U8, U16, U16Le, U32, U32Le, Varint,
        asynch, blocking,
    };

    type Io = &'static mut [u8];
    type Memory = [u8; 4];

    #[test]
    fn every_public_type_has_a_format() {
        fn check<T: defmt::Format>() {}
        macro_rules! check {
            ($($of:ty,)*) => { $(check::<$of>();)* };
        }
        check! {
            Fault, Part, Refusal, ReceiveError<ErrorKind>, SendError<ErrorKind>, SpecError,
            Limits, Scanned, Step, Parsed, Polled, Received<'_>, ReceivedPiece<'_>,
            AnyFraming, Blocks, Cobs, CobsCrc16, CobsCrc16Pieces, CobsCrc32, CobsCrc32Pieces, CobsPieces, Delimited, Fixed, Length<U8>, Lines, Netstring, OctetCounted, Stream, Varint,
            U8, U16, U16Le, U32, U32Le,
            Receiver<Blocks, Memory>, Receiver<Lines, Memory, u32>, Sender<Blocks>, Sender<Cobs>, Sender<AnyFraming>,
            blocking::Reader<Io, Blocks, Memory>, blocking::Writer<Io, Cobs>, blocking::Framed<Io, Lines, Memory>,
            asynch::Reader<Io, Blocks, Memory>, asynch::Writer<Io, Cobs>, asynch::Framed<Io, Lines, Memory>,
            AnyDecoder, AnyEncoder, CobsDecoder, CobsEncoder, CobsPieces, CobsPiecesEncoder, CheckedDecoder<Crc16>, CheckedEncoder<Crc32>, CheckedPiecesEncoder<Crc16>, CountedDecoder<Blocks>, CountedEncoder<Blocks>,
            DelimitedDecoder, DelimitedEncoder, StreamDecoder, StreamEncoder, ExactWindow, SlidingWindow, Escaped<4>,
        }
    }
}
