//! What can interrupt the host and the device: resets, kills, losses of power, sessions that are forgotten.

use framing_core::session::SessionReceiver;

use crate::device::check_of;
use crate::disk::{File, FileState, What, repair};
use crate::host::Session;
use crate::steps::{Broken, State, Steps};
use crate::{Bounds, Mutant};

impl State {
    pub(crate) fn interruptions(&self, bounds: &Bounds, mutant: Option<Mutant>, out: &mut Steps) {
        if self.left.reboots != 0 {
            self.step("reboot", out, |next| {
                next.left.reboots -= 1;
                let conn = next.device.conn;
                next.device.reboot(bounds, mutant);
                if let Some(id) = conn {
                    next.leave(id);
                }
            });
        }
        if mutant == Some(Mutant::ClockCompared) {
            let clock = 1 - self.device.clock;
            let step = if clock == 0 { "set-clock" } else { "tick" };
            self.step(step, out, |next| next.device.clock = clock);
        }
        if self.left.kills != 0 {
            self.step("kill", out, |next| {
                next.left.kills -= 1;
                next.restart(mutant);
            });
        }
        if self.left.powers != 0 {
            self.lose_power(mutant, out);
        }
        if self.left.forgets != 0 {
            for (at, session) in self.host.sessions.iter().enumerate() {
                let is_queued = self
                    .host
                    .queue
                    .iter()
                    .any(|queued| queued.session == session.id);
                let is_owned = session.receiver.owner().is_some_and(|owner| {
                    self.conns
                        .iter()
                        .any(|conn| conn.host && u64::from(conn.id) == owner)
                });
                let is_settled = session.receiver.taken() == session.receiver.durable();
                if !is_owned && !is_queued && (is_settled || mutant == Some(Mutant::ForgottenEarly))
                {
                    self.step("forget", out, |next| {
                        next.left.forgets -= 1;
                        next.host.sessions.remove(at);
                        next.host.has_forgotten |= is_settled;
                    });
                }
            }
        }
    }

    /// Loses any part of what is not synced.
    fn lose_power(&self, mutant: Option<Mutant>, out: &mut Steps) {
        let unsynced: Vec<(usize, usize)> = self
            .files
            .iter()
            .enumerate()
            .flat_map(|(at, file)| {
                (file.durable().len()..file.records.len()).map(move |index| (at, index))
            })
            .collect();
        let has_heads = self.files.iter().any(File::has_unsynced_head);
        if 5 < unsynced.len() {
            return;
        }
        for mask in 0..1_u32 << (unsynced.len() + usize::from(has_heads)) {
            self.step("power", out, |next| {
                next.left.powers -= 1;
                if mask >> unsynced.len() != 0 {
                    for file in next
                        .files
                        .iter_mut()
                        .filter(|file| file.has_unsynced_head())
                    {
                        file.head = None;
                    }
                }
                let mut kept: Vec<_> = self
                    .files
                    .iter()
                    .map(|file| file.durable().to_vec())
                    .collect();
                for (bit, (at, index)) in unsynced.iter().enumerate() {
                    if mask >> bit & 1 != 0 {
                        kept[*at].push(self.files[*at].records[*index]);
                    }
                }
                for (file, records) in next.files.iter_mut().zip(kept) {
                    file.synced = file.durable().len();
                    file.records = records;
                    file.believed = usize::MAX;
                }
                next.restart(mutant);
            });
        }
    }

    /// Starts the host again: repairs the recording, and reads the sessions from it.
    fn restart(&mut self, mutant: Option<Mutant>) {
        for conn in &mut self.conns {
            conn.host = false;
        }
        let taken: Vec<_> = self
            .host
            .sessions
            .iter()
            .map(|it| (it.id, it.receiver.taken()))
            .collect();
        let clocks: Vec<_> = self
            .host
            .sessions
            .iter()
            .map(|it| (it.id, it.clock))
            .collect();
        let mut sessions = repair(&mut self.files, mutant);
        if mutant == Some(Mutant::NumbersFirst) {
            for (id, next) in taken {
                match sessions.iter_mut().find(|session| session.0 == id) {
                    Some(session) => session.1 = session.1.max(next),
                    None => sessions.push((id, next)),
                }
            }
        }
        let records: Vec<_> = self
            .files
            .iter()
            .flat_map(|file| file.records.clone())
            .collect();
        self.host.queue.clear();
        self.host.sessions = sessions
            .into_iter()
            .map(|(id, next)| {
                let last = records
                    .iter()
                    .rfind(|record| record.session == id && record.to == next);
                let check = last.map_or(0, |record| match record.what {
                    What::Message(value) => check_of(value),
                    What::Refused(_) | What::Gap => 0,
                });
                let clock = clocks
                    .iter()
                    .find(|known| known.0 == id)
                    .map_or(0, |known| known.1);
                Session {
                    id,
                    receiver: SessionReceiver::recovered(next, check),
                    begins: false,
                    clock,
                }
            })
            .collect();
        self.broken = Broken::Nothing;
    }
}

impl File {
    fn has_unsynced_head(&self) -> bool {
        self.synced == 0 && self.state != FileState::Sealed
    }
}
