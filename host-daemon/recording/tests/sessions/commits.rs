//! The outcomes of commits, and what a failed sync makes void.

use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use blocksd_recording::internals::storage::{Directory, File, Folder};
use blocksd_recording::{
    Channel, ChannelSpec, Log, LogContext, LogError, LogOptions, Retention, Stats,
};
use tempfile::TempDir;

use crate::disk::{FailingFolder, Syncs};
use crate::recorder::Recorder;

#[test]
fn commits_and_seals_are_numbered_and_reported_once_in_their_order() {
    let syncs = Syncs::failing(&[]);
    let mut recorder = Recorder::new(&syncs, true);
    let (send, woken) = mpsc::channel();
    recorder.log.on_synced(move || send.send(()).unwrap());
    assert_eq!(recorder.log.next_commit(), 1);
    for number in [1, 3, 5] {
        assert_eq!(recorder.append(), number);
        assert_eq!(recorder.append_and_commit(), number);
        recorder.rotate();
        for number in number..number + 2 {
            woken.recv().unwrap();
            // The outcome comes before the call of the other function.
            let outcome = recorder.outcomes.try_recv().unwrap();
            assert_eq!((outcome.number, outcome.is_durable), (number, true));
        }
    }
    assert_eq!(recorder.append(), 7);
    assert_eq!(recorder.log.epoch(), 1);
    let (files, outcomes, _folder) = recorder.end();
    assert_eq!(outcomes, [(7, true)]);
    assert!(files.iter().all(|it| it.is_sealed && it.voided.is_empty()));
}

#[test]
fn commits_after_a_failed_one_are_not_durable_until_the_next_epoch() {
    let syncs = Syncs::held(&[1]);
    let mut recorder = Recorder::new(&syncs, true);
    for number in 1..=3 {
        assert_eq!(recorder.append_and_commit(), number);
    }
    assert!(!recorder.log.has_failed_sync());
    syncs.allow(3);
    let outcomes = [(); 3].map(|()| recorder.outcome());
    assert_eq!(outcomes, [(1, true), (2, false), (3, false)]);
    recorder.wait_for_failure();
    assert_eq!(recorder.append(), 4);
    syncs.allow(usize::MAX);
    recorder.rotate();
    assert!(!recorder.log.has_failed_sync());
    assert_eq!(recorder.log.epoch(), 2);
    assert_eq!(recorder.append(), 5);
    let (files, outcomes, _folder) = recorder.end();
    assert_eq!(outcomes, [(4, false), (5, true)]);
    let [broken, next] = files.as_slice() else {
        panic!("{files:?}");
    };
    assert!(!broken.is_sealed && next.is_sealed);
    let synced_len = broken.chunks[1].0;
    assert!(next.voided.len() == 1 && next.voided[0].0 == broken.nonce);
    // The first commit ends between its chunk and the next one: after the index.
    assert_eq!(broken.before(next.voided[0].1), [0]);
    assert_eq!(next.voided[0].1, synced_len);
}

#[test]
fn a_hastened_commit_is_due_sooner_and_the_next_one_is_not() {
    let folder = TempDir::new().unwrap();
    let options = LogOptions {
        sync_after: Duration::from_secs(1000),
        ..LogOptions::default()
    };
    let mut log = Log::open(folder.path(), options).unwrap();
    let (send, synced) = mpsc::channel();
    log.on_synced(move || send.send(()).unwrap());
    let mut channel = Channel::default();
    // Without a message, there is nothing to commit.
    log.hasten();
    for _ in 0..2 {
        let current = log.channel(&mut channel, ChannelSpec::default).unwrap();
        log.append(current, 0, 1, b"one").unwrap();
        let due = log.due().unwrap();
        log.hasten();
        assert_eq!(log.due(), Some(due - options.sync_after * 9 / 10));
        log.commit().unwrap();
        synced.recv().unwrap();
        log.hasten();
    }
    log.finish().unwrap();
}

#[test]
fn messages_that_are_written_while_a_commit_waits_do_not_belong_to_it() {
    let syncs = Syncs::held(&[1]);
    let mut recorder = Recorder::new(&syncs, true);
    recorder.append_and_commit();
    // The sync of the first commit covers this chunk, too, but nobody is told.
    recorder.append_and_commit();
    syncs.allow(usize::MAX);
    assert_eq!(
        [(); 2].map(|()| recorder.outcome()),
        [(1, true), (2, false)]
    );
    recorder.wait_for_failure();
    recorder.rotate();
    recorder.append();
    let (files, _, _folder) = recorder.end();
    assert_eq!(files[0].before(files[1].voided[0].1), [0]);
}

#[test]
fn a_failed_sync_of_a_seal_makes_the_files_void_that_were_begun_meanwhile() {
    let syncs = Syncs::held(&[2]);
    let mut recorder = Recorder::new(&syncs, true);
    // Three files wait to be sealed, and a fourth one is begun.
    for _ in 0..3 {
        recorder.append();
        recorder.rotate();
    }
    recorder.append_and_commit();
    syncs.allow(1);
    assert_eq!(recorder.outcome(), (1, true));
    // The seal of the third file fails.
    syncs.allow(4);
    let outcomes = [(); 3].map(|()| recorder.outcome());
    assert_eq!(outcomes, [(2, true), (3, false), (4, false)]);
    recorder.wait_for_failure();
    syncs.allow(usize::MAX);
    recorder.rotate();
    recorder.append();
    let (files, outcomes, _folder) = recorder.end();
    assert_eq!(outcomes, [(5, false), (6, true)]);
    let sealed: Vec<_> = files.iter().map(|it| it.is_sealed).collect();
    assert_eq!(sealed, [true, true, false, false, true]);
    let void = [(files[2].nonce, 0), (files[3].nonce, 0)];
    assert_eq!(files[4].voided, void);
}

#[test]
fn a_failed_sync_of_a_plain_file_leaves_the_others_as_they_are() {
    let syncs = Syncs::held(&[0]);
    let mut recorder = Recorder::new(&syncs, false);
    for _ in 0..2 {
        recorder.append();
        recorder.rotate();
    }
    recorder.append();
    syncs.allow(2);
    let outcomes = [(); 2].map(|()| recorder.outcome());
    assert_eq!(outcomes, [(1, false), (2, false)]);
    recorder.wait_for_failure();
    syncs.allow(usize::MAX);
    recorder.rotate();
    recorder.append();
    let context = Arc::clone(&recorder.context);
    let (files, _, _folder) = recorder.end();
    let sealed: Vec<_> = files.iter().map(|it| it.is_sealed).collect();
    assert_eq!(sealed, [false, true, true, true]);
    assert_eq!(files[3].voided, [(files[0].nonce, 0)]);
    assert!(files.iter().flat_map(|it| &it.synced).all(Option::is_none));
    assert_eq!(context.stats.read().blocks_synced, 3);
}

#[test]
fn a_failure_is_reported_before_the_writer_sees_it() {
    let syncs = Syncs::failing(&[0]);
    let folder = TempDir::new().unwrap();
    let failing = FailingFolder(Directory::open(folder.path()).unwrap(), syncs);
    let stats = Arc::<Stats>::default();
    let context = LogContext::new(
        folder.path(),
        Arc::new(failing),
        stats,
        Retention::new(None),
    );
    let context = context.reporting_to(|_| ());
    let mut log = Log::new(LogOptions::default(), Arc::new(context), 1);
    let (told, failure) = mpsc::channel();
    let (resume, paused) = mpsc::channel();
    let paused = Mutex::new(paused);
    log.on_commit(move |outcome| {
        told.send(outcome.is_durable).unwrap();
        paused.lock().unwrap().recv().unwrap();
    });
    let channel = log.channel(&mut Channel::default(), ChannelSpec::default);
    log.append(channel.unwrap(), 0, 1, b"reading").unwrap();
    log.commit().unwrap();
    assert!(!failure.recv().unwrap());
    assert!(!log.has_failed_sync());
    resume.send(()).unwrap();
    while !log.has_failed_sync() {
        std::thread::yield_now();
    }
    resume.send(()).unwrap();
    log.finish().unwrap();
}

#[test]
fn commits_of_a_log_that_gives_up_are_reported_as_not_durable() {
    // The folder cannot be synced, so no file gets its name.
    #[derive(Debug)]
    struct Nameless(FailingFolder, Arc<Syncs>);
    impl Folder for Nameless {
        fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
            self.0.create(name)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.remove(name)
        }
        fn sync(&self) -> io::Result<()> {
            self.1.sync()?;
            Err(io::ErrorKind::StorageFull.into())
        }
        fn list(&self) -> io::Result<Vec<(String, u64)>> {
            self.0.list()
        }
    }
    let held = Syncs::held(&[]);
    let folder = TempDir::new().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    let nameless = Nameless(
        FailingFolder(directory, Syncs::failing(&[])),
        Arc::clone(&held),
    );
    let stats = Arc::<Stats>::default();
    let context = LogContext::new(
        folder.path(),
        Arc::new(nameless),
        stats,
        Retention::new(None),
    );
    let context = context.reporting_to(|_| ());
    context.give_up();
    let mut log = Log::new(LogOptions::default(), Arc::new(context), 1);
    let (send, outcomes) = mpsc::channel();
    log.on_commit(move |outcome| send.send(outcome).unwrap());
    let channel = log.channel(&mut Channel::default(), ChannelSpec::default);
    let channel = channel.unwrap();
    for sequence in 0..3 {
        log.append(channel, sequence, 1, b"reading").unwrap();
        log.commit().unwrap();
    }
    held.allow(usize::MAX);
    assert_eq!(log.finish(), Err(LogError::GaveUp));
    let outcomes: Vec<_> = outcomes.try_iter().collect();
    let numbers = outcomes.iter().map(|it| (it.number, it.is_durable));
    let last = outcomes.len() as u64;
    assert!(numbers.eq((1..=last).map(|number| (number, false))));
    // The seal may be refused, because the thread has ended.
    assert!((3..=4).contains(&last), "{outcomes:?}");
}

/// Records with a failure of each sync in turn. For each message, the outcome of its commit and its place must agree.
#[test]
fn outcomes_and_declared_lengths_agree_whichever_syncs_fail() {
    for is_held in [false, true] {
        for first in 0..40 {
            agree(is_held, &[first]);
            agree(is_held, &[first, first + 1 + first % 5]);
        }
    }
}

fn agree(is_held: bool, failing: &[usize]) {
    let syncs = match is_held {
        true => Syncs::held(failing),
        false => Syncs::failing(failing),
    };
    let mut recorder = Recorder::new(&syncs, true);
    // The epoch and the commit of each message.
    let mut commits = Vec::new();
    for step in 0..30 {
        // Some files wait for their sync.
        if step == 5 + failing[0] % 20 {
            syncs.allow(usize::MAX);
        }
        if step % 4 == 3 || recorder.log.has_failed_sync() {
            recorder.log.rotate_if_due().unwrap();
        }
        let commit = recorder.append();
        commits.push(commit);
        if step % 3 != 0 {
            recorder.log.commit().unwrap();
        }
    }
    syncs.allow(usize::MAX);
    let (files, outcomes, _folder) = recorder.end();
    let context = || format!("held {is_held}, failing {failing:?}: {files:?}, {outcomes:?}");
    let numbers = outcomes.iter().map(|(number, _)| *number);
    assert!(numbers.eq(1..=outcomes.len() as u64), "{}", context());
    let is_durable = |sequence: &u32| {
        let commit = commits[*sequence as usize];
        outcomes[commit as usize - 1].1
    };
    for file in &files {
        let mut declared = files.iter().flat_map(|it| &it.voided);
        let void = declared.find(|(nonce, _)| *nonce == file.nonce);
        assert!(void.is_none() || !file.is_sealed, "{}", context());
        // Without a later file, nothing is declared.
        let len = void.map_or(u64::MAX, |(_, len)| *len);
        let all = file.before(u64::MAX);
        let kept = file.before(len);
        if void.is_some() || file.is_sealed {
            let durable: Vec<_> = all.iter().copied().filter(is_durable).collect();
            assert_eq!(kept, durable, "{}", context());
        }
        // Each chunk declares at most what was reported, and never less than before.
        for ((offset, _), synced) in file.chunks.iter().zip(&file.synced) {
            let synced = synced.unwrap();
            assert!(synced <= *offset, "{}", context());
            assert!(file.before(synced).iter().all(is_durable), "{}", context());
        }
    }
}
