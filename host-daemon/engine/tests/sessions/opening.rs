//! How connections begin: with a HELLO, well-formed or not, or with plain messages.

use blocksd_engine::connection::policy::SessionMode;
use blocksd_engine::permit::Bounds;
use blocksd_engine::reason::CloseReason;
use blocksd_engine::session::{GapCause, HelloKind, Recovered};
use framing_core::session::wire::Hello;
use tokio::io::AsyncWriteExt;

use crate::device::{Down, END, cont, encoded, hello, hello_fields, message};
use crate::host::Host;

#[tokio::test]
async fn a_session_is_recognised_whatever_the_pieces() {
    let bytes = [
        &hello(5, 3, 2, 0)[..],
        &cont(5, 3),
        &message(b"three"),
        &END,
        &cont(5, 4),
        &message(b"four"),
        &END,
    ]
    .concat();
    for split in 1..bytes.len() {
        let mut host = Host::auto().await;
        let mut device = host.connect().await;
        device.send_in_two(&bytes, split).await;
        host.until(|host| host.log.len() == 2 && host.ends != 0)
            .await;
        let log = [(3, Some(b"three".to_vec())), (4, Some(b"four".to_vec()))];
        assert_eq!(host.log, log, "split at {split}");
        assert_eq!(host.opened, [("boiler".to_owned(), HelloKind::Adopted)]);
        assert_eq!((host.plain.len(), host.faults), (0, 0));
    }
}

#[tokio::test]
async fn plain_messages_that_begin_like_a_hello_stay_plain() {
    // The length of a HELLO, and the magic but for its last byte.
    let mut almost = hello(0, 0, 0, 0)[4..].to_vec();
    almost[7] = b'!';
    let bytes = [message(&almost), message(b"next"), END.to_vec()].concat();
    for split in 1..bytes.len() {
        let mut host = Host::auto().await;
        let mut device = host.connect().await;
        device.send_in_two(&bytes, split).await;
        host.until_ended().await;
        assert_eq!(host.plain, [almost.clone(), b"next".to_vec()], "{split}");
        assert!(host.opened.is_empty());
    }
    // The end of the connection within the undecided bytes is the fault that it always was.
    let mut host = Host::auto().await;
    let mut device = host.connect().await;
    device.send(&[&bytes[..9]]).await;
    device.stream.shutdown().await.unwrap();
    host.until_closed(1).await;
    assert_eq!(
        (host.faults, &host.closed[..]),
        (1, &[CloseReason::Eof][..])
    );
}

#[tokio::test]
async fn hellos_that_cannot_be_served_are_answered_with_their_reason() {
    // With the highest version that the host speaks.
    let version = Down::Closing {
        code: 1,
        retry_s: 60,
        number: 1,
    };
    let bad = |at: usize, value: u8| {
        let mut bytes = hello(0, 0, 0, 0);
        bytes[at] = value;
        bytes
    };
    let extended = [&hello(0, 0, 0, 0)[..], &[0x80, 0]].concat();
    let extended = message(&extended[4..]);
    for (mode, bytes, answer) in [
        (SessionMode::Off, hello(0, 0, 0, 0), Down::closing(10, 60)),
        (SessionMode::Auto, bad(12, 2), version),
        (SessionMode::Auto, bad(13, 0x40), Down::closing(6, 60)),
        (SessionMode::Auto, extended, Down::closing(6, 60)),
        (SessionMode::Auto, bad(14, 200), Down::closing(2, 60)),
        (SessionMode::Auto, bad(52, b' '), Down::closing(2, 60)),
        (SessionMode::Auto, bad(28, 0xff), Down::closing(2, 60)),
    ] {
        let mut host = Host::start(mode, |_| {}).await;
        let mut device = host.connect().await;
        // The bytes after it in the same flight are not taken for messages.
        device
            .send(&[&bytes, &cont(1, 0), &message(b"eager")])
            .await;
        assert_eq!(device.read().await, answer);
        assert_eq!(device.read().await, Down::Closed);
        drop(device);
        host.until_closed(1).await;
        assert_eq!(host.closed, [CloseReason::SessionRefused]);
        assert_eq!((host.plain.len(), host.log.len(), host.faults), (0, 0, 0));
        assert!(host.sessions.is_empty());
    }
    // Plain messages where sessions are required.
    let mut host = Host::start(SessionMode::Required, |_| {}).await;
    let mut device = host.connect().await;
    device.send(&[&message(b"plain")]).await;
    assert_eq!(device.read().await, Down::closing(9, 60));
    assert_eq!(device.read().await, Down::Closed);
    drop(device);
    host.until_closed(1).await;
    assert_eq!(host.closed, [CloseReason::SessionRefused]);
    assert_eq!((host.plain.len(), host.faults), (0, 0));
}

#[tokio::test]
async fn a_session_without_messages_is_forgotten_with_its_connection() {
    let mut host = Host::auto().await;
    for _ in 0..3 {
        let mut device = host.connect().await;
        device.open(0, 0, 0).await;
        assert_eq!(host.sessions.len(), 1);
        drop(device);
        let closed = host.closed.len() + 1;
        host.until_closed(closed).await;
        assert!(host.sessions.is_empty());
    }
}

#[tokio::test]
async fn the_largest_number_of_sessions_holds() {
    let mut host = Host::auto().await;
    host.sessions.set_max(2);
    let mut devices = Vec::new();
    for _ in 0..2 {
        let mut device = host.connect().await;
        device.open(0, 0, 1).await;
        devices.push(device);
    }
    let mut device = host.connect().await;
    device.send(&[&hello(0, 0, 0, 0)]).await;
    assert_eq!(device.read().await, Down::closing(4, 60));
    // One whose messages are durable, and that no connection owns, makes room.
    let mut first = devices.remove(0);
    first.send(&[&hello(0, 0, 0, 0)]).await;
    drop(first);
    host.until_closed(2).await;
    let mut device = host.connect().await;
    device.open(0, 0, 0).await;
    assert_eq!(host.sessions.len(), 2);
}

#[tokio::test]
async fn a_session_of_gaps_is_forgotten_before_one_of_messages() {
    let mut host = Host::auto().await;
    host.sessions.set_max(2);
    let mut sessions = Vec::new();
    for (closed, first) in [0, 1].into_iter().enumerate() {
        let mut device = host.connect().await;
        // The second has given up its only message.
        device.send(&[&hello(0, first, 0, first as u32)]).await;
        let Down::Welcome { session, .. } = device.read().await else {
            panic!("no WELCOME");
        };
        device.send(&[&cont(session, first)]).await;
        match first {
            0 => device.send(&[&message(b"x"), &END]).await,
            _ => device.send(&[&END]).await,
        }
        host.until(|host| host.log.len() + host.gaps.len() == closed + 1)
            .await;
        host.sync();
        drop(device);
        host.until_closed(closed + 1).await;
        sessions.push(session);
    }
    let mut device = host.connect().await;
    device.open(0, 0, 0).await;
    let mut kept = Vec::new();
    host.sessions
        .for_each(|session| kept.push(session.number()));
    assert!(kept.contains(&sessions[0]) && !kept.contains(&sessions[1]));
}

#[tokio::test]
async fn a_device_with_too_many_connections_leaves_no_session() {
    let mut host = Host::auto().await;
    host.handle.connections().set_bounds(&Bounds {
        per_device: Some(1),
        ..Bounds::default()
    });
    let mut device = host.connect().await;
    let session = device.open(0, 0, 0).await;
    for _ in 0..3 {
        // Another session of the device, which has given up a message.
        let mut other = host.connect().await;
        other.send(&[&hello(0, 1, 0, 1)]).await;
        assert_eq!(other.read().await, Down::closing(4, 60));
    }
    assert_eq!(host.sessions.len(), 1);
    // The same session takes the place of its connection.
    let mut next = host.connect().await;
    next.open(session, 0, 0).await;
    let closing = device.read().await;
    assert!(matches!(closing, Down::Closing { code: 5, .. }));
    drop((device, next));
    host.until_closed(5).await;
    // A device may have the name that its address gives it.
    let mut named = host.connect().await;
    let hello = Hello {
        device: "127.0.0.1",
        ..hello_fields(0, 0, 0, 0)
    };
    named.send(&[&encoded(&hello)]).await;
    assert!(matches!(named.read().await, Down::Welcome { .. }));
}

#[tokio::test]
async fn a_hello_that_cannot_take_a_session_over_needs_a_place_of_its_own() {
    let mut host = Host::auto().await;
    host.handle.connections().set_bounds(&Bounds {
        per_device: Some(1),
        ..Bounds::default()
    });
    let mut device = host.connect().await;
    let session = device.open(0, 0, 1).await;
    device.send(&[&cont(session, 0), &message(b"x")]).await;
    host.until(|host| !host.log.is_empty()).await;
    for _ in 0..3 {
        // It does not have the message that the host has.
        let mut other = host.connect().await;
        other.send(&[&hello(session, 0, 0, 0)]).await;
        assert_eq!(other.read().await, Down::closing(4, 60));
    }
    assert_eq!(host.sessions.len(), 1);
}

#[tokio::test]
async fn a_recorded_session_whose_gap_no_series_followed_can_be_forgotten() {
    let mut host = Host::auto().await;
    host.sessions.set_max(1);
    host.sessions.recover([Recovered {
        device: "boiler".into(),
        session: 7,
        next: 5,
        check: 0,
    }]);
    let mut device = host.connect().await;
    device.send(&[&hello(7, 9, 0, 4)]).await;
    assert!(matches!(
        device.read().await,
        Down::Welcome { resume: 9, .. }
    ));
    drop(device);
    host.until_closed(1).await;
    // The gap comes again.
    let mut device = host.connect().await;
    device.send(&[&hello(7, 8, 1, 3)]).await;
    assert!(matches!(
        device.read().await,
        Down::Welcome { resume: 8, .. }
    ));
    device.send(&[&cont(7, 8), &message(b"x")]).await;
    host.until(|host| !host.log.is_empty()).await;
    assert_eq!(host.gaps, [(5, 8, GapCause::Device)]);
    host.sync();
    drop(device);
    host.until_closed(2).await;
    let mut other = host.connect().await;
    other.open(0, 0, 0).await;
}

#[tokio::test]
async fn a_hello_that_gave_up_messages_leaves_nothing_without_a_series() {
    let mut host = Host::auto().await;
    for count in 1..=3 {
        let mut device = host.connect().await;
        device.send(&[&hello(0, 9, 0, 9)]).await;
        assert!(matches!(device.read().await, Down::Welcome { .. }));
        drop(device);
        host.until_closed(count).await;
        assert!(host.sessions.is_empty() && host.gaps.is_empty());
    }
    let mut device = host.connect().await;
    device.send(&[&hello(0, 9, 0, 9)]).await;
    let Down::Welcome { session, .. } = device.read().await else {
        panic!("no WELCOME");
    };
    device.send(&[&cont(session, 9)]).await;
    host.until(|host| !host.gaps.is_empty()).await;
    assert_eq!(host.gaps, [(0, 9, GapCause::Device)]);
}
