//! The state of everything, and the steps from it.

use crate::device::{Device, Up};
use crate::disk::{File, FileState, Head};
use crate::host::{Connection, Host, acked};
use crate::{Bounds, Mutant};

/// Connections at a time, also those that only one end knows.
const CONNECTIONS_MAX: usize = 2;
/// Frames on the way up in one connection.
const UP_MAX: usize = 3;
/// Records in the queue to the writer.
const QUEUE_MAX: usize = 2;

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) device: Device,
    pub(crate) conns: Vec<Connection>,
    pub(crate) host: Host,
    pub(crate) files: Vec<File>,
    /// The number of each value.
    pub(crate) numbers: [u8; 8],
    /// Connections so far.
    accepted: u8,
    pub(crate) broken: Broken,
    pub(crate) left: Left,
}

/// A failed sync that not all parts of the host know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    Nothing,
    /// The writer has to set the sessions back.
    Reported,
    /// The syncer has to report it, of the file with this index.
    Unreported(usize),
}

/// How often each interruption can still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub(crate) cuts: u8,
    pub(crate) rotations: u8,
    pub(crate) sync_failures: u8,
    pub(crate) kills: u8,
    pub(crate) powers: u8,
    pub(crate) forgets: u8,
    pub(crate) reboots: u8,
}

pub(crate) type Steps = Vec<(&'static str, State)>;

impl State {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            device: Device::new(bounds),
            conns: Vec::new(),
            host: Host::default(),
            files: Vec::new(),
            numbers: [0; 8],
            accepted: 0,
            broken: Broken::Nothing,
            left: Left {
                cuts: bounds.cuts,
                rotations: bounds.rotations,
                sync_failures: bounds.sync_failures,
                kills: bounds.kills,
                powers: bounds.powers,
                forgets: bounds.forgets,
                reboots: bounds.reboots,
            },
        }
    }

    /// All steps from this state.
    pub(crate) fn steps(
        &self,
        bounds: &Bounds,
        mutant: Option<Mutant>,
        out: &mut Steps,
    ) -> Result<(), String> {
        self.device_steps(bounds, mutant, out)?;
        self.connection_steps(mutant, out)?;
        self.writer_steps(mutant, out);
        self.syncer_steps(mutant, out);
        self.interruptions(bounds, mutant, out);
        Ok(())
    }

    /// Whether a failed sync of this file is not reported yet.
    pub(crate) fn is_broken_later(&self, file: usize) -> bool {
        self.broken == Broken::Unreported(file)
    }

    fn device_steps(
        &self,
        bounds: &Bounds,
        mutant: Option<Mutant>,
        out: &mut Steps,
    ) -> Result<(), String> {
        let can_make = self.device.made < bounds.messages;
        if can_make && let Some(device) = self.device.make(bounds) {
            self.step("make", out, |next| {
                let number = self.device.made - self.device.base;
                next.numbers[usize::from(self.device.made)] = number;
                next.device = device;
            });
        }
        let has_work = can_make || !self.device.sender.is_settled();
        let Some(id) = self.device.conn else {
            if has_work && self.conns.len() < CONNECTIONS_MAX {
                self.step("connect", out, |next| {
                    next.accepted += 1;
                    let hello = next.device.hello(bounds);
                    let conn = Connection::new(next.accepted, hello);
                    next.conns.push(conn);
                    next.device.conn = Some(next.accepted);
                });
            }
            return Ok(());
        };
        let Some(at) = self.conns.iter().position(|conn| conn.id == id) else {
            return Err("the device has a connection that nobody knows".to_owned());
        };
        let conn = &self.conns[at];
        if conn.host && conn.up.len() < UP_MAX {
            let mut next = self.clone();
            if let Some(sent) = next.device.send() {
                next.conns[at].up.extend(sent);
                out.push(("send", next));
            }
        }
        if let Some(frame) = conn.down.first() {
            let mut next = self.clone();
            next.conns[at].down.remove(0);
            next.device
                .hear(frame, mutant, |value| self.is_decided(value))?;
            next.leave(id);
            out.push(("hear", next.tidied()));
        } else if !conn.host {
            self.step("notice", out, |next| {
                next.device.close();
                next.leave(id);
            });
        }
        if self.left.cuts != 0 {
            self.step("cut", out, |next| {
                next.left.cuts -= 1;
                next.device.close();
                next.leave(id);
            });
        }
        Ok(())
    }

    fn connection_steps(&self, mutant: Option<Mutant>, out: &mut Steps) -> Result<(), String> {
        for (at, conn) in self.conns.iter().enumerate().filter(|(_, conn)| conn.host) {
            if conn.due.is_some() {
                self.step("close", out, |next| next.conns[at].close_if_due());
            }
            if !conn.device && !conn.up.is_empty() {
                self.step("lose", out, |next| next.conns[at].up.clear());
            }
            if conn.waiting.is_some() {
                if self.host.queue.len() < QUEUE_MAX {
                    self.step("place", out, |next| {
                        next.host.place(&mut next.conns[at], mutant);
                    });
                }
                continue;
            }
            let needs_place = matches!(conn.up.first(), Some(Up::Hello { .. } | Up::Cont { .. }));
            if conn.up.is_empty() || needs_place && QUEUE_MAX <= self.host.queue.len() {
                continue;
            }
            let mut next = self.clone();
            next.host.take(&mut next.conns, at, mutant)?;
            out.push(("take", next.tidied()));
        }
        Ok(())
    }

    fn writer_steps(&self, mutant: Option<Mutant>, out: &mut Steps) {
        if self.broken == Broken::Reported {
            self.step("reset", out, |next| {
                if mutant != Some(Mutant::SessionsNotReset) {
                    next.host.reset(&mut next.conns);
                }
                next.broken = Broken::Nothing;
            });
            if mutant != Some(Mutant::SyncerResetsLate) {
                return;
            }
        }
        let open = self
            .files
            .iter()
            .position(|file| file.state == FileState::Open);
        if !self.host.queue.is_empty() {
            self.step("write", out, |next| {
                if open.is_none() {
                    next.begin_file(mutant);
                }
                if let Some(record) = next.host.write(mutant) {
                    let file = next.files.last_mut().expect("a file is open");
                    file.records.push(record);
                    if mutant == Some(Mutant::AckWritten) {
                        next.acknowledge(record.session, mutant);
                    }
                }
            });
        }
        if let Some(at) = open
            && self.left.rotations != 0
            && !self.files[at].records.is_empty()
        {
            self.step("rotate", out, |next| {
                next.left.rotations -= 1;
                next.files[at].state = FileState::Ending;
            });
        }
    }

    fn begin_file(&mut self, mutant: Option<Mutant>) {
        let snapshot = self.host.sessions.iter().map(|session| {
            let next = match mutant {
                Some(Mutant::SnapshotWritten) => session.receiver.written(),
                _ => session.receiver.durable(),
            };
            (session.id, next)
        });
        let snapshot = snapshot.collect();
        let broken = self.files.iter().enumerate();
        let voids = broken
            .filter(|(_, file)| file.state == FileState::Broken)
            .map(|(at, file)| (at, file.synced))
            .collect();
        self.files.push(File::new(Head { snapshot, voids }));
    }

    fn syncer_steps(&self, mutant: Option<Mutant>, out: &mut Steps) {
        if let Broken::Unreported(at) = self.broken {
            self.step("report", out, |next| {
                next.files[at].state = FileState::Broken;
                next.broken = Broken::Nothing;
            });
            return;
        }
        let is_due = |file: &File| match file.state {
            FileState::Open => file.synced < file.records.len(),
            FileState::Ending => true,
            FileState::Sealed | FileState::Broken => false,
        };
        let Some(at) = self.files.iter().position(is_due) else {
            return;
        };
        if self.broken != Broken::Nothing {
            return;
        }
        self.step("sync", out, |next| {
            let file = &mut next.files[at];
            let synced = file.records[file.synced..].to_vec();
            file.synced = file.records.len();
            if file.state == FileState::Ending {
                file.state = FileState::Sealed;
            }
            for record in synced {
                if let Some(session) = next.host.session(record.session) {
                    session.receiver.synced(record.to);
                    next.acknowledge(record.session, mutant);
                }
            }
        });
        let can_fail = self.files[at].synced < self.files[at].records.len();
        if can_fail && self.left.sync_failures != 0 {
            self.step("fail", out, |next| {
                next.left.sync_failures -= 1;
                if mutant == Some(Mutant::SyncerResets) {
                    next.host.reset(&mut next.conns);
                    next.broken = Broken::Unreported(at);
                    return;
                }
                let later = match mutant {
                    Some(Mutant::LaterFilesKept) => at + 1,
                    _ => next.files.len(),
                };
                for file in &mut next.files[at..later] {
                    file.state = FileState::Broken;
                }
                next.broken = Broken::Reported;
            });
        }
    }

    fn acknowledge(&mut self, id: u64, mutant: Option<Mutant>) {
        let Some(session) = self.host.session(id) else {
            return;
        };
        let receiver = session.receiver;
        let owner = receiver.owner();
        let conn = self
            .conns
            .iter_mut()
            .find(|conn| Some(u64::from(conn.id)) == owner);
        if let Some(conn) = conn.filter(|conn| conn.host && conn.device) {
            conn.acknowledge(acked(&receiver, conn.next, mutant));
        }
    }

    /// The device leaves a connection, unless it still has it.
    pub(crate) fn leave(&mut self, id: u8) {
        if self.device.conn == Some(id) {
            return;
        }
        if let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) {
            conn.device = false;
        }
    }

    pub(crate) fn step(&self, name: &'static str, out: &mut Steps, change: impl FnOnce(&mut Self)) {
        let mut next = self.clone();
        change(&mut next);
        out.push((name, next.tidied()));
    }

    /// Removes what has no effect any more.
    fn tidied(mut self) -> Self {
        for conn in &mut self.conns {
            if !conn.device {
                conn.down.clear();
            }
            if !conn.host {
                conn.up.clear();
                conn.waiting = None;
                conn.due = None;
            }
            if !conn.device && conn.up.is_empty() && conn.waiting.is_none() {
                conn.host = false;
            }
        }
        let gone: Vec<_> = self
            .conns
            .iter()
            .filter(|conn| !conn.host)
            .map(|conn| conn.id)
            .collect();
        for session in &mut self.host.sessions {
            for id in &gone {
                session.receiver.closed(u64::from(*id));
            }
        }
        self.conns.retain(|conn| conn.device || conn.host);
        self
    }
}
