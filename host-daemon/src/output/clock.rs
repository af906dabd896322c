//! Times of events for people: a [`Clock`].

use std::fmt;
use std::time::SystemTime;

use jiff::Zoned;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::recorded::time::timestamp;

/// Shows times in the zone of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    zone: TimeZone,
    /// The day on which the output began. Times of other days have their date.
    today: Date,
}

impl Clock {
    /// Today is the day of this call.
    pub(crate) fn new() -> Self {
        Self::at(&Zoned::now())
    }

    /// Shows times in the zone of `now`; its day is today.
    pub(crate) fn at(now: &Zoned) -> Self {
        Self {
            zone: now.time_zone().clone(),
            today: now.date(),
        }
    }

    /// The time of day, to the millisecond, preceded by the date unless that is today's.
    pub(crate) fn show(&self, time: SystemTime) -> impl fmt::Display {
        let local = timestamp(time).to_zoned(self.zone.clone());
        let format = match local.date() == self.today {
            true => "%H:%M:%S%.3f",
            false => "%Y-%m-%d %H:%M:%S%.3f",
        };
        fmt::from_fn(move |f| write!(f, "{}", local.strftime(format)))
    }

    /// The time of day, to the second.
    #[cfg(feature = "top")]
    pub(crate) fn time_of_day(&self, time: SystemTime) -> impl fmt::Display {
        let local = timestamp(time).to_zoned(self.zone.clone());
        fmt::from_fn(move |f| write!(f, "{}", local.strftime("%H:%M:%S")))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn times_of_another_day_have_their_date() {
        let at = |text: &str| SystemTime::from(text.parse::<Timestamp>().unwrap());
        let now: Zoned = "2026-11-28T03:30:00+01:00[Europe/Berlin]".parse().unwrap();
        let clock = Clock::at(&now);
        for (time, shown) in [
            ("2026-11-28T02:30:00.0015Z", "03:30:00.001"),
            ("2026-11-27T23:00:00Z", "00:00:00.000"),
            ("2026-11-27T22:59:59.999Z", "2026-11-27 23:59:59.999"),
            ("2026-11-28T23:00:00Z", "2026-11-29 00:00:00.000"),
            ("2025-11-28T02:30:00Z", "2025-11-28 03:30:00.000"),
        ] {
            assert_eq!(clock.show(at(time)).to_string(), shown);
        }
    }
}
