//! A recording of random series, faults, pieces and connections in all framings, replayed to a second daemon: each
//! connection arrives with the same messages, pieces and ends of series.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use blocksd_tests::chaos::wire::connect_from;
use blocksd_tests::framings::FRAMINGS;
use blocksd_tests::process::{Server, run};
use embedded_io_adapters::std::FromStd;
use framing_core::AnyFraming;
use framing_core::blocking::Writer;
use serde_json::Value;
use socket2::SockRef;

/// Longer messages are received in pieces.
const BLOCK_MAX: usize = 64;

/// The sequence of splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// A connection of a device, and what it still sends.
struct Visitor {
    from: Ipv4Addr,
    framing: usize,
    stream: Option<TcpStream>,
    chunks: Vec<Vec<u8>>,
    /// Ends with a reset.
    resets: bool,
}

/// What a connection sends, in the chunks that it writes at once, from the last to the first.
fn script(random: &mut Random, spec: &str, name: &str) -> Vec<Vec<u8>> {
    let framing: AnyFraming = spec.parse().unwrap();
    let mut chunks = Vec::new();
    for number in 0..random.below(6) {
        let len = match random.below(3) {
            0 => BLOCK_MAX + random.below(150),
            _ => 30,
        };
        let text = format!("{spec} {name} {number} ");
        let mut message: Vec<_> = text.bytes().cycle().take(len).collect();
        if spec.starts_with("fixed") {
            message.truncate(16);
        }
        let mut wire = match spec == "lines" && random.one_in(3) {
            true => {
                *message.last_mut().unwrap() = b'\r';
                [&message[..], b"\r\n"].concat()
            }
            false => {
                let mut writer = Writer::new(FromStd::new(Vec::new()), framing);
                writer.send(&message).unwrap();
                writer.into_io().into_inner()
            }
        };
        if spec == "blocks" && random.one_in(2) {
            wire.extend([0; 4]);
        }
        let cut = random.below(wire.len());
        chunks.push(wire[..cut].to_vec());
        chunks.push(wire[cut..].to_vec());
    }
    if random.one_in(3) {
        // The last message is cut.
        chunks.pop();
    }
    chunks.reverse();
    chunks
}

/// Devices visit the daemon; some of their connections overlap, and some stay open.
fn visit(server: &Server, random: &mut Random, run: usize) -> Vec<Visitor> {
    let mut visitors: Vec<_> = (0..FRAMINGS.len() * 6)
        .map(|index| {
            let (framing, visit) = (index / 6, index % 6);
            let device = visit % 2;
            let name = format!("{run}/{visit}");
            Visitor {
                from: Ipv4Addr::new(127, 0, 1 + device as u8, 1 + framing as u8),
                framing,
                stream: None,
                chunks: script(random, FRAMINGS[framing], &name),
                resets: random.one_in(6),
            }
        })
        .collect();
    let mut left: Vec<_> = (0..visitors.len()).collect();
    while !left.is_empty() {
        let index = random.below(left.len());
        let visitor = &mut visitors[left[index]];
        let listener = server.addr_of(FRAMINGS[visitor.framing]);
        let stream = visitor
            .stream
            .get_or_insert_with(|| connect_from(visitor.from, listener).expect("it listens"));
        match visitor.chunks.pop() {
            Some(chunk) => stream.write_all(&chunk).unwrap(),
            None => {
                left.swap_remove(index);
                if visitor.resets {
                    // What was sent is read first.
                    sleep(Duration::from_millis(20));
                    let linger = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
                    linger.unwrap();
                }
                if !random.one_in(5) {
                    visitor.stream = None;
                }
            }
        }
        if random.one_in(4) {
            sleep(Duration::from_millis(1));
        }
    }
    visitors
}

/// What each connection has sent: its whole messages, and `end` for each end of a series.
fn conversations(events: &[Value]) -> Vec<Vec<String>> {
    let mut open = BTreeMap::<u64, (Vec<String>, Option<String>)>::new();
    let mut done = Vec::new();
    for event in events {
        let kind = event["event"].as_str().unwrap();
        if kind == "started" {
            // Numbers begin at 1 again.
            done.extend(std::mem::take(&mut open).into_values());
        }
        let Some(conn) = event["conn"].as_u64() else {
            assert!(!["block", "piece", "end"].contains(&kind), "{event}");
            continue;
        };
        let text = event["text"].as_str().unwrap_or_default();
        let (items, pieces) = open.entry(conn).or_default();
        match kind {
            "block" => items.push(text.to_owned()),
            "piece" => {
                if event["first"] == true {
                    *pieces = Some(String::new());
                }
                pieces.as_mut().unwrap().push_str(text);
                if event["last"] == true {
                    items.extend(pieces.take());
                }
            }
            "end" => items.push("end".to_owned()),
            // A reset is between messages, and nothing is missing from a stream.
            "fault" if event["fault"] != "reset" => *pieces = None,
            "close" => done.extend(open.remove(&conn)),
            _ => {}
        }
    }
    done.extend(open.into_values());
    // A stream is one piece without an end.
    let whole = |(mut items, pieces): (Vec<String>, Option<String>)| {
        items.extend(pieces.filter(|it| it.starts_with("stream")));
        items
    };
    let mut all: Vec<_> = done.into_iter().map(whole).collect();
    all.sort_unstable();
    all
}

fn read(folder: &Path) -> Vec<Value> {
    let args = ["read", folder.to_str().unwrap(), "--output", "json"];
    let printed = run(&args, b"");
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let text = printed.stdout_text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_replayed_recording_has_the_same_conversations() {
    let seed = std::env::var("BLOCKSD_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("BLOCKSD_TEST_SEED={seed}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut args: Vec<_> = ["--after-end", "continue", "--oversize", "pieces"].to_vec();
    let max = BLOCK_MAX.to_string();
    args.extend(["--max-block", &max]);
    let listeners: Vec<_> = FRAMINGS
        .iter()
        .map(|spec| format!("127.0.0.1:0,framing={spec}"))
        .collect();
    for listener in &listeners {
        args.extend(["--listen", listener]);
    }
    let record = [&args[..], &["--record", folder.path().to_str().unwrap()]].concat();
    // The first run is killed while connections are open, and the second is stopped.
    let server = Server::start(&record);
    let open = visit(&server, &mut random, 1);
    sleep(Duration::from_secs(1));
    drop((server, open));
    let server = Server::start(&record);
    let open = visit(&server, &mut random, 2);
    assert_eq!(server.stop().0.code, Some(0));
    drop(open);
    let recorded = conversations(&read(folder.path()));
    assert_eq!(recorded.len(), 2 * 6 * FRAMINGS.len());

    let server = Server::start(&args);
    for (index, spec) in FRAMINGS.iter().enumerate() {
        let to = server.addr_of(spec).to_string();
        let devices = [1, 2].map(|device| format!("127.0.{device}.{}", index + 1));
        let args = [
            "replay",
            folder.path().to_str().unwrap(),
            "--to",
            &to,
            "--speed",
            "max",
            "--device",
            &devices[0],
            "--device",
            &devices[1],
        ];
        let replayed = run(&args, b"");
        assert_eq!(replayed.code, Some(0), "{spec}: {}", replayed.stderr);
    }
    let (ended, events) = server.stop();
    assert_eq!(ended.code, Some(0));
    let replayed = conversations(&events);
    for (recorded, replayed) in recorded.iter().zip(&replayed) {
        assert_eq!(recorded, replayed);
    }
    assert_eq!(recorded.len(), replayed.len());
    // Some of each kind.
    let count = |is: &dyn Fn(&Vec<String>) -> bool| recorded.iter().filter(|it| is(it)).count();
    assert!(count(&|it| it.is_empty()) > 0);
    assert!(count(&|it| it.iter().filter(|it| *it == "end").count() > 1) > 0);
    assert!(count(&|it| it.iter().any(|it| BLOCK_MAX < it.len())) > 20);
    assert!(count(&|it| it.iter().any(|it| it.ends_with('\r'))) > 0);
}
