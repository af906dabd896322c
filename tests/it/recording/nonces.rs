//! The nonce at the beginning of each chunk: no payload is accepted as a chunk.

use std::fs;
use std::path::{Path, PathBuf};

use blocksd::recorded::ranges::CHECKER;
use blocksd_recording::Compression;
use mcap::MessageStream;

/// The opcode of a chunk.
const CHUNK: u8 = 6;

/// Records these blocks of a device, each in its own chunk, and returns the sealed file.
fn record(folder: &Path, device: &str, blocks: &[&[u8]]) -> PathBuf {
    let chunks: Vec<_> = blocks.iter().map(|block| vec![block.to_vec()]).collect();
    blocksd_tests::recorded::record(folder, device, Compression::None, &chunks)
}

/// The positions of the chunks in a file.
fn chunks(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let summary = mcap::Summary::read(bytes).unwrap().unwrap();
    let mut chunks: Vec<_> = summary
        .chunk_indexes
        .iter()
        .map(|chunk| {
            let begin = usize::try_from(chunk.chunk_start_offset).unwrap();
            begin..begin + usize::try_from(chunk.chunk_length).unwrap()
        })
        .collect();
    chunks.sort_by_key(|chunk| chunk.start);
    chunks
}

#[test]
fn a_chunk_in_a_payload_is_not_accepted_when_the_real_chunk_header_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (of_victim, of_device) = (folder.path().join("victim"), folder.path().join("device"));
    let forged = fs::read(record(&of_victim, "victim", &[b"forged"])).unwrap();
    let inner = chunks(&forged).remove(0);
    let inner = &forged[inner];
    assert_eq!(inner[0], CHUNK);
    let path = record(&of_device, "device", &[b"before", inner, b"after"]);
    let mut bytes = fs::read(&path).unwrap();
    let places = chunks(&bytes);
    // A torn file, in which the header of the chunk with that payload was never written.
    bytes.truncate(places[2].end);
    bytes[places[1].start..][..9].fill(0);
    let torn = folder.path().join("torn");
    for header_is_lost in [false, true] {
        if header_is_lost {
            bytes[..20].fill(0);
        }
        fs::write(&torn, &bytes).unwrap();
        let saved = folder.path().join(format!("saved-{header_is_lost}"));
        let recovered = CHECKER.recover(&torn, &saved).unwrap();
        assert!(recovered.lost_bytes > inner.len() as u64, "{recovered:?}");
        let saved = fs::read(saved).unwrap();
        let messages = MessageStream::new(&saved).unwrap().map(Result::unwrap);
        let payloads: Vec<_> = messages
            .map(|it| (it.channel.topic.clone(), it.data.to_vec()))
            .collect();
        let blocks = [&b"before"[..], b"after"];
        let want = blocks.map(|block| ("/device/device/blocks".to_owned(), block.to_vec()));
        assert_eq!(payloads, want);
    }
}
