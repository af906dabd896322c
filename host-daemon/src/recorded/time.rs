//! Times in stored events: a [`Time`].

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time as in RFC 3339, in UTC, with nine digits after the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub SystemTime);

/// Converts a time of the system's clock. A time outside of the calendar becomes the nearest one in it.
#[must_use]
pub fn timestamp(time: SystemTime) -> Timestamp {
    let nearest = match time < UNIX_EPOCH {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    };
    Timestamp::try_from(time).unwrap_or(nearest)
}

/// Nanoseconds since 1970, as in MCAP. They overflow in the year 2554.
pub(crate) fn nanoseconds(time: SystemTime) -> u64 {
    duration_nanoseconds(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The time that is this many nanoseconds after 1970.
pub(crate) fn system_time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// A duration in nanoseconds, saturated at about 584 years.
pub(crate) fn duration_nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Default for Time {
    fn default() -> Self {
        Self(UNIX_EPOCH)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.9}", timestamp(self.0))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(from)?;
        let time: Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(time.into()))
    }
}
