//! Which connections are admitted when there are more than the limits allow.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Server, wait_until};
use blocksd_tests::scrape::sample;
use socket2::{Domain, Socket, Type};

/// Connects from a loopback address, so that the daemon sees another device.
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

/// Waits until the daemon has closed the connection. Data sent meanwhile may be lost.
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
    panic!("the connection is still open");
}

pub(crate) fn closed(server: &Server, reason: &str) -> u64 {
    let name = format!("blocksd_connections_closed_total{{reason=\"{reason}\"}}");
    sample(server, &name) as u64
}

#[test]
fn a_silent_address_that_takes_all_places_does_not_lock_others_out() {
    let args = ["--max-connections", "50", "--metrics", "127.0.0.1:0"];
    let mut server = Server::start(&args);
    let mut squatters: Vec<_> = (0..50).map(|_| from("127.0.0.1", &server)).collect();
    server.wait_for("open", 50);
    // All but the first send a byte.
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
    // Its place is free again. The device with the most connections cannot take another one.
    let _again = from("127.0.0.1", &server);
    server.wait_for("open", 52);
    assert_closed(from("127.0.0.1", &server));
    // As many devices as there are places are admitted, each in place of a squatter.
    let honest: Vec<_> = (2..40)
        .map(|host| from(&format!("127.0.0.{host}"), &server))
        .collect();
    server.wait_for("open", 52 + honest.len());
    wait_until("the connections are evicted", || {
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
fn the_messages_of_an_evicted_connection_are_kept_and_its_truncation_is_reported() {
    let mut server = Server::start(&["--max-connections", "2"]);
    let mut first = from("127.0.0.1", &server);
    first.write_all(b"\0\0\0\x02hi\0\0\0\x05he").unwrap();
    server.wait_for("block", 1);
    let mut second = from("127.0.0.1", &server);
    second.write_all(b"\0\0\0\x02ho").unwrap();
    server.wait_for("block", 2);
    let _other = from("127.0.0.2", &server);
    server.wait_for("open", 3);
    let wanted = [
        "open",
        "block 0 len=2 \"hi\"",
        "piece offset=0 len=2 first=true last=false truncated=true \"he\"",
        "fault truncated payload have=2 want=5",
        "close evicted blocks=1 bytes=2 series=\"open\"",
    ];
    assert_eq!(server.story(1), wanted);
    assert_closed(first);
}

#[test]
fn each_connection_can_be_a_device_and_standard_input_is_never_evicted() {
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
    // The only place is taken by standard input, which has been silent for a long time.
    assert_closed(server.connect());
    server.process.write_part(b"\0\0\0\x02hi");
    server.wait_for("block", 1);
    assert_eq!(server.stop().0.totals()["refused"], 1);
}

#[test]
fn a_flood_of_newcomers_replaces_a_squatter_one_by_one() {
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
    wait_until("all have places", || {
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
                    // Until it is served, since evicted connections that have not closed yet still count.
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
fn a_slow_address_does_not_lock_others_out_for_any_identity_of_devices() {
    for device_by in ["ip", "peer", "listener"] {
        let args = ["--max-connections", "20", "--device-by", device_by];
        let mut server = Server::start(&args);
        let mut squatters: Vec<_> = (0..20).map(|_| from("127.0.0.1", &server)).collect();
        // A byte now and then, so that none is silent for long.
        for squatter in &mut squatters {
            squatter.write_all(b"\0\0\0\x01a").unwrap();
        }
        server.wait_for("block", 20);
        for host in 0..5 {
            let mut honest = from(&format!("127.0.0.{}", 2 + host), &server);
            honest.write_all(b"\0\0\0\x02hi\0\0\0\0").unwrap();
            let story = server.story(21 + 2 * host);
            let end = "close end blocks=1 bytes=2";
            assert_eq!(story.last().unwrap(), end, "{device_by}");
            // The place is free again, and the address with the most connections takes it.
            squatters.push(from("127.0.0.1", &server));
            server.wait_for("open", 22 + 2 * host as usize);
        }
    }
}
