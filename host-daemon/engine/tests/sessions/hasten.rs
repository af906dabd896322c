//! When a device waits for a commit: at the end of its series, and when half of its ring is full.

use std::time::Duration;

use framing_core::session::wire::{Extensions, Hello};

use crate::device::{Device, Down, END, cont, encoded, message};
use crate::host::Host;

/// Bytes of the ring of the device.
const ROOM: u32 = 100;

#[tokio::test]
async fn half_of_the_ring_hastens_a_commit() {
    let (mut host, mut device, session) = opened(ROOM).await;
    device.send(&[&cont(session, 0), &message(&[1; 40])]).await;
    host.until(|host| host.log.len() == 1).await;
    assert!(!host.is_hastened());
    device.send(&[&message(&[2; 2])]).await;
    host.until(|host| host.log.len() == 2).await;
    assert!(host.is_hastened());
    assert!(!host.is_hastened(), "once");
    // An acknowledgement empties the ring.
    host.sync();
    device.until_acked(2).await;
    device.send(&[&message(&[3; 40])]).await;
    host.until(|host| host.log.len() == 3).await;
    assert!(!host.is_hastened());
}

#[tokio::test]
async fn a_ring_of_unknown_length_does_not_hasten_a_commit() {
    let (mut host, mut device, session) = opened(0).await;
    device.send(&[&cont(session, 0), &message(&[1; 200])]).await;
    host.until(|host| host.log.len() == 1).await;
    assert!(!host.is_hastened());
}

#[tokio::test]
async fn the_end_of_a_series_hastens_a_commit_of_what_is_not_durable() {
    let (mut host, mut device, session) = opened(ROOM).await;
    device.send(&[&cont(session, 0), &message(b"x")]).await;
    host.until(|host| host.log.len() == 1).await;
    device.send(&[&END]).await;
    host.until(|host| host.ends == 1).await;
    assert!(host.is_hastened());
    host.sync();
    device.until_acked(1).await;
    // Past the time in which a second end is ignored in any case.
    tokio::time::sleep(Duration::from_millis(150)).await;
    device.send(&[&cont(session, 1)]).await;
    device.send(&[&END]).await;
    host.until(|host| host.ends == 2).await;
    assert!(!host.is_hastened());
}

#[tokio::test]
async fn an_end_before_a_cont_does_not_hasten_a_commit() {
    let (mut host, mut device, session) = opened(ROOM).await;
    let ping = [END.to_vec(), cont(session, 1)].concat();
    device
        .send(&[&cont(session, 0), &message(b"x"), &ping])
        .await;
    device.until_acked(0).await;
    device.send(&[&message(b"y")]).await;
    host.until(|host| host.log.len() == 2).await;
    assert!(!host.is_hastened());
}

/// A device with a session.
async fn opened(room: u32) -> (Host, Device, u64) {
    let host = Host::auto().await;
    let mut device = host.connect().await;
    let hello = Hello {
        flags: 0,
        heartbeat: 255,
        room,
        session: 0,
        first: 0,
        held: 9,
        lost: 0,
        uptime_us: 0,
        device: "boiler",
        extensions: Extensions::default(),
    };
    device.send(&[&encoded(&hello)]).await;
    match device.read().await {
        Down::Welcome { session, .. } => (host, device, session),
        other => panic!("{other:?}"),
    }
}

impl Host {
    fn is_hastened(&self) -> bool {
        self.session.as_ref().unwrap().take_hastened()
    }
}

impl Device {
    async fn until_acked(&mut self, number: u64) {
        loop {
            match self.read().await {
                Down::Ack { acked, .. } if acked == number => return,
                Down::Ack { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
