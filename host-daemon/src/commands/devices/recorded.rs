//! Counts what each device of a recording has sent: start with [`read`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::api::devices::DeviceReport;
use crate::commands::read::{EventPrinter, Printed};
use crate::error::CommandError;
use crate::payload::Decoding;
use crate::recorded::from_log::{EventReader, EventVisitor};
use crate::recorded::time::Time;
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::{Event, EventKind, Suppressed};
use blocksd_engine::reason::FaultKind;
use blocksd_recording::{Losses, Reader, Visitor as _, Wanted};

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
    let mut visitor = EventPrinter {
        // Nothing is decoded: the faults of undecodable messages are counted as they were recorded.
        reader: EventReader::new(Some(Decoding::Raw)),
        printed: DeviceCounts::default(),
    };
    let losses = Reader::new(paths.to_vec(), Wanted::default()).visit(&mut visitor)?;
    visitor.gap()?;
    let DeviceCounts {
        devices,
        of_several,
    } = visitor.printed;
    Ok(Recorded {
        devices: devices.into_values().collect(),
        of_several,
        losses,
    })
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
            EventKind::Gap(gap) => {
                let device = self.device(name, time);
                device.gaps += 1;
                device.gap_messages += gap.to.saturating_sub(gap.from);
            }
            EventKind::Silent { .. } | EventKind::Back { .. } => {}
        }
        Ok(())
    }
}

impl Printed for DeviceCounts {
    const DECODES: bool = false;

    fn flush(&mut self) -> Result<(), CommandError> {
        Ok(())
    }
}

fn seen(device: &mut DeviceReport, time: SystemTime) {
    device.first_seen = Time(device.first_seen.0.min(time));
    device.last_seen = Time(device.last_seen.0.max(time));
}

fn count(device: &mut DeviceReport, kind: FaultKind, faults: u64) {
    *device.faults.entry(kind.as_str().to_owned()).or_default() += faults;
}
