//! The result of an audit: an [`AuditedSession`], whose `Display` is one line.

use std::fmt;

use crate::recorded::journal::numbers::NumberSet;
use blocksd_engine::session::GapCause;

/// Ranges that a line lists.
const LISTED_MAX: usize = 3;

/// The findings of an audit about a session.
#[derive(Clone, Debug, Default)]
pub struct AuditedSession {
    /// The device.
    pub device: String,
    /// The session.
    pub session: u64,
    /// The smallest number that is found. `None` if only snapshots name the session.
    pub first: Option<u64>,
    /// The number after the largest one that is found, or that a snapshot names.
    pub next: u64,
    /// Time of the last message, in nanoseconds since 1970.
    pub last_time_ns: Option<u64>,
    /// Numbers with a message.
    pub(crate) messages: NumberSet,
    /// Numbers with a gap and no message, in the order of [`GapCause::ALL`].
    pub(crate) gaps: [NumberSet; 3],
    /// Numbers with neither.
    pub(crate) missing: NumberSet,
    /// Numbers with neither, which may be in files that were not given.
    pub(crate) elsewhere: NumberSet,
    /// Numbers with neither, before which the host had forgotten the session.
    pub(crate) forgotten: NumberSet,
    /// Numbers with two messages.
    pub(crate) twice: NumberSet,
    /// The same, one of them in a file that is not repaired.
    pub(crate) twice_unrepaired: NumberSet,
    /// The same, in two folders.
    pub(crate) twice_elsewhere: NumberSet,
    /// The same, after the host had forgotten the session.
    pub(crate) twice_forgotten: NumberSet,
    /// The same, one of them after a lost part of a file.
    pub(crate) twice_after_loss: NumberSet,
}

impl AuditedSession {
    /// Returns whether every number is there once, or explained.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.missing.is_empty() && self.twice.is_empty()
    }

    /// Returns the count of numbers with a message.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.count()
    }

    /// Returns the count of numbers that are missing without an explanation.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing.count()
    }

    /// Returns the count of numbers with two messages, without an explanation.
    #[must_use]
    pub fn twice(&self) -> u64 {
        self.twice.count()
    }

    /// Iterates over the causes of gaps, with the counts of gaps and of their numbers.
    pub fn gaps(&self) -> impl Iterator<Item = (GapCause, u64, u64)> {
        let sets = GapCause::ALL.into_iter().zip(&self.gaps);
        sets.map(|(cause, set)| (cause, set.range_count() as u64, set.count()))
    }
}

impl fmt::Display for AuditedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            device,
            session,
            first,
            next,
            ..
        } = self;
        write!(f, "session {device} {session:016x}: ")?;
        let last = next.saturating_sub(1);
        match first {
            None => return write!(f, "nothing but its next number, {next}"),
            Some(first) => write!(f, "{first} to {last}")?,
        }
        for (cause, gaps, numbers) in self.gaps() {
            if gaps != 0 {
                let plural = if gaps == 1 { "" } else { "s" };
                let messages = if numbers == 1 { "" } else { "s" };
                write!(
                    f,
                    ", {gaps} gap{plural} of {numbers} message{messages} ({})",
                    cause.as_str()
                )?;
            }
        }
        let explained = [
            &self.twice_unrepaired,
            &self.twice_elsewhere,
            &self.twice_forgotten,
            &self.twice_after_loss,
        ];
        let is_explained = explained.iter().any(|set| !set.is_empty());
        for (set, what, is_elsewhere) in [
            (&self.missing, "missing", false),
            (&self.twice, "twice", is_explained),
        ] {
            match set.is_empty() {
                // What follows says which.
                true if is_elsewhere => {}
                true => write!(f, ", nothing {what}")?,
                false => write!(f, ", {} {what}: {}", set.count(), listed(set))?,
            }
        }
        for (set, what) in [
            (&self.twice_unrepaired, "twice, not repaired yet"),
            (&self.twice_elsewhere, "twice, in two folders"),
            (
                &self.twice_forgotten,
                "twice, since the host had forgotten the session",
            ),
            (&self.twice_after_loss, "twice, after a lost part"),
            (&self.elsewhere, "not in these files"),
            (
                &self.forgotten,
                "not here, since the host had forgotten the session",
            ),
        ] {
            if !set.is_empty() {
                write!(f, "; {} {what}: {}", set.count(), listed(set))?;
            }
        }
        Ok(())
    }
}

/// The first ranges of a set, in words.
fn listed(set: &NumberSet) -> impl fmt::Display {
    fmt::from_fn(|f| {
        for (count, (from, to)) in set.ranges().take(LISTED_MAX).enumerate() {
            let comma = if count == 0 { "" } else { ", " };
            match to - from {
                1 => write!(f, "{comma}{from}")?,
                _ => write!(f, "{comma}{from} to {}", to - 1)?,
            }
        }
        match set.range_count().saturating_sub(LISTED_MAX) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u64, u64)]) -> NumberSet {
        let mut set = NumberSet::default();
        ranges
            .iter()
            .for_each(|(from, to)| set.insert(*from, *to, |_, _| {}));
        set
    }

    #[test]
    fn a_session_is_a_line() {
        let mut session = AuditedSession {
            device: "boiler".to_owned(),
            session: 0x9f3a,
            next: 100,
            ..AuditedSession::default()
        };
        assert_eq!(
            session.to_string(),
            "session boiler 0000000000009f3a: nothing but its next number, 100"
        );
        session.first = Some(3);
        session.gaps[0] = set(&[(5, 9), (20, 21)]);
        session.gaps[1] = set(&[(30, 31)]);
        assert!(session.is_sound());
        assert_eq!(
            session.to_string(),
            "session boiler 0000000000009f3a: 3 to 99, 2 gaps of 5 messages (device), 1 gap of 1 message (refused), \
             nothing missing, nothing twice"
        );
        session.missing = set(&[(40, 41), (50, 52), (60, 61), (70, 71), (80, 81)]);
        session.twice_unrepaired = set(&[(90, 100)]);
        assert!(!session.is_sound());
        assert!(session.to_string().ends_with(
            ", 6 missing: 40, 50 to 51, 60, and 2 more; 10 twice, not repaired yet: 90 to 99"
        ));
    }
}
