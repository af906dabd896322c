//! Which connections have a place when there are too many, and what unfinished messages and replies may take.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use tests::process::{DEADLINE, Process, Server};
use tests::scrape::{self, samples};

/// A megabyte: the longest message that is taken by default.
const LONG: usize = 1 << 20;

/// A connection from an address of this machine, so that the daemon takes it for a device of its own.
#[track_caller]
fn from(host: &str, server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let own = SocketAddr::new(host.parse::<IpAddr>().unwrap(), 0);
    socket.bind(&own.into()).unwrap();
    let daemon = SocketAddr::from(([127, 0, 0, 1], server.addr().port()));
    socket.connect_timeout(&daemon.into(), DEADLINE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A message of the framing `blocks`.
fn message(len: usize) -> Vec<u8> {
    let header = u32::try_from(len).unwrap().to_be_bytes();
    [&header[..], &vec![b'x'; len]].concat()
}

/// Waits until the daemon has closed it. What is sent meanwhile may be lost.
#[track_caller]
fn assert_closed(mut device: TcpStream) {
    device.set_nonblocking(false).unwrap();
    let until = Instant::now() + DEADLINE;
    let mut buffer = [0; 4096];
    while Instant::now() < until {
        if device.write_all(b"\0").is_err() {
            return;
        }
        device
            .set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        let _ = device.read(&mut buffer);
    }
    panic!("it is still open");
}

fn sample(server: &Server, name: &str) -> f64 {
    let page = scrape::get(scrape::addr(server), "/metrics").body;
    samples(&page)[name]
}

fn closed(server: &Server, reason: &str) -> u64 {
    let name = format!("blocksd_connections_closed_total{{reason=\"{reason}\"}}");
    sample(server, &name) as u64
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "not so: {what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn one_address_that_takes_all_places_and_stays_silent_locks_nobody_out() {
    let args = ["--max-connections", "50", "--metrics", "127.0.0.1:0"];
    let mut server = Server::start(&args);
    let mut squatters: Vec<_> = (0..50).map(|_| from("127.0.0.1", &server)).collect();
    server.wait_for("open", 50);
    // All but the first say something.
    for squatter in squatters.iter_mut().skip(1) {
        squatter.write_all(b"\0\0\0\x01a").unwrap();
    }
    server.wait_for("block", 49);
    let mut honest = from("127.0.0.2", &server);
    honest.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
    assert_eq!(
        server.story(51),
        [
            "open",
            "block 0 len=2 \"hi\"",
            "end blocks=1",
            "close end blocks=1 bytes=2"
        ]
    );
    assert_eq!(server.story(1), ["open", "close evicted blocks=0 bytes=0"]);
    assert_closed(squatters.remove(0));
    // Its place is free again. Whoever holds most has no right to another one.
    let _again = from("127.0.0.1", &server);
    server.wait_for("open", 52);
    assert_closed(from("127.0.0.1", &server));
    // As many devices as there are places get in, each in the place of a squatter.
    let honest: Vec<_> = (2..40)
        .map(|host| from(&format!("127.0.0.{host}"), &server))
        .collect();
    server.wait_for("open", 52 + honest.len());
    wait_until("evicted", || {
        closed(&server, "evicted") == 1 + honest.len() as u64
    });
    assert_eq!(sample(&server, "blocksd_connections") as usize, 50);
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["refused"], 1);
    assert!(
        ended.stderr.contains("evicting the longest-silent"),
        "{}",
        ended.stderr
    );
}

#[test]
fn what_an_evicted_connection_has_sent_is_kept_and_what_was_cut_is_reported() {
    let mut server = Server::start(&["--max-connections", "2"]);
    let mut first = from("127.0.0.1", &server);
    first.write_all(b"\0\0\0\x02hi\0\0\0\x05he").unwrap();
    server.wait_for("block", 1);
    let mut second = from("127.0.0.1", &server);
    second.write_all(b"\0\0\0\x02ho").unwrap();
    server.wait_for("block", 2);
    let _other = from("127.0.0.2", &server);
    server.wait_for("open", 3);
    let told = [
        "open",
        "block 0 len=2 \"hi\"",
        "fault truncated payload have=2 want=5",
        "close evicted blocks=1 bytes=2",
    ];
    assert_eq!(server.story(1), told);
    assert_closed(first);
}

#[test]
fn a_fleet_with_one_connection_each_does_not_evict_itself_before_it_is_silent() {
    let mut server = Server::start(&["--max-connections", "3"]);
    let _fleet: Vec<_> = (1..4)
        .map(|host| from(&format!("127.0.0.{host}"), &server))
        .collect();
    server.wait_for("open", 3);
    assert_closed(from("127.0.0.9", &server));
    sleep(Duration::from_millis(10_500));
    let _fourth = from("127.0.0.9", &server);
    server.wait_for("open", 4);
    assert_eq!(server.story(1), ["open", "close evicted blocks=0 bytes=0"]);
    assert_eq!(server.stop().0.totals()["refused"], 1);
}

#[test]
fn each_connection_may_be_a_device_and_standard_input_is_never_evicted() {
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "-",
        "--max-connections",
        "1",
        "--device-by",
        "peer",
    ];
    let mut server = Server::start(&args);
    server.wait_for("open", 1);
    // The one place is taken by a line, which has had it for as long as one likes.
    assert_closed(server.connect());
    server.process.write_part(b"\0\0\0\x02hi");
    server.wait_for("block", 1);
    assert_eq!(server.stop().0.totals()["refused"], 1);
}

#[test]
fn who_sends_nothing_at_all_can_be_closed() {
    let mut server = Server::start(&["--first-byte-timeout", "0.5"]);
    let mut speaking = server.connect();
    speaking.write_all(b"\0\0\0\x01a").unwrap();
    server.wait_for("block", 1);
    let silent = server.connect();
    assert_eq!(
        server.story(2),
        ["open", "close first_byte_timeout blocks=0 bytes=0"]
    );
    assert_closed(silent);
    // Who has sent a byte may be silent.
    speaking.write_all(b"\0\0\0\0").unwrap();
    assert_eq!(
        server.story(1).last().unwrap(),
        "close end blocks=1 bytes=1"
    );
}

#[test]
fn a_flood_of_newcomers_is_served_one_by_one_in_the_places_of_a_squatter() {
    let args = [
        "--max-connections",
        "200",
        "--output",
        "none",
        "--metrics",
        "127.0.0.1:0",
    ];
    let server = Server::start(&args);
    let squatters: Vec<_> = (0..200).map(|_| from("127.0.0.1", &server)).collect();
    wait_until("they have places", || {
        sample(&server, "blocksd_connections") as u64 == 200
    });
    thread::scope(|scope| {
        for thread in 0..4 {
            let server = &server;
            scope.spawn(move || {
                for visit in 0..50 {
                    let host = format!("127.0.{}.{}", 1 + thread, 1 + visit);
                    let mut device = from(&host, server);
                    device.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
                    device.shutdown(Shutdown::Write).unwrap();
                }
            });
        }
    });
    wait_until("all are served", || {
        sample(&server, "blocksd_series_total") as u64 == 200
    });
    drop(squatters);
}

/// Connections that hold all but the last byte of a long message.
fn one_byte_short(host: &str, count: usize, server: &Server) -> Vec<TcpStream> {
    let wire = message(LONG);
    let mut devices: Vec<_> = (0..count).map(|_| from(host, server)).collect();
    let mut sent = vec![0; count];
    let end = Instant::now() + Duration::from_secs(4);
    for device in &devices {
        device.set_nonblocking(true).unwrap();
    }
    while Instant::now() < end && sent.iter().any(|len| *len + 1 < wire.len()) {
        for (device, sent) in devices.iter_mut().zip(&mut sent) {
            while let Ok(len) = device.write(&wire[*sent..wire.len() - 1]) {
                *sent += len;
                if len == 0 {
                    break;
                }
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
    let attackers = one_byte_short("127.0.0.1", 300, &server);
    let held = sample(&server, "blocksd_unfinished_bytes");
    assert!(
        (8 << 20) as f64 <= held && held <= (16 << 20) as f64,
        "{held}"
    );
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
    assert!(closed(&server, "memory") > 0);
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
        sample(&server, "blocksd_series_total") == 40.0
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
fn a_device_that_does_not_read_its_reply_or_only_a_byte_now_and_then_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let file = large_reply(&folder);
    let mut server = Server::start(&["--reply", &file, "--reply-timeout", "1"]);
    let ask = || {
        let mut device = server.connect();
        device.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
        device
    };
    let _never = ask();
    let mut drips = ask();
    let dripping = thread::spawn(move || {
        let mut byte = [0; 1000];
        while drips.read(&mut byte).is_ok_and(|len| len != 0) {
            sleep(Duration::from_millis(50));
        }
    });
    for conn in [1, 2] {
        let story = server.story(conn);
        assert_eq!(
            story.last().unwrap(),
            "close reply_timeout blocks=1 bytes=2"
        );
    }
    // One that reads has more time than that for all of it.
    let mut slow = server.connect();
    slow.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
    for _ in 0..16 {
        slow.read_exact(&mut vec![0; 4 << 20]).unwrap();
        sleep(Duration::from_millis(100));
    }
    assert_eq!(slow.read_to_end(&mut Vec::new()).unwrap(), 8);
    assert_eq!(
        server.story(3).last().unwrap(),
        "close end blocks=1 bytes=2"
    );
    let (ended, _) = server.stop();
    assert!(ended.stderr.contains("--reply-timeout"), "{}", ended.stderr);
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
    for option in ["--reply-max-bytes", "--reply-max-total-bytes"] {
        assert!(ended.stderr.contains(option), "{}", ended.stderr);
    }
}
