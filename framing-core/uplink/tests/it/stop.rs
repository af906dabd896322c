//! A request to stop in each state of an uplink.

use std::future::pending;

use embassy_futures::select::{Either, select};
use framing_uplink::{
    Clock, Config, Device, Full, Ring, RingSource, Session, SessionMemory, Stop, run_series,
};

use crate::cancel::{messages, ring_of};
use crate::net::{Call, Net, Script};
use crate::peers::{Host, Manner, Series};
use crate::time::Time;

/// When the stop is requested.
const AT_MS: u32 = 1_000;
/// The time to close or reset the last connection.
const CLOSE_MS: u64 = 200;

/// Runs an uplink, and requests the stop meanwhile; asserts that it returns in time.
#[track_caller]
fn stopped<T>(time: &Time, stop: &Stop, config: &Config, running: impl Future<Output = T>) -> T {
    let requesting = async {
        time.sleep_ms(AT_MS).await;
        stop.request();
        pending::<()>().await;
    };
    let Either::First(report) = time.run(select(running, requesting)) else {
        unreachable!("a request never returns");
    };
    let most = u64::from(AT_MS + config.stop_ms) + CLOSE_MS;
    assert!(time.now_ms() <= most, "{} ms", time.now_ms());
    report
}

/// Whether the uplink used all the time that it had.
fn has_used_all(time: &Time, config: &Config) -> bool {
    u64::from(AT_MS + config.stop_ms) <= time.now_ms()
}

#[test]
fn a_series_that_stalls_in_any_call_stops_in_time() {
    let wanted = messages(4);
    let config = Config::new();
    let mut stalled = Vec::new();
    for stall_at in 0.. {
        let script = Script {
            stall_at,
            write_max: 20,
            ..Script::default()
        };
        let time = Time::default();
        let stop = Stop::new();
        let mut net = &Net::new(&time, Series::default(), script);
        let ring = ring_of::<512>(&wanted);
        let mut source = RingSource::<512, 128>::new(&ring);
        let running = run_series(&config, &mut source, &stop, &time, &mut net, 1);
        let report = stopped(&time, &stop, &config, running);
        let call = net.calls.borrow().get(stall_at).copied();
        if !matches!(call, None | Some(Call::Read | Call::Abort)) {
            // The messages that are left have all the time.
            assert!(has_used_all(&time, &config), "call {stall_at}");
        }
        let counted = report.delivered + report.in_doubt + report.lost;
        assert_eq!(counted, 4, "call {stall_at}: {report:?}");
        let arrived = u32::try_from(net.peer.borrow().messages.len()).unwrap();
        let bounds = report.delivered..=report.delivered + report.in_doubt;
        assert!(bounds.contains(&arrived), "call {stall_at}: {report:?}");
        let Some(call) = call else { break };
        stalled.push(call);
    }
    for call in [Call::Connect, Call::Write, Call::Flush, Call::Close] {
        assert!(stalled.contains(&call), "{call:?}");
    }
}

#[test]
fn a_session_that_stalls_in_any_call_stops_in_time_and_keeps_the_rest() {
    let wanted = messages(4);
    // Shorter than the time for a WELCOME, and than three heartbeats.
    let config = Config {
        stop_ms: 5_000,
        ..Config::new()
    };
    let mut stalled = Vec::new();
    for stall_at in 0.. {
        let script = Script {
            stall_at,
            write_max: 20,
            ..Script::default()
        };
        let time = Time::default();
        let stop = Stop::new();
        let mut net = &Net::new(&time, Host::default(), script);
        let ring = ring_of::<512>(&wanted);
        let mut memory = SessionMemory::<512>::new();
        let mut session = Session::new(Device::new("d").unwrap(), &mut memory, Full::Refuse, 1);
        let running = session.run(&config, &ring, &stop, &time, &mut net);
        let report = stopped(&time, &stop, &config, running);
        assert_eq!(report.acknowledged + report.left, 4, "{report:?}");
        let call = net.calls.borrow().get(stall_at).copied();
        let Some(call) = call else { break };
        stalled.push(call);
        // The rest is sent by the next run, and nothing twice.
        let (stop, mut net) = (Stop::new(), &net.repaired());
        let again = time.run(session.run(&config, &ring, &stop, &time, &mut net));
        assert!(again.ended && again.left == 0, "call {stall_at}: {again:?}");
        assert_eq!(net.peer.borrow().messages(), wanted, "call {stall_at}");
    }
    for call in [Call::Connect, Call::Read, Call::Write, Call::End] {
        assert!(stalled.contains(&call), "{call:?}");
    }
}

/// Runs a series and a session whose ring stays open, in a state that lasts until the stop.
#[track_caller]
fn stop_both(script: Script, manner: Manner, wanted: usize) {
    let config = Config::new();
    let time = Time::default();
    let stop = Stop::new();
    let ring = Ring::<512>::new(Full::Refuse);
    for message in messages(3) {
        ring.push(&message).unwrap();
    }
    let mut net = &Net::new(&time, Series::default(), script);
    let mut source = RingSource::<512, 128>::new(&ring);
    let running = run_series(&config, &mut source, &stop, &time, &mut net, 1);
    let report = stopped(&time, &stop, &config, running);
    assert_eq!(net.peer.borrow().messages.len(), wanted, "{report:?}");
    assert_eq!(report.delivered + report.in_doubt + report.lost, 3);
    assert_eq!(report.in_doubt as usize, wanted);
    assert!(has_used_all(&time, &config) && !report.ended);

    let time = Time::default();
    let stop = Stop::new();
    let ring = Ring::<512>::new(Full::Refuse);
    for message in messages(3) {
        ring.push(&message).unwrap();
    }
    let host = Host::new(manner);
    let mut net = &Net::new(&time, host, script);
    let mut memory = SessionMemory::<512>::new();
    let mut session = Session::new(Device::new("d").unwrap(), &mut memory, Full::Refuse, 1);
    let running = session.run(&config, &ring, &stop, &time, &mut net);
    let report = stopped(&time, &stop, &config, running);
    assert!(has_used_all(&time, &config) && !report.ended);
    assert_eq!(report.acknowledged + report.left, 3, "{report:?}");
}

#[test]
fn an_idle_uplink_stops_in_time() {
    stop_both(Script::default(), Manner::Acknowledges, 3);
}

#[test]
fn an_uplink_that_waits_before_a_connection_stops_in_time() {
    let script = Script {
        refused: usize::MAX,
        ..Script::default()
    };
    stop_both(script, Manner::Acknowledges, 0);
}

#[test]
fn an_uplink_that_waits_for_a_connection_stops_in_time() {
    let script = Script {
        stall_at: 0,
        ..Script::default()
    };
    stop_both(script, Manner::Acknowledges, 0);
}

#[test]
fn an_uplink_whose_host_does_not_answer_stops_in_time() {
    stop_both(Script::default(), Manner::Mute, 3);
}

#[test]
fn a_series_that_waits_for_its_receipt_ends_after_the_time_for_it() {
    let (time, stop, config) = (Time::default(), Stop::new(), Config::new());
    let peer = Series::mute();
    let mut net = &Net::new(&time, peer, Script::default());
    let ring = ring_of::<512>(&messages(3));
    let mut source = RingSource::<512, 128>::new(&ring);
    let running = run_series(&config, &mut source, &stop, &time, &mut net, 1);
    let report = stopped(&time, &stop, &config, running);
    assert_eq!(time.now_ms(), u64::from(config.answer_ms));
    assert_eq!((report.delivered, report.in_doubt), (0, 3));
    assert!(report.ended && !report.answered);
}
