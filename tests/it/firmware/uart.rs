//! The smallest image, `uart-m0`, and the real daemon: messages over a UART, also over one that loses and flips bytes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;

use blocksd_tests::board::{Board, image};
use blocksd_tests::process::{Server, connect};
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol};
use serde_json::{Value, json};

use crate::engine::serve::payload;

/// Bytes of a message on the line: a code, four of payload, four of checksum, and the delimiter.
const FRAME_LEN: usize = 10;

fn serve() -> Server {
    Server::start(&["--framing", "cobs-crc32"])
}

/// Runs the image with this port as its line, to the end of its messages; returns the events of the daemon.
#[track_caller]
fn events_of(image: &Path, line: SocketAddr, mut server: Server) -> Vec<Value> {
    let ended = Board::start(image, &[format!("telemetry={}", line.port())]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    server.wait_for("close", 1);
    let (ended, events) = server.stop();
    let faults = events.iter().filter(|it| it["event"] == "fault").count();
    assert_eq!(ended.totals()["fault"], faults as u64);
    events
}

fn messages(events: &[Value]) -> Vec<Vec<u8>> {
    let blocks = events.iter().filter(|it| it["event"] == "block");
    blocks.map(payload).collect()
}

fn wanted(numbers: impl Iterator<Item = u8>) -> Vec<Vec<u8>> {
    numbers.map(|n| vec![0xa1, 0x61, b'n', n]).collect()
}

#[test]
fn messages_arrive_from_a_uart_without_any_network() {
    let name = "messages_arrive_from_a_uart_without_any_network";
    let Some(image) = image(name, "uart-m0") else {
        return;
    };
    let server = serve();
    let events = events_of(&image, server.addr(), server);
    assert_eq!(messages(&events), wanted(0..20));
    let close = events.last().unwrap();
    let figures = (&close["reason"], &close["bytes"]);
    assert_eq!(figures, (&json!("eof"), &json!(80)), "{events:?}");
    assert!(events.iter().all(|it| it["event"] != "fault"), "{events:?}");
}

#[test]
fn a_line_that_loses_and_flips_bytes_costs_the_damaged_messages_only() {
    let name = "a_line_that_loses_and_flips_bytes_costs_the_damaged_messages_only";
    let Some(image) = image(name, "uart-m0") else {
        return;
    };
    let server = serve();
    let daemon = server.addr();
    let line = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = line.local_addr().unwrap();
    let relay = thread::spawn(move || {
        let (mut from, mut to) = (line.accept().unwrap().0, connect(daemon));
        let (mut at, mut bytes) = (0, [0; 64]);
        while let Ok(len @ 1..) = from.read(&mut bytes) {
            for &byte in &bytes[..len] {
                // A zero comes first. Of message 2 a byte of payload is lost, of message 5 one of the checksum is flipped,
                // of message 9 the delimiter is lost, and of message 14 the first code is flipped.
                let message = |number: usize, offset: usize| 1 + number * FRAME_LEN + offset;
                if at != message(2, 3) && at != message(9, 9) {
                    let is_flipped = at == message(5, 6) || at == message(14, 0);
                    to.write_all(&[byte ^ u8::from(is_flipped)]).unwrap();
                }
                at += 1;
            }
        }
        at
    });
    let events = events_of(&image, addr, server);
    assert_eq!(relay.join().unwrap(), 1 + 20 * FRAME_LEN);
    let damaged = [2, 5, 9, 10, 14];
    let intact = (0..20).filter(|number| !damaged.contains(number));
    assert_eq!(messages(&events), wanted(intact), "{events:?}");
    let faults = events.iter().filter(|it| it["event"] == "fault");
    let kinds: Vec<_> = faults.map(|it| it["fault"].as_str().unwrap()).collect();
    let (early, bad) = ("bad_ending", "bad_checksum");
    assert_eq!(kinds, [early, bad, bad, early], "{events:?}");
}

#[test]
fn the_smallest_image_is_small_and_cannot_panic() {
    let name = "the_smallest_image_is_small_and_cannot_panic";
    let Some(image) = image(name, "uart-m0") else {
        return;
    };
    let elf = fs::read(image).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let vectors = file.section_by_name(".vector_table").unwrap().size();
    let loaded: u64 = file.segments().map(|segment| segment.file_range().1).sum();
    let bytes = loaded - vectors;
    assert!(
        (100..1152).contains(&bytes),
        "{bytes} bytes beyond the vectors"
    );
    let names: Vec<_> = file
        .symbols()
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    assert!(names.contains(&"Reset"), "{names:?}");
    let panics = names.iter().filter(|name| name.contains("panic"));
    assert_eq!(panics.collect::<Vec<_>>(), [&""; 0]);
}
