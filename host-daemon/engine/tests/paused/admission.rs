//! Connections over a limit: when the engine evicts an old connection, and when it refuses the new one.

use std::time::Duration;

use blocksd_engine::Engine;
use blocksd_engine::batch::ClosePolicy;
use blocksd_engine::connection::policy::Policy;
use blocksd_engine::permit::{Bounds, SETTLED};
use blocksd_engine::reason::CloseReason;
use framing_core::{AnyFraming, Blocks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::daemon::Daemon;

fn blocks() -> Policy {
    Policy {
        close: ClosePolicy {
            at_end: true,
            ..ClosePolicy::default()
        },
        ..Policy::new(AnyFraming::Blocks(Blocks))
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_of_a_full_fleet_is_evicted_only_after_it_was_silent() {
    let bounds = Bounds {
        connections: 3,
        ..Bounds::default()
    };
    let daemon = Daemon::of(Engine::builder().bounds(bounds), blocks(), 1024, true);
    let begin = Instant::now();
    let mut fleet = Vec::new();
    for host in 1..4 {
        fleet.push(daemon.connect(host).await);
    }
    let second = Duration::from_secs(1);
    for wait in [Duration::ZERO, SETTLED - second] {
        sleep(wait).await;
        let mut newcomer = daemon.connect(9).await;
        assert_eq!(newcomer.read(&mut [0]).await.unwrap(), 0, "not refused");
    }
    assert_eq!(daemon.handle.counters().totals().refused(), 2);
    sleep(2 * second).await;
    let mut newcomer = daemon.connect(9).await;
    let story = daemon.until_closed(1).await;
    story.assert_closed(CloseReason::Evicted, begin, SETTLED + second);
    newcomer.write_all(b"\0\0\0\x02hi\0\0\0\0").await.unwrap();
    let story = daemon.until_closed(4).await;
    assert_eq!(story.closed.unwrap().1, CloseReason::End);
    assert_eq!(daemon.handle.counters().totals().refused(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_delays_long_messages_and_closes_no_connection() {
    const LEN: usize = 1 << 20;
    const DEVICES: usize = 12;
    let bounds = Bounds {
        unfinished: 4 << 20,
        ..Bounds::default()
    };
    let daemon = Daemon::of(Engine::builder().bounds(bounds), blocks(), 1, false);
    let message = [&(LEN as u32).to_be_bytes()[..], &vec![b'x'; LEN]].concat();
    let mut sending = Vec::new();
    for host in 1..=DEVICES {
        let mut device = daemon.connect(host as u8).await;
        let wire = [&message[..], &message, &message, &[0; 4]].concat();
        sending.push(tokio::spawn(async move {
            device.write_all(&wire).await.expect("the daemon reads it");
            device
        }));
    }
    // Longer than a connection may hold memory while others wait for it.
    sleep(Duration::from_secs(60)).await;
    assert!(sending.iter().any(|sending| !sending.is_finished()));
    daemon.take_events();
    for (conn, sending) in (1..).zip(sending) {
        let _device = sending.await.unwrap();
        let story = daemon.until_closed(conn).await;
        assert_eq!(story.closed.unwrap().1, CloseReason::End, "{story:?}");
        assert_eq!(
            (&story.messages[..], story.faults.len()),
            (&[LEN; 3][..], 0)
        );
    }
}
