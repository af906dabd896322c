//! The numbers of sessions that a subject has: [`Stored`].

use std::fmt;
use std::str::FromStr;

use crate::list;

/// Digits of a session.
const SESSION_LEN: usize = 16;
/// The end of the text, after the limits have removed a run.
const CUT: &str = ",*";

/// Numbers of sessions that are in a subject, as runs without a hole.
///
/// Each message of a subject carries those of all messages up to itself. So a daemon knows which messages of a session, that it has
/// recorded, another daemon has forwarded already. The text is `SESSION=FROM-TO,…`, the newest first; TO is the number after the
/// last one. With `~` in the place of `=`, runs of the session may have been removed by the limits. A `*` at the end says that runs of
/// some session were.
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
pub struct Stored {
    /// The newest first.
    runs: Vec<Run>,
    /// The limits have removed a run.
    is_cut: bool,
}

/// Numbers of a session without a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    session: String,
    from: u64,
    /// The number after the last one.
    to: u64,
    /// The limits may have removed runs of the session.
    is_partial: bool,
}

impl Stored {
    /// Largest number of runs of one session.
    pub const SESSION_MAX: usize = 48;
    /// Largest number of runs of all other sessions.
    pub const OTHERS_MAX: usize = 16;

    /// Notes the numbers from `from` to before `to`, as the newest. Beyond the limits, those that were noted longest ago are
    /// forgotten.
    pub fn note(&mut self, session: &str, from: u64, to: u64) {
        let known = self.of(session).next().map(|it| it.is_partial);
        let mut run = Run {
            session: session.to_owned(),
            from,
            to,
            // One that is not listed and does not begin now may have been removed.
            is_partial: known.unwrap_or(self.is_cut && from != 0),
        };
        self.runs.retain(|it| {
            let touches = it.session == session && it.from <= to && from <= it.to;
            if touches {
                run.from = run.from.min(it.from);
                run.to = run.to.max(it.to);
            }
            !touches
        });
        self.runs.insert(0, run);
        let (mut own, mut others) = (0, 0);
        let is_removed = |it: &mut Run| {
            let (count, max) = match it.session == session {
                true => (&mut own, Self::SESSION_MAX),
                false => (&mut others, Self::OTHERS_MAX),
            };
            *count += 1;
            max < *count
        };
        let removed: Vec<_> = self.runs.extract_if(.., is_removed).collect();
        for removed in removed {
            self.is_cut = true;
            let rest = self.runs.iter_mut();
            let rest = rest.filter(|it| it.session == removed.session);
            rest.for_each(|it| it.is_partial = true);
        }
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

    /// Whether what it lacks of a session was certainly never noted: the limits have removed nothing of it.
    #[must_use]
    pub fn has_all(&self, session: &str) -> bool {
        let is_partial = self.of(session).next().map(|it| it.is_partial);
        !is_partial.unwrap_or(self.is_cut)
    }

    fn of(&self, session: &str) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |it| it.session == session)
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list::write(f, &self.runs, |f, run| {
            let Run {
                session, from, to, ..
            } = run;
            let sign = if run.is_partial { '~' } else { '=' };
            write!(f, "{session}{sign}{from}-{to}")
        })?;
        match self.is_cut {
            true => f.write_str(CUT),
            false => Ok(()),
        }
    }
}

impl FromStr for Stored {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (text, is_cut) = match text.strip_suffix(CUT) {
            Some(runs) => (runs, true),
            None => (text, false),
        };
        let run = |run: &str| {
            let (session, numbers) = run.split_once(['=', '~'])?;
            if !is_session(session) {
                return None;
            }
            let (from, to) = numbers.split_once('-')?;
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            let session = session.to_owned();
            (from < to).then_some(Run {
                session,
                from,
                to,
                is_partial: run.contains('~'),
            })
        };
        let runs = list::read(text, run).ok_or(())?;
        let max = Self::SESSION_MAX + Self::OTHERS_MAX;
        (runs.len() <= max)
            .then_some(Self { runs, is_cut })
            .ok_or(())
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

    #[test]
    fn a_session_that_comes_back_may_lack_what_it_had() {
        let mut stored = Stored::default();
        let session = |number: u64| format!("{number:016x}");
        stored.note(&session(0), 0, 10);
        for other in 1..=17 {
            assert!(stored.has_all(&session(0)));
            stored.note(&session(other), 0, 1);
        }
        stored.note(&session(0), 10, 15);
        stored.note(&session(18), 0, 1);
        assert!(!stored.has_all(&session(0)) && stored.has_all(&session(18)));
        let text = stored.to_string();
        let partial = format!("{}~10-15", session(0));
        assert!(text.contains(&partial) && text.ends_with(CUT), "{text}");
        assert_eq!(text.parse(), Ok(stored));
    }

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
                prop_assert_eq!(stored.runs.len(), noted.len());
                prop_assert!(noted.iter().all(|(session, from)| stored.end_of(session, *from) == Some(from + 1)));
            }
            prop_assert_eq!(stored.to_string().parse(), Ok(stored));
        }

        #[test]
        fn what_it_lacks_of_a_session_that_it_has_was_never_noted(
            runs in prop::collection::vec((0_u64..24, 1_u64..4), 0..300),
        ) {
            let mut stored = Stored::default();
            let mut noted: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); 24];
            for (session, len) in runs {
                let numbers = &mut noted[session as usize];
                // Some messages are refused. The first one is not.
                let from = numbers.last().map_or(0, |last| last + len);
                stored.note(&format!("{session:016x}"), from, from + len);
                numbers.extend(from..from + len);
                for (session, numbers) in (0..).zip(&noted) {
                    let session = &format!("{session:016x}");
                    let runs: Vec<_> = stored.before(session, u64::MAX).collect();
                    let is_whole = numbers.iter().all(|it| runs.iter().any(|(from, to)| (*from..*to).contains(it)));
                    prop_assert!(is_whole || !stored.has_all(session), "{session} of {stored}");
                    prop_assert!(stored.is_cut || stored.has_all(session));
                }
            }
        }

        #[test]
        fn a_session_has_16_digits(session in "[0-9a-gA-F]{0,40}") {
            let is_one = session.len() == 16 && session.bytes().all(|it| b"0123456789abcdef".contains(&it));
            prop_assert_eq!(format!("{session}=0-7").parse::<Stored>().is_ok(), is_one);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "([0-9a-f]{16}[=~][0-9]{1,3}-[0-9]{1,3},?){0,20}(\\*)?|[0-9a-f=~,*+-]{0,40}") {
            if let Ok(stored) = text.parse::<Stored>() {
                prop_assert!(stored.runs.len() <= Stored::SESSION_MAX + Stored::OTHERS_MAX);
            }
        }
    }
}
