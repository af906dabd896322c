//! Streams in any split, cut, and corrupted.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::sync::Mutex;

use rustls::ClientConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::tls::TlsServer;
use crate::tls::testing::{Fleet, connection};

/// Both ends of a wire, in memory.
#[derive(Debug, Default)]
struct Wire {
    /// Bytes to the server, as they arrive.
    to_server: VecDeque<Vec<u8>>,
    from_server: Vec<u8>,
    is_closed: bool,
    /// Bytes that the wire still takes from the server.
    room: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct WireEnd(Arc<Mutex<Wire>>);

impl WireEnd {
    fn lock(&self) -> std::sync::MutexGuard<'_, Wire> {
        self.0.lock().unwrap()
    }
}

impl AsyncRead for WireEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.lock();
        match wire.to_server.pop_front() {
            Some(mut bytes) => {
                if buffer.remaining() < bytes.len() {
                    let rest = bytes.split_off(buffer.remaining());
                    wire.to_server.push_front(rest);
                }
                buffer.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
            None if wire.is_closed => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for WireEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.lock();
        let len = wire.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        if len == 0 {
            return Poll::Pending;
        }
        wire.from_server.extend_from_slice(&bytes[..len]);
        wire.room = wire.room.map(|room| room - len);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for WireEnd {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.lock();
        match wire.to_server.is_empty() && !wire.is_closed {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }
}

/// A client and a server after the handshake.
struct Pair {
    client: ClientConnection,
    server: TlsTransport,
    wire: WireEnd,
    _fleet: Fleet,
}

fn poll<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl Pair {
    /// Performs a handshake, with at most `split` bytes at once.
    fn new(split: usize, version: Option<&'static rustls::SupportedProtocolVersion>) -> Self {
        let fleet = Fleet::new();
        let server = TlsServer::load(fleet.files()).unwrap();
        let device = fleet.device("pump-7");
        let config = match version {
            Some(version) => fleet.client_of(&device, version),
            None => fleet.client(Some(&device)),
        };
        let mut client = connection(&config);
        let wire = WireEnd::default();
        let current = server.shared();
        let config = Arc::clone(&current.get().server);
        let mut server = TlsTransport::new(Box::new(wire.clone()), config, current).unwrap();
        for _ in 0..10_000 {
            push(&mut client, &wire, split);
            let polled = poll(|context| server.poll_handshake(context));
            if let Some(failed) = polled {
                failed.unwrap();
            }
            while poll(|context| server.poll_sent(context)).is_none() {}
            pull(&mut client, &wire);
            if !client.is_handshaking() && !server.is_handshaking() {
                break;
            }
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Self {
            client,
            server,
            wire,
            _fleet: fleet,
        }
    }

    /// Reads all that has arrived, with room for `room` bytes at a time.
    /// Returns how the stream ended, if it did.
    fn read(&mut self, room: usize) -> (Vec<u8>, Option<Result<(), io::ErrorKind>>) {
        let mut all = Vec::new();
        loop {
            let mut memory = vec![0; room];
            let mut buffer = ReadBuf::new(&mut memory);
            let is_readable = poll(|context| self.server.poll_readable(context)).is_some();
            let polled = poll(|context| Pin::new(&mut self.server).poll_read(context, &mut buffer));
            match polled {
                Some(Ok(())) if buffer.filled().is_empty() => return (all, Some(Ok(()))),
                Some(Ok(())) => {
                    assert!(is_readable, "it said that nothing can be read");
                    all.extend_from_slice(buffer.filled());
                }
                Some(Err(error)) => return (all, Some(Err(error.kind()))),
                None => return (all, None),
            }
        }
    }

    /// What the client writes as records of `record` bytes, as it is on the wire.
    fn records(&mut self, payload: &[u8], record: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payload.chunks(record) {
            self.client.writer().write_all(payload).unwrap();
            while self.client.wants_write() {
                self.client.write_tls(&mut bytes).unwrap();
            }
        }
        bytes
    }

    /// Has the server write this, and the client read it.
    fn reply(&mut self, bytes: &[u8]) {
        let written = poll(|context| Pin::new(&mut self.server).poll_write(context, bytes));
        assert_eq!(written.expect("the wire has room").unwrap(), bytes.len());
        pull(&mut self.client, &self.wire);
        let mut read = vec![0; bytes.len()];
        self.client.reader().read_exact(&mut read).unwrap();
        assert_eq!(read, bytes);
    }

    fn arrive(&self, bytes: &[u8], split: usize) {
        let mut wire = self.wire.lock();
        wire.to_server
            .extend(bytes.chunks(split).map(<[u8]>::to_vec));
    }
}

fn push(client: &mut ClientConnection, wire: &WireEnd, split: usize) {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    let mut wire = wire.lock();
    wire.to_server
        .extend(bytes.chunks(split).map(<[u8]>::to_vec));
}

fn pull(client: &mut ClientConnection, wire: &WireEnd) {
    let bytes = std::mem::take(&mut wire.lock().from_server);
    let mut bytes = &bytes[..];
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
    }
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn every_split_and_room_gives_the_same_bytes() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut pair = Pair::new(usize::MAX, Some(version));
        let sent = payload(700);
        for room in [1, 7, 100, 1000, 1 << 18] {
            for record in [1, 64, 699] {
                let bytes = pair.records(&sent, record);
                let splits = [1, 2, 5, 6, 7, 23, bytes.len() - 1, bytes.len()];
                pair.arrive(&bytes, splits[(room + record) % splits.len()]);
                assert_eq!(pair.read(room), (sent.clone(), None), "{room} {record}");
                assert_eq!(pair.server.held_bytes(), 0, "it is idle");
            }
        }
    }
}

#[test]
fn a_record_cut_at_every_byte_waits_for_its_rest() {
    let mut pair = Pair::new(usize::MAX, None);
    let sent = payload(200);
    let len = pair.records(&sent, 50).len() + 27;
    let mut pair = Pair::new(usize::MAX, None);
    for at in 0..=len {
        if at % 3 == 0 {
            // New keys, which the server answers with its own.
            pair.client.refresh_traffic_keys().unwrap();
        }
        let bytes = pair.records(&sent, 50);
        let (before, after) = bytes.split_at(at.min(bytes.len()));
        pair.arrive(before, usize::MAX);
        let (mut all, ended) = pair.read(1000);
        assert!(ended.is_none());
        pair.reply(b"a reply in between");
        pair.arrive(after, usize::MAX);
        let (rest, ended) = pair.read(1000);
        assert!(ended.is_none());
        all.extend(rest);
        assert_eq!(all, sent, "cut at {at}");
    }
}

#[test]
fn large_records_pass_through_small_reads() {
    let mut pair = Pair::new(3, None);
    let sent = payload(1 << 20);
    let bytes = pair.records(&sent, 16 << 10);
    pair.arrive(&bytes, 10_007);
    assert_eq!(pair.read(999), (sent.clone(), None));
    let bytes = pair.records(&sent, 16 << 10);
    pair.arrive(&bytes, usize::MAX);
    assert_eq!(pair.read(1 << 18), (sent, None));
}

#[test]
fn what_came_before_a_corrupted_record_is_read() {
    for split in [1, 50, usize::MAX] {
        let mut pair = Pair::new(usize::MAX, None);
        let (good, bad) = (payload(100), payload(10));
        let mut bytes = pair.records(&good, 30);
        let mut corrupted = pair.records(&bad, 30);
        corrupted[9] ^= 1;
        bytes.extend(corrupted);
        pair.arrive(&bytes, split);
        let (all, ended) = pair.read(40);
        assert_eq!(all, good);
        let error = ended.expect("not pending").expect_err("corrupted");
        assert_eq!(error, io::ErrorKind::InvalidData);
        assert!(!pair.server.is_cut());
        // It stays so.
        assert!(matches!(pair.read(40), (rest, Some(Err(_))) if rest.is_empty()));
    }
}

#[test]
fn an_end_is_told_from_a_cut() {
    for is_cut in [false, true] {
        for at in [0, 1, 5, 20] {
            let mut pair = Pair::new(usize::MAX, None);
            let sent = payload(100);
            let mut bytes = pair.records(&sent, 30);
            if !is_cut {
                pair.client.send_close_notify();
                pair.client.write_tls(&mut bytes).unwrap();
            } else {
                let more = pair.records(&sent, 100);
                bytes.extend(&more[..at]);
            }
            pair.arrive(&bytes, 11);
            pair.wire.lock().is_closed = true;
            let (all, ended) = pair.read(64);
            assert_eq!(all, sent);
            let expected = match is_cut && at != 0 {
                true => Err(io::ErrorKind::UnexpectedEof),
                false => Ok(()),
            };
            assert_eq!(ended, Some(expected), "{is_cut} {at}");
            assert_eq!(pair.server.is_cut(), is_cut);
        }
    }
}

#[tokio::test]
async fn replies_arrive_through_a_slow_wire_and_end_with_close_notify() {
    let mut pair = Pair::new(usize::MAX, None);
    let sent = payload(100_000);
    let mut received = Vec::new();
    let mut left = &sent[..];
    let mut is_closed = false;
    for room in (1..).map(|step| step % 4099) {
        pair.wire.lock().room = Some(room);
        while !left.is_empty() {
            match poll(|context| Pin::new(&mut pair.server).poll_write(context, left)) {
                Some(len) => left = &left[len.unwrap()..],
                None => break,
            }
        }
        if left.is_empty() {
            let closed = poll(|context| Pin::new(&mut pair.server).poll_shutdown(context));
            is_closed = closed.is_some();
        }
        pull(&mut pair.client, &pair.wire);
        let _ = pair.client.reader().read_to_end(&mut received);
        if is_closed {
            break;
        }
    }
    assert_eq!(received, sent);
    let mut last = [0];
    let end = pair.client.reader().read(&mut last);
    assert_eq!(end.unwrap(), 0, "close_notify, not a cut");
    // The other direction goes on.
    let bytes = pair.records(&sent, 1000);
    pair.arrive(&bytes, usize::MAX);
    let mut all = vec![0; sent.len()];
    pair.server.read_exact(&mut all).await.unwrap();
    assert_eq!(all, sent);
    assert!(pair.server.write_all(b"more").await.is_err());
}

#[test]
fn a_dropped_connection_says_that_it_ends() {
    let Pair {
        mut client,
        server,
        wire,
        ..
    } = Pair::new(usize::MAX, None);
    drop(server);
    pull(&mut client, &wire);
    assert_eq!(client.reader().read(&mut [0]).unwrap(), 0);
}

#[test]
fn random_bytes_end_the_handshake_or_the_stream() {
    let mut seed = 7_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u8
    };
    let fleet = Fleet::new();
    let server = TlsServer::load(fleet.files()).unwrap();
    for round in 0..2000 {
        let mut bytes: Vec<u8> = (0..200).map(|_| random()).collect();
        // As a record of some type and length.
        if round % 2 == 0 {
            bytes[..5].copy_from_slice(&[20 + random() % 5, 3, 3, 0, random()]);
        }
        let wire = WireEnd::default();
        let current = server.shared();
        let config = Arc::clone(&current.get().server);
        let mut server = TlsTransport::new(Box::new(wire.clone()), config, current).unwrap();
        wire.lock()
            .to_server
            .extend(bytes.chunks(1 + usize::from(random())).map(<[u8]>::to_vec));
        wire.lock().is_closed = true;
        let mut ended = false;
        for _ in 0..300 {
            if let Some(Err(_)) = poll(|context| server.poll_handshake(context)) {
                ended = true;
                break;
            }
        }
        assert!(ended, "round {round}");
    }
}

/// Any byte of the flights of a client changed, removed or repeated: the handshake fails or succeeds, and nothing panics,
/// however the bytes are split, and whatever is asked in between.
#[test]
fn mutated_handshakes_fail_or_succeed() {
    let fleet = Fleet::new();
    let server = TlsServer::load(fleet.files()).unwrap();
    let device = fleet.device("pump-7");
    let mut seed = 11_u32;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below.max(1)
    };
    let (mut failed, mut succeeded) = (0, 0);
    for round in 0..600 {
        let version = [&rustls::version::TLS12, &rustls::version::TLS13][round % 2];
        let mut client = connection(&fleet.client_of(&device, version));
        let wire = WireEnd::default();
        let config = Arc::clone(&server.current().server);
        let mut tls = TlsTransport::new(Box::new(wire.clone()), config, server.shared()).unwrap();
        let flight = random(3);
        let is_refused = (0..4).any(|number| {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            if number == flight && !bytes.is_empty() {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes[at] ^= 1 << random(8),
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, bytes[at]),
                    _ => bytes.truncate(at),
                }
            }
            let split = 1 + random(80);
            wire.lock()
                .to_server
                .extend(bytes.chunks(split).map(<[u8]>::to_vec));
            for _ in 0..bytes.len() + 2 {
                match poll(|context| tls.poll_handshake(context)) {
                    Some(Err(_)) => return true,
                    Some(Ok(())) => {}
                    None => break,
                }
            }
            let bytes = std::mem::take(&mut wire.lock().from_server);
            let mut bytes = &bytes[..];
            while !bytes.is_empty() && client.read_tls(&mut bytes).is_ok() {
                if client.process_new_packets().is_err() {
                    return true;
                }
            }
            false
        });
        if is_refused || tls.is_handshaking() {
            failed += 1;
        } else {
            succeeded += 1;
            let _ = poll(|context| Pin::new(&mut tls).poll_write(context, b"reply"));
        }
        drop(tls);
    }
    assert!(100 < failed && 10 < succeeded, "{failed} {succeeded}");
}

/// Ten thousand idle connections hold one of each.
#[test]
#[cfg(target_pointer_width = "64")]
fn an_idle_connection_is_small() {
    let len = size_of::<TlsTransport>();
    assert!(len <= 1136, "a connection has {len} bytes");
    let mut pair = Pair::new(usize::MAX, None);
    assert!(pair.server.kept.is_none(), "after the handshake");
    let bytes = pair.records(b"hello", 5);
    pair.arrive(&bytes, usize::MAX);
    assert_eq!(pair.read(100).0, b"hello");
    assert!(pair.server.kept.is_none(), "after a record");
}
