//! The PROXY protocol: haproxy and others give the address of the device, before TLS and without it.

use std::io::{Read, Write};

use blocksd_tests::pki::{Fleet, secure};
use blocksd_tests::process::{Server, connect, wait_until};
use blocksd_tests::scrape;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x13\x88\x04\x24";

fn opened(server: &mut Server, count: usize) -> (String, String) {
    let events = server.wait_for("open", count);
    let open = events
        .iter()
        .filter(|it| it["event"] == "open")
        .nth(count - 1)
        .unwrap();
    let text = |key: &str| open[key].as_str().unwrap().to_owned();
    (text("device"), text("peer"))
}

#[test]
fn a_header_names_the_device_of_a_plain_connection() {
    let mut server = Server::start(&[
        "--listen",
        "127.0.0.1:0,proxy-from=127.0.0.0/8",
        "--metrics",
        "127.0.0.1:0",
    ]);
    let expected = |peer: &str| ("192.0.2.7".to_owned(), peer.to_owned());
    let mut device = server.connect();
    device
        .write_all(b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 1060\r\n\0\0\0\x05hello")
        .unwrap();
    assert_eq!(opened(&mut server, 1), expected("192.0.2.7:5000"));
    server.wait_for("block", 1);
    // Byte by byte.
    let mut device = server.connect();
    for byte in [V2, b"\0\0\0\x05hello"].concat() {
        device.write_all(&[byte]).unwrap();
    }
    assert_eq!(opened(&mut server, 2), expected("192.0.2.7:5000"));
    server.wait_for("block", 2);
    // A check of the proxy itself, and a client that it does not know.
    for (count, header) in [
        (3, &b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..]),
        (4, b"PROXY UNKNOWN\r\n"),
    ] {
        server.connect().write_all(header).unwrap();
        assert_eq!(opened(&mut server, count).0, "127.0.0.1");
    }
    // A peer in the list must send a header.
    let mut device = server.connect();
    device.write_all(b"\0\0\0\x05hello").unwrap();
    let _ = device.read_to_end(&mut Vec::new());
    let name = "blocksd_tls_refused_total{reason=\"proxy_header\"}";
    scrape::wait_for(&server, name, |count| count == 1.0);
    let log = server.process.error_text();
    assert!(
        log.contains("not a PROXY protocol header: byte 0x00 at offset 0"),
        "{log}"
    );
}

#[test]
fn a_peer_outside_the_list_is_taken_as_it_is() {
    let mut server = Server::start(&["--listen", "127.0.0.1:0,proxy-from=10.0.0.0/8"]);
    server.connect().write_all(b"\0\0\0\x05hello").unwrap();
    assert_eq!(opened(&mut server, 1).0, "127.0.0.1");
    server
        .connect()
        .write_all(b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 1060\r\n")
        .unwrap();
    assert_eq!(opened(&mut server, 2).0, "127.0.0.1");
    server.wait_for("fault", 1);
}

#[test]
fn a_header_comes_before_the_handshake() {
    let fleet = Fleet::new();
    fleet.device("pump-7");
    let listen = fleet.listen("127.0.0.1:0", ",proxy-from=127.0.0.1");
    let mut server = Server::start(&["--listen", &listen]);
    let mut socket = connect(server.addr());
    socket.write_all(V2).unwrap();
    let mut device = secure(&fleet.client(Some("pump-7")), socket).unwrap();
    device.write_all(b"\0\0\0\x05hello").unwrap();
    device.flush().unwrap();
    assert_eq!(
        opened(&mut server, 1),
        ("pump-7".to_owned(), "192.0.2.7:5000".to_owned())
    );
    server.wait_for("block", 1);
    // Without the header, the handshake does not begin.
    assert!(secure(&fleet.client(Some("pump-7")), connect(server.addr())).is_err());
    wait_until("the log has it", || {
        server
            .process
            .error_text()
            .contains("not a PROXY protocol header: byte 0x16")
    });
}
