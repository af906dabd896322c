//! Recordings that claim much more than they hold: no command takes the memory of the claim.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use blocksd_recording::Compression;
use blocksd_recording::internals::filename;
use blocksd_tests::process::{Ended, Process, Server, blocksd, finish};
use blocksd_tests::recorded::{payload, record};
use tempfile::TempDir;

/// Address space that a command may take: the program itself takes about a third of it. `docs/limits.md` says why.
const ADDRESSES_KIB: u64 = 400 << 10;
/// The longest content of a short compressed chunk that is read.
const READ_MAX: u64 = 16 << 20;

/// The record of a chunk whose content is the nonce and a message of `len` zeros.
fn bomb(compression: &str, nonce: &[u8], len: u64) -> Vec<u8> {
    let mut head = Vec::new();
    head.extend(nonce);
    head.push(5);
    head.extend((len + 22).to_le_bytes());
    // Channel 1, sequence number and times.
    head.extend([1, 0]);
    head.extend([0; 20]);
    // Of zeros, the CRC is combined of that of a part.
    const PART: u64 = 1 << 16;
    assert!(len.is_multiple_of(PART));
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head);
    let mut part = crc32fast::Hasher::new();
    part.update(&[0; PART as usize]);
    let (mut power, mut left) = (part, len / PART);
    let mut zeros = crc32fast::Hasher::new();
    while left != 0 {
        if left % 2 == 1 {
            zeros.combine(&power);
        }
        let twice = power.clone();
        power.combine(&twice);
        left /= 2;
    }
    crc.combine(&zeros);
    let data = match compression {
        "zstd" => {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_contentsize(false).unwrap();
            encoder.write_all(&head).unwrap();
            write_zeros(&mut encoder, len);
            encoder.finish().unwrap()
        }
        "lz4" => {
            let mut encoder = lz4::EncoderBuilder::new()
                .block_size(lz4::BlockSize::Max4MB)
                .build(Vec::new())
                .unwrap();
            encoder.write_all(&head).unwrap();
            write_zeros(&mut encoder, len);
            let (data, ended) = encoder.finish();
            ended.unwrap();
            data
        }
        // The data is missing.
        _ => head.clone(),
    };
    let content_len = head.len() as u64 + len;
    let data_len = match compression {
        "" => content_len,
        _ => data.len() as u64,
    };
    chunk_record(compression, content_len, crc.finalize(), &data, data_len)
}

fn chunk_record(
    compression: &str,
    content_len: u64,
    crc: u32,
    data: &[u8],
    data_len: u64,
) -> Vec<u8> {
    let mut chunk = vec![6];
    chunk.extend((40 + compression.len() as u64 + data_len).to_le_bytes());
    chunk.extend([0; 16]);
    chunk.extend(content_len.to_le_bytes());
    chunk.extend(crc.to_le_bytes());
    chunk.extend((compression.len() as u32).to_le_bytes());
    chunk.extend(compression.as_bytes());
    chunk.extend(data_len.to_le_bytes());
    chunk.extend(data);
    chunk
}

fn write_zeros(to: &mut impl Write, len: u64) {
    let zeros = io::Read::take(io::repeat(0), len);
    let mut zeros = io::BufReader::with_capacity(1 << 16, zeros);
    io::copy(&mut zeros, to).unwrap();
}

/// A torn file of ours with a sound chunk, and this many bombs.
fn ours(folder: &Path, compression: &str, len: u64, count: usize) -> PathBuf {
    ours_with(folder, |nonce| bomb(compression, &nonce, len).repeat(count))
}

/// A torn file of ours with a sound chunk, and what `more` makes for the record of its nonce.
fn ours_with(folder: &Path, more: impl FnOnce(Vec<u8>) -> Vec<u8>) -> PathBuf {
    let sealed = record(folder, "10.0.0.1", Compression::None, &[vec![payload(0)]]);
    let name = sealed.file_name().unwrap().to_str().unwrap();
    let nonce = filename::nonce(name).unwrap();
    let nonce = [&[0xb5][..], &8_u64.to_le_bytes(), &nonce.body()].concat();
    let mut bytes = fs::read(&sealed).unwrap();
    let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
    let first = &summary.chunk_indexes[0];
    let end = first.chunk_start_offset + first.chunk_length + first.message_index_length;
    bytes.truncate(usize::try_from(end).unwrap());
    bytes.extend(more(nonce));
    fs::remove_file(&sealed).unwrap();
    let torn = sealed.with_extension("mcap.part");
    fs::write(&torn, bytes).unwrap();
    torn
}

/// A file of another program with a bomb.
fn foreign(folder: &Path, compression: &str, len: u64) -> PathBuf {
    let mut bytes = mcap::MAGIC.to_vec();
    let header = b"\x01\x0e\0\0\0\0\0\0\0\0\0\0\0\x06\0\0\0python";
    bytes.extend(header);
    bytes.extend(bomb(compression, &[], len));
    let path = folder.join("foreign.mcap");
    fs::write(&path, bytes).unwrap();
    path
}

/// Runs a command with a limited address space.
fn run(args: &[&str]) -> Ended {
    finish(limited(blocksd(args)), b"")
}

fn limited(command: Command) -> Command {
    let mut limited = Command::new("sh");
    let script = format!("ulimit -v {ADDRESSES_KIB}; exec \"$0\" \"$@\"");
    limited
        .args(["-c", &script])
        .arg(command.get_program())
        .args(command.get_args());
    limited
}

#[track_caller]
fn check(path: &Path, code: i32, args: &[&str]) -> Ended {
    let path = path.to_str().unwrap();
    let args: Vec<_> = args.iter().map(|it| it.replace("PATH", path)).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let ended = run(&args);
    assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
    ended
}

#[test]
fn a_chunk_that_claims_a_gibibyte_takes_no_memory_in_any_command() {
    for (compression, len) in [("zstd", 1 << 30), ("lz4", 256 << 20), ("", 1 << 30)] {
        let folder = TempDir::new().unwrap();
        let is_claim = compression.is_empty();
        let torn = ours(
            folder.path(),
            compression,
            len,
            if is_claim { 1 } else { 3 },
        );
        let size = fs::metadata(&torn).unwrap().len();
        assert!(size < 8 << 20, "{size}");
        let reason = match compression {
            "" => "ends after",
            _ => "decompressed, more than the limit of",
        };
        for output in ["text", "json", "hex", "csv", "raw"] {
            let ended = check(&torn, 1, &["read", "PATH", "--output", output]);
            assert!(ended.stderr.contains(reason), "{ended:?}");
        }
        let ended = check(&torn, 1, &["verify", "PATH"]);
        assert!(ended.stdout_text().contains(reason), "{ended:?}");
        check(folder.path(), 0, &["recordings", "PATH"]);
        let server = Server::start(&[]);
        let address = server.addr().to_string();
        check(&torn, 1, &["replay", "PATH", "--to", &address]);
        let copy = folder.path().join("copy");
        let ended = check(
            &torn,
            0,
            &["recover", "PATH", "--output", copy.to_str().unwrap()],
        );
        assert!(ended.stdout_text().contains(reason), "{ended:?}");
        check(&copy, 0, &["verify", "PATH"]);
        fs::remove_file(&copy).unwrap();

        let other = foreign(folder.path(), compression, len);
        let ended = check(&other, 1, &["read", "PATH"]);
        assert!(ended.stderr.contains(reason), "{ended:?}");
        check(&other, 1, &["verify", "PATH"]);
        check(&other, 1, &["recover", "PATH"]);
        fs::remove_file(&other).unwrap();

        // A start repairs it. The original is kept, because more than its tail is lost.
        let daemon = Server::command(&["--record", folder.path().to_str().unwrap()]);
        let server = Server::of(Process::start(daemon), &[]);
        let peak = server.process.memory_kb("VmHWM");
        assert!(peak < 100 << 10, "{peak} KiB");
        let (ended, _) = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let original = torn.with_extension("lost");
        assert_eq!(original.exists(), !is_claim, "{ended:?}");
    }
}

#[test]
fn channels_and_schemas_take_bounded_memory() {
    let folder = TempDir::new().unwrap();
    // 12 channels with names of 3 MB, and one with 300,000 pairs.
    let channel = |id: u16, topic: &[u8], pairs: usize| {
        let text = |text: &[u8]| [&(text.len() as u32).to_le_bytes()[..], text].concat();
        let pair = |n: usize| [text(format!("{n:07}").as_bytes()), text(b"")].concat();
        let map: Vec<u8> = (0..pairs).flat_map(pair).collect();
        let parts = [
            &id.to_le_bytes(),
            &[0; 2][..],
            &text(topic),
            &text(b"raw"),
            &text(&map),
        ];
        let body = parts.concat();
        [&[4][..], &(body.len() as u64).to_le_bytes(), &body].concat()
    };
    let long = [&b"/device/"[..], &vec![b'a'; 3_000_000], b"/blocks"].concat();
    let channels = (0..12).map(|n| channel(n + 2, &long, 0));
    let channels = channels.chain([channel(200, b"/device/b/blocks", 300_000)]);
    let torn = ours_with(folder.path(), |nonce| {
        channels
            .flat_map(|it| chunk("zstd", &[&nonce[..], &it].concat()))
            .collect()
    });
    for output in ["json", "csv"] {
        let ended = check(&torn, 1, &["read", "PATH", "--output", output]);
        let reason = "schemas or channels beyond the limit of";
        assert!(ended.stderr.contains(reason), "{ended:?}");
    }
    check(&torn, 1, &["verify", "PATH"]);
    check(folder.path(), 0, &["recordings", "PATH"]);
    check(folder.path(), 0, &["recover", "PATH"]);
    assert!(torn.with_extension("lost").exists());
}

/// The record of a chunk with this content.
fn chunk(compression: &str, content: &[u8]) -> Vec<u8> {
    let data = zstd::bulk::compress(content, 1).unwrap();
    chunk_record(
        compression,
        content.len() as u64,
        crc32fast::hash(content),
        &data,
        data.len() as u64,
    )
}

#[test]
fn the_longest_content_that_is_read_takes_the_documented_memory() {
    for (compression, outputs) in [("zstd", ["text", "json"]), ("lz4", ["csv", "hex"])] {
        let folder = TempDir::new().unwrap();
        let len = READ_MAX - (1 << 16);
        let torn = ours(folder.path(), compression, len, 1);
        for output in outputs {
            let path = torn.to_str().unwrap();
            let mut command = limited(blocksd(&["read", path, "--output", output]));
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let ended = command.output().unwrap();
            assert_eq!(ended.status.code(), Some(0), "{output}: {ended:?}");
        }
        // The messages have no number that continues.
        check(&torn, 1, &["verify", "PATH"]);
        check(folder.path(), 0, &["recordings", "PATH"]);
        check(&torn, 0, &["recover", "PATH"]);
    }
}

#[test]
fn a_daemon_that_compresses_long_messages_writes_what_can_be_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    for compression in ["zstd", "lz4"] {
        let args = [
            "--record",
            path,
            "--record-compression",
            compression,
            "--max-block",
            "40M",
            "--output",
            "none",
        ];
        let server = Server::start(&args);
        let mut device = server.connect();
        let len = 30_000_000_u32;
        device.write_all(&len.to_be_bytes()).unwrap();
        device.write_all(&vec![0; len as usize]).unwrap();
        device.write_all(&[0; 4]).unwrap();
        drop(device);
        let (ended, _) = server.stop();
        assert_eq!(ended.totals()["block"], 1, "{ended:?}");
    }
    check(folder.path(), 0, &["verify", "PATH"]);
    let read = finish(blocksd(&["read", path, "--output", "raw"]), b"");
    assert_eq!((read.code, read.stdout.len()), (Some(0), 60_000_000));
}
