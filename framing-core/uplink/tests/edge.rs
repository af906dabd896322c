//! The adapter for edge-nal, over the sockets of an operating system.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use edge_nal_std::Stack;
use embedded_io_async::ErrorKind;
use framing_core::blocking::Reader;
use framing_core::{Blocks, Received};
use framing_uplink::edge::{EdgeName, EdgeServer, EdgeTcp};
use framing_uplink::os::OsClock;
use framing_uplink::{Clock, Config, Connect, Full, Ring, RingSource, Stop, blocking, run_series};

fn run<F: Future>(future: F) -> F::Output {
    blocking::run(future, || thread::sleep(Duration::from_millis(1)))
}

/// A host that resets its first connection, and reads a series on the second one.
fn host(listener: TcpListener, is_second: &AtomicBool) -> Vec<String> {
    let (mut first, _) = listener.accept().unwrap();
    // Closing a socket with unread bytes resets it.
    first.read_exact(&mut [0; 1]).unwrap();
    drop(first);
    let (mut second, _) = listener.accept().unwrap();
    is_second.store(true, Ordering::Relaxed);
    let (mut wire, mut bytes) = (Vec::new(), [0; 256]);
    let messages = loop {
        if let (messages, true) = messages(&wire) {
            break messages;
        }
        let len = second.read(&mut bytes).unwrap();
        assert_ne!(len, 0, "the series has an end");
        wire.extend_from_slice(&bytes[..len]);
    };
    let bytes: usize = messages.iter().map(String::len).sum();
    let text = format!("{{\"blocks\":{},\"bytes\":{bytes}}}", messages.len());
    let len = [0, 0, 0, text.len() as u8];
    let reply = [&len[..], text.as_bytes(), &[0; 4]].concat();
    second.write_all(&reply).unwrap();
    messages
}

/// The messages of a connection, and whether their series has ended.
fn messages(wire: &[u8]) -> (Vec<String>, bool) {
    let (mut reader, mut messages) = (Reader::new(wire, Blocks, [0; 64]), Vec::new());
    loop {
        match reader.receive() {
            Ok(Received::Message(message)) => {
                messages.push(String::from_utf8(message.to_vec()).unwrap());
            }
            Ok(Received::End) => return (messages, true),
            _ => return (messages, false),
        }
    }
}

#[test]
fn a_series_to_a_name_goes_on_after_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let second = Arc::new(AtomicBool::new(false));
    let is_second = Arc::clone(&second);
    let host = thread::spawn(move || host(listener, &is_second));
    let (network, clock) = (Stack::new(), OsClock::new());
    let (ring, stop) = (Ring::<1024>::new(Full::Refuse), Stop::new());
    let mut source = RingSource::<1024, 64>::new(&ring);
    let server = EdgeName::new(&network, "127.0.0.1", port);
    let mut tcp = EdgeTcp::new(&network, server, &clock);
    let config = Config::new();
    // Longer than the first connection: its reset is noticed at a write.
    let feeding = async {
        while ring.push(b"a sample").is_ok() && !second.load(Ordering::Relaxed) {
            clock.sleep_ms(20).await;
        }
        ring.close();
    };
    let running = run_series(&config, &mut source, &stop, &clock, &mut tcp, 7);
    let (report, ()) = run(async { embassy_futures::join::join(running, feeding).await });
    let messages = host.join().unwrap();
    assert_eq!((report.connections, report.ended), (2, true), "{report:?}");
    assert_eq!(
        (report.delivered as usize, report.lost),
        (messages.len(), 0),
        "{report:?}"
    );
    assert!(messages.iter().all(|message| message == "a sample"));
}

#[test]
fn a_refused_connection_is_an_error_of_its_kind() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let network = Stack::new();
    let mut tcp = EdgeTcp::new(&network, address, OsClock::new());
    let refused = run(tcp.connect()).err();
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
}

/// A server whose name is not resolved, or never answered.
struct Unresolved(bool);

impl EdgeServer for Unresolved {
    async fn address(&self) -> Result<SocketAddr, ErrorKind> {
        if self.0 {
            pending::<()>().await;
        }
        Err(ErrorKind::AddrNotAvailable)
    }
}

/// A clock that advances by a second with each look.
struct Fast(Cell<u64>);

impl Clock for Fast {
    fn now_us(&self) -> u64 {
        self.0.set(self.0.get() + 1_000_000);
        self.0.get()
    }

    async fn sleep_until_us(&self, at_us: u64) {
        poll_fn(|_| match self.now_us() {
            now_us if now_us < at_us => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
    }
}

#[test]
fn a_name_without_an_address_or_an_answer_is_an_error_of_its_kind() {
    let network = Stack::new();
    for (is_silent, kind) in [
        (false, ErrorKind::AddrNotAvailable),
        (true, ErrorKind::TimedOut),
    ] {
        let mut tcp = EdgeTcp::new(&network, Unresolved(is_silent), Fast(Default::default()));
        assert_eq!(run(tcp.connect()).err(), Some(kind));
    }
}
