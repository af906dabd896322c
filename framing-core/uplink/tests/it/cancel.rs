//! The future is dropped at every await point, and run again.

use framing_uplink::{
    Config, Device, Full, Ring, RingSource, Session, SessionMemory, Stop, run_series,
};

use crate::net::{Net, Script};
use crate::peers::{Host, Series};
use crate::time::Time;

const SPLIT: Script = Script {
    fail_at: usize::MAX,
    stall_at: usize::MAX,
    refused: 1,
    write_max: 3,
    read_max: 5,
};

/// Messages of different lengths, also of more than one write of the core.
pub(crate) fn messages(count: u8) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| vec![b'a' + n; 1 + usize::from(n) * 17])
        .collect()
}

/// A closed ring with these messages.
pub(crate) fn ring_of<const N: usize>(messages: &[Vec<u8>]) -> Ring<N> {
    let ring = Ring::new(Full::Refuse);
    for message in messages {
        ring.push(message).unwrap();
    }
    ring.close();
    ring
}

#[test]
fn a_series_that_is_dropped_anywhere_delivers_each_message_once() {
    let wanted = messages(6);
    let mut polls = 0;
    loop {
        let time = Time::default();
        let mut net = &Net::new(&time, Series::default(), SPLIT);
        let ring = ring_of::<512>(&wanted);
        let mut source = RingSource::<512, 128>::new(&ring);
        let (config, stop) = (Config::new(), Stop::new());
        let first = run_series(&config, &mut source, &stop, &time, &mut net, 1);
        let is_done = time.run_for(polls, first).is_some();
        let taken = source.taken() as usize;
        assert_eq!(net.peer.borrow().messages, wanted[..taken], "{polls} polls");
        let again = run_series(&config, &mut source, &stop, &time, &mut net, 1);
        let report = time.run(again);
        assert_eq!(net.peer.borrow().messages, wanted, "{polls} polls");
        assert_eq!(report.lost, 0, "{polls} polls");
        assert_eq!(source.taken() as usize, wanted.len());
        if is_done {
            break;
        }
        polls += 1;
    }
    // Each write of three bytes is an await point.
    assert!(100 < polls, "{polls}");
}

#[test]
fn a_session_that_is_dropped_anywhere_is_recorded_once() {
    drop_session_anywhere(false);
}

#[test]
fn a_session_that_is_opened_again_from_its_memory_is_recorded_once() {
    drop_session_anywhere(true);
}

fn open<const N: usize>(memory: &mut SessionMemory<N>) -> Session<'_> {
    Session::new(Device::new("d").unwrap(), memory, Full::Refuse, 1)
}

#[track_caller]
fn drop_session_anywhere(reopens: bool) {
    let wanted = messages(6);
    let mut polls = 0;
    loop {
        let time = Time::default();
        let mut net = &Net::new(&time, Host::default(), SPLIT);
        let ring = ring_of::<512>(&wanted);
        let (config, stop) = (Config::new(), Stop::new());
        let mut memory = SessionMemory::<512>::new();
        let mut session = open(&mut memory);
        let first = session.run(&config, &ring, &stop, &time, &mut net);
        let is_done = time.run_for(polls, first).is_some();
        let mut counted = 6;
        if reopens {
            session = open(&mut memory);
            // The memory may not know of the last acknowledgements: these messages are restored, and not recorded again.
            counted = session.report().restored + ring.len();
        }
        let report = time.run(session.run(&config, &ring, &stop, &time, &mut net));
        assert_eq!(net.peer.borrow().messages(), wanted, "{polls} polls");
        assert_eq!(net.peer.borrow().log.len(), wanted.len());
        let outcome = (report.acknowledged, report.left);
        assert_eq!(outcome, (counted, 0), "{polls} polls");
        assert!(report.ended && report.given_up == 0 && report.refused == 0);
        if is_done {
            break;
        }
        polls += 1;
    }
    assert!(100 < polls, "{polls}");
}
