//! The files of a recording, whether a place is in one of them ([`KnownFiles`]), and how a file is replaced ([`replace`]).

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use blocksd_recording::FileNonce;
use blocksd_recording::catalog::{list_directory, nonce, number};

use crate::place::Place;

/// Lists the numbers and nonces of the files that a recording has now. `None` if it cannot be listed.
type ListFiles = Box<dyn FnMut() -> Option<Vec<(u64, FileNonce)>> + Send>;

/// The files that a recording has, or had since the start.
pub(crate) struct KnownFiles {
    list: ListFiles,
    nonces: BTreeMap<u64, Vec<FileNonce>>,
}

impl KnownFiles {
    /// Those of a folder.
    pub(crate) fn of(folder: PathBuf) -> Self {
        Self::new(move || list(&folder))
    }

    /// Those that a function lists.
    pub(crate) fn new(
        list: impl FnMut() -> Option<Vec<(u64, FileNonce)>> + Send + 'static,
    ) -> Self {
        Self {
            list: Box::new(list),
            nonces: BTreeMap::new(),
        }
    }

    /// Whether a place that the identity of this recording has reached in a stream can be one of this recording. If not, another
    /// recording has the same identity: one of them is a copy.
    ///
    /// The file of the place is, or was, in the recording. Where no file has its number, because it was deleted, later ones have higher
    /// numbers.
    pub(crate) fn have(&mut self, place: &Place) -> bool {
        if self.is_known(place) || self.is_deleted(place) {
            return true;
        }
        for (number, nonce) in (self.list)().unwrap_or_default() {
            let nonces = self.nonces.entry(number).or_default();
            if !nonces.contains(&nonce) {
                nonces.push(nonce);
            }
        }
        self.is_known(place) || self.is_deleted(place)
    }

    /// The files that the recording has now. `None` if they cannot be listed.
    pub(crate) fn now(&mut self) -> Option<Vec<(u64, FileNonce)>> {
        (self.list)()
    }

    fn is_known(&self, place: &Place) -> bool {
        let nonces = self.nonces.get(&place.number);
        nonces.is_some_and(|it| it.contains(&place.nonce))
    }

    /// Whether there are later files than that of a place, and none of its number.
    fn is_deleted(&self, place: &Place) -> bool {
        let newest = self.nonces.last_key_value();
        let is_older = newest.is_some_and(|(newest, _)| place.number < *newest);
        is_older && !self.nonces.contains_key(&place.number)
    }
}

/// The numbers and nonces of the files in a folder. `None` if it cannot be listed.
pub(crate) fn list(folder: &Path) -> Option<Vec<(u64, FileNonce)>> {
    let listed = list_directory(folder).ok()?;
    let files = listed.iter().map(|it| &it.path);
    let named = files.filter_map(|path| Some((number(path), nonce(path)?)));
    Some(named.collect())
}

/// The first numbers that no file has although later ones do: after the file that is read first, or from 1 on.
pub(crate) fn missing(
    files: &[(u64, FileNonce)],
    first: Option<u64>,
) -> Option<RangeInclusive<u64>> {
    let first = first.unwrap_or(0);
    let mut numbers: Vec<_> = files.iter().map(|it| it.0).chain([first]).collect();
    numbers.retain(|it| first <= *it);
    numbers.sort_unstable();
    numbers.windows(2).find_map(|pair| match pair {
        [before, after] if before + 1 < *after => Some(before + 1..=after - 1),
        _ => None,
    })
}

/// Replaces a file in one step, after its content is on the disk.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".blocksd-forward-")
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn place(number: u64, nonce: FileNonce) -> Place {
        Place {
            number,
            nonce,
            messages: 5,
            bytes: 0,
        }
    }

    #[test]
    fn a_place_is_of_the_recording_if_its_file_is_or_was() {
        let [old, new, other] = [(); 3].map(|()| FileNonce::new());
        let listed = Arc::new(Mutex::new(vec![(3, old), (5, new)]));
        let lists = Arc::new(Mutex::new(0));
        let (shown, counted) = (Arc::clone(&listed), Arc::clone(&lists));
        let mut files = KnownFiles::new(move || {
            *counted.lock().unwrap() += 1;
            Some(shown.lock().unwrap().clone())
        });
        assert!(files.have(&place(5, new)));
        assert!(!files.have(&place(5, other)));
        // Deleted files.
        assert!(files.have(&place(2, other)));
        assert!(files.have(&place(4, other)));
        // Listed for the first place, and for that of another recording.
        assert_eq!(*lists.lock().unwrap(), 2);
        // Files that this recording has not made yet.
        assert!(!files.have(&place(6, other)));
        listed.lock().unwrap().push((6, other));
        listed.lock().unwrap().retain(|(number, _)| *number != 3);
        assert!(files.have(&place(6, other)));
        assert!(files.have(&place(3, old)));
        assert!(!files.have(&place(3, other)));
    }

    #[test]
    fn missing_numbers_are_between_files() {
        let files = |numbers: &[u64]| -> Vec<_> {
            numbers.iter().map(|it| (*it, FileNonce::new())).collect()
        };
        assert_eq!(missing(&[], None), None);
        assert_eq!(missing(&[], Some(3)), None);
        assert_eq!(missing(&files(&[2, 3, 1, 2]), None), None);
        assert_eq!(missing(&files(&[4, 3, 5, 5]), None), Some(1..=2));
        assert_eq!(missing(&files(&[9, 3, 4, 7]), Some(3)), Some(5..=6));
        assert_eq!(missing(&files(&[9, 3, 4, 7]), Some(7)), Some(8..=8));
        assert_eq!(missing(&files(&[9, 3, 4, 7]), Some(9)), None);
    }

    #[test]
    fn a_recording_without_files_has_no_place() {
        let mut files = KnownFiles::new(|| Some(Vec::new()));
        assert!(!files.have(&place(1, FileNonce::new())));
    }
}
