//! The statements of the files of a folder about its torn files, before any of them is repaired: [`Plan::of`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::check::set_aside::Confirmed;
use crate::check::survey::Survey;
use crate::error::Error;
use crate::format::filename::{self, Suffix};
use crate::format::nonce::FileNonce;
use crate::format::private::{VoidedFile, is_numbered};
use crate::read::catalog::entries;
use crate::read::scan::{Found, Scan};
use crate::read::window::WindowedFile;

/// Parts of a file that are read to find its first chunk.
const PARTS_MAX: usize = 3;

/// The torn files of a folder, and which of their messages are confirmed.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order of their names.
    pub torn: Vec<(PathBuf, Confirmed)>,
    /// The last file must be repaired first. An earlier file that is not whole decides about the messages of a later one, and
    /// is whole after its own repair.
    pub is_backwards: bool,
}

impl Plan {
    /// Looks at the torn files of a folder, and at the heads of the files after them.
    ///
    /// # Errors
    /// [`Error::Read`] if the folder cannot be read.
    pub(super) fn of(directory: &Path) -> Result<Self, Error> {
        let paths = entries(directory)?;
        let named = paths.into_iter().filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let (number, suffix) = (filename::number(name)?, filename::suffix(name)?);
            let is_torn = suffix == Suffix::Part;
            (is_torn || suffix == Suffix::Sealed).then_some((number, is_torn, path))
        });
        let mut named: Vec<_> = named.collect();
        let is_torn = |(_, is_torn, _): &(u64, bool, PathBuf)| *is_torn;
        let torn = named.iter().filter(|it| is_torn(it));
        let mut plan = Self {
            torn: torn
                .map(|(.., path)| (path.clone(), Confirmed::Unknown))
                .collect(),
            is_backwards: false,
        };
        let first = named.iter().filter(|it| is_torn(it)).map(|it| it.0).min();
        let has_original = |sealed: &Path| {
            let mut torn = plan.torn.iter();
            torn.any(|(torn, _)| torn.with_extension("") == *sealed)
        };
        // Both are there if a repair was interrupted before it removed the original.
        named.retain(|(number, is_torn, path)| {
            first.is_some_and(|first| first <= *number) && (*is_torn || !has_original(path))
        });
        named.sort();
        let mut voided = HashMap::<FileNonce, u64>::new();
        let mut renews = Vec::new();
        for (.., path) in &named {
            let voids = voided_by(path);
            renews.push(!voids.is_empty());
            for VoidedFile { nonce, synced_len } in voids {
                let len = voided.entry(nonce).or_insert(synced_len);
                *len = synced_len.min(*len);
            }
        }
        let is_single = plan.torn.len() < 2;
        let mut is_hole = false;
        for ((_, is_torn, path), renews) in named.iter().zip(renews) {
            // In one epoch, no file is sealed before those that were begun earlier.
            is_hole &= *is_torn && !renews;
            if !is_torn {
                continue;
            }
            let nonce = path
                .file_name()
                .and_then(|name| filename::nonce(name.to_str()?));
            let void = nonce.and_then(|nonce| voided.get(&nonce));
            let content = if is_single {
                None
            } else {
                Some(Content::of(path))
            };
            let confirmed = match void {
                Some(len) => Confirmed::Below(*len),
                None if is_hole && content.is_some_and(|it| it.is_numbered) => {
                    plan.is_backwards = true;
                    Confirmed::Synced
                }
                None => Confirmed::Unknown,
            };
            is_hole |= void.is_none() && content.is_some_and(|it| !it.is_whole);
            plan.set(path, confirmed);
        }
        Ok(plan)
    }

    fn set(&mut self, path: &Path, confirmed: Confirmed) {
        let torn = self.torn.iter_mut().find(|(torn, _)| torn == path);
        if let Some((_, of_file)) = torn {
            *of_file = confirmed;
        }
    }
}

/// What is in a torn file.
#[derive(Clone, Copy, Debug)]
struct Content {
    is_whole: bool,
    is_numbered: bool,
}

impl Content {
    /// A file that cannot be read is not whole. Pipes, folders and dangling links are not files of the recording.
    fn of(path: &Path) -> Self {
        let is_file = path.is_file();
        let survey = is_file.then(|| WindowedFile::open(path).and_then(|it| Survey::of(&it)));
        let survey = survey.and_then(Result::ok);
        let survey = survey.as_ref();
        Self {
            is_whole: survey.map_or(!is_file, |it| it.is_whole || !it.is_ours),
            is_numbered: survey
                .is_some_and(|it| it.is_ours && it.definitions.channels().any(is_numbered)),
        }
    }
}

/// The files that the head of a file declares void. None if it cannot be read, which its own repair reports.
fn voided_by(path: &Path) -> Vec<VoidedFile> {
    // Opening a pipe would block.
    if !path.is_file() {
        return Vec::new();
    }
    let Ok(input) = WindowedFile::open(path) else {
        return Vec::new();
    };
    let mut scan = Scan::new(input, None, false);
    for _ in 0..PARTS_MAX {
        match scan.advance() {
            Ok(Some(Found::Chunk(chunk))) => return VoidedFile::of_chunk(chunk.records).collect(),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    Vec::new()
}
