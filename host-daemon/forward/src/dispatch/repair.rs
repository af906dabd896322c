//! The state of a stream that may have gone back to an older one, and whether the lost messages are stored again: [`Repair`].

use crate::place::Place;

/// The state of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Repair {
    /// It has not gone back.
    None,
    /// It has everything up to a sequence number. The recording is being read to where it ended then.
    Reading(u64),
    /// The same. The recording ended at a place then.
    Until(u64, Option<Place>),
}

impl From<Option<u64>> for Repair {
    fn from(since: Option<u64>) -> Self {
        since.map_or(Self::None, Self::Reading)
    }
}

impl Repair {
    /// The sequence number up to which a stream that has gone back has everything.
    pub(super) const fn since(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Reading(since) | Self::Until(since, _) => Some(since),
        }
    }

    /// The recording was read, up to a place.
    pub(super) const fn caught_up(&mut self, place: Option<Place>) {
        if let Self::Reading(since) = *self {
            *self = Self::Until(since, place);
        }
    }

    /// Whether everything that was recorded before is stored, if everything before a place is: then that place can be saved.
    pub(super) fn has_repaired(self, place: Place) -> bool {
        match self {
            Self::None => true,
            Self::Reading(_) => false,
            Self::Until(_, until) => until <= Some(place),
        }
    }
}
