//! What unfinished messages and replies may take, from senders and slow readers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Process, Server, blocksd, python, wait_until};
use blocksd_tests::scrape::sample;
use socket2::{Domain, SockRef, Socket, Type};

use super::admission::{closed, from};

/// A megabyte: the longest message that is taken by default.
const LONG: usize = 1 << 20;

/// A message of the framing `blocks`.
fn message(len: usize) -> Vec<u8> {
    let header = u32::try_from(len).unwrap().to_be_bytes();
    [&header[..], &vec![b'x'; len]].concat()
}

/// Connections that hold all but the last byte of a long message, as far as the daemon reads them: until more than
/// `held` bytes are unfinished, and none was taken for a second.
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
fn hundreds_of_unfinished_messages_stay_within_their_bound_and_harm_nobody() {
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
    assert!(sample(&server, "blocksd_connections_paused") > 0.0);
    // Small messages and long ones of others get through, whole or byte by byte.
    let mut honest = from("127.0.0.2", &server);
    honest.write_all(b"\0\0\0\x05he").unwrap();
    honest.write_all(b"llo").unwrap();
    for _ in 0..3 {
        honest.write_all(&message(LONG)).unwrap();
    }
    honest.write_all(&[0; 4]).unwrap();
    wait_until("the honest one is done", || {
        sample(&server, "blocksd_series_total") == 1.0
    });
    assert_eq!(sample(&server, "blocksd_blocks_total"), 4.0);
    // So do small messages of the same address.
    let mut neighbour = from("127.0.0.1", &server);
    neighbour.write_all(b"\0\0\0\x02h").unwrap();
    neighbour.write_all(b"i\0\0\0\0").unwrap();
    wait_until("its neighbour is done", || {
        sample(&server, "blocksd_series_total") == 2.0
    });
    let most = server.process.memory_kb("VmHWM");
    assert!(
        most < before + (16 << 10) + (24 << 10),
        "{before} kB before, {most} at most"
    );
    // Those that hold the rest up are closed.
    wait_until("one is closed", || closed(&server, "memory") > 0);
    drop(attackers);
    wait_until("all is given back", || {
        sample(&server, "blocksd_unfinished_bytes") == 0.0
    });
    assert_eq!(sample(&server, "blocksd_connections_paused"), 0.0);
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
                        device.write_all(part).expect("it is taken");
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

#[test]
fn a_full_queue_holds_long_messages_back_and_closes_none() {
    let args = ["--max-unfinished", "4194304", "--metrics", "127.0.0.1:0"];
    let mut command = Server::command(&args);
    command.stdout(std::process::Stdio::piped());
    let mut process = Process::start_unread(command);
    let mut stdout = process.take_stdout().unwrap();
    let server = Server::of(process, &args);
    let wire = [message(LONG), message(LONG), vec![0; 4]].concat();
    let (reader, devices) = thread::scope(|scope| {
        let device = |number| {
            let (wire, mut device) = (&wire, from(&format!("127.0.0.{}", 1 + number), &server));
            scope.spawn(move || {
                device.write_all(wire).expect("it is taken");
                device
            })
        };
        let devices: Vec<_> = (0..40).map(device).collect();
        // Longer than a connection may stall that others wait for.
        sleep(Duration::from_secs(12));
        assert!(sample(&server, "blocksd_unfinished_bytes") <= (4 << 20) as f64);
        assert_eq!(closed(&server, "memory"), 0);
        let reader = thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let devices: Vec<_> = devices
            .into_iter()
            .map(|device| device.join().unwrap())
            .collect();
        (reader, devices)
    });
    wait_until("all are done", || {
        let series = sample(&server, "blocksd_series_total");
        assert_eq!(
            closed(&server, "memory"),
            0,
            "{}",
            server.process.error_text()
        );
        series == 40.0
    });
    drop(devices);
    let (ended, _) = server.stop();
    reader.join().unwrap().unwrap();
    let totals = ended.totals();
    assert_eq!(
        (totals["block"], totals["fault"]),
        (80, 0),
        "{}",
        ended.stderr
    );
}

/// A file that is more than the sockets hold.
fn large_reply(folder: &tempfile::TempDir) -> String {
    let file = folder.path().join("large");
    std::fs::File::create(&file)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_device_that_does_not_read_its_reply_is_closed_and_a_slow_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = large_reply(&folder);
    let mut server = Server::start(&["--reply", &file, "--reply-timeout", "2"]);
    let mut never = server.connect();
    never.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
    assert_eq!(
        server.story(1).last().unwrap(),
        "close reply_timeout blocks=1 bytes=2"
    );
    // One that reads has more time than that for all of it.
    let mut slow = server.connect();
    slow.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
    for _ in 0..16 {
        slow.read_exact(&mut vec![0; 4 << 20]).unwrap();
        sleep(Duration::from_millis(150));
    }
    assert_eq!(slow.read_to_end(&mut Vec::new()).unwrap(), 8);
    assert_eq!(
        server.story(2).last().unwrap(),
        "close end blocks=1 bytes=2"
    );
    let (ended, _) = server.stop();
    assert!(ended.stderr.contains("reply-timeout"), "{}", ended.stderr);
}

#[test]
fn a_device_that_reads_its_reply_a_few_bytes_now_and_then_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let file = large_reply(&folder);
    let program = blocksd(&[]);
    let program = program.get_program().to_str().unwrap();
    let args = ["--listen", "systemd:devices", "--reply", &file];
    // With small buffers, a write succeeds after every few bytes that the device reads.
    let mut command = python("launcher.py", &["devices=tcp-small", program, "serve"]);
    command.args(args).args(["--output", "json"]);
    command.args(["--reply-timeout", "3"]);
    let mut server = Server::of(Process::start(command), &args);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.addr().into()).unwrap();
    let mut device = TcpStream::from(socket);
    device.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
    // 4 kB a second at most; 64 KiB in 3 s are asked for.
    let dripping = thread::spawn(move || {
        let mut buffer = [0; 400];
        while device.read(&mut buffer).is_ok_and(|len| len != 0) {
            sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(
        server.story(1).last().unwrap(),
        "close reply_timeout blocks=1 bytes=2"
    );
    drop(server);
    dripping.join().unwrap();
}

#[test]
fn a_connection_that_is_sent_its_reply_can_be_evicted() {
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
    server.wait_for("open", 3);
    assert_eq!(
        server.story(1).last().unwrap(),
        "close evicted blocks=1 bytes=2"
    );
}

#[test]
fn echoes_are_bounded_for_one_connection_and_for_all() {
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
    // Four are too many for one connection.
    for _ in 0..4 {
        first.write_all(&message(1_000_000)).ok();
    }
    let story = server.story(1);
    assert_eq!(
        story.last().unwrap(),
        "close limit blocks=3 bytes=3000000",
        "{story:?}"
    );
    let mut holding = server.connect();
    let two = [message(1_000_000), message(1_000_000)].concat();
    holding.write_all(&two).unwrap();
    wait_until("they are kept", || {
        sample(&server, "blocksd_reply_spool_bytes") > 2e6
    });
    let mut other = server.connect();
    other.write_all(&two).unwrap();
    wait_until("they are kept", || {
        sample(&server, "blocksd_reply_spool_bytes") > 4e6
    });
    let mut third = server.connect();
    third.write_all(&two).ok();
    let story = server.story(4);
    assert!(
        story.last().unwrap().starts_with("close limit"),
        "{story:?}"
    );
    // Those that have theirs get it.
    SockRef::from(&holding)
        .set_recv_buffer_size(1 << 20)
        .unwrap();
    holding.write_all(&[0; 4]).unwrap();
    let mut echoed = Vec::new();
    holding.read_to_end(&mut echoed).unwrap();
    assert_eq!(echoed.len(), two.len() + 4);
    drop(other);
    wait_until("all is given back", || {
        sample(&server, "blocksd_reply_spool_bytes") == 0.0
    });
    let (ended, _) = server.stop();
    for option in ["reply-max-bytes", "reply-max-total-bytes"] {
        assert!(ended.stderr.contains(option), "{}", ended.stderr);
    }
}
