//! What the page, `top` and `tap` show of a running daemon: a [`View`] has the newest messages, faults and events, and the
//! fields of the devices that somebody watches.
//!
//! A viewer asks with a cursor, so the view keeps no state of viewers. Messages reach it only while somebody looks, within a
//! budget, through a queue that never holds a connection up ([`Delivery::Watched`](blocksd_engine::sink::Delivery)).

mod answers;
mod csv;
mod devices;
mod disk;
mod entries;
mod entry;
mod fields;
mod filter;
mod forwards;
mod history;
mod newest;
mod order;
mod rates;
mod reading;
#[cfg(test)]
mod samples;
mod series;
mod sink;
mod undecoded;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use blocksd_engine::device::DeviceRegistry;
use blocksd_engine::event::{Event, EventKind};
use blocksd_engine::reason::FaultKind;
use tokio::sync::{Semaphore, watch};

pub use self::answers::{DevicesQuery, EntriesAnswer, EntriesQuery, EntryKind, PlotQuery};
pub use self::disk::RecordingSource;
pub use self::filter::{DeviceGlobs, EntryFilter};
pub use self::forwards::{Cluster, ForwardSource};
pub use self::order::DeviceOrder;
pub use self::series::LONGEST_S;
pub use self::sink::ViewSink;
pub use self::undecoded::UndecodedQueue;
pub use crate::api::level::LogLevel;

use self::devices::{PastRange, WatchedDevices};
use self::disk::DiskRates;
use self::entries::Entries;
use self::forwards::ForwardRates;
use self::history::{History, Past, PastSink};
use self::rates::Rates;
use self::reading::Reading;
use crate::fields::FieldRow;
use crate::recorded::time::{duration_nanoseconds, nanoseconds};
use crate::service::priority;

/// Memory of the messages that are kept, in bytes.
const MESSAGES_BYTES: usize = 4 << 20;
/// Messages that are kept.
const MESSAGES_LEN: usize = 20_000;
/// Faults that are kept, and other events.
const EVENTS_LEN: usize = 2000;
/// Memory of the faults that are kept, and of the other events, in bytes.
const EVENTS_BYTES: usize = 1 << 20;
/// Time from a sync of the recording until messages that were received just before somebody watched can be read.
const SETTLED: Duration = Duration::from_secs(3);
/// Readings of the recording that wait at most. Beyond them, the past of a device is not shown.
const READINGS_MAX: usize = 128;

/// The newest messages, faults and events of a daemon, and the fields of the devices that somebody watches.
#[derive(Debug)]
pub struct View {
    devices: Arc<DeviceRegistry>,
    recording: Option<RecordingSource>,
    forwards: Option<Arc<dyn ForwardSource>>,
    started: SystemTime,
    clock: Instant,
    state: Mutex<ViewState>,
    /// The number of changes so far, for followers.
    changes: watch::Sender<u64>,
    /// One reading of the recording at a time.
    past: Semaphore,
    /// Readings that wait.
    readings: Arc<Semaphore>,
    undecoded: UndecodedQueue,
}

#[derive(Debug)]
struct ViewState {
    messages: Entries,
    faults: Entries,
    events: Entries,
    rates: Rates,
    disk: DiskRates,
    forwards: ForwardRates,
    watched: WatchedDevices,
    /// The device and the time of the newest fault of each kind.
    newest_faults: [Option<(Arc<str>, SystemTime)>; FaultKind::ALL.len()],
}

impl View {
    /// A view of these devices. Its numbers increase over restarts of the daemon, as long as the clock does.
    #[must_use]
    pub fn new(
        devices: Arc<DeviceRegistry>,
        recording: Option<RecordingSource>,
        forwards: Option<Arc<dyn ForwardSource>>,
    ) -> Arc<Self> {
        let started = SystemTime::now();
        // An integer that JavaScript holds exactly.
        let start = (nanoseconds(started) / 1000).max(1);
        let entries = |len, bytes| Entries::new(start, len, bytes);
        Arc::new(Self {
            devices,
            recording,
            forwards,
            started,
            clock: Instant::now(),
            state: Mutex::new(ViewState {
                messages: entries(MESSAGES_LEN, MESSAGES_BYTES),
                faults: entries(EVENTS_LEN, EVENTS_BYTES),
                events: entries(EVENTS_LEN, EVENTS_BYTES),
                rates: Rates::default(),
                disk: DiskRates::default(),
                forwards: ForwardRates::default(),
                watched: WatchedDevices::default(),
                newest_faults: Default::default(),
            }),
            changes: watch::Sender::new(0),
            past: Semaphore::new(1),
            readings: Arc::new(Semaphore::new(READINGS_MAX)),
            undecoded: UndecodedQueue::default(),
        })
    }

    /// The queue for messages that another sink could not decode.
    pub const fn undecoded(&self) -> &UndecodedQueue {
        &self.undecoded
    }

    /// Updates the rates. Call it once a second.
    pub fn tick(&self) {
        let list = self.devices.list();
        let stats = self.recording.as_ref().map(|it| it.stats.read());
        let stored = self.forwards.as_ref().map(|it| it.stored());
        let mut state = self.lock();
        state.rates.tick(&list);
        if let Some(stats) = stats {
            state.disk.tick(stats);
        }
        if let Some(stored) = stored {
            state.forwards.tick(stored);
        }
        drop(state);
        self.take_undecoded();
    }

    /// Waits for the next change.
    ///
    /// Cancel-safe.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Adds what an event has.
    fn add(&self, event: &Event, reading: Reading) {
        let time = nanoseconds(event.time);
        let Reading {
            messages,
            faults,
            others,
            newest,
        } = reading;
        let mut state = self.lock();
        if let Some(newest) = newest {
            state.watched.set_newest(&event.source.device, newest);
        }
        // A silence is not of a connection, so it has no encoding and no session.
        if matches!(event.kind, EventKind::Batch { .. } | EventKind::Session(_)) {
            let objects = messages.iter().map(|(_, object)| &**object);
            let objects = objects.filter(|object| !object.is_empty());
            let at = (time, self.now_ms());
            state.watched.messages(&event.source, at, objects);
        }
        for (message, _) in messages {
            state.messages.push(message);
        }
        for (kind, fault) in faults {
            state.fault(kind, event.time, fault);
        }
        for other in others {
            state.events.push(other);
        }
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Adds the messages that another sink could not decode.
    fn take_undecoded(&self) {
        let mut changed = false;
        while let Some((time, entry)) = self.undecoded.take() {
            self.lock().fault(FaultKind::Undecodable, time, entry);
            changed = true;
        }
        if changed {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Reads the past of a device from the recording, in a task.
    fn read_past(self: &Arc<Self>, device: &Arc<str>, range: PastRange) {
        let Some(recording) = &self.recording else {
            return;
        };
        let directory = recording.directory.clone();
        let past = |from, to| Past {
            directory: directory.clone(),
            device: device.to_string(),
            from,
            to,
        };
        let first = past(range.from, range.to);
        // What was received just before may not be written yet.
        let settling = recording.sync_after + SETTLED;
        let settled = range
            .from
            .max(range.to.saturating_sub(duration_nanoseconds(2 * settling)));
        let second = past(settled, range.to);
        let (view, device) = (Arc::clone(self), Arc::clone(device));
        let reading = range.reading;
        let Ok(place) = Arc::clone(&self.readings).try_acquire_owned() else {
            let watched = &mut self.lock().watched;
            return watched.set_history(&device, reading, History::Partial);
        };
        tokio::spawn(async move {
            let _place = place;
            let (is_whole, last) = view.read_part(&device, reading, first, 0).await;
            tokio::time::sleep(settling).await;
            let (is_settled, _) = view.read_part(&device, reading, second, last).await;
            let history = match is_whole && is_settled {
                true => History::Complete,
                false => History::Partial,
            };
            let mut state = view.lock();
            state.watched.set_history(&device, reading, history);
        });
    }

    /// Adds the messages of a part of the past that are later than `after`. Returns whether it was read whole, and the time of
    /// the last message.
    async fn read_part(
        self: &Arc<Self>,
        device: &Arc<str>,
        reading: u64,
        past: Past,
        after: u64,
    ) -> (bool, u64) {
        // The semaphore is never closed.
        let _permit = self.past.acquire().await;
        // While it waited, the device may have given way to others.
        if !self.lock().watched.is_reading(device, reading) {
            return (false, after);
        }
        let mut values = PastValues {
            view: Arc::clone(self),
            device: Arc::clone(device),
            reading,
            after,
            last: after,
        };
        let read = move || {
            let read = past.read(&mut values);
            (read.unwrap_or(false), values.last)
        };
        priority::run_low("view-past", read)
            .await
            .unwrap_or((false, after))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, ViewState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the values of the past to a device that is shown.
struct PastValues {
    view: Arc<View>,
    device: Arc<str>,
    reading: u64,
    /// Only messages after this time.
    after: u64,
    last: u64,
}

impl PastSink for PastValues {
    fn row(&mut self, row: &FieldRow<'_>) -> bool {
        if row.time <= self.after {
            return true;
        }
        self.last = self.last.max(row.time);
        let mut state = self.view.lock();
        let watched = &mut state.watched;
        watched.past(&self.device, self.reading, row.time, row.object)
    }
}

impl ViewState {
    fn fault(&mut self, kind: FaultKind, time: SystemTime, fault: entry::ViewEntry) {
        if let Some(newest) = self.newest_faults.get_mut(kind as usize) {
            *newest = Some((Arc::clone(&fault.device), time));
        }
        self.faults.push(fault);
    }
}

/// Milliseconds since 1970.
fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
