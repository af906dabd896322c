//! Repairs that are interrupted at any step, and repeated.

use std::fs;
use std::path::Path;

use blocksd_recording::repair_dir;
use tempfile::TempDir;

use crate::disk::Syncs;
use crate::recorder::{Recorder, files};
use crate::repair::{Topics, damage, failed, paths, repaired, torn};

/// Copies files to a folder.
fn copy(from: &Path, to: &Path) {
    for path in paths(from) {
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn copied(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    copy(from, to.path());
    to
}

/// Repairs a folder from each state that an interrupted repair may have left. `is_backwards` says in which order the files are
/// repaired.
fn survives(before: &TempDir, is_backwards: bool) {
    let after = copied(before.path());
    repaired(after.path());
    let want = Topics::of(after.path());
    let mut torn = paths(before.path());
    torn.retain(|path| path.extension().is_some_and(|it| it == "part"));
    if is_backwards {
        torn.reverse();
    }
    for done in 0..torn.len() {
        let state = copied(before.path());
        let begun = repair_dir(state.path()).unwrap().take(done);
        assert_eq!(begun.map(Result::unwrap).count(), done);
        repaired(state.path());
        assert_eq!(Topics::of(state.path()), want, "{done} files");
        for step in 0..5 {
            let state = copied(before.path());
            for part in &torn[..done] {
                finish(state.path(), after.path(), part);
            }
            let part = state.path().join(torn[done].file_name().unwrap());
            let sealed = part.with_extension("");
            let result = after.path().join(sealed.file_name().unwrap());
            let new = sealed.with_extension("mcap.new");
            let bytes = fs::read(&result).unwrap();
            match step {
                // The copy is incomplete, complete, or has its name. The original may have its own.
                0 => fs::write(&new, &bytes[..bytes.len() / 2]).unwrap(),
                1 => fs::write(&new, &bytes).unwrap(),
                2 => fs::write(&sealed, &bytes).unwrap(),
                3 => {
                    fs::write(&sealed, &bytes).unwrap();
                    fs::write(&new, &bytes).unwrap();
                }
                _ => finish(state.path(), after.path(), &torn[done]),
            }
            repaired(state.path());
            let context = format!("{done} files and {step} steps");
            assert_eq!(Topics::of(state.path()), want, "{context}");
            let names = |folder: &Path| {
                let paths = paths(folder).into_iter();
                paths
                    .map(|path| path.file_name().unwrap().to_owned())
                    .collect::<Vec<_>>()
            };
            assert_eq!(names(state.path()), names(after.path()), "{context}");
        }
    }
}

/// Replaces a torn file by what its repair left.
fn finish(folder: &Path, after: &Path, part: &Path) {
    let part = folder.join(part.file_name().unwrap());
    for to in [part.with_extension(""), part.with_extension("lost")] {
        let result = after.join(to.file_name().unwrap());
        if result.exists() {
            fs::copy(result, to).unwrap();
        }
    }
    fs::remove_file(part).unwrap();
}

#[test]
fn a_repair_of_a_file_with_a_hole_can_be_repeated() {
    let folder = torn(true);
    damage(folder.path(), 0, 4);
    survives(&folder, false);
}

#[test]
fn a_repair_of_voided_files_can_be_repeated() {
    survives(&failed(true), false);
    survives(&failed(false), false);
}

#[test]
fn a_repair_of_files_after_one_that_is_not_whole_can_be_repeated() {
    let syncs = Syncs::held(&[]);
    let mut recorder = Recorder::new(&syncs, true);
    for _ in 0..3 {
        recorder.write(2);
        recorder.rotate();
    }
    let folder = recorder.leave();
    let first = &paths(folder.path())[0];
    let cut = files(folder.path())[0].chunks[1].0;
    let file = fs::File::options().write(true).open(first).unwrap();
    file.set_len(cut).unwrap();
    survives(&folder, true);
}
