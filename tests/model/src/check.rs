//! What must hold in every state, and where nothing can happen any more.

use crate::Bounds;
use crate::disk::{FileState, What, value};
use crate::steps::State;

impl State {
    /// Checks the states after this one, and this one if only interruptions can follow.
    pub(crate) fn check(
        &self,
        bounds: &Bounds,
        successors: &[(&'static str, Self)],
    ) -> Result<(), String> {
        for (step, next) in successors {
            let checked = next.check_recording().and_then(|()| {
                let is_sound = !bounds.keeps_session && bounds.reboots == 0;
                match next.host.has_replaced && is_sound {
                    true => Err("REPLACED: a sound sender gets a new session".to_owned()),
                    false => Ok(()),
                }
            });
            checked.map_err(|what| format!("{what}, by {step}"))?;
        }
        match successors.iter().any(|(step, _)| is_progress(step)) {
            true => Ok(()),
            false => self.check_rest(),
        }
    }

    /// No message twice, each under its number, and nothing missing that was acknowledged.
    fn check_recording(&self) -> Result<(), String> {
        let mut seen = [None; 8];
        // A reader leaves out what a start will leave out: what is not durable of a file whose sync failed.
        let read = |at: usize| {
            let file = &self.files[at];
            let is_void = file.state == FileState::Broken || self.is_broken_later(at);
            &file.records[..if is_void { 0 } else { file.records.len() }]
        };
        for record in (0..self.files.len()).flat_map(read) {
            let Some(value) = value(record) else { continue };
            if value == u8::MAX {
                return Err("REFUSED EARLY: a message is refused that was not received".to_owned());
            }
            // After the host has forgotten a session, the recording shows that it is the same message.
            let same = (record.session, record.from);
            let before = seen[usize::from(value)].replace(same);
            if before.is_some_and(|before| before != same || !self.host.has_forgotten) {
                return Err(format!("TWICE: value {value}"));
            }
            let number = self.numbers[usize::from(value)];
            if u64::from(number) != record.from {
                let from = record.from;
                return Err(format!(
                    "MISLABELLED: value {value} is recorded as number {from}"
                ));
            }
        }
        for value in (0..8).filter(|value| self.device.acknowledged >> value & 1 != 0) {
            let records = self.files.iter().flat_map(|file| &file.records);
            if !records
                .into_iter()
                .any(|record| crate::disk::value(record) == Some(value))
            {
                return Err(format!("LOST: value {value} was acknowledged"));
            }
        }
        Ok(())
    }

    /// Everything is on the disk, or was given up.
    fn check_rest(&self) -> Result<(), String> {
        if !self.device.sender.is_settled() {
            return Err("STUCK: nothing can happen, and the device holds messages".to_owned());
        }
        for value in (0..self.device.made).filter(|value| self.device.gone >> value & 1 == 0) {
            if !self.is_decided(value) {
                return Err(format!(
                    "LOST: nothing can happen, and value {value} is nowhere"
                ));
            }
        }
        Ok(())
    }

    /// Whether a value is on the disk, as a message or as a refused one.
    pub(crate) fn is_decided(&self, value: u8) -> bool {
        let records = self.files.iter().flat_map(|file| file.durable());
        records.into_iter().any(|record| {
            record.what == What::Message(value) || record.what == What::Refused(value)
        })
    }
}

/// Whether a step is work, not an interruption.
fn is_progress(step: &str) -> bool {
    !matches!(
        step,
        "cut"
            | "rotate"
            | "fail"
            | "kill"
            | "power"
            | "forget"
            | "reboot"
            | "tick"
            | "set-clock"
            | "lose"
    )
}
