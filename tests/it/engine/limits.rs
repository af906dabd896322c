//! Limits of connections, in total and for each device, and of the resources that one of them may take.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use blocksd_tests::process::Server;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

#[test]
fn the_connections_of_a_device_are_limited() {
    let args = ["--listen", "0.0.0.0:0", "--max-connections-per-device", "2"];
    let mut server = Server::start(&args);
    let port = server.addr().port();
    let of = |host: &str| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let own = SocketAddr::new(host.parse().unwrap(), 0);
        socket.bind(&own.into()).unwrap();
        let daemon = SocketAddr::from(([127, 0, 0, 1], port));
        socket.connect(&daemon.into()).unwrap();
        TcpStream::from(socket)
    };
    let [_first, second] = [of("127.0.0.1"), of("127.0.0.1")];
    server.wait_for("open", 2);
    assert!(is_closed(of("127.0.0.1")), "the third of one device");
    let _other = of("127.0.0.2");
    server.wait_for("open", 3);
    drop(second);
    server.wait_for("close", 1);
    let _again = of("127.0.0.1");
    server.wait_for("open", 4);
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["refused"], 1);
    assert!(
        ended
            .stderr
            .contains("the device has reached its connection limit"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_identity_of_devices_can_be_chosen() {
    let listen = ["--listen", "127.0.0.1:0", "--device-by"];
    for (by, limit) in [("ip", "1"), ("peer", "1"), ("listener", "1")] {
        let args = [&listen[..], &[by, "--max-connections-per-device", limit]].concat();
        let mut server = Server::start(&args);
        let device = server.connect();
        let peer = device.local_addr().unwrap().to_string();
        let event = server.wait_for("open", 1)[0].clone();
        let want = match by {
            "ip" => "127.0.0.1".to_owned(),
            "peer" => peer,
            _ => server.addr().to_string(),
        };
        assert_eq!(event["device"], want.as_str(), "{by}");
        // Each connection counts as a separate device, or all as one.
        let second = server.connect();
        assert_eq!(by != "peer", by != "peer" && is_closed(second), "{by}");
    }
}

#[test]
fn a_flood_of_empty_messages_arrives_and_takes_little_memory() {
    for (framing, wire) in [("lines", &b"\n"[..]), ("blocks", &[0; 4])] {
        let args = [
            "--framing",
            framing,
            "--after-end",
            "continue",
            "--output",
            "json",
        ];
        let mut server = Server::start(&args);
        let count = 100_000;
        let mut device = server.connect();
        device.write_all(&wire.repeat(count)).unwrap();
        drop(device);
        let close = |events: &[Value]| events.last().is_some_and(|last| last["event"] == "close");
        server.wait(close);
        let most = server.process.memory_kb("VmHWM");
        assert!(most < 64 << 10, "{most} kB of {framing}");
        let kind = if framing == "lines" { "block" } else { "end" };
        assert_eq!(server.wait_for(kind, count).len(), count + 2, "{framing}");
    }
}

#[test]
fn a_hundred_slow_devices_get_through_beside_a_fast_one_with_a_full_queue() {
    let listen = ["--listen", "127.0.0.1:0"];
    let mut command = Server::command(&listen);
    command.stdout(std::process::Stdio::piped());
    let mut process = blocksd_tests::process::Process::start_unread(command);
    let mut stdout = process.take_stdout().unwrap();
    let server = Server::of(process, &listen);
    let mut fast = server.connect();
    fast.set_nonblocking(true).unwrap();
    let block = [&[0, 1, 0, 0][..], &[b'x'; 0x10000]].concat();
    // Sends until the daemon stops reading.
    let mut sent = 0;
    let mut refused = 0;
    while refused < 100 {
        match fast.write(&block[sent % block.len()..]) {
            Ok(len) => (sent, refused) = (sent + len, 0),
            Err(_) => {
                refused += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
    assert!(
        sent < 24 << 20,
        "the daemon read {sent} bytes of one device"
    );
    let mut slow: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    for device in &mut slow {
        device.write_all(b"\0\0\0\x05hello\0\0\0\0").unwrap();
    }
    // Each is read to its end, and therefore closed, although nothing is printed.
    let closed = slow
        .into_iter()
        .filter(|device| is_closed(device.try_clone().unwrap()));
    assert_eq!(closed.count(), 100);
    let reader = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    drop(fast);
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["serie"], 100);
    reader.join().unwrap().unwrap();
}

/// Whether the daemon closes the connection.
fn is_closed(mut device: TcpStream) -> bool {
    device
        .set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .unwrap();
    // A daemon without replies half-closes at once, so only a failing write shows the close.
    device.read_to_end(&mut Vec::new()).ok();
    (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        device.write_all(b"\0").is_err()
    })
}
