//! A table of sessions, with a value for each: a [`SessionTable`].

use std::collections::HashMap;
use std::sync::Arc;

/// Sessions in the order in which they were added. Equal sessions of two devices are two sessions.
#[derive(Debug)]
pub(crate) struct SessionTable<T> {
    sessions: Vec<TableRow<T>>,
    /// Places in `sessions` by device, then by session.
    places: HashMap<Arc<str>, HashMap<u64, usize>>,
}

/// A session, and its value.
#[derive(Debug)]
pub(crate) struct TableRow<T> {
    pub(crate) device: Arc<str>,
    pub(crate) session: u64,
    pub(crate) value: T,
}

impl<T> Default for SessionTable<T> {
    fn default() -> Self {
        Self {
            sessions: Vec::new(),
            places: HashMap::new(),
        }
    }
}

impl<T: Default> SessionTable<T> {
    /// Returns the place of a session. Adds it if it is new.
    pub(crate) fn place(&mut self, device: &str, session: u64) -> usize {
        if let Some(place) = self.places.get(device).and_then(|it| it.get(&session)) {
            return *place;
        }
        let device = match self.places.get_key_value(device) {
            Some((device, _)) => Arc::clone(device),
            None => device.into(),
        };
        let place = self.sessions.len();
        let of_device = self.places.entry(Arc::clone(&device)).or_default();
        of_device.insert(session, place);
        self.sessions.push(TableRow {
            device,
            session,
            value: T::default(),
        });
        place
    }
}

impl<T> SessionTable<T> {
    /// Returns the value at a place.
    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.sessions.get_mut(place).map(|row| &mut row.value)
    }

    /// Returns the count of the sessions.
    pub(crate) const fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Iterates over the sessions.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut TableRow<T>> {
        self.sessions.iter_mut()
    }

    /// Returns the sessions, ordered by device and number.
    pub(crate) fn into_sorted(mut self) -> Vec<TableRow<T>> {
        self.sessions
            .sort_by(|a, b| (&a.device, a.session).cmp(&(&b.device, b.session)));
        self.sessions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_that_of_a_device() {
        let mut table = SessionTable::<u32>::default();
        let places = [("b", 1), ("a", 2), ("b", 1), ("a", 1)]
            .map(|(device, session)| table.place(device, session));
        assert_eq!(places, [0, 1, 0, 2]);
        *table.get_mut(2).unwrap() = 7;
        assert!(table.get_mut(3).is_none());
        let sorted = table.into_sorted();
        let sorted = sorted.iter().map(|it| (&*it.device, it.session, it.value));
        assert!(sorted.eq([("a", 1, 7), ("a", 2, 0), ("b", 1, 0)]));
    }
}
