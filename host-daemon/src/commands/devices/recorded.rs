//! Counts what each device of a recording has sent: start with [`read`].

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::api::devices::DeviceReport;
use crate::commands::read::{EventPrinter, Printed};
use crate::error::CommandError;
use crate::payload::Decoding;
use crate::recorded::from_log::{EventReader, EventVisitor};
use crate::recorded::time::Time;
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::{Event, EventKind, Suppressed};
use blocksd_engine::reason::{CloseReason, FaultKind};
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
    let of_several = visitor.printed.of_several;
    Ok(Recorded {
        devices: visitor.printed.finish(),
        of_several,
        losses,
    })
}

/// What each device has sent, as the counters of a daemon count it.
#[derive(Debug, Default)]
struct DeviceCounts {
    devices: BTreeMap<String, DeviceReport>,
    /// By the number of the connection: its device, and when it was opened, until it is known that it is not one of a
    /// session, which names another device.
    undecided: HashMap<u64, (Arc<str>, SystemTime)>,
    /// When a connection of each device was last closed.
    closed: HashMap<Arc<str>, SystemTime>,
    of_several: u64,
}

impl DeviceCounts {
    fn finish(mut self) -> Vec<DeviceReport> {
        let undecided: Vec<_> = self.undecided.keys().copied().collect();
        for conn in undecided {
            self.decide(conn);
        }
        self.devices.into_values().collect()
    }

    fn device(&mut self, name: &str, time: SystemTime) -> &mut DeviceReport {
        let device = self.devices.entry(name.to_owned());
        device.or_insert_with(|| DeviceReport::new(name, time))
    }

    /// The device of a connection has connected when it was opened.
    fn decide(&mut self, conn: u64) {
        if let Some((name, time)) = self.undecided.remove(&conn) {
            seen(self.device(&name, time), time);
        }
    }

    fn closed(&mut self, name: &Arc<str>, time: SystemTime, reason: CloseReason) {
        let last = self.closed.entry(Arc::clone(name)).or_insert(time);
        if *last <= time {
            *last = time;
            self.device(name, time).last_close = Some(reason.as_str().to_owned());
        }
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
            seen(self.device(name, time), time);
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
        let conn = event.source.conn;
        match &event.kind {
            EventKind::Opened { .. } => {
                // One with the same number was of a daemon that did not close it.
                self.decide(conn);
                let undecided = (Arc::clone(&event.source.device), time);
                self.undecided.insert(conn, undecided);
                self.device(name, time).connections_total += 1;
            }
            EventKind::Batch { batch, .. } => {
                self.decide(conn);
                let device = self.device(name, time);
                Self::batch(device, batch);
                if !batch.is_cut() {
                    seen(device, time);
                }
            }
            EventKind::Session(opened) => {
                self.undecided.remove(&conn);
                self.renamed(&opened.former, name, time);
            }
            EventKind::Closed { reason, .. } => {
                self.decide(conn);
                self.closed(&event.source.device, time, *reason);
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use blocksd_engine::event::{ConnectionInfo, Encoding, Peer, SessionOpened};
    use blocksd_engine::session::HelloKind;
    use framing_core::{AnyFraming, Blocks};

    fn event(at_s: u64, conn: u64, device: &str, kind: EventKind) -> Event {
        let source = ConnectionInfo {
            conn,
            device: device.into(),
            framing: AnyFraming::Blocks(Blocks),
            encoding: Encoding::default(),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        };
        Event {
            source: Arc::new(source),
            time: UNIX_EPOCH + Duration::from_secs(at_s),
            kind,
        }
    }

    fn opened() -> EventKind {
        EventKind::Opened {
            peer: Peer::Local("x".into()),
        }
    }

    fn session(former: &str) -> EventKind {
        EventKind::Session(Box::new(SessionOpened {
            former: former.into(),
            kind: HelloKind::Began,
            resume: 0,
            held: 0,
            lost: 0,
            room: 0,
            uptime_us: 0,
        }))
    }

    fn closed(reason: CloseReason) -> EventKind {
        EventKind::Closed {
            reason,
            messages: 0,
            bytes: 0,
            series_open: false,
        }
    }

    fn seen(events: Vec<Event>) -> Vec<(String, u64, u64, Option<String>)> {
        let mut counts = DeviceCounts::default();
        for event in events {
            counts.event(&event).expect("counted");
        }
        let at_s = |time: Time| time.0.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let devices = counts.finish().into_iter().map(|device| {
            let last_seen = at_s(device.last_seen);
            (
                device.device,
                device.connections_total,
                last_seen,
                device.last_close,
            )
        });
        devices.collect()
    }

    #[test]
    fn a_session_leaves_the_plain_device_of_its_address_as_it_was() {
        let found = seen(vec![
            event(1, 1, "ip", opened()),
            event(2, 1, "ip", closed(CloseReason::Eof)),
            event(3, 2, "ip", opened()),
            event(4, 2, "boiler", session("ip")),
            event(5, 2, "boiler", closed(CloseReason::Reset)),
            // After a crash of the daemon.
            event(6, 3, "other", opened()),
            event(7, 3, "idle", opened()),
        ]);
        let text = |text: &str| text.to_owned();
        assert_eq!(
            found,
            [
                (text("boiler"), 1, 4, Some(text("reset"))),
                (text("idle"), 1, 7, None),
                (text("ip"), 1, 1, Some(text("eof"))),
                (text("other"), 1, 6, None),
            ]
        );
    }

    #[test]
    fn the_last_close_is_the_latest_in_any_order_of_recordings() {
        let close = |at_s, reason| event(at_s, 1, "ip", closed(reason));
        for events in [
            vec![close(1, CloseReason::Eof), close(2, CloseReason::Reset)],
            vec![close(2, CloseReason::Reset), close(1, CloseReason::Eof)],
        ] {
            assert_eq!(seen(events)[0].3.as_deref(), Some("reset"));
        }
    }
}
