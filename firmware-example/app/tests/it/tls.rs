//! A session over TLS: wherever a connection is split, cut, spoiled or given up, the host has every sample once.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use embedded_io::{ErrorKind, ErrorType};
use embedded_io_async::{Read, Write};
use firmware_example::{Plan, run_session, tail};
use framing_core::session::Device;
use framing_uplink::tls::{Credentials, Entropy, Tls, TlsBuffers};
use framing_uplink::{Connect, Full, Ring, Session, SessionMemory, SessionReport, Split, Stop};
use rustls::ServerConfig;

use crate::application::PLAN;
use crate::certificates::{Ca, Certified, SERVER, Wanted};
use crate::support::{Bench, Time};
use crate::tls_host::{Course, TlsHost};

/// A time of the build, in 2023.
pub(crate) const BUILT_S: u64 = 1_700_000_000;
/// Length of the buffers.
const READ: usize = 1_280;
const WRITE: usize = 640;
/// The most by which the DER forms of two ECDSA signatures differ in length, in practice.
const SIGNATURES_DIFFER: usize = 6;

/// Random numbers that are not.
pub(crate) struct Dice(pub(crate) u8);

impl Entropy for Dice {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ErrorKind> {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(5).wrapping_add(1);
            *byte = self.0;
        }
        Ok(())
    }
}

/// Runs the application over TLS until it ends.
pub(crate) fn application(
    time: &Time,
    plan: Plan,
    ca: &Ca,
    device: &Certified,
    host: &TlsHost<'_>,
) -> SessionReport {
    let credentials = Credentials::new(&device.der, &device.key, &ca.der, SERVER, BUILT_S).unwrap();
    let mut buffers = TlsBuffers::<READ, WRITE>::new();
    let mut tls = Tls::new(host, time, Dice(1), &credentials, &mut buffers);
    let report = over(time, plan, &mut tls);
    assert!(report.ended == (report.left == 0), "{report:?}");
    report
}

/// Runs the application over a transport until it ends.
fn over(time: &Time, plan: Plan, connect: &mut impl Split) -> SessionReport {
    let (ring, stop, mut bench) = (
        Ring::<448>::new(Full::DropOldest),
        Stop::new(),
        Bench::default(),
    );
    let mut memory = SessionMemory::<4096>::new();
    let mut session = Session::new(
        Device::new("boiler-7").unwrap(),
        &mut memory,
        Full::DropOldest,
        7,
    )
    .with_tail(tail);
    let running = run_session(plan, &ring, &mut session, &stop, &mut bench, time, connect);
    time.run(running)
}

/// A CA, a device, and a good server.
fn world() -> (Ca, Certified, Arc<ServerConfig>) {
    let ca = Ca::new();
    let server = ca.server(&[&ca.issue(&Wanted::SERVER)]);
    let device = ca.issue(&Wanted::DEVICE);
    (ca, device, server)
}

/// Asserts that the host has every sample once.
#[track_caller]
pub(crate) fn assert_whole(report: SessionReport, host: &TlsHost<'_>, context: &str) {
    let (samples, gaps) = host.state.borrow().recorded();
    let numbers: Vec<_> = samples.iter().map(|sample| sample["n"] as u32).collect();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>(), "{context}: {report:?}");
    assert_eq!(
        (gaps, report.acknowledged, report.ended),
        (0, 8, true),
        "{context}: {report:?}"
    );
}

/// With time for some long delays.
pub(crate) const PATIENT: Plan = Plan {
    stop_ms: 600_000,
    ..PLAN
};

#[test]
fn a_session_over_tls_is_split_at_any_place() {
    let (ca, device, server) = world();
    for piece in [1, 2, 3, 5, 16, 61, 4_096] {
        let time = Time::default();
        let host = TlsHost::new(&time, &[(server.clone(), Course::Lives)]);
        host.piece.set(piece);
        let report = application(&time, PLAN, &ca, &device, &host);
        assert_whole(report, &host, &format!("{piece} bytes a time"));
        assert_eq!((report.connections, report.unwelcome), (1, 0), "{piece}");
        assert_eq!(host.notified.get(), 1, "close_notify");
        assert_eq!(*host.refused.borrow(), [""; 0]);
    }
}

#[test]
fn a_flush_ends_a_record_and_a_message_does_not() {
    let (ca, device, server) = world();
    let time = Time::default();
    // All samples wait for the second connection.
    let courses = [(server.clone(), Course::Up(0)), (server, Course::Lives)];
    let host = TlsHost::new(&time, &courses);
    let report = application(&time, PLAN, &ca, &device, &host);
    assert_whole(report, &host, "");
    let records = host.records.borrow();
    // HELLO; the messages, which have about 800 bytes, with the marks around them; `close_notify`.
    let full = WRITE - 128 + 17;
    assert!(
        matches!(records[..], [hello, first, rest, 24]
            if hello == 22 + 60 && first == full && rest < full),
        "{records:?}"
    );
}

/// Every fifth place of the session, and every eleventh one of the handshake, which has this many bytes.
fn places(handshake: usize, len: usize) -> impl Iterator<Item = usize> {
    let session = (handshake..len).step_by(5);
    (0..handshake).step_by(11).chain(session)
}

#[test]
fn wherever_a_connection_is_cut_every_sample_is_recorded_once() {
    let (ca, device, server) = world();
    let time = Time::default();
    let whole = TlsHost::new(&time, &[(server.clone(), Course::Lives)]);
    application(&time, PLAN, &ca, &device, &whole);
    let (up, down) = whole.bytes.get();
    assert!(1_500 < up && 900 < down, "{up} and {down} bytes");
    let ups = places(800, up).map(Course::Up);
    let downs = places(900, down).map(Course::Down);
    for course in ups.chain(downs) {
        let time = Time::default();
        let courses = [(server.clone(), course), (server.clone(), Course::Lives)];
        let host = TlsHost::new(&time, &courses);
        let report = application(&time, PATIENT, &ca, &device, &host);
        let attempts = host.attempts_ms.borrow();
        assert_whole(report, &host, &format!("{course:?}"));
        // One accident is not a refusal. The last record is `close_notify`. It begins at another byte in each session, as
        // the DER form of the device's signature is a few bytes shorter in some.
        let is_end = matches!(course, Course::Up(place) if up - 24 - SIGNATURES_DIFFER <= place);
        assert!(
            matches!(attempts[..], [first, second] if second - first < 1_000)
                || is_end && attempts.len() == 1,
            "{course:?}: {attempts:?}"
        );
    }
}

#[test]
fn a_byte_that_is_spoiled_ends_the_connection_and_costs_nothing() {
    let (ca, device, server) = world();
    let time = Time::default();
    let whole = TlsHost::new(&time, &[(server.clone(), Course::Lives)]);
    application(&time, PLAN, &ca, &device, &whole);
    let (_, down) = whole.bytes.get();
    for place in places(900, down) {
        let time = Time::default();
        let courses = [
            (server.clone(), Course::Spoils(place)),
            (server.clone(), Course::Lives),
        ];
        let host = TlsHost::new(&time, &courses);
        let report = application(&time, PATIENT, &ca, &device, &host);
        assert_whole(report, &host, &format!("byte {place}"));
        // Two bytes of a header have no meaning: the version of the record.
        assert!(
            (1..=2).contains(&host.attempts_ms.borrow().len()),
            "{place}"
        );
    }
}

#[test]
fn records_that_somebody_on_the_way_adds_end_the_connection() {
    let (ca, device, server) = world();
    let time = Time::default();
    let whole = TlsHost::new(&time, &[(server.clone(), Course::Lives)]);
    application(&time, PLAN, &ca, &device, &whole);
    // The ServerHello, the rest of the handshake, WELCOME, and acknowledgements.
    let begins = whole.begins.borrow();
    assert!(5 <= begins.len(), "{begins:?}");
    // `close_notify`, an EncryptedExtensions, a change of the cipher, a protected record that is not authentic, and one that
    // is too long.
    const RECORDS: [&[u8]; 5] = [
        &[21, 3, 3, 0, 2, 1, 0],
        &[22, 3, 3, 0, 6, 8, 0, 0, 2, 0, 0],
        &[20, 3, 3, 0, 1, 1],
        &[
            23, 3, 3, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
        ],
        &[23, 3, 3, 0xff, 0xff],
    ];
    for (added, place) in RECORDS
        .iter()
        .flat_map(|added| begins.iter().map(move |place| (added, *place)))
    {
        let time = Time::default();
        let course = Course::Adds(place, added);
        let courses = [(server.clone(), course), (server.clone(), Course::Lives)];
        let host = TlsHost::new(&time, &courses);
        let report = application(&time, PATIENT, &ca, &device, &host);
        assert_whole(report, &host, &format!("{course:?}"));
    }
}

#[test]
fn a_read_or_write_that_is_given_up_at_each_wait_loses_nothing() {
    let (ca, device, server) = world();
    for piece in [1, 7, 61, 4_096] {
        let time = Time::default();
        let host = TlsHost::new(&time, &[(server.clone(), Course::Lives)]);
        host.piece.set(piece);
        let credentials =
            Credentials::new(&device.der, &device.key, &ca.der, SERVER, BUILT_S).unwrap();
        let mut buffers = TlsBuffers::<READ, WRITE>::new();
        let tls = Tls::new(&host, &time, Dice(1), &credentials, &mut buffers);
        let report = over(&time, PLAN, &mut Fickle(tls));
        assert_whole(report, &host, &format!("{piece} bytes a time"));
        assert_eq!(report.connections, 1);
    }
}

/// A transport that drops each operation of another when it waits, and begins it anew.
struct Fickle<C>(C);

impl<C: Split> Connect for Fickle<C> {
    type Connection<'c>
        = C::Connection<'c>
    where
        Self: 'c;

    async fn connect(&mut self) -> Result<C::Connection<'_>, ErrorKind> {
        self.0.connect().await
    }

    async fn close<'c>(connection: &mut C::Connection<'c>) -> Result<(), ErrorKind>
    where
        Self: 'c,
    {
        C::close(connection).await
    }
}

impl<C: Split> Split for Fickle<C> {
    type Error = C::Error;

    fn split<'s, 'c>(
        connection: &'s mut C::Connection<'c>,
    ) -> (impl Read<Error = C::Error>, impl Write<Error = C::Error>)
    where
        Self: 'c,
        'c: 's,
    {
        let (read, write) = C::split(connection);
        (FickleHalf(read), FickleHalf(write))
    }

    async fn end<'c>(connection: &mut C::Connection<'c>, is_graceful: bool)
    where
        Self: 'c,
    {
        C::end(connection, is_graceful).await;
    }
}

struct FickleHalf<T>(T);

impl<T: ErrorType> ErrorType for FickleHalf<T> {
    type Error = T::Error;
}

impl<T: Read> Read for FickleHalf<T> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, T::Error> {
        poll_fn(|context| pin!(self.0.read(to)).poll(context)).await
    }
}

impl<T: Write> Write for FickleHalf<T> {
    async fn write(&mut self, from: &[u8]) -> Result<usize, T::Error> {
        poll_fn(|context| pin!(self.0.write(from)).poll(context)).await
    }

    async fn flush(&mut self) -> Result<(), T::Error> {
        poll_fn(|context| pin!(self.0.flush()).poll(context)).await
    }
}
