//! The answers of the view to requests. Each notes what was asked for, so that it is copied from now on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::api::daemon::{DaemonReport, ViewReport};
use crate::api::device::DeviceView;
use crate::api::devices::{DeviceReport, DevicesReport, FaultSummary};
use crate::api::plot::{Plot, PlotSeries};
use crate::error::CommandError;
use crate::fields::{Dialect, FieldRow, put_object};
use crate::payload::Decoder;
use crate::recorded::time::{Time, nanoseconds, system_time};
use crate::service::priority;
use crate::view::csv::CsvTable;
use crate::view::devices::WatchedDevices;
use crate::view::entries::{AnswerBounds, Entries, SelectedEntries};
use crate::view::entry::ViewEntry;
use crate::view::filter::{DeviceGlobs, EntryFilter, folded};
use crate::view::history::{History, Past, PastSink as _};
use crate::view::order::{DeviceOrder, sort};
use crate::view::series::PlotSpan;
use crate::view::{EVENTS_BYTES, MESSAGES_BYTES, View, ViewState, unix_ms};
use blocksd_engine::device::{DeviceList, DeviceState};
use blocksd_engine::reason::FaultKind;

/// Intervals of a device without a message after which its plot has a gap.
const GAP_INTERVALS: u32 = 3;
/// The least time without a message after which a plot has a gap.
const GAP_MIN: Duration = Duration::from_secs(1);

/// The newest message of a device that was seen within this time is not looked for in the recording.
const QUIET: Duration = Duration::from_secs(2);

/// Which devices a request selects.
#[derive(Clone, Debug, Default)]
pub struct DevicesQuery {
    /// A part of the name, in upper or lower case.
    pub filter: String,
    /// The states; empty for all.
    pub states: Vec<DeviceState>,
    /// The names; empty for all.
    pub names: HashSet<String>,
    /// The order.
    pub order: DeviceOrder,
    /// Devices before the first one of the answer.
    pub offset: usize,
    /// Most devices.
    pub limit: Option<usize>,
    /// With the newest message of each, and its rates.
    pub has_details: bool,
}

/// What a list of entries has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Messages.
    Messages,
    /// Faults.
    Faults,
    /// Other events.
    Events,
}

/// Which entries a request selects.
#[derive(Clone, Debug)]
pub struct EntriesQuery {
    /// What they are.
    pub kind: EntryKind,
    /// Which of them.
    pub filter: EntryFilter,
    /// Only entries after this one.
    pub after: Option<u64>,
    /// Most entries.
    pub limit: usize,
    /// Most bytes of all entries. There is at least one, whatever it has.
    pub max_bytes: usize,
    /// With the payload in hexadecimal.
    pub has_hex: bool,
}

/// Entries as JSON.
#[derive(Clone, Debug)]
pub struct EntriesAnswer {
    /// An object for each entry.
    pub lines: Vec<Vec<u8>>,
    /// The `after` of the next request.
    pub next: u64,
    /// Entries that are no longer kept; `None` if that is unknown.
    pub lost: Option<u64>,
    /// Messages of the selected devices that were received while somebody watched, and are not shown.
    pub not_shown: u64,
    /// There are more entries after these.
    pub has_more: bool,
}

/// The fields and the time of a plot.
#[derive(Clone, Debug)]
pub struct PlotQuery {
    /// The device.
    pub device: String,
    /// The fields.
    pub fields: Vec<String>,
    /// Seconds before now.
    pub last_s: u32,
    /// Most columns.
    pub columns: u32,
}

impl View {
    /// The devices of a request.
    #[must_use]
    pub fn devices(self: &Arc<Self>, query: &DevicesQuery) -> DevicesReport {
        let mut list = self.devices.list();
        let mut report = DevicesReport {
            gone_dropped: list.dropped,
            total: list.devices.len() as u64,
            ..DevicesReport::default()
        };
        for known in DeviceState::ALL {
            let count = list.devices.iter().filter(|it| it.state == known).count();
            let name = known.as_str().to_owned();
            report.states.insert(name, count as u64);
        }
        let counts = faults_by_kind(&list);
        let filter = folded(&query.filter);
        list.devices.retain(|device| {
            (filter.is_empty() || folded(&device.device).contains(&filter))
                && (query.states.is_empty() || query.states.contains(&device.state))
                && (query.names.is_empty() || query.names.contains(&*device.device))
        });
        report.matched = list.devices.len() as u64;
        sort(&mut list.devices, query.order);
        let selected = list.devices.iter().skip(query.offset);
        let selected = selected.take(query.limit.unwrap_or(usize::MAX));
        report.devices = selected.map(DeviceReport::of).collect();
        let mut state = self.lock();
        (report.messages_per_s, report.bytes_per_s) = state.rates.now();
        report.history = state.rates.history();
        report.faults = state.fault_summaries(counts);
        if query.has_details {
            let now_ms = self.now_ms();
            for device in &mut report.devices {
                self.add_details(device, &mut state, now_ms);
            }
            self.look_for_unknown(&report.devices, &mut state);
        }
        report.time = Time(SystemTime::now());
        report
    }

    fn add_details(&self, device: &mut DeviceReport, state: &mut ViewState, now_ms: u64) {
        device.spark = state.rates.spark(&device.device);
        let Some(stats) = self.devices.get(&device.device) else {
            return;
        };
        stats.sample();
        if let Some(newest) = state.watched.ask_newest(stats.name(), now_ms) {
            device.latest = Some(newest.message.clone());
            device.values.clone_from(&newest.values);
        }
    }

    /// Looks for the newest messages of devices that are quiet, if those that are known are older. Of the others, the next one is
    /// about to come.
    fn look_for_unknown(self: &Arc<Self>, devices: &[DeviceReport], state: &mut ViewState) {
        let now = SystemTime::now();
        let is_quiet = |device: &DeviceReport| {
            let passed = now.duration_since(device.last_seen.0);
            passed.is_ok_and(|passed| QUIET < passed)
        };
        let unknown = devices.iter().filter(|device| {
            device.messages != 0
                && is_quiet(device)
                && state
                    .watched
                    .look_for_newest(&device.device, device.last_seen.0)
        });
        let unknown = unknown.map(|it| (Arc::from(&*it.device), it.last_seen.0));
        let unknown: Vec<_> = unknown.collect();
        if !unknown.is_empty() {
            self.look_for_newest(unknown);
        }
    }

    /// A device, its fields and its newest message; `None` if it is not known.
    #[must_use]
    pub fn device(self: &Arc<Self>, name: &str) -> Option<DeviceView> {
        let stats = self.devices.get(name)?;
        self.show(name)?;
        let mut device = DeviceReport::of(&stats.snapshot());
        let mut state = self.lock();
        self.add_details(&mut device, &mut state, self.now_ms());
        self.look_for_unknown(std::slice::from_ref(&device), &mut state);
        let opened = state.events.newest().find_map(|entry| {
            let event: OpenEvent = match &*entry.device == name {
                true => serde_json::from_slice(&entry.line).ok()?,
                false => return None,
            };
            event.peer.map(|peer| (event.conn, peer))
        });
        let (conn, peer) = opened.unzip();
        let shown = state.watched.shown(name)?;
        let (fields, fields_more) = shown.fields();
        let since = shown.since.map(|since| Time(system_time(since)));
        Some(DeviceView {
            time: Time(SystemTime::now()),
            device,
            encoding: shown.decoding().map(|it| it.as_str().to_owned()),
            conn: conn.flatten(),
            peer,
            session: shown.session(),
            since,
            fields,
            fields_more,
            history: shown.history.as_str().to_owned(),
        })
    }

    /// The values of fields of a device; `None` if it is not known.
    #[must_use]
    pub fn plot(self: &Arc<Self>, query: &PlotQuery) -> Option<Plot> {
        let stats = self.devices.get(&query.device)?;
        self.show(&query.device)?;
        let now = SystemTime::now();
        let span = PlotSpan::new(unix_ms(now), query.last_s, query.columns);
        let gap = stats.interval().unwrap_or_default() * GAP_INTERVALS;
        let gap_ms = i64::try_from(gap.max(GAP_MIN).as_millis()).unwrap_or(i64::MAX);
        let now_ms = self.now_ms();
        let mut state = self.lock();
        let history = state.watched.shown(&query.device).map(|it| it.history);
        let series = query.fields.iter().map(|field| {
            let watched = &mut state.watched;
            let points = watched.ask_plot(&query.device, field, now_ms, &span, gap_ms);
            let error = points
                .is_none()
                .then(|| "too many plots; close one".to_owned());
            PlotSeries {
                field: field.clone(),
                points: points.unwrap_or_default(),
                error,
            }
        });
        let series = series.collect();
        Some(Plot {
            time: Time(now),
            from_ms: span.from_ms,
            to_ms: span.to_ms,
            step_ms: u64::try_from(span.step_ms).unwrap_or_default(),
            history: history.unwrap_or(History::None).as_str().to_owned(),
            series,
        })
    }

    /// Notes that a device is shown alone.
    fn show(self: &Arc<Self>, name: &str) -> Option<()> {
        let stats = self.devices.get(name)?;
        stats.watch();
        let (now_ms, now) = (self.now_ms(), nanoseconds(SystemTime::now()));
        let has_recording = self.recording.is_some();
        let range = self
            .lock()
            .watched
            .ask(stats.name(), now_ms, now, has_recording);
        if let Some(range) = range {
            self.read_past(stats.name(), range);
        }
        Some(())
    }

    /// Notes that the messages of these devices are shown. Returns how many of them are not.
    pub fn watch(&self, devices: &DeviceGlobs) -> u64 {
        // One that connects meanwhile is watched from its first message on.
        self.devices.watch_new();
        let devices = self.devices.matching(|name| devices.matches(name));
        devices
            .iter()
            .map(|device| {
                device.watch();
                device.not_shown()
            })
            .sum()
    }

    /// The number of the newest entry.
    #[must_use]
    pub fn newest(&self, kind: EntryKind) -> u64 {
        self.lock().entries(kind).end() - 1
    }

    /// The entries of a request.
    #[must_use]
    pub fn entries(&self, query: &mut EntriesQuery) -> EntriesAnswer {
        let not_shown = match query.kind {
            EntryKind::Messages => self.watch(&query.filter.devices),
            EntryKind::Faults | EntryKind::Events => 0,
        };
        let bounds = AnswerBounds {
            limit: query.limit,
            max_bytes: query.max_bytes,
            has_hex: query.has_hex,
        };
        let state = self.lock();
        let entries = state.entries(query.kind);
        let SelectedEntries {
            entries,
            next,
            lost,
            has_more,
        } = entries.select(&mut query.filter, query.after, bounds);
        drop(state);
        let line = |(id, entry): &(u64, ViewEntry)| {
            let mut line = Vec::with_capacity(entry.line.len() + 32);
            entry.write(*id, query.has_hex, &mut line);
            line
        };
        EntriesAnswer {
            lines: entries.iter().map(line).collect(),
            next,
            lost,
            not_shown,
            has_more,
        }
    }

    /// Messages of a device as CSV: of the recording, or those that are kept. `None` if the device is not known.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub async fn csv(
        self: &Arc<Self>,
        name: &str,
        last_s: u32,
    ) -> Option<Result<Vec<u8>, CommandError>> {
        let stats = self.devices.get(name)?;
        let (view, name) = (Arc::clone(self), stats.name().to_string());
        let read = move || {
            let to = nanoseconds(SystemTime::now());
            let from = to.saturating_sub(u64::from(last_s) * 1_000_000_000);
            let mut table = CsvTable::default();
            match &view.recording {
                Some(recording) => {
                    let past = Past {
                        directory: recording.directory.clone(),
                        device: name.clone(),
                        from,
                        to,
                    };
                    if !past.read(&mut table)? {
                        table.cut();
                    }
                }
                None => view.kept_rows(&name, from, &mut table),
            }
            table.write(&name)
        };
        priority::run_low("view-csv", read).await
    }

    /// Adds the messages of a device that are kept.
    fn kept_rows(&self, name: &str, from: u64, table: &mut CsvTable) {
        let state = self.lock();
        let own = state
            .messages
            .newest()
            .filter(|entry| &*entry.device == name);
        let entries: Vec<_> = own.cloned().collect();
        drop(state);
        let mut decoder = Decoder::default();
        let mut object = Vec::new();
        for entry in entries.iter().rev() {
            if *decoder.decoding() != entry.decoding {
                decoder = Decoder::new(entry.decoding.clone());
            }
            let Ok(message) = serde_json::from_slice::<MessageEvent>(&entry.line) else {
                continue;
            };
            let time = nanoseconds(message.time.0);
            let decoded = put_object(&decoder, &entry.payload, name, Dialect::Csv, &mut object);
            if time < from || message.event != "block" || decoded.is_err() {
                continue;
            }
            let session = message.session.as_deref();
            table.row(&FieldRow {
                time,
                received: time,
                device: name,
                conn: message.conn.unwrap_or_default(),
                seq: message.seq,
                session: session.and_then(|it| u64::from_str_radix(it, 16).ok()),
                len: entry.payload.len(),
                object: &object,
            });
        }
    }

    /// The daemon.
    #[must_use]
    pub fn daemon(&self) -> DaemonReport {
        let not_shown = self.devices.matching(|_| true);
        let not_shown = not_shown.iter().map(|device| device.not_shown()).sum();
        // It reads a directory.
        let clusters = self.forwards.as_ref().map(|it| it.clusters());
        let state = self.lock();
        let kept = state.messages.cost() + state.faults.cost() + state.events.cost();
        let most = MESSAGES_BYTES + 2 * EVENTS_BYTES + WatchedDevices::COST_MAX;
        let host = rustix::system::uname();
        DaemonReport {
            time: Time(SystemTime::now()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: host.nodename().to_string_lossy().into_owned(),
            started: Time(self.started),
            recording: self.recording.as_ref().map(|it| state.disk.report(it)),
            forwards: state.forwards.report(clusters.unwrap_or_default()),
            view: ViewReport {
                memory_bytes: (kept + state.watched.cost()) as u64,
                memory_max_bytes: most as u64,
                not_shown,
            },
        }
    }
}

impl ViewState {
    const fn entries(&self, kind: EntryKind) -> &Entries {
        match kind {
            EntryKind::Messages => &self.messages,
            EntryKind::Faults => &self.faults,
            EntryKind::Events => &self.events,
        }
    }

    /// The kinds of faults that occurred, the newest first.
    fn fault_summaries(&self, counts: [u64; FaultKind::ALL.len()]) -> Vec<FaultSummary> {
        let kinds = FaultKind::ALL.into_iter().zip(&self.newest_faults);
        let summaries = kinds
            .zip(counts)
            .map(|((kind, newest), count)| FaultSummary {
                fault: kind.as_str().to_owned(),
                count,
                device: newest.as_ref().map(|(device, _)| device.to_string()),
                time: newest.as_ref().map(|(_, time)| Time(*time)),
            });
        let mut summaries: Vec<_> = summaries
            .filter(|it| it.count != 0 || it.device.is_some())
            .collect();
        summaries.sort_by_key(|it| std::cmp::Reverse(it.time.map(|time| time.0)));
        summaries
    }
}

/// The faults of all devices, in the order of [`FaultKind::ALL`].
fn faults_by_kind(list: &DeviceList) -> [u64; FaultKind::ALL.len()] {
    let mut counts = [0; FaultKind::ALL.len()];
    for device in &list.devices {
        for (sum, count) in counts.iter_mut().zip(device.faults) {
            *sum += count;
        }
    }
    counts
}

/// The members of an event `open`.
#[derive(serde::Deserialize)]
struct OpenEvent {
    conn: Option<u64>,
    peer: Option<String>,
}

/// The members of an event `block`.
#[derive(serde::Deserialize)]
struct MessageEvent {
    event: String,
    conn: Option<u64>,
    seq: u64,
    session: Option<String>,
    time: Time,
}
