//! What a live view gets, on a paused clock.

mod view;

use std::sync::mpsc;
use std::time::SystemTime;

use OversizePolicy::{Skip, Stream};
use framing_core::Fault;
use tokio::time::advance;

use self::view::{Seen, View, decode, device};
use super::*;
use crate::batch::{OversizePolicy, WholeMessages};
use crate::device::SAMPLED;
use crate::event::{Peer, StreamPosition};
use crate::pool::Span;
use crate::reason::CloseReason;
use crate::sink::queue::Next;

const MAX_BYTES: usize = 8 << 20;
/// Messages of a window that are for fast devices.
const MESSAGES: usize = WINDOW_MESSAGES / 2;
/// Messages of a window that are not for samples.
const ALL_MESSAGES: usize = WINDOW_MESSAGES - WINDOW_MESSAGES / FOR_SAMPLES;
/// Bytes of a window that are not for samples.
const BYTES: usize = WINDOW_BYTES - WINDOW_BYTES / FOR_SAMPLES;
/// Longest message of a batch with faults or pieces, which longer ones become.
const SHORT: usize = 5;

fn fault() -> Fault {
    Fault::EarlyEnd { missing: 1 }
}

fn opened() -> EventKind {
    let peer = Peer::Local("test".into());
    EventKind::Opened { peer }
}

fn closed() -> EventKind {
    EventKind::Closed {
        messages: 0,
        bytes: 0,
        reason: CloseReason::Eof,
        series_open: false,
    }
}

#[tokio::test(start_paused = true)]
async fn events_without_messages_are_queued_for_all_devices() {
    let mut view = View::new(0);
    view.send(opened());
    view.messages(3, 1);
    view.batch(Batch::of_reset());
    view.batch(Batch::of_fault(fault()));
    view.batch(Batch::of_end());
    view.batch(Batch::of_after_end(3));
    view.send(closed());
    assert_eq!(view.sender.len(), 5);
    let fault = Seen::Fault(3);
    let want = [
        Seen::Opened,
        Seen::Reset,
        fault,
        Seen::AfterEnd,
        Seen::Closed,
    ];
    assert_eq!(view.seen(), want);
    assert_eq!(view.device.not_shown(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_device_that_nobody_looks_at_only_faults_are_copied() {
    let mut view = View::new(MAX_BYTES);
    view.blocks(&[1, 2, 0, SHORT + 1, 3, SHORT + 1, 4], SHORT, Skip);
    let Next::Event(event) = view.events.receive(false) else {
        panic!("no event");
    };
    let EventKind::Batch { batch, .. } = &event.kind else {
        panic!("{event:?}");
    };
    assert_eq!(batch.messages(), (0, 0));
    assert_eq!(Seen::of(&event), [Seen::Fault(2), Seen::Fault(2)]);
    assert_eq!(view.seen(), []);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_nobody_needs_takes_no_allocation_and_no_lock() {
    let view = View::new(MAX_BYTES);
    let source = Arc::clone(&view.source);
    let batch = Arc::new(decode(&[1, 0], SHORT, Skip, WholeMessages::Kept));
    let (sender, _receiver) = queue(MAX_BYTES);
    let position = StreamPosition::default();
    let kind = EventKind::Batch { batch, position };
    let time = SystemTime::now();
    let event = Event { source, time, kind };
    let (done, is_done) = mpsc::channel();
    let queue = Arc::clone(&sender.queue);
    let locked = queue.lock();
    std::thread::spawn(move || {
        let _window = sender.window();
        let counted = allocation_counter::measure(|| {
            let viewed = Viewed::of(&event);
            sender.send(&event, &viewed);
        });
        done.send(counted.count_total).expect("a receiver");
    });
    let allocated = is_done.recv_timeout(Duration::from_secs(20));
    drop(locked);
    assert_eq!(allocated, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn the_newest_messages_within_the_budget_are_copied() {
    let mut view = View::new(MAX_BYTES);
    view.device.watch();
    view.messages(100, 1);
    assert_eq!(
        view.seen(),
        (0..100)
            .map(|seq| Seen::Message(seq, 1))
            .collect::<Vec<_>>()
    );
    view.messages(2000, 1);
    view.messages(70, 1);
    let missed = 2000 - (MESSAGES as u64 - 100);
    let seen = view.seen();
    assert_eq!(seen.first(), Some(&Seen::Lost(missed, 0)));
    assert_eq!(seen.get(1), Some(&Seen::Message(100 + missed, 1)));
    assert_eq!(seen.get(MESSAGES - 100), Some(&Seen::Message(2099, 1)));
    assert_eq!(seen[MESSAGES - 100 + 1..], [Seen::Lost(70, 0)]);
    assert_eq!(view.device.not_shown(), missed + 70);
    advance(WINDOW - Duration::from_nanos(1)).await;
    view.messages(80, 1);
    assert_eq!(view.seen(), [Seen::Lost(80, 0)]);
    advance(Duration::from_nanos(1)).await;
    view.messages(2, 1);
    assert_eq!(view.numbers(), [2250, 2251]);
    assert_eq!(view.device.not_shown(), missed + 150);
    assert_eq!(view.missed(), (missed + 150, 0));
}

#[tokio::test(start_paused = true)]
async fn a_fast_device_leaves_half_of_the_budget_to_slow_ones() {
    let mut view = View::new(MAX_BYTES);
    let (slow, source) = device("slow");
    view.device.watch();
    slow.watch();
    for _ in 0..10 {
        view.messages(1000, 1);
    }
    let shown = view.numbers().len();
    assert_eq!(shown, MESSAGES);
    (view.source, view.position) = (source, StreamPosition::default());
    for _ in 0..ALL_MESSAGES - MESSAGES {
        view.messages(1, 1);
    }
    assert_eq!(
        (view.numbers().len(), slow.not_shown()),
        (ALL_MESSAGES - MESSAGES, 0)
    );
    view.messages(1, 1);
    assert_eq!(slow.not_shown(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_budget_has_a_bound_on_bytes_over_all_devices() {
    let mut view = View::new(MAX_BYTES);
    let (other, source) = device("other");
    view.device.watch();
    other.watch();
    view.messages(5, 60_000);
    assert_eq!(view.numbers(), [0, 1, 2, 3, 4]);
    (view.source, view.position) = (source, StreamPosition::default());
    view.messages(5, 60_000);
    assert_eq!(view.numbers(), [3, 4]);
    const { assert!(7 * 60_000 <= BYTES && BYTES < 8 * 60_000) };
    assert_eq!((view.device.not_shown(), other.not_shown()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_long_message_is_not_copied_and_ends_the_run() {
    let mut view = View::new(MAX_BYTES);
    view.device.watch();
    let (long, most) = (MESSAGE_MAX + 1, MESSAGE_MAX);
    view.blocks(&[1, long, 2, most, long], long, Skip);
    let seen = [
        Seen::Lost(3, 0),
        Seen::Message(2, 2),
        Seen::Message(3, MESSAGE_MAX),
    ];
    assert_eq!(view.seen(), seen);
    view.messages(1, long);
    assert_eq!(view.seen(), [Seen::Lost(1, 0)]);
    assert_eq!(view.device.not_shown(), 4);
}

#[tokio::test(start_paused = true)]
async fn faults_are_copied_with_all_messages_and_end_marks_are_not() {
    let mut view = View::new(MAX_BYTES);
    view.device.watch();
    for _ in 0..ALL_MESSAGES - 3 {
        view.messages(1, 0);
    }
    view.seen();
    view.blocks(&[1, SHORT + 1, 2, 0, 3, 4, SHORT + 1, 5], SHORT, Skip);
    let first = ALL_MESSAGES as u64 - 1;
    let want = [
        Seen::Lost(2, 0),
        Seen::Fault(first),
        Seen::Message(first, 3),
        Seen::Message(first + 1, 4),
        Seen::Fault(first + 2),
        Seen::Message(first + 2, 5),
    ];
    assert_eq!(view.seen(), want);
}

#[tokio::test(start_paused = true)]
async fn pieces_are_copied_and_their_message_counts_once() {
    let mut view = View::new(MAX_BYTES);
    view.device.watch();
    view.messages(1, 3);
    view.batch(Batch::of_piece(vec![7; 10], true, false));
    view.batch(Batch::of_piece(vec![7; MESSAGE_MAX + 1], false, false));
    view.batch(Batch::of_piece(vec![7; 5], false, true));
    view.batch(Batch::of_piece(vec![7; MESSAGE_MAX + 1], true, true));
    view.messages(1, 4);
    let offset = 10 + MESSAGE_MAX as u64 + 1;
    let want = [
        Seen::Message(0, 3),
        Seen::Piece(1, 0, 10, false),
        Seen::Lost(0, 1),
        Seen::Piece(1, offset, 5, true),
        Seen::Lost(0, 1),
        Seen::Message(3, 4),
    ];
    assert_eq!(view.seen(), want);
    assert_eq!(view.device.not_shown(), 1);
}

#[tokio::test(start_paused = true)]
async fn pieces_and_messages_of_one_batch_are_one_run() {
    let mut view = View::new(MAX_BYTES);
    view.device.watch();
    let long = MESSAGE_MAX + 1;
    view.blocks(&[1, long, 2, 3], SHORT, Stream);
    let want = [Seen::Lost(1, 1), Seen::Message(2, 2), Seen::Message(3, 3)];
    assert_eq!(view.seen(), want);
    view.blocks(&[1, SHORT + 1, 0, 2, SHORT + 2, long], SHORT, Stream);
    let want = [
        Seen::Lost(0, 1),
        Seen::Message(4, 1),
        Seen::Piece(5, 0, SHORT + 1, true),
        Seen::Message(6, 2),
        Seen::Piece(7, 0, SHORT + 2, true),
    ];
    assert_eq!(view.seen(), want);
    assert_eq!(view.device.not_shown(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_sampled_device_shows_its_newest_message_every_quarter_second() {
    let mut view = View::new(MAX_BYTES);
    view.device.sample();
    view.batch(Batch::of_piece(vec![7; 10], true, true));
    assert_eq!(view.seen(), [], "a piece is not a sample");
    let long = MESSAGE_MAX + 1;
    view.blocks(&[1, 2, 0, long], long, Skip);
    view.messages(5, 9);
    assert_eq!(view.seen(), [Seen::Message(2, 2)]);
    advance(SAMPLED - Duration::from_nanos(1)).await;
    view.messages(5, 9);
    assert_eq!(view.seen(), []);
    advance(Duration::from_nanos(1)).await;
    view.messages(5, 9);
    assert_eq!(view.seen(), [Seen::Message(18, 9)]);
    assert_eq!(view.device.not_shown(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_a_watched_device_does_not_stop_samples() {
    let mut view = View::new(MAX_BYTES);
    let (flood, flooding) = device("flood");
    flood.watch();
    view.device.sample();
    let sampled = std::mem::replace(&mut view.source, flooding);
    for _ in 0..2 {
        view.messages(5000, 400);
    }
    assert_eq!(view.numbers().len(), MESSAGES);
    (view.source, view.position) = (sampled, StreamPosition::default());
    view.messages(1, 5);
    assert_eq!(view.seen(), [Seen::Message(0, 5)]);
}

#[tokio::test(start_paused = true)]
async fn a_sample_beyond_the_budget_remains_due() {
    let mut view = View::new(MAX_BYTES);
    view.device.watch();
    let (other, source) = device("other");
    other.sample();
    view.messages(7, MESSAGE_MAX);
    assert_eq!(view.numbers().len(), 7);
    let (third, third_source) = device("third");
    third.sample();
    (view.source, view.position) = (source, StreamPosition::default());
    view.messages(1, 1);
    assert_eq!(view.seen(), [Seen::Message(0, 1)]);
    (view.source, view.position) = (third_source, StreamPosition::default());
    view.messages(1, MESSAGE_MAX);
    assert_eq!(view.seen(), []);
    advance(WINDOW).await;
    view.messages(1, MESSAGE_MAX);
    assert_eq!(view.seen(), [Seen::Message(1, MESSAGE_MAX)]);
    assert_eq!(third.not_shown(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_new_messages_and_no_fault() {
    let mut view = View::new(2 * (EVENT_COST + 1000 + size_of::<Span>()));
    view.device.watch();
    view.send(opened());
    for _ in 0..2 {
        view.messages(1, 1000);
    }
    for _ in 0..3 {
        view.blocks(&[1001, 1000], 1000, Skip);
    }
    view.send(closed());
    let want = [
        Seen::Opened,
        Seen::Message(0, 1000),
        Seen::Message(1, 1000),
        Seen::Lost(1, 0),
        Seen::Fault(2),
        Seen::Lost(1, 0),
        Seen::Fault(3),
        Seen::Lost(1, 0),
        Seen::Fault(4),
        Seen::Closed,
    ];
    assert_eq!(view.seen(), want);
    assert_eq!(view.device.not_shown(), 3);
    assert_eq!(view.missed(), (3, 0));
    view.messages(1, 1000);
    assert_eq!(view.seen(), [Seen::Message(5, 1000)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_of_faults_and_events_drops_new_ones_and_no_message() {
    let mut view = View::new(MAX_BYTES);
    view.device.watch();
    view.send(opened());
    for _ in 0..REPORTS_MAX / 2 - 1 {
        view.blocks(&[SHORT + 1, SHORT + 1], SHORT, Skip);
    }
    // One more has room.
    let long = SHORT + 1;
    view.blocks(&[1, long, long, long], SHORT, Skip);
    view.send(closed());
    view.batch(Batch::of_fault(fault()));
    view.messages(1, 2);
    let seen = view.seen();
    assert_eq!(seen[0], Seen::Opened);
    assert_eq!(
        seen[1..REPORTS_MAX - 1],
        [Seen::Fault(0)].repeat(REPORTS_MAX - 2)
    );
    let want = [
        Seen::Lost(0, 2),
        Seen::Message(0, 1),
        Seen::Fault(1),
        Seen::Lost(0, 2),
        Seen::Message(1, 2),
    ];
    assert_eq!(seen[REPORTS_MAX - 1..], want);
    assert_eq!(view.missed(), (0, 4));
    view.send(closed());
    assert_eq!(view.seen(), [Seen::Closed]);
}

#[tokio::test(start_paused = true)]
async fn messages_that_were_only_counted_are_not_shown() {
    let mut view = View::new(MAX_BYTES);
    view.device.watch();
    let counted = |beyond| decode(&[1, SHORT + 1, 2], SHORT, beyond, WholeMessages::Counted);
    view.batch(counted(Skip));
    assert_eq!(view.seen(), [Seen::Lost(2, 0), Seen::Fault(1)]);
    view.batch(counted(Stream));
    assert_eq!(view.seen(), [Seen::Lost(2, 1)]);
    assert_eq!(view.device.not_shown(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_view_that_has_ended_takes_nothing() {
    let mut view = View::new(MAX_BYTES);
    view.device.watch();
    view.send(opened());
    view.events.close();
    view.messages(3, 1);
    view.send(closed());
    assert_eq!(view.seen(), [Seen::Opened]);
    assert!(matches!(view.events.receive(false), Next::End));
    assert_eq!(view.device.not_shown(), 3);
}
