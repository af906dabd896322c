//! Writes the events that the [budget](crate::recorded::budget) holds back: late opens, short runs of empty messages,
//! counts.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use framing_core::{AnyFraming, Blocks};

use crate::recorded::budget::Held;
use crate::recorded::counters::SuppressedKind;
use crate::recorded::note::Note;
use crate::recorded::time::nanoseconds;
use crate::recorded::to_log::{Conn, EventWriter, append_block, events_channel};
use blocksd_engine::event::{ConnectionInfo, Encoding, Event, EventKind, Suppressed};
use blocksd_recording::LogError;

impl EventWriter {
    /// Writes the held events that belong before a payload: the open, if it is paid for, and the empty messages.
    /// `blocks` is the next sequence number.
    pub(super) fn before_payload(
        &mut self,
        conn: &mut Conn,
        blocks: &mut u32,
        time: SystemTime,
    ) -> Result<(), LogError> {
        let has_open =
            conn.account.is_open_held() && self.budget.pay_open(&mut conn.account, Instant::now);
        if !has_open && !conn.account.has_empties() {
            return Ok(());
        }
        let Some(mut held) = conn.account.take() else {
            return Ok(());
        };
        if has_open {
            self.write_open(&mut held)?;
        }
        if held.sums.empty != 0 {
            self.write_empties(conn, &mut held, blocks)?;
        }
        if held.sums.empty != 0 {
            self.write_counts(&mut held, blocks, time)?;
        }
        conn.account.put_back(held);
        Ok(())
    }

    /// Writes all held events of a connection.
    pub(super) fn write_held(
        &mut self,
        conn: &mut Conn,
        blocks: &mut u32,
        time: SystemTime,
    ) -> Result<(), LogError> {
        let Some(mut held) = conn.account.take() else {
            return Ok(());
        };
        self.write_open(&mut held)?;
        self.write_empties(conn, &mut held, blocks)?;
        self.write_counts(&mut held, blocks, time)
    }

    /// Writes the held events of each connection for which there are tokens, and the counts of connections that are
    /// not recorded. With `last`, at the end of the recording, writes everything.
    pub(super) fn write_sums(&mut self, last: bool) -> Result<(), LogError> {
        let (now, time) = (Instant::now(), SystemTime::now());
        let held = self.conns.iter().filter(|(_, conn)| conn.account.is_held());
        let held: Vec<u64> = held.map(|(number, _)| *number).collect();
        let mut is_left = false;
        for number in held {
            // Rotate before the connection is taken: it may need new channels, which are valid in one file only.
            self.rotate_if_due()?;
            let Some(mut conn) = self.conns.get_mut(&number).map(std::mem::take) else {
                continue;
            };
            if last && conn.account.is_open_held() {
                if let Some(held) = conn.account.take() {
                    self.budget.total(&held, now);
                }
            } else if last || self.budget.pay(&mut conn.account, now) {
                let device = conn.account.device().unwrap_or_default();
                let mut blocks = self.next_block(&device);
                self.write_held(&mut conn, &mut blocks, time)?;
                if let Some(device) = self.devices.get_mut(&device) {
                    device.blocks = blocks;
                }
            } else {
                is_left = true;
            }
            self.conns.insert(number, conn);
        }
        if let Some((sums, device)) = self.budget.take_total() {
            let source = Arc::new(ConnectionInfo {
                conn: 0,
                device: device.unwrap_or_default(),
                framing: AnyFraming::Blocks(Blocks),
                encoding: Encoding::default(),
                first_seq: 0,
                session: None,
                certificate: None,
                stats: None,
            });
            self.rotate_if_due()?;
            self.write_suppressed(source, sums, time)?;
        }
        self.budget.settled(is_left, now);
        Ok(())
    }

    fn write_open(&mut self, held: &mut Held) -> Result<(), LogError> {
        let Some((peer, time)) = held.opened.take() else {
            return Ok(());
        };
        let opened = Event {
            source: Arc::clone(&held.source),
            time,
            kind: EventKind::Opened { peer: peer.clone() },
        };
        self.note(time, &Note::open(&opened, &peer))
    }

    /// Writes empty messages one by one, if they are few.
    fn write_empties(
        &mut self,
        conn: &mut Conn,
        held: &mut Held,
        blocks: &mut u32,
    ) -> Result<(), LogError> {
        let Some((first, times)) = held.take_short_run() else {
            return Ok(());
        };
        for (seq, time) in (first..).zip(times) {
            let (known, time_ns) = ((&mut conn.channels, None), nanoseconds(time));
            let (schemas, numbers) = (&self.schemas, (&mut *blocks, seq));
            let source = &held.source;
            append_block(&mut self.log, known, schemas, source, numbers, time_ns, b"")?;
        }
        Ok(())
    }

    /// Writes the counts of one connection. Empty messages among them keep their numbers, in the connection and in the
    /// topic.
    fn write_counts(
        &mut self,
        held: &mut Held,
        blocks: &mut u32,
        time: SystemTime,
    ) -> Result<(), LogError> {
        let sums = std::mem::replace(&mut held.sums, Suppressed::since(time));
        if sums.is_empty() {
            return Ok(());
        }
        if sums.empty != 0 {
            // In 32 bits, like all sequence numbers of the format.
            *blocks = blocks.wrapping_add(sums.empty as u32);
        }
        self.write_suppressed(Arc::clone(&held.source), sums, time)
    }

    fn write_suppressed(
        &mut self,
        source: Arc<ConnectionInfo>,
        sums: Suppressed,
        time: SystemTime,
    ) -> Result<(), LogError> {
        let faults = sums.faults.iter().sum();
        for (kind, count) in [
            (SuppressedKind::Connection, sums.connections),
            (SuppressedKind::Empty, sums.empty),
            (SuppressedKind::End, sums.ends),
            (SuppressedKind::Fault, faults),
            (SuppressedKind::AfterEnd, sums.after_end),
        ] {
            self.suppressed.add(kind, count);
        }
        // Count them in the file that gets the note, which may be a new one.
        self.log.channel(&mut self.events, events_channel)?;
        self.log.count(sums.empty);
        let event = Event {
            source,
            time,
            kind: EventKind::Suppressed(Box::new(sums.clone())),
        };
        self.note(time, &Note::suppressed(&event, &sums))
    }
}
