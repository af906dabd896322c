//! Messages that become unreadable before they are confirmed are not acknowledged, and taken from the device again.

use blocksd_engine::connection::policy::SessionMode;
use blocksd_engine::reason::CloseReason;
use blocksd_engine::session::{HelloKind, Recovered, Sessions};
use framing_core::session::Written;

use crate::device::{Device, Down, END, cont, hello, message};
use crate::host::Host;

async fn confirming(recovered: Option<Recovered>) -> Host {
    let sessions = Sessions::new(100).confirming();
    sessions.recover(recovered);
    Host::of(sessions, SessionMode::Auto, |_| {}).await
}

fn recovered(next: u64) -> Recovered {
    Recovered {
        device: "boiler".into(),
        session: 9,
        next,
        check: 0,
    }
}

/// Sends messages of a series, one byte each.
async fn send(device: &mut Device, session: u64, numbers: std::ops::Range<u8>) {
    device.send(&[&cont(session, numbers.start.into())]).await;
    for number in numbers {
        device.send(&[&message(&[number])]).await;
    }
    device.send(&[&END]).await;
}

/// Reads until an ACK of this number.
async fn acked(device: &mut Device, number: u64) {
    loop {
        match device.read().await {
            Down::Ack { acked, .. } if acked == number => return,
            Down::Ack { acked, .. } => assert!(acked < number, "{acked}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_hole_is_taken_again_and_nothing_after_it_is_acknowledged() {
    let mut host = confirming(None).await;
    let mut device = host.connect().await;
    let session = device.open(0, 0, 6).await;
    send(&mut device, session, 0..6).await;
    host.until_messages(6).await;
    host.sync();
    host.sessions.confirm("boiler", session, 0, 2);
    acked(&mut device, 2).await;
    let before = host.session.clone().unwrap();
    // Messages 2 and 3 are lost.
    host.sessions.confirm("boiler", session, 4, 6);
    assert_eq!(before.acknowledged(), 2);
    assert_eq!(device.read().await, Down::closing(7, 0));
    host.until_closed(1).await;
    assert_eq!(host.closed, [CloseReason::SyncFailed]);
    let mut device = host.connect().await;
    device.send(&[&hello(session, 2, 4, 0)]).await;
    let Down::Welcome {
        acked: welcome,
        resume,
        session: same,
        new,
        ..
    } = device.read().await
    else {
        panic!("no WELCOME");
    };
    assert_eq!((welcome, resume, same, new), (2, 2, session, false));
    assert!(host.sessions.take_forgotten() && !host.sessions.take_forgotten());
    // What is on its way to the writer is dropped.
    assert_eq!(before.write(6, 1), Written::Drop);
    send(&mut device, session, 2..6).await;
    host.until_messages(10).await;
    assert_eq!(host.numbers(), [0, 1, 2, 3, 4, 5, 2, 3, 4, 5]);
    host.sync();
    // A late confirmation shows no other hole.
    host.sessions.confirm("boiler", session, 4, 6);
    host.sessions.confirm("boiler", session, 2, 4);
    acked(&mut device, 6).await;
    let kinds: Vec<_> = host.opened.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, [HelloKind::Began, HelloKind::Adopted]);
}

#[tokio::test]
async fn numbers_that_the_device_has_given_up_are_no_hole() {
    let mut host = confirming(None).await;
    let mut device = host.connect().await;
    let session = device.open(0, 0, 2).await;
    send(&mut device, session, 0..2).await;
    send(&mut device, session, 5..8).await;
    host.until_messages(5).await;
    assert_eq!(host.gaps.len(), 1);
    host.sync();
    host.sessions.confirm("boiler", session, 0, 2);
    // With the gap before them.
    host.sessions.confirm("boiler", session, 2, 8);
    acked(&mut device, 8).await;
}

/// The device says what it holds, and the answer is that nothing but these runs can be read or is confirmed.
async fn settle(host: &Host, device: &mut Device, first: u64, next: u64, runs: &[(u64, u64)]) {
    device
        .send(&[&hello(9, first, (next - first) as u32, 0)])
        .await;
    let welcome = device.read().await;
    assert!(
        matches!(welcome, Down::Welcome { resume, session: 9, .. } if resume == next),
        "{welcome:?}"
    );
    for unsettled in host.sessions.unsettled(false) {
        assert_eq!((unsettled.session, unsettled.to), (9, next));
        host.sessions.settle(&unsettled, runs);
    }
}

#[tokio::test]
async fn a_device_sends_again_what_is_not_confirmed_and_cannot_be_read() {
    for (first, runs, resume) in [
        (2, &[][..], 2),
        (2, &[(0, 6)], 6),
        (2, &[(0, 4)], 2),
        (2, &[(3, 6)], 2),
        (4, &[(3, 6)], 6),
        (6, &[], 6),
    ] {
        let host = confirming(Some(recovered(6))).await;
        let mut device = host.connect().await;
        settle(&host, &mut device, first, 6, runs).await;
        assert!(host.sessions.unsettled(false).is_empty());
        if resume == 6 {
            if first < 6 {
                acked(&mut device, 6).await;
            }
            continue;
        }
        let closing = loop {
            match device.read().await {
                Down::Ack { acked, .. } => assert!(acked <= 4, "{acked}"),
                other => break other,
            }
        };
        assert_eq!(closing, Down::closing(7, 0));
        let mut device = host.connect().await;
        device.send(&[&hello(9, first, 6 - first as u32, 0)]).await;
        let welcome = device.read().await;
        assert!(
            matches!(welcome, Down::Welcome { resume: it, session: 9, .. } if it == resume),
            "{welcome:?}"
        );
        assert!(host.sessions.take_forgotten());
    }
}

#[tokio::test]
async fn only_devices_that_have_connected_are_asked_for() {
    let host = confirming(Some(recovered(8))).await;
    assert!(host.sessions.unsettled(true).is_empty());
    let mut device = host.connect().await;
    device.send(&[&hello(9, 3, 5, 0)]).await;
    assert!(matches!(
        device.read().await,
        Down::Welcome { acked: 3, .. }
    ));
    assert_eq!(host.sessions.unsettled(false).len(), 1);
    assert!(host.sessions.unsettled(false).is_empty());
    // To another forwarder.
    assert_eq!(host.sessions.unsettled(true).len(), 1);
    host.sessions.confirm("boiler", 9, 0, 8);
    acked(&mut device, 8).await;
    assert!(host.sessions.unsettled(true).is_empty());
}

#[tokio::test]
async fn a_session_whose_device_has_left_is_settled_and_makes_room() {
    let sessions = Sessions::new(1).confirming();
    sessions.recover(Some(recovered(8)));
    let mut host = Host::of(sessions, SessionMode::Auto, |_| {}).await;
    let mut device = host.connect().await;
    device.send(&[&hello(9, 3, 5, 0)]).await;
    assert!(matches!(device.read().await, Down::Welcome { .. }));
    drop(device);
    host.until_closed(1).await;
    // Its messages may be nowhere else.
    let mut other = host.connect().await;
    other.send(&[&hello(0, 0, 1, 0)]).await;
    assert!(matches!(other.read().await, Down::Closing { code: 4, .. }));
    let unsettled = host.sessions.unsettled(false);
    assert_eq!((unsettled.len(), unsettled[0].to), (1, 8));
    host.sessions.settle(&unsettled[0], &[(0, 8)]);
    host.connect().await.open(0, 0, 1).await;
}
