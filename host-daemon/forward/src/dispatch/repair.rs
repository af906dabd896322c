//! What a stream that has gone back to an older state still has, and whether the rest is stored again: [`Repair`].

use crate::place::Place;

/// The state of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Repair {
    /// It has not gone back.
    None,
    /// It has everything up to a sequence number. Not all is read that was recorded before.
    Reading(u64),
    /// The same. What was recorded before ends at a place.
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

    /// What was recorded before is read, up to a place.
    pub(super) const fn caught_up(&mut self, place: Option<Place>) {
        if let Self::Reading(since) = *self {
            *self = Self::Until(since, place);
        }
    }

    /// Whether a place can be saved, before which everything is stored: the messages of the subjects then say what is true again.
    pub(super) fn has_repaired(self, place: Place) -> bool {
        match self {
            Self::None => true,
            Self::Reading(_) => false,
            Self::Until(_, until) => until <= Some(place),
        }
    }
}
