//! Which connections have a place when there are more than there may be.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Server, wait_until};
use blocksd_tests::scrape::sample;
use socket2::{Domain, Socket, Type};

/// A connection from an address of this machine, so that the daemon takes it for a device of its own.
#[track_caller]
pub(crate) fn from(host: &str, server: &Server) -> TcpStream {
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

pub(crate) fn closed(server: &Server, reason: &str) -> u64 {
    let name = format!("blocksd_connections_closed_total{{reason=\"{reason}\"}}");
    sample(server, &name) as u64
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
    let mut server = Server::start(&["--first-byte-timeout", "2"]);
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
                    // The daemon may have closed by then.
                    device.shutdown(Shutdown::Write).ok();
                    // Until it is served: a bound holds for those that were evicted and have not closed yet.
                    device.read_to_end(&mut Vec::new()).ok();
                }
            });
        }
    });
    wait_until("all are served", || {
        sample(&server, "blocksd_series_total") as u64 == 200
    });
    drop(squatters);
}

#[test]
fn one_address_that_drips_locks_nobody_out_whatever_a_device_is() {
    for device_by in ["ip", "peer", "listener"] {
        let args = ["--max-connections", "20", "--device-by", device_by];
        let mut server = Server::start(&args);
        let mut squatters: Vec<_> = (0..20).map(|_| from("127.0.0.1", &server)).collect();
        // A byte now and then: none of them is silent for long.
        for squatter in &mut squatters {
            squatter.write_all(b"\0\0\0\x01a").unwrap();
        }
        server.wait_for("block", 20);
        for host in 0..5 {
            let mut honest = from(&format!("127.0.0.{}", 2 + host), &server);
            honest.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
            let told = server.story(21 + 2 * host);
            let end = "close end blocks=1 bytes=2";
            assert_eq!(told.last().unwrap(), end, "{device_by}");
            // The place is free again, and the address with most connections takes it.
            squatters.push(from("127.0.0.1", &server));
            server.wait_for("open", 22 + 2 * host as usize);
        }
    }
}
