//! Hostile payloads, decoded in process: memory and output lines stay within the documented bounds.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use allocation_counter::measure;
use blocksd::output::{Format, Hex, Json, Out, Text};
use blocksd::payload::{Decoding, UndecodableReporter};
use blocksd_engine::batch::Batch;
use blocksd_engine::counters::Counters;
use blocksd_engine::event::{ConnectionInfo, Event, EventKind, StreamPosition};
use blocksd_engine::pool::Span;
use blocksd_tests::elf::{Image, elf, rzcobs};
use blocksd_tests::hostile::{self, Chance, FORMATS};
use blocksd_tests::story::acts_on_a_terminal;
use framing_core::{AnyFraming, Blocks};
use serde_json::{Value, json};

/// The bounds in docs/decoding.md: memory for a message of `len` bytes, and the length of its line.
const fn memory_max(len: usize) -> usize {
    16 * len + (64 << 10)
}
const fn line_max(len: usize) -> usize {
    8 * len + (4 << 10)
}

/// A writer to memory that was allocated before the measurement.
#[derive(Clone)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut screen = self.0.lock().unwrap();
        assert!(screen.len() + bytes.len() <= screen.capacity());
        screen.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The result of one message.
struct Shown {
    lines: Vec<Vec<u8>>,
    memory: usize,
    undecodable: u64,
}

fn show(decoding: &Decoding, format: &mut dyn Format, payload: &[u8]) -> Shown {
    let screen = Screen(Arc::new(Mutex::new(Vec::with_capacity(
        20 * payload.len() + (256 << 10),
    ))));
    let counters = Arc::new(Counters::default());
    let mut out = Out::new(
        Box::new(screen.clone()),
        Some(UndecodableReporter::new(Arc::clone(&counters))),
    );
    let batch = Batch::of_messages(payload.to_vec(), vec![Span::new(0, payload.len())]);
    let event = Event {
        source: Arc::new(ConnectionInfo {
            conn: 1,
            device: "127.0.0.1".into(),
            framing: AnyFraming::Blocks(Blocks),
            encoding: decoding.clone().into(),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        }),
        time: SystemTime::UNIX_EPOCH,
        kind: EventKind::Batch {
            batch: Arc::new(batch),
            position: StreamPosition::default(),
        },
    };
    let info = measure(|| {
        format.event(&event, &mut out).expect("memory");
        out.flush().expect("memory");
    });
    let screen = screen.0.lock().unwrap();
    let lines = screen.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    let mut lines: Vec<_> = lines.collect();
    assert_eq!(lines.pop().as_deref(), Some(&b""[..]), "whole lines");
    Shown {
        lines,
        memory: info.bytes_max as usize,
        undecodable: counters.totals().faults(),
    }
}

/// Checks the bounds of a payload in every output format. Returns whether it is decodable.
#[track_caller]
fn check(decoding: &Decoding, payload: &[u8], about: &dyn std::fmt::Display) -> bool {
    let len = payload.len();
    let longest = match decoding {
        Decoding::Defmt(_) => FORMATS.iter().map(|(_, text)| text.len()).max(),
        _ => None,
    };
    let longest = longest.unwrap_or_default();
    let mut verdicts = Vec::new();
    let formats: [(&str, Box<dyn Format>); 3] = [
        ("json", Box::new(Json::default())),
        ("text", Box::new(Text::new(false))),
        ("hex", Box::new(Hex::new())),
    ];
    for (output, mut format) in formats {
        let shown = show(decoding, &mut *format, payload);
        let about = format!("{} to {output}, {len} bytes, {about}", decoding.as_str());
        assert!(
            shown.memory <= memory_max(len) + longest,
            "{} bytes of memory: {about}",
            shown.memory
        );
        for line in &shown.lines {
            assert!(
                line.len() <= line_max(len) + longest,
                "a line of {} bytes: {about}",
                line.len()
            );
            let text = std::str::from_utf8(line).unwrap_or_else(|error| panic!("{error}: {about}"));
            assert!(!text.contains(acts_on_a_terminal), "{text:?}: {about}");
        }
        let faults = match output {
            "json" => {
                let events = shown.lines.iter().map(|line| {
                    serde_json::from_slice::<Value>(line).unwrap_or_else(|error| {
                        panic!("{error}: {about}: {}", String::from_utf8_lossy(line))
                    })
                });
                let events: Vec<_> = events.collect();
                assert_eq!(events[0]["event"], "block", "{about}");
                assert_eq!(events[0]["len"], json!(len), "{about}");
                events.len() - 1
            }
            _ => {
                assert!(output == "hex" || shown.lines.len() == 1, "{about}");
                let line = String::from_utf8_lossy(&shown.lines[0]);
                let begins = ["is not valid ", "cannot be decoded as "];
                let is_fault = |begin| line.contains(&format!(" fault: message {begin}"));
                usize::from(begins.into_iter().any(is_fault))
            }
        };
        assert_eq!(faults as u64, shown.undecodable, "{about}");
        verdicts.push(faults == 0);
    }
    verdicts[0]
}

/// Number of payloads for each decoder; the variable `BLOCKSD_TEST_PAYLOADS` overrides it.
fn payloads() -> u64 {
    let given = std::env::var("BLOCKSD_TEST_PAYLOADS").ok();
    given.map_or(1_500, |given| given.parse().expect("a number"))
}

fn try_all(decoding: &Decoding, payload: impl Fn(&mut Chance, usize) -> Vec<u8>) {
    let (mut decodable, count) = (0, payloads());
    for seed in 0..count {
        let mut chance = Chance::new(seed);
        // One of 16 is long.
        let max = if seed % 16 == 0 { 1 << 16 } else { 1 << 11 };
        let payload = payload(&mut chance, max);
        decodable += u64::from(check(decoding, &payload, &format_args!("seed {seed}")));
    }
    let some = count / 20..count - count / 20;
    assert!(
        some.contains(&decodable),
        "{decodable} of {count} are decodable"
    );
}

#[test]
fn hostile_cbor_keeps_the_bounds() {
    try_all(&Decoding::Cbor, hostile::cbor);
}

#[test]
fn hostile_json_keeps_the_bounds() {
    try_all(&Decoding::Json, hostile::json);
}

#[test]
fn hostile_messagepack_keeps_the_bounds() {
    try_all(&Decoding::MsgPack, hostile::msgpack);
}

#[test]
fn hostile_pairs_keep_the_bounds() {
    try_all(&Decoding::Kv, hostile::kv);
}

#[test]
fn hostile_log_frames_keep_the_bounds() {
    let folder = tempfile::tempdir().unwrap();
    try_all(&defmt(&folder), hostile::defmt);
}

#[test]
fn hostile_encoded_log_frames_keep_the_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let encoded = encoded_defmt(&folder);
    try_all(&encoded, |chance, max| {
        let mut frame = hostile::defmt(chance, max);
        // Zeros, of which a byte can stand for seven.
        if chance.below(8) == 0 {
            frame.resize(frame.len() + chance.below(4 * max), 0);
        }
        let mut payload = rzcobs(&frame);
        if chance.below(8) == 0 && !payload.is_empty() {
            let at = chance.below(payload.len());
            payload[at] = chance.number() as u8;
        }
        payload.truncate(payload.len() - chance.below(2));
        payload
    });
    for frame in [
        // A slice of zeros as numbers; the first format, whose argument is a slice of slices of nothing.
        [
            &b"\x03\0\0\0\0\0\0\0\0\0\0\0\x04\0\x05\0"[..],
            &[0; 1 << 18],
        ]
        .concat(),
        [&b"\x03\0\0\0\0\0\0\0\0\0"[..], &[0; 1 << 18]].concat(),
        vec![0; 1 << 18],
    ] {
        check(&encoded, &rzcobs(&frame), &"zeros");
    }
    for payload in [
        vec![0x7f; 1 << 16],
        vec![0xff; 1 << 16],
        vec![0x80; 1 << 16],
    ] {
        check(&encoded, &payload, &"markers");
    }
}

#[test]
fn the_most_expensive_payloads_keep_the_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let defmt = defmt(&folder);
    let cbor = Decoding::Cbor;
    for (decoding, payload) in [
        // A map with the most keys that fit; they are found to be equal at its end.
        (
            &cbor,
            [&b"\xbf"[..], &b"\0\xf4".repeat((1 << 15) + 1), b"\xff"].concat(),
        ),
        (
            &cbor,
            [&b"\x9a\x00\x00\x80\x00"[..], &b"\xa1\0\0".repeat(1 << 15)].concat(),
        ),
        (
            &cbor,
            [&b"\x9f"[..], &b"\xf4".repeat(1 << 16), b"\xff"].concat(),
        ),
        (
            &cbor,
            [&b"\xa1\x7a\x00\x01\x00\x00"[..], &[1; 1 << 16], b"\0"].concat(),
        ),
        (
            &cbor,
            [&b"\xa1\x81\x7a\x00\x01\x00\x00"[..], &[1; 1 << 16], b"\0"].concat(),
        ),
        (
            &Decoding::Json,
            [&b"["[..], &b"[],".repeat(1 << 14), b"0]"].concat(),
        ),
        (
            &Decoding::Json,
            [&b"[\""[..], &b"\\u0001".repeat(1 << 14), b"\"]"].concat(),
        ),
        (&Decoding::Json, [1; 1 << 16].to_vec()),
        // A map with the most keys, of which two are equal; the longest escapes; the longest extensions.
        (
            &Decoding::MsgPack,
            [&b"\xdf\0\0\x80\x00"[..], &b"\0\xc2".repeat(1 << 15)].concat(),
        ),
        (
            &Decoding::MsgPack,
            [&b"\xdb\x00\x01\x00\x00"[..], &[1; 1 << 16]].concat(),
        ),
        (
            &Decoding::MsgPack,
            [
                &b"\xdd\x00\x01\x00\x00"[..],
                &b"\xd4\x80\xff".repeat(1 << 16),
            ]
            .concat(),
        ),
        (
            &Decoding::MsgPack,
            [&b"\x81\x91\xdb\x00\x01\x00\x00"[..], &[1; 1 << 16], b"\0"].concat(),
        ),
        (&Decoding::Kv, b"a=,".repeat(1 << 15)),
        (
            &Decoding::Kv,
            [&b"a=\""[..], &b"\x01".repeat(1 << 16), b"\\\""].concat(),
        ),
        (
            &Decoding::Kv,
            [&b"a=\""[..], &b"\\n\x01".repeat(1 << 15), b"\""].concat(),
        ),
        (&Decoding::Text, [1; 1 << 16].to_vec()),
        (&Decoding::Text, [0xff; 1 << 16].to_vec()),
        (&Decoding::Raw, [1; 1 << 16].to_vec()),
        (&Decoding::Raw, [0x1b, 0xff].repeat(1 << 15)),
        // A slice of bytes as numbers.
        (
            &defmt,
            [
                &b"\x02\0\0\0\0\0\0\0\0\0\x07\0\0\0\x01\0\x05\0"[..],
                &[255; 1 << 16],
            ]
            .concat(),
        ),
        (
            &defmt,
            [
                &b"\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\x05\0"[..],
                &[255; 1 << 16],
            ]
            .concat(),
        ),
        (&defmt, vec![2; 1 << 16]),
    ] {
        check(decoding, &payload, &"by hand");
    }
}

#[test]
fn a_log_frame_with_too_much_output_or_work_is_undecodable() {
    let folder = tempfile::tempdir().unwrap();
    let defmt = defmt(&folder);
    let slice_of = |element: u8, count: u32, elements: &[u8]| {
        let head = b"\x02\0\0\0\0\0\0\0\0\0\x07\0";
        [&head[..], &count.to_le_bytes(), &[element, 0], elements].concat()
    };
    for (payload, decodable) in [
        // Interned strings: two bytes each, 82 characters.
        (slice_of(20, 100, &b"\x0b\0".repeat(100)), false),
        (slice_of(20, 10, &b"\x0b\0".repeat(10)), true),
        // Empty elements: no bytes each, one comma in the output.
        (slice_of(6, 20_000_000, b""), false),
        (slice_of(6, 1_000, b""), true),
        // An argument shown three times at each level: 3 to the power of the depth, without any text.
        (
            [
                &slice_of(6, 0, b"")[..10],
                &b"\x08\0".repeat(100),
                b"\x06\0",
            ]
            .concat(),
            false,
        ),
        (
            [&slice_of(6, 0, b"")[..10], &b"\x08\0".repeat(5), b"\x06\0"].concat(),
            true,
        ),
        // A number of 65,535 digits.
        (
            [&b"\x11\0\0\0\0\0\0\0\0\0\x07"[..], &[0; 16 + 4 + 8 + 4 + 1]].concat(),
            false,
        ),
    ] {
        let about = format!("{payload:x?}");
        assert_eq!(check(&defmt, &payload, &about), decodable, "{about}");
    }
}

fn defmt(folder: &tempfile::TempDir) -> Decoding {
    let path = folder.path().join("hostile.elf");
    std::fs::write(&path, elf(FORMATS)).unwrap();
    let spec = format!("defmt:{}", path.display());
    spec.parse().expect("an ELF file with formats")
}

fn encoded_defmt(folder: &tempfile::TempDir) -> Decoding {
    let path = folder.path().join("encoded.elf");
    let image = Image {
        formats: FORMATS,
        encoding: "rzcobs",
        build: None,
    };
    std::fs::write(&path, image.elf()).unwrap();
    let spec = format!("defmt:{}", path.display());
    spec.parse().expect("an ELF file with formats")
}
