//! `blocksd verify`: every flipped bit of a sealed recording is found, and sound files are accepted.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blocksd::recorded::ranges::CHECKER;
use blocksd_recording::catalog::list_directory;
use blocksd_recording::scan::Summary;
use blocksd_recording::{
    Channel, ChannelSpec, Compression as LogCompression, Log, LogContext, LogOptions, Packer,
    Retention, Verified, WindowedFile,
};
use blocksd_tests::recorded::record;
use blocksd_tests::recording::{BEGIN, File, Sample, put};
use mcap::Compression;

const COMPRESSIONS: [LogCompression; 3] = [
    LogCompression::None,
    LogCompression::Lz4,
    LogCompression::Zstd,
];

fn check(path: &Path) -> (Verified, Vec<String>) {
    let mut wrong = Vec::new();
    let input = WindowedFile::open(path).unwrap();
    let verified = CHECKER
        .verify(input, false, &mut |it| wrong.push(it.to_string()))
        .unwrap();
    assert_eq!(verified.findings, wrong.len() as u64);
    (verified, wrong)
}

/// Flips each bit, and returns those that are not found.
fn unnoticed(bytes: &[u8]) -> Vec<usize> {
    let directory = tempfile::tempdir().unwrap();
    let path = put(directory.path(), 1, "mcap", bytes);
    assert_eq!(check(&path).1, Vec::<String>::new());
    let file = fs::File::options().write(true).open(&path).unwrap();
    let mut unnoticed = Vec::new();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            use std::os::unix::fs::FileExt;
            file.write_all_at(&[bytes[at] ^ (1 << bit)], at as u64)
                .unwrap();
            if check(&path).0.findings == 0 {
                unnoticed.push(at * 8 + bit);
            }
        }
        use std::os::unix::fs::FileExt;
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
    unnoticed
}

fn small(compression: Option<Compression>, data_crc: bool) -> Vec<u8> {
    let sample = Sample {
        compression,
        data_crc,
        chunks: 2,
        devices: 1,
        blocks: 1,
        first: u32::MAX,
    };
    sample.sealed().0
}

#[test]
fn every_flipped_bit_of_a_recording_is_found() {
    for compression in COMPRESSIONS {
        let folder = tempfile::tempdir().unwrap();
        let chunks = [vec![b"one".to_vec()], vec![b"two".to_vec()]];
        let path = record(folder.path(), "d", compression, &chunks);
        let bytes = fs::read(path).unwrap();
        assert_eq!(unnoticed(&bytes), [0; 0], "{compression:?}");
    }
}

#[test]
fn every_flipped_bit_of_a_packed_recording_is_found() {
    for compression in [LogCompression::Lz4, LogCompression::Zstd] {
        let folder = tempfile::tempdir().unwrap();
        let context = LogContext::open(folder.path(), Arc::default(), Retention::new(None));
        let context = Arc::new(context.unwrap());
        let options = LogOptions {
            compression,
            ..LogOptions::default()
        };
        let mut log = Log::after_others(options, Arc::clone(&context)).unwrap();
        let mut channel = Channel::default();
        for sequence in 0..8 {
            let spec = || ChannelSpec {
                topic: "/device/d/blocks".to_owned(),
                ..ChannelSpec::default()
            };
            let channel = log.channel(&mut channel, spec).unwrap();
            log.append(channel, sequence, BEGIN, b"reading").unwrap();
            log.commit().unwrap();
        }
        log.finish().unwrap();
        let sealed = || {
            let files = list_directory(folder.path()).unwrap();
            fs::read(&files[0].path).unwrap()
        };
        let before = sealed();
        Packer::start(&context, compression).finish(Duration::from_secs(10));
        let packed = sealed();
        assert!(packed.len() < before.len());
        assert_eq!(unnoticed(&packed), [0; 0], "{compression:?}");
    }
}

#[test]
fn the_crc_of_a_recording_is_that_of_its_data_section() {
    // The writer combines it from those of chunks, so it is compared with one that is calculated at once.
    for compression in COMPRESSIONS {
        let folder = tempfile::tempdir().unwrap();
        let blocks = |seed: u8| (0..40).map(move |at| vec![seed ^ at; 100 + usize::from(at)]);
        let chunks: Vec<_> = (0..5).map(|seed| blocks(seed).collect()).collect();
        let path = record(folder.path(), "d", compression, &chunks);
        let bytes = fs::read(&path).unwrap();
        let summary = Summary::read(&mut WindowedFile::open(&path).unwrap());
        let summary = summary.unwrap().unwrap();
        let data = &bytes[..usize::try_from(summary.data_end).unwrap()];
        assert_ne!(summary.data_crc, 0);
        assert_eq!(summary.data_crc, crc32fast::hash(data), "{compression:?}");
    }
}

#[test]
fn every_flipped_bit_is_found_in_a_file_with_a_data_crc() {
    for compression in [None, Some(Compression::Lz4), Some(Compression::Zstd)] {
        assert_eq!(
            unnoticed(&small(compression, true)),
            [0; 0],
            "{compression:?}"
        );
    }
}

#[test]
fn in_a_file_without_a_data_crc_every_flipped_bit_is_found_except_in_a_digit_of_the_version() {
    // Earlier versions wrote such files.
    // The version of the daemon is stored only once, and every digit is valid: `0.1.0` and `0.1.1`.
    let bytes = small(None, false);
    let library = b"blocksd 0.1.0";
    let begin = bytes
        .windows(library.len())
        .position(|it| it == library)
        .unwrap();
    let digits = [8, 10, 12].map(|digit| begin + digit);
    for bit in unnoticed(&bytes) {
        let (at, bit) = (bit / 8, bit % 8);
        let flipped = bytes[at] ^ (1 << bit);
        assert!(
            digits.contains(&at) && flipped.is_ascii_digit(),
            "bit {bit} of byte {at}"
        );
    }
}

#[test]
fn a_flipped_bit_of_compressed_data_is_found_if_it_changes_the_data() {
    // Without a CRC of the data section there is the CRC of the decompressed chunk, and a few bits of a compressed stream do
    // not change that: flags, the window size, a match that is found at another place.
    for compression in [Compression::Lz4, Compression::Zstd] {
        let bytes = small(Some(compression), false);
        let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
        let data = summary.chunk_indexes.iter().map(|chunk| {
            let begin = chunk.compressed_data_offset().unwrap() as usize;
            begin..begin + chunk.compressed_size as usize
        });
        let data: Vec<_> = data.collect();
        let contents = |bytes: &[u8]| {
            let messages = mcap::MessageStream::new(bytes).unwrap();
            messages.map(|message| message.unwrap()).collect::<Vec<_>>()
        };
        let want = contents(&bytes);
        for bit in unnoticed(&bytes) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if data.iter().any(|data| data.contains(&(bit / 8))) {
                assert_eq!(contents(&flipped), want, "bit {bit}, {compression:?}");
            } else {
                assert!((25..60).contains(&(bit / 8)), "bit {bit}, {compression:?}");
            }
        }
    }
}

#[test]
fn an_unknown_compression_of_a_chunk_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = [vec![b"one".to_vec()], vec![b"two".to_vec()]];
    let path = record(folder.path(), "d", LogCompression::Lz4, &chunks);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|it| it == b"lz4").unwrap();
    bytes[at..at + 3].copy_from_slice(b"lz9");
    fs::write(&path, bytes).unwrap();
    let (_, wrong) = check(&path);
    assert!(
        wrong[0].contains("compression `lz9` of the chunk is not supported"),
        "{wrong:?}"
    );
}

#[test]
fn missing_data_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::begin(None, false);
    for sequence in [u32::MAX, 0, 1, 3] {
        file.block("a", sequence, BEGIN, b"x");
    }
    file.end_chunk();
    let path = put(directory.path(), 1, "mcap", &file.seal());
    let (verified, wrong) = check(&path);
    assert_eq!((verified.blocks, verified.devices), (4, 1));
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(
        wrong[0].contains("/device/a/blocks: sequence gap: expected 2, found 3"),
        "{wrong:?}"
    );
    // A file without its end.
    let (torn, _) = Sample::default().torn();
    let (_, wrong) = check(&put(directory.path(), 2, "mcap", &torn));
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(
        wrong[0].contains("does not end like a sealed recording"),
        "{wrong:?}"
    );
}
