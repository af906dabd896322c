//! Bounds on the memory of unfinished messages and replies, with many senders and slow readers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Server, brief, wait_until};
use blocksd_tests::scrape::sample;
use socket2::SockRef;

use super::admission::{closed, from};

/// A megabyte: the default limit of a message.
const LONG: usize = 1 << 20;

/// A message of the framing `blocks`.
fn message(len: usize) -> Vec<u8> {
    let header = u32::try_from(len).unwrap().to_be_bytes();
    [&header[..], &vec![b'x'; len]].concat()
}

/// Connections that send all but the last byte of a long message, as far as the daemon reads them. Returns when more than
/// `held` bytes are unfinished, and the daemon has read nothing for a second.
#[track_caller]
fn one_byte_short(host: &str, count: usize, server: &Server, held: f64) -> Vec<TcpStream> {
    let wire = message(LONG);
    let mut devices: Vec<_> = (0..count).map(|_| from(host, server)).collect();
    let mut sent = vec![0; count];
    let end = Instant::now() + DEADLINE;
    let mut taken = Instant::now();
    for device in &devices {
        device.set_nonblocking(true).unwrap();
    }
    while taken.elapsed() < Duration::from_secs(1)
        || sample(server, "blocksd_unfinished_bytes") < held
    {
        assert!(Instant::now() < end, "the daemon does not read: {sent:?}");
        for (device, sent) in devices.iter_mut().zip(&mut sent) {
            while let Ok(len) = device.write(&wire[*sent..wire.len() - 1]) {
                *sent += len;
                if len == 0 {
                    break;
                }
                taken = Instant::now();
            }
        }
        sleep(Duration::from_millis(5));
    }
    devices
}

#[test]
fn hundreds_of_unfinished_messages_stay_within_their_bound() {
    let args = [
        "--max-unfinished",
        "16777216",
        "--output",
        "none",
        "--metrics",
        "127.0.0.1:0",
    ];
    let server = Server::start(&args);
    let before = server.process.memory_kb("VmRSS");
    let attackers = one_byte_short("127.0.0.1", 300, &server, (8 << 20) as f64);
    let held = sample(&server, "blocksd_unfinished_bytes");
    assert!(held <= (16 << 20) as f64, "{held}");
    wait_until("the daemon stops reading connections", || {
        sample(&server, "blocksd_connections_paused") > 0.0
    });
    // Small and long messages of other devices get through, sent at once or byte by byte.
    let mut honest = from("127.0.0.2", &server);
    honest.write_all(b"\0\0\0\x05he").unwrap();
    honest.write_all(b"llo").unwrap();
    for _ in 0..3 {
        honest.write_all(&message(LONG)).unwrap();
    }
    honest.write_all(&[0; 4]).unwrap();
    wait_until("the honest device is done", || {
        sample(&server, "blocksd_series_total") == 1.0
    });
    assert_eq!(sample(&server, "blocksd_blocks_total"), 4.0);
    // So do small messages from the same address.
    let mut neighbour = from("127.0.0.1", &server);
    neighbour.write_all(b"\0\0\0\x02h").unwrap();
    neighbour.write_all(b"i\0\0\0\0").unwrap();
    wait_until("the other device is done", || {
        sample(&server, "blocksd_series_total") == 2.0
    });
    let most = server.process.memory_kb("VmHWM");
    assert!(
        most < before + (16 << 10) + (24 << 10),
        "{before} kB before, {most} at most"
    );
    // The connections that block the paused ones are closed.
    wait_until("one connection is closed", || closed(&server, "memory") > 0);
    drop(attackers);
    wait_until("all memory is released", || {
        sample(&server, "blocksd_unfinished_bytes") == 0.0
    });
    wait_until("no connection waits", || {
        sample(&server, "blocksd_connections_paused") == 0.0
    });
    let (ended, _) = server.stop();
    assert!(
        ended.stderr.contains("unfinished messages hold too much"),
        "{}",
        ended.stderr
    );
}

#[test]
fn devices_that_all_send_long_messages_at_once_take_turns_and_lose_nothing() {
    for one_address in [false, true] {
        let args = [
            "--max-unfinished",
            "4194304",
            "--output",
            "none",
            "--metrics",
            "127.0.0.1:0",
        ];
        let server = Server::start(&args);
        let wire = [message(LONG), message(LONG), vec![0; 4]].concat();
        thread::scope(|scope| {
            for number in 0..24 {
                let (wire, server) = (&wire, &server);
                let host = if one_address { 1 } else { 1 + number };
                let mut device = from(&format!("127.0.0.{host}"), server);
                scope.spawn(move || {
                    // Slower than the daemon, so that all are unfinished at the same time.
                    for part in wire.chunks(50_000) {
                        device.write_all(part).expect("the daemon reads");
                        sleep(Duration::from_millis(10));
                    }
                });
            }
        });
        wait_until("all are done", || {
            sample(&server, "blocksd_series_total") == 24.0
        });
        assert_eq!(sample(&server, "blocksd_blocks_total"), 48.0);
        assert_eq!(closed(&server, "memory"), 0);
        assert_eq!(server.stop().0.totals()["fault"], 0);
    }
}

/// A file that is larger than the socket buffers.
fn large_reply(folder: &tempfile::TempDir) -> String {
    let file = folder.path().join("large");
    std::fs::File::create(&file)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_connection_can_be_evicted_during_its_reply() {
    let folder = tempfile::tempdir().unwrap();
    let file = large_reply(&folder);
    let args = [
        "--reply",
        &file,
        "--reply-timeout",
        "off",
        "--max-connections",
        "2",
    ];
    let mut server = Server::start(&args);
    let mut devices: Vec<_> = (0..2).map(|_| from("127.0.0.1", &server)).collect();
    for device in &mut devices {
        device.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
        server.wait_for("end", 1);
    }
    server.wait_for("end", 2);
    let _other = from("127.0.0.2", &server);
    // The one that has accepted no bytes of its reply for longer.
    let closed = server.wait_for("close", 1);
    let closed = closed.iter().find(|event| event["event"] == "close");
    assert_eq!(brief(closed.unwrap()), "close evicted blocks=1 bytes=2");
    server.wait_for("open", 3);
}

#[test]
fn echoes_are_bounded_per_connection_and_in_total() {
    let args = [
        "--reply",
        "echo",
        "--reply-max-bytes",
        "3000000",
        "--reply-max-total-bytes",
        "5000000",
        "--metrics",
        "127.0.0.1:0",
    ];
    let mut server = Server::start(&args);
    let mut first = server.connect();
    // Four exceed the limit of one connection.
    for _ in 0..4 {
        first.write_all(&message(1_000_000)).ok();
    }
    let story = server.story(1);
    assert_eq!(
        story.last().unwrap(),
        "close limit blocks=3 bytes=3000000 series=\"open\"",
        "{story:?}"
    );
    let mut holding = server.connect();
    let two = [message(1_000_000), message(1_000_000)].concat();
    holding.write_all(&two).unwrap();
    wait_until("the echoes are stored", || {
        sample(&server, "blocksd_reply_spool_bytes") > 2e6
    });
    let mut other = server.connect();
    other.write_all(&two).unwrap();
    wait_until("the echoes are stored", || {
        sample(&server, "blocksd_reply_spool_bytes") > 4e6
    });
    let mut third = server.connect();
    third.write_all(&two).ok();
    let story = server.story(4);
    assert!(
        story.last().unwrap().starts_with("close limit"),
        "{story:?}"
    );
    // Devices that read theirs get the whole echo.
    SockRef::from(&holding)
        .set_recv_buffer_size(1 << 20)
        .unwrap();
    holding.write_all(&[0; 4]).unwrap();
    let mut echoed = Vec::new();
    holding.read_to_end(&mut echoed).unwrap();
    assert_eq!(echoed.len(), two.len() + 4);
    drop(other);
    wait_until("all memory is released", || {
        sample(&server, "blocksd_reply_spool_bytes") == 0.0
    });
    let (ended, _) = server.stop();
    for option in ["reply-max-bytes", "reply-max-total-bytes"] {
        assert!(ended.stderr.contains(option), "{}", ended.stderr);
    }
}
