//! The queue of [`Delivery::Watched`](crate::sink::Delivery::Watched), for a live view. Messages are copied only while somebody
//! looks at their device, within the budget of these constants.
//!
//! [`DeviceStats::watch`](crate::device::DeviceStats::watch) and [`sample`](crate::device::DeviceStats::sample) say that
//! somebody looks. Connections, faults and other events without messages are queued for all devices, and messages never
//! take their places.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::batch::Batch;
use crate::batch::excerpt::{Run, RunSize};
use crate::counters::Counters;
use crate::event::{Dropped, Event, EventKind};
use crate::moment::Moment;
use crate::sink::queue::{EVENT_COST, EventQueue, QueueCost, Receiver};

/// The time for which a budget of messages is valid. Messages beyond it are not copied.
pub const WINDOW: Duration = Duration::from_millis(100);
/// Messages and pieces of all devices that are copied in a [`WINDOW`], at most.
pub const WINDOW_MESSAGES: usize = 1024;
/// Payload bytes of all devices that are copied in a [`WINDOW`], at most.
pub const WINDOW_BYTES: usize = 512 << 10;
/// An eighth of the budget is for samples, so that a fast device that is watched does not stop them.
const FOR_SAMPLES: usize = 8;
/// A batch of more messages is one of a fast device. These leave half of the budget to the others, which would not be seen beside
/// them.
const FAST: u64 = 64;
/// A longer message or piece is not copied, in bytes.
pub const MESSAGE_MAX: usize = 64 << 10;
/// Events without messages, and faults in batches, that wait in the queue. Each takes about 300 bytes at most, besides the
/// memory of messages.
pub const REPORTS_MAX: usize = 8192;

/// Creates a queue that holds at most `max_bytes` of messages.
pub(super) fn queue(max_bytes: usize) -> (WatchedSender, Receiver) {
    let (queue, receiver) = EventQueue::new();
    let sender = WatchedSender {
        queue,
        max_bytes,
        window: Mutex::default(),
    };
    (sender, receiver)
}

/// Sends what viewers need of an event to these live views, and counts what they do not get.
pub(super) fn show<'a>(
    views: impl Iterator<Item = &'a WatchedSender>,
    event: &Event,
    counters: &Counters,
) {
    let viewed = Viewed::of(event);
    let mut has_messages = false;
    for view in views {
        let sent = view.send(event, &viewed);
        counters.view_missed(sent.missed);
        has_messages |= sent.has_messages;
    }
    if !has_messages {
        viewed.give_back(event);
    }
}

/// The sending side of a queue.
#[derive(Debug)]
pub(super) struct WatchedSender {
    queue: Arc<EventQueue>,
    max_bytes: usize,
    window: Mutex<BudgetWindow>,
}

/// What viewers need of the messages of an event.
#[derive(Debug)]
enum Viewed {
    /// Nothing.
    Nothing,
    /// The newest message. Its place as a sample is taken.
    Sample(Run),
    /// All messages.
    All,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// Messages of a watched device that are not shown, and other events that were dropped because the queue is full.
    missed: Dropped,
    /// Messages were within the budget.
    has_messages: bool,
}

/// The budget that is used since the window began.
#[derive(Debug, Default)]
struct BudgetWindow {
    began: Option<Moment>,
    used: RunSize,
    /// The part that fast devices have used.
    fast: RunSize,
}

impl Viewed {
    /// Decides what viewers need of an event, and takes the place of a sample that is due.
    fn of(event: &Event) -> Self {
        let (EventKind::Batch { batch, .. }, Some(stats)) = (&event.kind, &event.source.stats)
        else {
            return Self::Nothing;
        };
        if stats.is_watched() {
            return Self::All;
        }
        if stats.is_sample_due()
            && let Some(run) = batch.newest_message(MESSAGE_MAX)
            && stats.take_sample()
        {
            return Self::Sample(run);
        }
        Self::Nothing
    }

    /// Gives the place of a sample back: the budget was used.
    fn give_back(&self, event: &Event) {
        if let (Self::Sample(_), Some(stats)) = (self, &event.source.stats) {
            stats.give_sample_back();
        }
    }
}

impl WatchedSender {
    /// Adds a copy of what viewers need of an event, if it fits. Never drops what is queued.
    fn send(&self, event: &Event, viewed: &Viewed) -> Sent {
        let EventKind::Batch { batch, position } = &event.kind else {
            return self.send_whole(event);
        };
        let reports = batch.reports();
        if reports == 0 && matches!(viewed, Viewed::Nothing) {
            return Sent::default();
        }
        let chosen = self.choose(batch, viewed);
        let (run, reports, cost, dropped) = self.reserve(batch, viewed, chosen, reports);
        let mut missed = Dropped {
            messages: 0,
            others: dropped.others,
        };
        if let (Viewed::All, Some(stats)) = (viewed, &event.source.stats) {
            let ended = batch.messages().0 + batch.pieces().1 as u64;
            let shown = run.messages() + run.last_pieces;
            missed.messages = ended.saturating_sub(shown as u64);
            stats.count_not_shown(missed.messages);
        }
        if !run.is_empty() || reports != 0 {
            let first = match run.is_empty() {
                false => Some((run.before, run.marks_before)),
                true => batch.first_report(),
            };
            let mut position = *position;
            if let Some((messages, marks)) = first {
                position.pass_some(batch, messages as u64, marks);
            }
            let batch = Arc::new(batch.excerpt(&run, reports));
            let copy = Event {
                source: Arc::clone(&event.source),
                time: event.time,
                kind: EventKind::Batch { batch, position },
            };
            self.queue.push(copy, cost);
        }
        Sent {
            missed,
            has_messages: !chosen.is_empty(),
        }
    }

    /// Returns the number of queued events.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Adds an event without messages.
    fn send_whole(&self, event: &Event) -> Sent {
        let cost = QueueCost {
            bytes: 0,
            reports: 1,
        };
        let mut sent = Sent::default();
        let mut state = self.queue.lock();
        if state.closed {
            return sent;
        }
        if REPORTS_MAX <= state.cost.reports {
            sent.missed = Dropped::of(event);
            state.lost.add(sent.missed);
            return sent;
        }
        state.cost.add(cost);
        drop(state);
        self.queue.push(event.clone(), cost);
        sent
    }

    /// Chooses messages within the budget.
    fn choose(&self, batch: &Batch, viewed: &Viewed) -> Run {
        match viewed {
            Viewed::Nothing => Run::default(),
            Viewed::Sample(run) => self.window().sample(*run),
            Viewed::All => self.window().newest(batch),
        }
    }

    /// Reserves room for a run of messages and for reports. Returns those that have room, their cost, and what was dropped
    /// because the queue is full.
    fn reserve(
        &self,
        batch: &Batch,
        viewed: &Viewed,
        chosen: Run,
        reports: usize,
    ) -> (Run, usize, QueueCost, Dropped) {
        let mut run = chosen;
        let mut dropped = Dropped::default();
        let mut state = self.queue.lock();
        if state.closed {
            return (Run::default(), 0, QueueCost::default(), dropped);
        }
        if let Viewed::All = viewed {
            let missed = batch.messages().0.saturating_sub(run.messages() as u64);
            state.lost.messages += missed;
            state.lost.others += batch.pieces().0.saturating_sub(run.pieces) as u64;
        }
        let mut cost = QueueCost::default();
        if !run.is_empty() {
            cost.bytes = EVENT_COST + run.cost();
            if self.max_bytes < state.cost.bytes + cost.bytes {
                dropped.messages = run.messages() as u64;
                dropped.others = run.pieces as u64;
                (run, cost.bytes) = (Run::default(), 0);
            }
        }
        cost.reports = reports.min(REPORTS_MAX.saturating_sub(state.cost.reports));
        dropped.others += (reports - cost.reports) as u64;
        state.lost.add(dropped);
        state.cost.add(cost);
        (run, cost.reports, cost, dropped)
    }

    fn window(&self) -> MutexGuard<'_, BudgetWindow> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Moment::now();
        if window.began.is_none_or(|began| began.is_past(WINDOW, now)) {
            *window = BudgetWindow {
                began: Some(now),
                ..BudgetWindow::default()
            };
        }
        window
    }
}

impl Drop for WatchedSender {
    fn drop(&mut self) {
        self.queue.end();
    }
}

impl BudgetWindow {
    /// Takes the newest messages that are within the budget.
    fn newest(&mut self, batch: &Batch) -> Run {
        let mut left = self.left(
            WINDOW_MESSAGES - WINDOW_MESSAGES / FOR_SAMPLES,
            WINDOW_BYTES - WINDOW_BYTES / FOR_SAMPLES,
        );
        let is_fast = FAST < batch.messages().0;
        if is_fast {
            let half = |all: usize, used: usize| (all / 2).saturating_sub(used);
            left.items = left.items.min(half(WINDOW_MESSAGES, self.fast.items));
            left.bytes = left.bytes.min(half(WINDOW_BYTES, self.fast.bytes));
        }
        let run = batch.newest(left, MESSAGE_MAX);
        if is_fast {
            self.fast.items += run.size.items;
            self.fast.bytes += run.size.bytes;
        }
        self.take(run)
    }

    /// Takes a sample, if it is within the budget.
    fn sample(&mut self, run: Run) -> Run {
        let left = self.left(WINDOW_MESSAGES, WINDOW_BYTES);
        match run.size.items <= left.items && run.size.bytes <= left.bytes {
            true => self.take(run),
            false => Run::default(),
        }
    }

    const fn left(&self, items: usize, bytes: usize) -> RunSize {
        RunSize {
            items: items.saturating_sub(self.used.items),
            bytes: bytes.saturating_sub(self.used.bytes),
        }
    }

    const fn take(&mut self, run: Run) -> Run {
        self.used.items += run.size.items;
        self.used.bytes += run.size.bytes;
        run
    }
}

#[cfg(test)]
mod tests;
