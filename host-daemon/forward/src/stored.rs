//! The numbers of sessions that a subject has: [`Stored`].

use std::fmt;
use std::str::FromStr;

use crate::list;

/// Digits of a session.
const SESSION_LEN: usize = 16;

/// Numbers of sessions that are in a subject, as runs without a hole.
///
/// Each message of a subject carries those of all messages up to itself. So a daemon knows which messages of a session, that it has
/// recorded, another daemon has forwarded already. The text is `SESSION=FROM-TO,…`, the newest first; TO is the number after the
/// last one.
///
/// # Examples
/// ```
/// use blocksd_forward::stored::Stored;
///
/// let mut stored = Stored::default();
/// stored.note("00f3a5c7711d2e4b", 0, 40);
/// stored.note("00f3a5c7711d2e4b", 40, 50);
/// assert_eq!(stored.to_string(), "00f3a5c7711d2e4b=0-50");
/// assert_eq!(stored.end_of("00f3a5c7711d2e4b", 7), Some(50));
/// assert_eq!(stored.end_of("00f3a5c7711d2e4b", 50), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored(Vec<Run>);

/// Numbers of a session without a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    session: String,
    from: u64,
    /// The number after the last one.
    to: u64,
}

impl Stored {
    /// Largest number of runs of one session.
    pub const SESSION_MAX: usize = 48;
    /// Largest number of runs of all other sessions.
    pub const OTHERS_MAX: usize = 16;

    /// Notes the numbers from `from` to before `to`, as the newest. Beyond the limits, those that were noted longest ago are
    /// forgotten.
    pub fn note(&mut self, session: &str, from: u64, to: u64) {
        let mut run = Run {
            session: session.to_owned(),
            from,
            to,
        };
        self.0.retain(|it| {
            let touches = it.session == session && it.from <= to && from <= it.to;
            if touches {
                run.from = run.from.min(it.from);
                run.to = run.to.max(it.to);
            }
            !touches
        });
        self.0.insert(0, run);
        let (mut own, mut others) = (0, 0);
        self.0.retain(|it| {
            let (count, max) = match it.session == session {
                true => (&mut own, Self::SESSION_MAX),
                false => (&mut others, Self::OTHERS_MAX),
            };
            *count += 1;
            *count <= max
        });
    }

    /// The first number after `number` that is missing, if `number` is not.
    #[must_use]
    pub fn end_of(&self, session: &str, number: u64) -> Option<u64> {
        let mut runs = self.of(session);
        let found = runs.find(|it| it.from <= number && number < it.to);
        found.map(|it| it.to)
    }

    /// The first number after `number` that is not missing.
    #[must_use]
    pub fn next_after(&self, session: &str, number: u64) -> Option<u64> {
        let runs = self.of(session).map(|it| it.from);
        runs.filter(|from| number < *from).min()
    }

    /// The runs of a session that begin before `number`, in their order: their first numbers, and those after their last ones.
    pub fn before(&self, session: &str, number: u64) -> impl Iterator<Item = (u64, u64)> {
        let runs = self.of(session).map(|it| (it.from, it.to));
        let mut runs: Vec<_> = runs.filter(|(from, _)| *from < number).collect();
        runs.sort_unstable();
        runs.into_iter()
    }

    /// Whether what it lacks of a session was certainly never noted: the limits have removed nothing.
    #[must_use]
    pub fn has_all(&self, session: &str) -> bool {
        let count = match self.of(session).count() {
            0 => self.0.len(),
            own => own,
        };
        count < Self::OTHERS_MAX
    }

    fn of(&self, session: &str) -> impl Iterator<Item = &Run> {
        self.0.iter().filter(move |it| it.session == session)
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list::write(f, &self.0, |f, Run { session, from, to }| {
            write!(f, "{session}={from}-{to}")
        })
    }
}

impl FromStr for Stored {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let run = |run: &str| {
            let (session, numbers) = run.split_once('=')?;
            if !is_session(session) {
                return None;
            }
            let (from, to) = numbers.split_once('-')?;
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            let session = session.to_owned();
            (from < to).then_some(Run { session, from, to })
        };
        let runs = list::read(text, run).ok_or(())?;
        let max = Self::SESSION_MAX + Self::OTHERS_MAX;
        (runs.len() <= max).then_some(Self(runs)).ok_or(())
    }
}

/// Whether a text is that of a session: 16 hexadecimal digits, in one spelling.
pub(crate) fn is_session(text: &str) -> bool {
    let is_hex = |it: u8| matches!(it, b'0'..=b'9' | b'a'..=b'f');
    text.len() == SESSION_LEN && text.bytes().all(is_hex)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_stored_if_it_was_noted(
            runs in prop::collection::vec((0_u8..2, 0_u64..60, 1_u64..8), 0..14),
            asked in 0_u64..70,
        ) {
            let mut stored = Stored::default();
            let mut numbers = [BTreeSet::new(), BTreeSet::new()];
            for (session, from, len) in runs {
                stored.note(&format!("{session:016x}"), from, from + len);
                numbers[usize::from(session)].extend(from..from + len);
            }
            for (session, numbers) in (0..).zip(&numbers) {
                let session = &format!("{session:016x}");
                let mut missing = (asked..).skip_while(|it| numbers.contains(it));
                let end = missing.next().filter(|it| *it != asked);
                prop_assert_eq!(stored.end_of(session, asked), end);
                // Before a run, and not within one.
                if end.is_none() {
                    let next = numbers.range(asked..).next().copied();
                    prop_assert_eq!(stored.next_after(session, asked), next);
                }
                let before: Vec<_> = stored.before(session, asked).collect();
                prop_assert!(before.is_sorted());
                let listed = numbers.range(..asked).all(|it| before.iter().any(|(from, to)| (*from..*to).contains(it)));
                prop_assert!(listed && before.iter().all(|(from, to)| numbers.contains(from) && numbers.contains(&(to - 1))));
            }
            prop_assert_eq!(stored.to_string().parse(), Ok(stored));
        }

        #[test]
        fn the_oldest_runs_are_forgotten(runs in prop::collection::vec((0_u8..3, 0_u64..400), 0..300)) {
            let (mut stored, mut noted) = (Stored::default(), Vec::new());
            for (session, number) in runs {
                // Apart from each other.
                let (session, from) = (format!("{session:016x}"), 2 * number);
                stored.note(&session, from, from + 1);
                noted.retain(|it| *it != (session.clone(), from));
                noted.insert(0, (session.clone(), from));
                for (is_own, max) in [(true, Stored::SESSION_MAX), (false, Stored::OTHERS_MAX)] {
                    let mut left = max;
                    noted.retain(|it| {
                        if (it.0 == session) == is_own {
                            let is_kept = 0 < left;
                            left -= usize::from(is_kept);
                            return is_kept;
                        }
                        true
                    });
                }
                prop_assert_eq!(stored.0.len(), noted.len());
                prop_assert!(noted.iter().all(|(session, from)| stored.end_of(session, *from) == Some(from + 1)));
            }
            prop_assert_eq!(stored.to_string().parse(), Ok(stored));
        }

        #[test]
        fn a_session_has_16_digits(session in "[0-9a-gA-F]{0,40}") {
            let is_one = session.len() == 16 && session.bytes().all(|it| b"0123456789abcdef".contains(&it));
            prop_assert_eq!(format!("{session}=0-7").parse::<Stored>().is_ok(), is_one);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "([0-9a-f]{16}=[0-9]{1,3}-[0-9]{1,3},?){0,20}|[0-9a-f=,+-]{0,40}") {
            if let Ok(stored) = text.parse::<Stored>() {
                prop_assert!(stored.0.len() <= Stored::SESSION_MAX + Stored::OTHERS_MAX);
            }
        }
    }
}
