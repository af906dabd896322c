//! Rings and memories without room, in both policies.

use std::future::pending;

use embassy_futures::select::select3;
use framing_uplink::{
    Clock, Config, Device, Full, PushError, Ring, RingSource, Session, SessionMemory,
    SessionReport, Stop, run_series,
};

use crate::net::{Net, Script};
use crate::peers::{Host, Manner, Series};
use crate::time::Time;

/// Messages of 12 bytes: 16 in the ring.
fn messages() -> Vec<Vec<u8>> {
    (0..10).map(|n| vec![b'a' + n; 12]).collect()
}

/// A closed ring with room for four of ten messages; which of them it refused.
fn fill(full: Full) -> (Ring<64>, Vec<bool>) {
    let ring = Ring::new(full);
    let push = |message: &Vec<u8>| ring.push(message);
    let pushed: Vec<_> = messages().iter().map(push).collect();
    let is_refused = |pushed: &Result<u32, PushError>| *pushed == Err(PushError::Full { free: 0 });
    let refused = pushed.iter().map(is_refused).collect();
    ring.close();
    (ring, refused)
}

#[test]
fn a_full_ring_loses_its_oldest_messages_or_refuses_new_ones_and_counts_them() {
    for (full, kept) in [(Full::DropOldest, 6..10), (Full::Refuse, 0..4)] {
        let (ring, refused) = fill(full);
        let time = Time::default();
        let mut net = &Net::new(&time, Series::default(), Script::default());
        let mut source = RingSource::<64, 16>::new(&ring);
        let (config, stop) = (Config::new(), Stop::new());
        let running = run_series(&config, &mut source, &stop, &time, &mut net, 1);
        let report = time.run(running);
        assert_eq!(net.peer.borrow().messages, messages()[kept], "{full:?}");
        assert_eq!((report.delivered, report.lost), (4, 6), "{full:?}");
        let counts = ring.counts();
        let refusals = refused.iter().filter(|refused| **refused).count();
        match full {
            Full::Refuse => {
                assert_eq!((counts.dropped, counts.refused), (0, 6));
                assert_eq!((refusals, &refused[..4]), (6, &[false; 4][..]));
            }
            Full::DropOldest => {
                assert_eq!((counts.dropped, counts.refused), (6, 0));
                assert_eq!(refusals, 0);
            }
        }
    }
}

/// Sends ten messages through a large ring and a memory of 64 bytes, to a host whose first connections are refused.
fn through_memory(full: Full) -> (SessionReport, Vec<Option<Vec<u8>>>) {
    let time = Time::default();
    let script = Script {
        refused: 2,
        ..Script::default()
    };
    let mut net = &Net::new(&time, Host::default(), script);
    let ring = Ring::<256>::new(Full::Refuse);
    for message in messages() {
        ring.push(&message).unwrap();
    }
    ring.close();
    let mut memory = SessionMemory::<64>::new();
    let mut session = Session::new(Device::new("d").unwrap(), &mut memory, full, 1);
    let (config, stop) = (Config::new(), Stop::new());
    let report = time.run(session.run(&config, &ring, &stop, &time, &mut net));
    (report, net.peer.take().log)
}

#[test]
fn a_memory_that_refuses_leaves_messages_in_the_ring_until_it_has_room() {
    let (report, log) = through_memory(Full::Refuse);
    let wanted: Vec<_> = messages().into_iter().map(Some).collect();
    assert_eq!(log, wanted);
    assert_eq!((report.acknowledged, report.given_up), (10, 0));
    assert!(report.ended);
}

#[test]
fn a_memory_that_drops_its_oldest_messages_counts_them_and_the_host_records_a_gap() {
    let (report, log) = through_memory(Full::DropOldest);
    assert_eq!((report.acknowledged, report.given_up), (4, 6));
    assert_eq!((report.gaps, report.left, report.ended), (1, 0, true));
    // The gap is at the front of the session, which begins at the first message that it holds, or is recorded.
    let recorded: Vec<_> = log.iter().flatten().cloned().collect();
    assert_eq!(recorded, messages()[6..]);
}

#[test]
fn a_message_that_a_connection_cut_is_given_up_like_every_other() {
    let calls = (0..).take_while(|&fail_at| gives_up_after(fail_at));
    let calls = calls.count();
    assert!(50 < calls, "{calls}");
}

/// A connection fails at this call; then more messages come than the memory has room for. Returns whether there was this call.
#[track_caller]
fn gives_up_after(fail_at: usize) -> bool {
    let time = Time::default();
    let script = Script {
        fail_at,
        write_max: 1,
        ..Script::default()
    };
    let net = &Net::new(&time, Host::new(Manner::Silent), script);
    let mut connect = net;
    let ring = Ring::<256>::new(Full::Refuse);
    ring.push(&messages()[0]).unwrap();
    let mut memory = SessionMemory::<64>::new();
    let mut session = Session::new(Device::new("d").unwrap(), &mut memory, Full::DropOldest, 1);
    let (config, stop) = (Config::new(), Stop::new());
    let running = session.run(&config, &ring, &stop, &time, &mut connect);
    let pushing = async {
        while !net.is_played() {
            time.sleep_ms(1).await;
        }
        for message in &messages()[1..] {
            ring.push(message).unwrap();
        }
        pending::<()>().await;
    };
    let stopping = async {
        time.sleep_ms(60).await;
    };
    time.run(select3(running, pushing, stopping));
    if !net.is_played() {
        return false;
    }
    let report = session.report();
    let outcome = (report.refused, report.given_up, report.left);
    assert_eq!(outcome, (0, 6, 4), "call {fail_at}: {report:?}");
    true
}
