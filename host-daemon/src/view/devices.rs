//! The devices that somebody watches: [`WatchedDevices`] has their newest messages, and the fields of those that are shown
//! alone.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use crate::api::device::{FieldView, SessionView};
use crate::payload::Decoding;
use crate::view::fields::FieldTable;
use crate::view::history::History;
use crate::view::reading::{Needs, NewestMessage};
use crate::view::series::{PlotSpan, Series};
use blocksd_engine::event::{ConnectionInfo, Encoding};
use blocksd_engine::session::Session;

/// Most devices whose newest message is kept.
const NEWEST_MAX: usize = 1024;
/// Most devices whose fields are kept.
const SHOWN_MAX: usize = 64;
/// Most series of all devices.
pub(super) const SERIES_MAX: usize = 64;
/// A series that was asked for within this time gives way to no other.
const IN_USE_MS: u64 = 10_000;
/// All messages of a device that was asked for within this time were copied. Less than the engine's
/// [`WATCHED`](blocksd_engine::device::WATCHED), which begins a moment earlier.
const COPIED_MS: u64 = 9_500;
/// Memory of a device besides its newest message and its fields, in bytes.
const ENTRY_COST: usize = 256;
/// A clock that goes back by more than this was set, in nanoseconds.
const STEP_NS: u64 = 5_000_000_000;
/// How long the past of a device can be shown, in nanoseconds.
const PAST_NS: u64 = 3_600_000_000_000;

/// The devices, by name.
#[derive(Debug, Default)]
pub(super) struct WatchedDevices {
    newest: HashMap<Arc<str>, ListedDevice>,
    shown: HashMap<Arc<str>, ShownDevice>,
    /// Readings of the recording so far.
    readings: u64,
}

/// A device in a list.
#[derive(Debug, Default)]
struct ListedDevice {
    /// When it was last asked for.
    asked_ms: u64,
    newest: Option<NewestMessage>,
    /// Up to when its newest message was looked for in the recording.
    looked_for: Option<SystemTime>,
}

/// A device that is shown alone.
#[derive(Debug)]
pub(super) struct ShownDevice {
    /// When it was last asked for.
    asked_ms: u64,
    fields: FieldTable,
    pub(super) history: History,
    /// The number of the last reading of its past.
    reading: u64,
    /// Messages from this time on come from the queue, those before from the recording, in nanoseconds since 1970.
    live_from: u64,
    /// The time of the first message in the fields.
    pub(super) since: Option<u64>,
    /// The time of the last message in the fields.
    last: u64,
    encoding: Option<Encoding>,
    session: Weak<Session>,
}

/// A range of time of which the messages are to be read from the recording, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PastRange {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Number of this reading.
    pub(super) reading: u64,
}

impl WatchedDevices {
    /// Notes that the newest message of a device was asked for. Returns it, if it is known.
    pub(super) fn ask_newest(&mut self, device: &Arc<str>, now_ms: u64) -> Option<&NewestMessage> {
        if NEWEST_MAX <= self.newest.len() && !self.newest.contains_key(device) {
            let least = self.newest.iter().min_by_key(|(_, listed)| listed.asked_ms);
            if let Some(least) = least.map(|(device, _)| Arc::clone(device)) {
                self.newest.remove(&least);
            }
        }
        let listed = self.newest.entry(Arc::clone(device)).or_default();
        listed.asked_ms = now_ms;
        listed.newest.as_ref()
    }

    /// Returns whether the newest message of a device that was last seen then is to be looked for in the recording: once, if it
    /// was asked for, and the one that is known is older.
    pub(super) fn look_for_newest(&mut self, device: &str, seen: SystemTime) -> bool {
        let Some(listed) = self.newest.get_mut(device) else {
            return false;
        };
        let newest = listed.newest.as_ref().map(|it| it.message.time.0);
        let is_known = newest.is_some_and(|newest| seen <= newest);
        !is_known && listed.looked_for.replace(seen) != Some(seen)
    }

    /// Notes that a device was asked for. Returns the range that is to be read from the recording, if there is one.
    pub(super) fn ask(
        &mut self,
        device: &Arc<str>,
        now_ms: u64,
        now: u64,
        has_recording: bool,
    ) -> Option<PastRange> {
        let oldest = now.saturating_sub(PAST_NS);
        if let Some(known) = self.shown.get_mut(device) {
            let is_watched = now_ms < known.asked_ms + COPIED_MS;
            known.asked_ms = now_ms;
            let is_back = now.saturating_add(STEP_NS) < known.live_from.max(known.last);
            if is_back {
                known.forget_values(now);
            } else if is_watched || known.history == History::Loading {
                return None;
            }
            if !has_recording {
                return None;
            }
            // While nobody looked, nothing was copied.
            known.history = History::Loading;
            known.live_from = now;
            self.readings += 1;
            known.reading = self.readings;
            return Some(PastRange {
                from: oldest.max(known.last.saturating_add(1)),
                to: now,
                reading: known.reading,
            });
        }
        if SHOWN_MAX <= self.shown.len() {
            let least = self.shown.iter().min_by_key(|(_, shown)| shown.asked_ms);
            if let Some(least) = least.map(|(device, _)| Arc::clone(device)) {
                self.shown.remove(&least);
            }
        }
        let history = match has_recording {
            true => History::Loading,
            false => History::None,
        };
        self.readings += 1;
        let reading = self.readings;
        let new = ShownDevice {
            asked_ms: now_ms,
            fields: FieldTable::default(),
            history,
            reading,
            live_from: now,
            since: None,
            last: 0,
            encoding: None,
            session: Weak::new(),
        };
        self.shown.insert(Arc::clone(device), new);
        has_recording.then_some(PastRange {
            from: oldest,
            to: now,
            reading,
        })
    }

    /// A device that was asked for.
    pub(super) fn shown(&self, device: &str) -> Option<&ShownDevice> {
        self.shown.get(device)
    }

    /// What somebody looks at of a device.
    pub(super) fn needs(&self, device: &str) -> Needs {
        Needs {
            fields: self.shown.contains_key(device),
            newest: self.newest.contains_key(device),
        }
    }

    /// Sets the newest message of a device, if that was asked for.
    pub(super) fn set_newest(&mut self, device: &str, message: NewestMessage) {
        if let Some(listed) = self.newest.get_mut(device) {
            listed.newest = Some(message);
        }
    }

    /// Sets the newest message of a device from the recording, unless a newer one is known.
    pub(super) fn set_recorded(&mut self, device: &str, recorded: NewestMessage) {
        let Some(listed) = self.newest.get_mut(device) else {
            return;
        };
        let known = listed.newest.as_ref().map(|it| it.message.time.0);
        if known.is_none_or(|known| known < recorded.message.time.0) {
            listed.newest = Some(recorded);
        }
    }

    /// Takes messages of a connection, if its device is shown now. The objects are those of their fields.
    ///
    /// Once nobody shows it, its messages may still be copied, for a tail. They would hide the pause before them: when it is
    /// shown again, its past is read from the last message on.
    pub(super) fn messages<'a>(
        &mut self,
        source: &ConnectionInfo,
        (time, now_ms): (u64, u64),
        objects: impl Iterator<Item = &'a [u8]>,
    ) {
        let mut series = self.series();
        let Some(shown) = self.shown.get_mut(&source.device) else {
            return;
        };
        if shown.encoding.is_none() || time >= shown.last {
            shown.encoding = Some(source.encoding.clone());
            shown.session = source
                .session
                .as_ref()
                .map_or_else(Weak::new, Arc::downgrade);
        }
        // The clock was set back: the values that are known lie in the future, and would hide the new ones.
        if time.saturating_add(STEP_NS) < shown.live_from.max(shown.last) {
            shown.forget_values(time);
            shown.history = History::Partial;
        }
        if time < shown.live_from || shown.asked_ms + COPIED_MS <= now_ms {
            return;
        }
        for object in objects {
            shown.message(time, object, &mut series);
        }
    }

    /// Whether this reading of the past of a device is still wanted.
    pub(super) fn is_reading(&self, device: &str, reading: u64) -> bool {
        self.shown
            .get(device)
            .is_some_and(|it| it.reading == reading)
    }

    /// Takes a message of a device from this reading of the recording. Returns `false` if the device is no longer shown, or
    /// is shown anew.
    pub(super) fn past(&mut self, device: &str, reading: u64, time: u64, object: &[u8]) -> bool {
        let mut series = self.series();
        let shown = self.shown.get_mut(device);
        let Some(shown) = shown.filter(|it| it.reading == reading) else {
            return false;
        };
        shown.message(time, object, &mut series);
        true
    }

    /// Sets whether the past of a device is complete after this reading.
    pub(super) fn set_history(&mut self, device: &str, reading: u64, history: History) {
        let shown = self.shown.get_mut(device);
        if let Some(shown) = shown.filter(|it| it.reading == reading) {
            shown.history = history;
        }
    }

    /// Notes that the plot of a field was asked for. Returns its points; `None` if there are too many series. A field that
    /// never occurred has no points.
    pub(super) fn ask_plot(
        &mut self,
        device: &str,
        field: &str,
        now_ms: u64,
        span: &PlotSpan,
        gap_ms: i64,
    ) -> Option<Vec<(i64, Option<f64>)>> {
        let fields = &self.shown.get(device)?.fields;
        if !fields.has(field) {
            return Some(Vec::new());
        }
        let is_new = fields.series(field).is_none();
        if is_new && SERIES_MAX <= self.series() {
            self.make_room(now_ms);
        }
        let has_room = self.series() < SERIES_MAX;
        let shown = self.shown.get_mut(device)?;
        let is_plotted = shown.fields.ask(field, now_ms, || has_room);
        let series = shown.fields.series(field).filter(|_| is_plotted)?;
        Some(series.points(span, gap_ms))
    }

    /// Bytes of what is kept.
    pub(super) fn cost(&self) -> usize {
        let newest = self
            .newest
            .values()
            .filter_map(|listed| listed.newest.as_ref());
        let newest: usize = newest.map(NewestMessage::cost).sum();
        let fields: usize = self.shown.values().map(|it| it.fields.cost()).sum();
        let entries = self.newest.len() + self.shown.len();
        self.series() * Series::COST + newest + fields + entries * ENTRY_COST
    }

    /// The most that [`cost`](Self::cost) can be.
    pub(super) const COST_MAX: usize = SERIES_MAX * Series::COST
        + NEWEST_MAX * NewestMessage::COST_MAX
        + SHOWN_MAX * FieldTable::COST_MAX
        + (NEWEST_MAX + SHOWN_MAX) * ENTRY_COST;

    fn series(&self) -> usize {
        self.shown
            .values()
            .map(|shown| shown.fields.plotted())
            .sum()
    }

    /// Drops the series that was asked for the longest time ago, unless it is in use.
    fn make_room(&mut self, now_ms: u64) {
        let each = self.shown.values_mut();
        let least = each.filter_map(|shown| Some((shown.fields.least_asked()?, shown)));
        let least = least.min_by_key(|(asked, _)| *asked);
        if let Some((asked, shown)) = least
            && asked + IN_USE_MS < now_ms
        {
            shown.fields.drop_series(asked);
        }
    }
}

impl ShownDevice {
    /// Begins anew at this time, without the values that are known.
    fn forget_values(&mut self, now: u64) {
        self.fields = FieldTable::default();
        (self.live_from, self.last, self.since) = (now, 0, None);
        // A reading that goes on is no longer wanted.
        self.reading = 0;
    }

    fn message(&mut self, time: u64, object: &[u8], series: &mut usize) {
        self.since = Some(self.since.map_or(time, |since| since.min(time)));
        self.last = self.last.max(time);
        let time_ms = i64::try_from(time / 1_000_000).unwrap_or(i64::MAX);
        self.fields.message(time_ms, object, || {
            let has_room = *series < SERIES_MAX;
            *series += usize::from(has_room);
            has_room
        });
    }

    /// The fields, and the number of those that are not kept.
    pub(super) fn fields(&self) -> (Vec<FieldView>, u64) {
        self.fields.view()
    }

    /// How its messages are decoded.
    pub(super) fn decoding(&self) -> Option<Decoding> {
        self.encoding.as_ref().map(Decoding::of)
    }

    /// The session of its newest message.
    pub(super) fn session(&self) -> Option<SessionView> {
        let session = self.session.upgrade()?;
        Some(SessionView {
            session: format!("{:016x}", session.number()),
            received: session.written(),
            durable: session.durable(),
        })
    }
}

#[cfg(test)]
mod tests;
