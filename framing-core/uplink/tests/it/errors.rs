//! Each call of the transport fails in turn, and with it its connection.

use std::collections::BTreeSet;

use framing_uplink::{
    Config, Device, Full, RingSource, SeriesReport, Session, SessionMemory, SessionReport, Stop,
    run_series,
};

use crate::cancel::{messages, ring_of};
use crate::net::{Call, Net, Script};
use crate::peers::{Host, Series};
use crate::time::Time;

/// Runs a series by this script. Returns its report, the messages that arrived, the calls, and whether the script was played.
pub(crate) fn series(
    wanted: &[Vec<u8>],
    script: Script,
) -> (SeriesReport, Vec<Vec<u8>>, Vec<Call>, bool) {
    let time = Time::default();
    let mut net = &Net::new(&time, Series::default(), script);
    let ring = ring_of::<512>(wanted);
    let mut source = RingSource::<512, 128>::new(&ring);
    let (config, stop) = (Config::new(), Stop::new());
    let report = time.run(run_series(&config, &mut source, &stop, &time, &mut net, 1));
    let arrived = net.peer.borrow().messages.clone();
    let calls = net.calls.borrow().clone();
    (report, arrived, calls, net.is_played())
}

/// Runs a session by this script, in the same way.
pub(crate) fn session(
    wanted: &[Vec<u8>],
    script: Script,
) -> (SessionReport, Vec<Vec<u8>>, Vec<Call>, bool) {
    let time = Time::default();
    let mut net = &Net::new(&time, Host::default(), script);
    let ring = ring_of::<512>(wanted);
    let mut memory = SessionMemory::<512>::new();
    let mut session = Session::new(Device::new("d").unwrap(), &mut memory, Full::Refuse, 1);
    let (config, stop) = (Config::new(), Stop::new());
    let report = time.run(session.run(&config, &ring, &stop, &time, &mut net));
    let arrived = net.peer.borrow().messages();
    let calls = net.calls.borrow().clone();
    (report, arrived, calls, net.is_played())
}

#[test]
fn a_series_survives_an_error_of_each_call() {
    let wanted = messages(5);
    let mut failed = BTreeSet::new();
    for fail_at in 0.. {
        let script = Script {
            fail_at,
            write_max: 7,
            ..Script::default()
        };
        let (report, arrived, calls, is_played) = series(&wanted, script);
        assert_eq!(arrived, wanted, "call {fail_at}");
        // Each message is counted once, and what arrived is within the bounds.
        let counted = report.delivered + report.in_doubt + report.lost;
        assert_eq!(counted, 5, "call {fail_at}: {report:?}");
        assert!(report.lost == 0, "call {fail_at}: {report:?}");
        if !is_played {
            assert_eq!((report.delivered, report.connections), (5, 1));
            assert!(report.ended && report.answered);
            break;
        }
        failed.insert(calls[fail_at]);
    }
    let all = [
        Call::Connect,
        Call::Read,
        Call::Write,
        Call::Flush,
        Call::Close,
    ];
    assert_eq!(failed, BTreeSet::from(all));
}

#[test]
fn a_session_survives_an_error_of_each_call() {
    let wanted = messages(5);
    let mut failed = BTreeSet::new();
    for fail_at in 0.. {
        let script = Script {
            fail_at,
            write_max: 7,
            ..Script::default()
        };
        let (report, arrived, calls, is_played) = session(&wanted, script);
        assert_eq!(arrived, wanted, "call {fail_at}");
        let (acknowledged, lost) = (report.acknowledged, report.given_up + report.refused);
        assert_eq!((acknowledged, lost, report.left), (5, 0, 0), "{report:?}");
        assert!(report.ended, "call {fail_at}: {report:?}");
        if !is_played {
            assert_eq!(report.connections, 1);
            break;
        }
        failed.insert(calls[fail_at]);
    }
    for call in [Call::Connect, Call::Read, Call::Write, Call::End] {
        assert!(failed.contains(&call), "{call:?}: {failed:?}");
    }
}
