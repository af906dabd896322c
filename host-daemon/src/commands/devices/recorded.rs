//! Counts what each device of a recording has sent: start with [`read`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::commands::read::{report_lost, report_missed, report_unreadable};
use crate::devices::DeviceReport;
use crate::error::CommandError;
use crate::payload::Decoding;
use crate::recorded::from_log::{EventReader, EventVisitor};
use crate::recorded::journal::Entry;
use crate::recorded::lifecycle::Lifecycle;
use crate::recorded::time::Time;
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::{Event, EventKind, Suppressed};
use blocksd_engine::reason::FaultKind;
use blocksd_recording::topic::Kind;
use blocksd_recording::{Error, Losses, LostRange, Message, Missed, Reader, Visitor, Wanted};

/// The devices of recordings.
#[derive(Debug)]
pub(super) struct Recorded {
    /// The devices, by name.
    pub(super) devices: Vec<DeviceReport>,
    /// Connections that were recorded as counts of several devices.
    pub(super) of_several: u64,
    /// Data that is lost.
    pub(super) losses: Losses,
}

/// Reads all messages of recordings.
///
/// # Errors
/// [`CommandError::Recording`].
pub(super) fn read(paths: &[PathBuf]) -> Result<Recorded, CommandError> {
    let mut visitor = DeviceVisitor {
        // Nothing is decoded: the faults of undecodable messages are counted as they were recorded.
        reader: EventReader::new(Some(Decoding::Raw)),
        counts: DeviceCounts::default(),
    };
    let losses = Reader::new(paths.to_vec(), Wanted::default()).visit(&mut visitor)?;
    visitor.gap()?;
    let DeviceCounts {
        devices,
        of_several,
    } = visitor.counts;
    Ok(Recorded {
        devices: devices.into_values().collect(),
        of_several,
        losses,
    })
}

struct DeviceVisitor {
    reader: EventReader,
    counts: DeviceCounts,
}

/// What each device has sent, as the counters of a daemon count it.
#[derive(Debug, Default)]
struct DeviceCounts {
    devices: BTreeMap<String, DeviceReport>,
    of_several: u64,
}

impl DeviceCounts {
    fn device(&mut self, name: &str, time: SystemTime) -> &mut DeviceReport {
        let device = self.devices.entry(name.to_owned());
        device.or_insert_with(|| DeviceReport::new(name, time))
    }

    fn batch(device: &mut DeviceReport, batch: &Batch) {
        let (mut messages, mut bytes) = batch.messages();
        for (_, mark) in batch.marks() {
            match mark {
                Item::Piece {
                    bytes: piece,
                    last,
                    truncated: false,
                    ..
                } => {
                    bytes += piece.len() as u64;
                    messages += u64::from(last);
                }
                Item::Fault(fault) => count(device, FaultKind::of(&fault), 1),
                Item::Reset => count(device, FaultKind::Reset, 1),
                Item::Message(_) | Item::Piece { .. } | Item::End | Item::AfterEnd { .. } => {}
            }
        }
        device.messages += messages;
        device.bytes += bytes;
    }

    fn suppressed(&mut self, name: &str, sums: &Suppressed) {
        if name.is_empty() {
            self.of_several += sums.connections;
            return;
        }
        let device = self.device(name, sums.since);
        device.messages += sums.empty;
        device.connections_total += sums.connections;
        for (kind, faults) in FaultKind::ALL.into_iter().zip(sums.faults) {
            count(device, kind, faults);
        }
        seen(device, sums.since);
    }

    /// Takes an entry about a session, of which gaps count.
    fn entry(&mut self, json: &[u8]) {
        if let Some(Entry::Gap {
            time,
            device,
            from,
            to,
            ..
        }) = Entry::parse(json)
        {
            let device = self.device(&device, time.0);
            device.gaps += 1;
            device.gap_messages += to.saturating_sub(from);
        }
    }

    /// Moves a connection to the device that its HELLO names.
    fn renamed(&mut self, former: &str, name: &str, time: SystemTime) {
        if former == name {
            return;
        }
        if let Some(device) = self.devices.get_mut(former) {
            device.connections_total = device.connections_total.saturating_sub(1);
            if device.connections_total == 0 && device.messages == 0 && device.all_faults() == 0 {
                // It was never more than the address of this connection.
                self.devices.remove(former);
            }
        }
        let device = self.device(name, time);
        device.connections_total += 1;
        seen(device, time);
    }
}

impl EventVisitor for DeviceCounts {
    type Error = CommandError;

    fn event(&mut self, event: &Event) -> Result<(), CommandError> {
        let (name, time) = (&*event.source.device, event.time);
        match &event.kind {
            EventKind::Opened { .. } => {
                let device = self.device(name, time);
                device.connections_total += 1;
                seen(device, time);
            }
            EventKind::Batch { batch, .. } => {
                let device = self.device(name, time);
                Self::batch(device, batch);
                if !batch.is_cut() {
                    seen(device, time);
                }
            }
            EventKind::Session(opened) => self.renamed(&opened.former, name, time),
            EventKind::Closed { reason, .. } => {
                let device = self.device(name, time);
                device.last_close = Some(reason.as_str().to_owned());
            }
            EventKind::Suppressed(sums) => self.suppressed(name, sums),
            EventKind::Undecodable(_) => {
                count(self.device(name, time), FaultKind::Undecodable, 1);
            }
            // Gaps are entries about sessions.
            EventKind::Gap(_) | EventKind::Silent { .. } | EventKind::Back { .. } => {}
        }
        Ok(())
    }

    fn lifecycle(&mut self, _: &Lifecycle<'_>) -> Result<(), CommandError> {
        Ok(())
    }

    fn other(&mut self, _: &[u8]) -> Result<(), CommandError> {
        Ok(())
    }
}

impl Visitor for DeviceVisitor {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        if message.channel.kind == Kind::Sessions {
            self.counts.entry(message.data);
        }
        self.reader.message(message, &mut self.counts)
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), CommandError> {
        report_lost(file, lost);
        self.gap()
    }

    fn gap(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.counts)
    }

    fn unreadable(&mut self, error: Error) -> Result<(), CommandError> {
        report_unreadable(error);
        Ok(())
    }

    fn missed(&mut self, path: &Path, missed: &Missed) -> Result<(), CommandError> {
        report_missed(path, missed);
        self.gap()
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        self.gap()
    }
}

fn seen(device: &mut DeviceReport, time: SystemTime) {
    device.first_seen = Time(device.first_seen.0.min(time));
    device.last_seen = Time(device.last_seen.0.max(time));
}

fn count(device: &mut DeviceReport, kind: FaultKind, faults: u64) {
    *device.faults.entry(kind.as_str().to_owned()).or_default() += faults;
}
