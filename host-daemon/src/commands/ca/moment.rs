//! Moments in certificates, in whole seconds: [`Moment`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use x509_parser::time::ASN1Time;

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// A moment, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

impl Moment {
    /// The present moment.
    pub(super) fn now() -> Self {
        Self(Timestamp::now().as_second().max(0))
    }

    /// The moment of a certificate.
    pub(super) fn of(time: ASN1Time) -> Self {
        Self(time.timestamp())
    }

    /// The seconds since 1970.
    pub(super) const fn seconds(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// The moment this many days later.
    pub(super) fn after_days(self, days: u32) -> Self {
        Self(self.0 + i64::from(days) * DAY_S)
    }

    /// The moment this many seconds earlier, not before 1970.
    pub(super) fn before_seconds(self, seconds: i64) -> Self {
        Self((self.0 - seconds).max(0))
    }

    /// The date, for a name.
    pub(super) fn date(self) -> String {
        let text = self.to_string();
        text.split('T').next().unwrap_or_default().to_owned()
    }

    /// The moment as rcgen has it: relative to a date that it can make.
    pub(super) fn date_time<T: std::ops::Add<Duration, Output = T>>(
        self,
        of_ymd: fn(i32, u8, u8) -> T,
    ) -> T {
        of_ymd(1970, 1, 1) + Duration::from_secs(self.seconds())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Timestamp::from_second(self.0).unwrap_or(Timestamp::MAX);
        write!(f, "{time:.0}")
    }
}

impl FromStr for Moment {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time: Timestamp = text.parse()?;
        Ok(Self(time.as_second().max(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_it_is_written() {
        let moment: Moment = "2026-11-28T21:10:24Z".parse().unwrap();
        assert_eq!(moment.to_string(), "2026-11-28T21:10:24Z");
        assert_eq!(moment.date(), "2026-11-28");
        assert_eq!(moment.after_days(1).to_string(), "2026-11-29T21:10:24Z");
        let time = moment.date_time(rcgen::date_time_ymd);
        assert_eq!(time.unix_timestamp(), moment.0);
        assert_eq!(Moment(5).before_seconds(10), Moment(0));
    }
}
