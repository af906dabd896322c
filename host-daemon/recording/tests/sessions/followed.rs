//! A tail of what is durable delivers exactly the messages that the recording keeps, whatever fails.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use blocksd_recording::{
    Channel, ChannelSpec, Compression, Log, LogContext, LogOptions, Retention, repair_dir, topic,
};
use tempfile::TempDir;

use crate::disk::{PATIENCE, Syncs};
use crate::follow::{Delivered, Following, Seen, read, rest};
use crate::power::{Crash, Powered, State};
use crate::recorder::Recorder;
use crate::repair::paths;

fn texts(seen: &Seen, topic: &str) -> Vec<String> {
    let messages = seen.messages.iter().filter(|it| it.topic == topic);
    messages.map(|it| it.text.clone()).collect()
}

#[test]
fn a_message_is_delivered_after_its_sync() {
    let syncs = Syncs::held(&[]);
    let mut recorder = Recorder::new(&syncs, true);
    let folder = recorder.folder.path().to_owned();
    let following = Following::start(&folder, recorder.log.durability(), None, |_| ());
    for number in 1..4 {
        recorder.append_and_commit();
        // Written, and not durable.
        assert_eq!(following.settled().messages.len(), number - 1);
        syncs.allow(number);
        following.wait(number);
    }
    // A file that waits to be sealed, and the next one.
    recorder.append();
    recorder.rotate();
    recorder.append_and_commit();
    assert_eq!(following.settled().messages.len(), 3);
    syncs.allow(4);
    let seen = following.wait(4);
    assert_eq!(seen.messages[3].position.number, 1);
    syncs.allow(usize::MAX);
    let seen = following.wait(5);
    let places = seen.messages.iter().map(|it| it.position);
    let places: Vec<_> = places.map(|it| (it.number, it.messages)).collect();
    assert_eq!(places, [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]);
    let (.., _folder) = recorder.end();
    let reached = following.settled().reached.unwrap();
    assert_eq!((reached.number, reached.messages), (2, 1));
    following.stop();
}

#[test]
fn the_rest_of_a_broken_file_is_delivered_once_a_later_file_declares_it_void() {
    let syncs = Syncs::failing(&[]);
    let mut recorder = Recorder::new(&syncs, true);
    let folder = recorder.folder.path().to_owned();
    let following = Following::start(&folder, recorder.log.durability(), None, |_| ());
    recorder.commit_durably(2);
    syncs.fail_next();
    recorder.write(2);
    recorder.wait_for_failure();
    recorder.rotate();
    recorder.sequence = 2;
    recorder.append_with_others();
    // The last sync of the broken file.
    while recorder.outcome().0 != 5 {}
    syncs.hold();
    recorder.log.commit().unwrap();
    // The next file declares it void, and is not durable.
    assert_eq!(following.settled().messages.len(), 6);
    syncs.allow(usize::MAX);
    let seen = following.wait(6 + 2 + 3);
    assert_eq!(texts(&seen, "/device/imu/blocks"), ["0", "1", "2"]);
    assert_eq!(texts(&seen, topic::SESSIONS_TOPIC), ["0", "1", "2"]);
    let plain = ["0", "1", "2", "3", "2"];
    assert_eq!(texts(&seen, "/device/plain/blocks"), plain);
    let places = seen.messages.iter().map(|it| it.position);
    let places: Vec<_> = places.map(|it| (it.number, it.messages)).collect();
    // Those that are passed over count.
    assert_eq!(places[6..], [(1, 8), (1, 11), (2, 1), (2, 2), (2, 3)]);
    following.stop();
}

#[test]
fn the_rest_of_a_broken_file_is_left_to_the_repair_if_no_file_follows() {
    let syncs = Syncs::failing(&[]);
    let mut recorder = Recorder::new(&syncs, true);
    let path = recorder.folder.path().to_owned();
    let following = Following::start(&path, recorder.log.durability(), None, |_| ());
    recorder.commit_durably(2);
    syncs.fail_next();
    recorder.write(2);
    recorder.wait_for_failure();
    let (files, _, folder) = recorder.end();
    assert!(!files[0].is_sealed);
    assert_eq!(following.settled().messages.len(), 6);
    let reached = following.stop().reached.unwrap();
    assert_eq!(reached.messages, 6);
    // Nothing says that the messages do not count, so the repair keeps them with their numbers.
    repair_dir(folder.path()).unwrap().for_each(|it| {
        it.unwrap();
    });
    let seen = rest(folder.path(), Some(reached));
    assert_eq!(texts(&seen, "/device/imu/blocks"), ["2", "3"]);
    assert_eq!((seen.messages.len(), seen.files_missed), (6, 0));
}

#[test]
fn files_without_numbers_are_delivered_in_their_order_after_a_failed_sync() {
    let syncs = Syncs::held(&[0]);
    let mut recorder = Recorder::new(&syncs, false);
    let path = recorder.folder.path().to_owned();
    let following = Following::start(&path, recorder.log.durability(), None, |_| ());
    for _ in 0..2 {
        recorder.append();
        recorder.rotate();
    }
    recorder.append();
    // The second file is sealed, although no commit of it was reported as durable.
    syncs.allow(2);
    while recorder.outcome().0 != 2 {}
    recorder.wait_for_failure();
    assert_eq!(following.settled().messages.len(), 0);
    syncs.allow(usize::MAX);
    recorder.rotate();
    recorder.append();
    let (.., _folder) = recorder.end();
    let seen = following.wait(4);
    assert_eq!(texts(&seen, "/device/imu/blocks"), ["0", "1", "2", "3"]);
    let numbers = seen.messages.iter().map(|it| it.position.number);
    assert!(numbers.eq(1..=4));
    following.stop();
}

#[test]
fn a_message_is_not_delivered_before_its_commit_is_reported() {
    let folder = TempDir::new().unwrap();
    let mut log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    log.on_commit(move |_| released.lock().unwrap().recv().unwrap());
    let following = Following::start(folder.path(), log.durability(), None, |_| ());
    let channel = log.channel(&mut Channel::default(), ChannelSpec::default);
    log.append(channel.unwrap(), 0, 1, b"reading").unwrap();
    log.commit().unwrap();
    assert_eq!(following.settled().messages.len(), 0);
    release.send(()).unwrap();
    following.wait(1);
    release.send(()).unwrap();
    log.finish().unwrap();
    following.stop();
}

#[test]
fn a_file_that_is_created_a_second_time_is_read() {
    let syncs = Syncs::failing(&[]);
    let mut recorder = Recorder::new(&syncs, true);
    let path = recorder.folder.path().to_owned();
    let durability = Arc::clone(recorder.log.durability());
    recorder.commit_durably(1);
    syncs.fail_next();
    recorder.append_and_commit();
    recorder.wait_for_failure();
    recorder.rotate();
    while recorder.outcome().0 != 3 {}
    // Nothing holds up the next file.
    fs::remove_file(&paths(&path)[0]).unwrap();
    let following = Following::start(&path, &durability, None, |_| ());
    // The first sync of the next file waits, and fails. The file is created again.
    syncs.hold();
    let writer = std::thread::spawn(move || {
        recorder.append_and_commit();
        while recorder.outcome() != (4, true) {}
        recorder
    });
    let begun = Instant::now();
    while paths(&path).is_empty() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(following.settled().messages.len(), 0);
    syncs.fail_next();
    syncs.allow(usize::MAX);
    let seen = following.wait(1);
    assert_eq!(texts(&seen, "/device/imu/blocks"), ["2"]);
    let mut recorder = writer.join().unwrap();
    recorder.rotate();
    recorder.append_and_commit();
    let seen = following.wait(2);
    assert_eq!(texts(&seen, "/device/imu/blocks"), ["2", "3"]);
    following.stop();
}

/// A generator of random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// The outcomes of commits, by number.
type Outcomes = Arc<Mutex<HashMap<u64, bool>>>;

/// A sender: a session, or a device without one.
struct Sender {
    topic: &'static str,
    is_numbered: bool,
    channel: Channel,
    next: u32,
    /// The commits of the messages of a session.
    commits: Vec<u64>,
}

/// A log with random senders, and a tail beside it.
struct World {
    folder: TempDir,
    power: Arc<Mutex<State>>,
    log: Log,
    senders: Vec<Sender>,
    outcomes: Outcomes,
    epoch: u64,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let powered = Powered::new(folder.path());
        let power = powered.state();
        let retention = Retention::new(None);
        let context = LogContext::new(folder.path(), Arc::new(powered), Arc::default(), retention);
        let context = Arc::new(context.reporting_to(|_| ()));
        let options = LogOptions {
            compression: Compression::None,
            // Each call rotates.
            rotate_after: Duration::ZERO,
            ..LogOptions::default()
        };
        let log = Log::new(options, context, 1);
        let outcomes = Outcomes::default();
        let noted = Arc::clone(&outcomes);
        log.on_commit(move |it| {
            noted.lock().unwrap().insert(it.number, it.is_durable);
        });
        let sender = |(topic, is_numbered)| Sender {
            topic,
            is_numbered,
            channel: Channel::default(),
            next: 0,
            commits: Vec::new(),
        };
        let senders = [
            ("/device/one/blocks", true),
            ("/device/two/blocks", true),
            ("/device/plain/blocks", false),
            (topic::SESSIONS_TOPIC, true),
        ];
        Self {
            folder,
            power,
            log,
            senders: senders.map(sender).into(),
            outcomes,
            epoch: 1,
        }
    }

    /// After a failed sync, sessions send again what was not durable.
    fn send_again(&mut self) {
        if self.log.epoch() == self.epoch {
            return;
        }
        self.epoch = self.log.epoch();
        let outcomes = self.outcomes.lock().unwrap();
        for sender in self.senders.iter_mut().filter(|it| it.is_numbered) {
            let is_durable = |commit: &u64| outcomes.get(commit).is_some_and(|it| *it);
            let durable = sender.commits.iter().filter(|it| is_durable(it)).count();
            sender.next = u32::try_from(durable).unwrap();
            sender.commits.truncate(durable);
        }
    }

    fn append(&mut self, index: usize) {
        let sender = &mut self.senders[index];
        let (topic, next) = (sender.topic, sender.next);
        let is_session = sender.is_numbered && topic != topic::SESSIONS_TOPIC;
        let spec = || ChannelSpec {
            topic: topic.to_owned(),
            metadata: match is_session {
                true => BTreeMap::from([
                    ("session".to_owned(), format!("{index:016x}")),
                    ("first".to_owned(), next.to_string()),
                ]),
                false => BTreeMap::new(),
            },
            ..ChannelSpec::default()
        };
        let channel = self.log.channel(&mut sender.channel, spec).unwrap();
        let commit = self.log.next_commit();
        let text = format!("{commit} {}", self.epoch);
        self.log.append(channel, next, 1, text.as_bytes()).unwrap();
        sender.next += 1;
        sender.commits.push(commit);
    }

    fn step(&mut self, random: &mut Random, is_mixed: bool) {
        match random.below(16) {
            0..8 => {
                let senders = if is_mixed { 4 } else { 1 };
                let index = if is_mixed { 0 } else { 2 } + random.below(senders);
                self.append(usize::try_from(index).unwrap());
            }
            8..12 => self.log.commit().unwrap(),
            12 => {
                self.log.rotate_if_due().unwrap();
                self.send_again();
            }
            13 => self.power.lock().unwrap().fails_next = random.below(3) == 0,
            _ => std::thread::sleep(Duration::from_micros(random.below(800))),
        }
        if self.log.has_failed_sync() {
            self.log.rotate_if_due().unwrap();
            self.send_again();
        }
    }
}

/// What the rounds came to.
#[derive(Debug, Default)]
struct Covered {
    delivered: usize,
    later: usize,
    unconfirmed: usize,
    unsynced: usize,
    lost: usize,
}

fn round(seed: u64, covered: &mut Covered) {
    let mut random = Random(seed);
    let mut world = World::new();
    let outcomes = Arc::clone(&world.outcomes);
    let unsynced = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&unsynced);
    let check = move |it: &Delivered| {
        let commit = it.text.split_once(' ').unwrap().0.parse().unwrap();
        let outcome = outcomes.lock().unwrap().get(&commit).copied();
        let outcome = outcome.unwrap_or_else(|| panic!("{seed}: early {it:?}"));
        let is_plain = it.topic == "/device/plain/blocks";
        assert!(outcome || is_plain, "{seed}: not durable {it:?}");
        counted.fetch_add(u64::from(!outcome), Ordering::Relaxed);
    };
    // A slow visitor, and one that ends and continues.
    let delay = Duration::from_micros(if random.below(4) == 0 { 600 } else { 0 });
    let check = Arc::new(move |it: &Delivered| {
        std::thread::sleep(delay);
        check(it);
    });
    let path = world.folder.path().to_owned();
    let durability = Arc::clone(world.log.durability());
    let start = |from| {
        let check = Arc::clone(&check);
        Following::start(&path, &durability, from, move |it| check(it))
    };
    let mut following = start(None);
    let mut first = Vec::new();
    let is_mixed = random.below(4) != 0;
    for _ in 0..20 + random.below(100) {
        world.step(&mut random, is_mixed);
        if random.below(50) == 0 {
            first.append(&mut following.stop().messages);
            following = start(first.last().map(|it: &Delivered| it.position));
        }
    }
    let crash = match random.below(4) {
        0 => Crash::Process,
        1 | 2 => Crash::Power,
        _ => Crash::Partly(random.below(257)),
    };
    let (before, image) = (random.below(3), TempDir::new().unwrap());
    let (power, all_outcomes) = (Arc::clone(&world.power), Arc::clone(&world.outcomes));
    let mut is_complete = false;
    if before == 0 {
        // The end of the process comes first.
        let last = world.log.next_commit();
        world.log.finish().unwrap();
        following.settled();
        let outcomes = all_outcomes.lock().unwrap();
        let last = outcomes.get(&last).or_else(|| outcomes.get(&(last - 1)));
        // Nothing is left to a repair.
        is_complete = last.is_some_and(|it| *it);
    }
    first.append(&mut following.seen().messages);
    power.lock().unwrap().crash(&path, image.path(), crash);
    following.stop();

    for repaired in repair_dir(image.path()).unwrap() {
        repaired.unwrap();
    }
    let kept = read(image.path());
    covered.unconfirmed += kept.iter().filter(|it| is_unconfirmed(it)).count();
    let kept: Vec<_> = kept.into_iter().filter(|it| !is_unconfirmed(it)).collect();
    let second = rest(image.path(), first.last().map(|it| it.position)).messages;
    let second = second.into_iter().filter(|it| !is_unconfirmed(it));
    let second: Vec<_> = second.collect();
    assert!(!is_complete || second.is_empty(), "{seed} {second:?}");
    let mut all: Vec<_> = first.iter().cloned().chain(second).collect();
    covered.delivered += first.len();
    covered.later += all.len() - first.len();
    covered.unsynced += usize::try_from(unsynced.load(Ordering::Relaxed)).unwrap();
    // A power failure may lose plain messages of a broken file after they were delivered.
    let outcomes = all_outcomes.lock().unwrap();
    let count = all.len();
    all.retain(|it| {
        let commit = it.text.split_once(' ').unwrap().0.parse().unwrap();
        let may_be_lost = it.topic == "/device/plain/blocks"
            && outcomes.get(&commit).is_none_or(|it| !*it)
            && crash != Crash::Process;
        !may_be_lost || kept.contains(it)
    });
    covered.lost += count - all.len();
    assert_eq!(all, kept, "{seed} {crash:?}");
    // Each message of a session came once, in order.
    for topic in ["/device/one/blocks", "/device/two/blocks"] {
        let numbers = all.iter().filter(|it| it.topic == topic);
        let numbers: Vec<_> = numbers.map(|it| it.sequence).collect();
        assert!(
            numbers.iter().copied().eq(0..numbers.len() as u32),
            "{seed} {numbers:?}"
        );
    }
    assert!(all.is_sorted_by(|a, b| a.position < b.position), "{seed}");
}

fn is_unconfirmed(it: &Delivered) -> bool {
    it.topic.ends_with(topic::UNCONFIRMED)
}

#[test]
fn what_is_delivered_is_what_the_recording_keeps() {
    let mut covered = Covered::default();
    for seed in 0..150 {
        round(seed, &mut covered);
    }
    // Each case came.
    let Covered {
        delivered,
        later,
        unconfirmed,
        unsynced,
        lost,
    } = covered;
    let cases = [delivered, later, unconfirmed, unsynced, lost];
    assert!(cases.iter().all(|it| *it != 0), "{covered:?}");
}
