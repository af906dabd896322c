//! A reset, a close, or a peer that stops answering, in each state of a connection: the report agrees with what arrived.

use std::rc::Rc;

use embassy_net::tcp::TcpSocket;
use embassy_time::{Duration, Instant, Timer};
use firmware_example::Plan;
use framing_uplink::SeriesReport;

use crate::cable::{Cable, address};
use crate::delivery::assert_honest;
use crate::network::{SERVER, World};
use crate::support::{Ending, blocks, decode, receipt};

/// Number of samples of the series.
const SAMPLES: u32 = 30;

/// Number of samples that arrive before a failure within the series.
const BEFORE: usize = 4;

/// One sample each second; the queue has room for all.
const PLAN_30: Plan = Plan {
    period_ms: 1_000,
    samples: Some(SAMPLES),
    stop_ms: 300_000,
    answer_ms: 5_000,
};

/// Where the first connection fails, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The device waits for a sample.
    Idle,
    /// A part of a message has arrived, and the device waits until it can write more.
    WithinMessage,
    /// The last message has arrived; the end mark has not.
    BeforeEnd,
    /// The end mark has arrived and is not yet acknowledged.
    End,
    /// The FIN has arrived, and the server's stack has acknowledged it.
    AfterFin,
    /// The server has sent half of its receipt.
    WithinReceipt,
}

/// How a connection fails.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// The server resets it.
    Reset,
    /// The server closes it.
    Close,
    /// Frames to these ends are lost for this many seconds. The server keeps the connection, and never uses it again.
    Silence(&'static [usize], u64),
    /// The server resets it, and accepts the next one; frames to this end are lost until [`RESTORED_SECS`].
    ResetThenSilence(usize),
}

/// The device's and the server's end of the cable.
const DEVICE: usize = 0;
const PEER: usize = 1;

/// Longer than the device waits for a silent peer.
const SILENT: Failure = Failure::Silence(&[DEVICE, PEER], 12);

/// Time of the repair after [`Failure::ResetThenSilence`]: later than the time limit of the next attempt to connect.
const RESTORED_SECS: u64 = 20;

/// Adds a server that listens from this time, in seconds. Its first connection fails in this way, and the others are
/// replied to.
fn serve(world: &mut World, from: u64, failure: Option<(State, Failure)>, buffer_len: usize) {
    let cable = world.cable;
    let machine = cable.machine(&mut world.lab, PEER, address(2));
    let wires = Rc::clone(&world.wires);
    world.lab.spawn(async move {
        Timer::at(Instant::from_secs(from)).await;
        let mut failure = failure;
        let mut kept = Vec::new();
        for at in 0.. {
            let (receive, send) = (vec![0; buffer_len].leak(), vec![0; 256].leak());
            let mut socket = TcpSocket::new(machine.stack, receive, send);
            socket.accept(SERVER.port()).await.expect("it listens");
            wires.borrow_mut().push(Vec::new());
            let receive_until = async |socket: &mut TcpSocket<'_>, state| {
                // Short reads, so that none goes past the state.
                let mut bytes = [0; 4];
                while !is_reached(&wires.borrow()[at], state) {
                    match socket.read(&mut bytes).await {
                        Ok(len @ 1..) => wires.borrow_mut()[at].extend_from_slice(&bytes[..len]),
                        _ => break,
                    }
                }
            };
            if let Some((state, failure)) = failure.take() {
                receive_until(&mut socket, state).await;
                if state == State::Idle {
                    Timer::after(Duration::from_millis(500)).await;
                } else if state == State::WithinMessage {
                    // Until its buffer and that of the device are full.
                    Timer::after(Duration::from_secs(5)).await;
                }
                if state == State::WithinReceipt {
                    let receipt = receipt(&blocks(&wires.borrow()[at]).0);
                    let half = socket.write(&receipt[..receipt.len() / 2]).await;
                    assert_eq!(half, Ok(receipt.len() / 2));
                    socket.flush().await.expect("the device reads");
                }
                kept.extend(fail(socket, failure, cable).await);
            } else {
                receive_until(&mut socket, State::AfterFin).await;
                let receipt = receipt(&blocks(&wires.borrow()[at]).0);
                let _ = socket.write(&receipt).await;
                socket.close();
                let _ = socket.flush().await;
            }
        }
    });
}

/// Whether the data of the connection shows this state. The FIN is no data.
fn is_reached(wire: &[u8], state: State) -> bool {
    let (messages, ending) = blocks(wire);
    let whole_len: usize = messages.iter().map(|message| 4 + message.len()).sum();
    let part_len = wire.len() - whole_len;
    match state {
        State::Idle => messages.len() == BEFORE,
        State::WithinMessage => messages.len() == BEFORE && part_len >= 20,
        State::BeforeEnd => messages.len() == SAMPLES as usize,
        State::End => ending == Ending::Mark,
        State::AfterFin | State::WithinReceipt => false,
    }
}

/// Ends the connection in this way. Returns it if the server keeps it.
async fn fail<'a>(
    mut socket: TcpSocket<'a>,
    failure: Failure,
    cable: &'static Cable,
) -> Option<TcpSocket<'a>> {
    if let Failure::Reset | Failure::ResetThenSilence(_) = failure {
        socket.abort();
        let _ = socket.flush().await;
    }
    match failure {
        Failure::Reset => {}
        Failure::Close => {
            socket.close();
            let _ = socket.flush().await;
        }
        Failure::ResetThenSilence(side) => cable.set_carries_to(side, false),
        Failure::Silence(sides, secs) => {
            sides
                .iter()
                .for_each(|side| cable.set_carries_to(*side, false));
            Timer::after(Duration::from_secs(secs)).await;
            cable.set_carries(true);
        }
    }
    matches!(failure, Failure::Silence(..)).then_some(socket)
}

/// Runs a series whose first connection fails. Returns the report and the number of samples of each connection.
#[track_caller]
fn run(state: State, failure: Failure) -> (SeriesReport, Vec<usize>) {
    let mut world = World::new(address(1));
    let mut buffer_len = 1_024;
    if state == State::WithinMessage {
        // Both buffers are shorter than the rest of the message.
        (world.send_len, buffer_len) = (24, 24);
    } else {
        // Room for all samples, so that only the time limit ends a silent connection.
        world.send_len = 4_096;
    }
    if let Failure::ResetThenSilence(_) = failure {
        let cable = world.cable;
        world.at(RESTORED_SECS, || cable.set_carries(true));
    }
    serve(&mut world, 0, Some((state, failure)), buffer_len);
    finish(world, &format!("{failure:?} in {state:?}"))
}

/// Runs the application to its end, and compares its report with what the server received.
#[track_caller]
fn finish(mut world: World, context: &str) -> (SeriesReport, Vec<usize>) {
    let (report, arrived) = world.report(PLAN_30);
    let received: Vec<_> = world
        .wires
        .borrow()
        .iter()
        .map(|wire| blocks(wire))
        .collect();
    let counts: Vec<_> = received.iter().map(|(blocks, _)| blocks.len()).collect();
    let context = format!("{context}: {report:?}, {counts:?} received");
    assert_honest(report, SAMPLES, arrived);
    assert_eq!(report.connections as usize, counts.len(), "{context}");
    let is_marked = received.last().is_some_and(|(_, it)| *it == Ending::Mark);
    assert!(is_marked || !report.ended, "{context}");
    // Only a receipt makes a sample certain.
    let certain = if report.answered {
        counts[counts.len() - 1]
    } else {
        0
    };
    assert_eq!(report.delivered as usize, certain, "{context}");
    // Nothing was sent twice, and nothing that was queued is missing.
    let mut numbers = Vec::new();
    for (blocks, _) in &received {
        numbers.extend(blocks.iter().map(|block| decode(block)["n"]));
    }
    assert!(numbers.is_sorted_by(|one, other| one < other), "{context}");
    (report, counts)
}

/// The report of a series that a receipt ended, after these connections.
fn answered(connections: u32, delivered: u32) -> SeriesReport {
    SeriesReport {
        delivered,
        in_doubt: SAMPLES - delivered,
        lost: 0,
        connections,
        ended: true,
        answered: true,
    }
}

/// The report of a series that one connection took completely, and that no receipt ended.
fn in_doubt(ended: bool) -> SeriesReport {
    SeriesReport {
        delivered: 0,
        in_doubt: SAMPLES,
        lost: 0,
        connections: 1,
        ended,
        answered: false,
    }
}

#[test]
fn a_failure_while_connecting_costs_nothing() {
    // Refused by the server's stack, or unanswered by it, until the server listens.
    for is_refused in [true, false] {
        let mut world = World::new(address(1));
        let cable = world.cable;
        cable.set_carries(is_refused);
        world.at(20, || cable.set_carries(true));
        serve(&mut world, 20, None, 1_024);
        let (report, _) = finish(world, &format!("refused: {is_refused}"));
        assert_eq!(report, answered(1, SAMPLES));
    }
    // For ever.
    for is_refused in [true, false] {
        let mut world = World::new(address(1));
        world.cable.set_carries(is_refused);
        serve(&mut world, 100_000, None, 1_024);
        let (report, _) = finish(world, &format!("refused for ever: {is_refused}"));
        let wanted = SeriesReport {
            lost: SAMPLES,
            ..SeriesReport::default()
        };
        assert_eq!(report, wanted);
    }
    // The SYN, or the reply to it, is lost after a first connection.
    for side in [PEER, DEVICE] {
        let (report, counts) = run(State::Idle, Failure::ResetThenSilence(side));
        assert_eq!(counts, [BEFORE, SAMPLES as usize - BEFORE], "{side}");
        assert_eq!(report, answered(2, SAMPLES - BEFORE as u32), "{side}");
    }
}

#[test]
fn a_reset_or_a_close_within_the_series_leaves_in_doubt_only_what_was_taken() {
    for (state, failure) in [
        (State::Idle, Failure::Reset),
        (State::Idle, Failure::Close),
        (State::WithinMessage, Failure::Reset),
    ] {
        let (report, counts) = run(state, failure);
        let rest = SAMPLES as usize - BEFORE;
        assert_eq!(counts, [BEFORE, rest], "{failure:?} in {state:?}");
        assert_eq!(report, answered(2, rest as u32), "{failure:?} in {state:?}");
    }
}

#[test]
fn silence_within_the_series_leaves_in_doubt_what_was_taken_meanwhile() {
    // The peer is gone, or its frames are lost, or those to it.
    for sides in [&[DEVICE, PEER][..], &[DEVICE], &[PEER]] {
        let (report, counts) = run(State::Idle, Failure::Silence(sides, 30));
        let delivered = counts[1] as u32;
        assert_eq!(report, answered(2, delivered), "{sides:?}");
        // The device takes a sample each second until it gives up.
        let taken_unseen = SAMPLES as usize - BEFORE - counts[1];
        assert!((8..=12).contains(&taken_unseen), "{sides:?}: {counts:?}");
    }
    for sides in [&[DEVICE, PEER][..], &[DEVICE], &[PEER]] {
        // Longer than the device waits for a peer without a window.
        let (report, counts) = run(State::WithinMessage, Failure::Silence(sides, 90));
        assert_eq!(counts, [BEFORE, SAMPLES as usize - BEFORE], "{sides:?}");
        assert_eq!(report, answered(2, SAMPLES - BEFORE as u32), "{sides:?}");
    }
}

#[test]
fn a_failure_around_the_end_mark_does_not_end_the_series() {
    for state in [State::BeforeEnd, State::End] {
        for failure in [
            Failure::Reset,
            SILENT,
            Failure::Silence(&[DEVICE], 12),
            Failure::Silence(&[PEER], 12),
        ] {
            let (report, counts) = run(state, failure);
            assert_eq!(counts, [SAMPLES as usize], "{failure:?} in {state:?}");
            assert_eq!(report, in_doubt(false), "{failure:?} in {state:?}");
        }
    }
}

#[test]
fn a_failure_after_the_end_leaves_the_series_ended_and_in_doubt() {
    for state in [State::AfterFin, State::WithinReceipt] {
        for failure in [
            Failure::Reset,
            Failure::Close,
            SILENT,
            Failure::Silence(&[DEVICE], 12),
            Failure::Silence(&[PEER], 12),
        ] {
            let (report, counts) = run(state, failure);
            assert_eq!(counts, [SAMPLES as usize], "{failure:?} in {state:?}");
            assert_eq!(report, in_doubt(true), "{failure:?} in {state:?}");
        }
    }
}
