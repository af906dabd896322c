//! When to report that acknowledgements do not come: [`AckWait`].

use std::time::Duration;

use tokio::time::Instant;

use crate::service::log::print_status;

/// How long messages may wait for an acknowledgement before it is reported.
const PATIENCE: Duration = Duration::from_secs(5);

/// A wait for acknowledgements, which is reported once until everything is acknowledged.
#[derive(Debug, Default)]
pub(super) struct AckWait {
    /// The first number that is not acknowledged, and since when.
    since: Option<(u64, Instant)>,
    is_reported: bool,
}

impl AckWait {
    /// Notes how many messages from number `first` on are not acknowledged now. Returns when to [report](Self::report) it.
    pub(super) fn note(&mut self, first: u64, messages: u64, now: Instant) -> Option<Instant> {
        if messages == 0 {
            *self = Self::default();
            return None;
        }
        let since = match self.since {
            Some((known, since)) if known == first => since,
            _ => now,
        };
        self.since = Some((first, since));
        (!self.is_reported).then_some(since + PATIENCE)
    }

    /// Prints it.
    pub(super) fn report(&mut self, label: &str, messages: u64) {
        self.is_reported = true;
        let noun = match messages {
            1 => "message",
            _ => "messages",
        };
        print_status(format_args!(
            "blocksd: {label}waiting for the acknowledgement of {messages} {noun}; the daemon has not given it yet: \
             if it forwards with `ack = \"forwarded\"`, its cluster may be away, which its log and /readyz say"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_reported_once_until_everything_is_acknowledged() {
        let begin = Instant::now();
        let at = |s: u64| begin + Duration::from_secs(s);
        let mut wait = AckWait::default();
        assert_eq!(wait.note(1, 0, at(0)), None);
        assert_eq!(wait.note(1, 3, at(10)), Some(at(15)));
        assert_eq!(wait.note(1, 4, at(12)), Some(at(15)));
        // An acknowledgement begins the wait anew.
        assert_eq!(wait.note(2, 3, at(14)), Some(at(19)));
        wait.report("", 3);
        assert_eq!(wait.note(2, 3, at(20)), None);
        assert_eq!(wait.note(3, 2, at(21)), None);
        assert_eq!(wait.note(5, 0, at(22)), None);
        assert_eq!(wait.note(5, 1, at(30)), Some(at(35)));
    }
}
