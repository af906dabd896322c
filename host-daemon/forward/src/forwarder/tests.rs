//! What a forwarder hands over, and when.

mod lost;
mod panics;

use std::sync::Mutex;
use std::thread;

use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions, Tail, Wanted};

use super::*;
use crate::confirm::NumberGap;

/// Time between two messages. A little more than a second, so that no message comes at the end of a linger.
const PERIOD: Duration = Duration::from_millis(1_020);
/// Time between two looks at the end of the recording.
const LOOK: Duration = Duration::from_millis(20);

#[test]
fn messages_are_gathered_for_the_time_of_the_linger_and_each_is_handed_over_once() {
    // The first one was recorded before the start, and does not wait; nor does the last one.
    let inputs = read(22, 1, Duration::from_secs(5));
    assert_eq!(counts(&inputs), [1, 5, 5, 5, 5, 1]);
}

#[test]
fn without_a_linger_no_message_waits() {
    let inputs = read(22, 1, Duration::ZERO);
    assert_eq!(counts(&inputs), [1; 22]);
}

#[test]
fn a_full_gatherer_does_not_wait() {
    let len = crate::gather::GATHERED_MAX / 4;
    let inputs = read(11, len, Duration::from_secs(60));
    assert_eq!(counts(&inputs), [1, 4, 4, 2]);
}

/// Hands over a recording with this number of messages, each of this length, one a period. Checks that each is handed over once,
/// and none after its place.
#[track_caller]
fn read(messages: u64, len: usize, linger: Duration) -> Vec<Input> {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let spec = || ChannelSpec {
        topic: "/device/imu/blocks".to_owned(),
        ..ChannelSpec::default()
    };
    let channel = log.channel(&mut Channel::default(), spec).unwrap();
    for number in 0..messages {
        log.append(channel, number as u32, number, &vec![0; len])
            .unwrap();
    }
    log.finish().unwrap();
    let (to, mut input) = mpsc::channel(1_000);
    let gatherer = Gatherer::new(Subjects::new("main"), Arc::from("events"), 4 * len + 100);
    let mut timed = Timed {
        reading: reading(gatherer, linger, to),
        now: Instant::now(),
    };
    let ended = Tail::new(folder.path().to_owned(), Wanted::default()).visit(&mut timed);
    assert!(matches!(ended, Err(Ended::Stopped)));
    let inputs: Vec<_> = std::iter::from_fn(|| input.try_recv().ok()).collect();
    let mut handed_over = 0;
    for input in &inputs {
        match input {
            Input::Batches(batches, _) => handed_over += count(batches),
            Input::Reached(place) => assert_eq!(place.messages, handed_over),
            Input::CaughtUp { .. } => assert_eq!(handed_over, 1),
            Input::Unsettled(sessions) => panic!("{sessions:?}"),
        }
    }
    assert_eq!(handed_over, messages);
    inputs
}

/// A reading that begins.
fn reading(gatherer: Gatherer, linger: Duration, to: mpsc::Sender<Input>) -> Reading {
    Reading {
        unread: Unread::default(),
        is_all: false,
        gatherer,
        linger: Linger::new(linger),
        reached: None,
        lingering: Unread::default(),
        has_caught_up: false,
        is_damaged: false,
        confirm: None,
        unsettled: None,
        asked: Vec::new(),
        has_lost: Arc::default(),
        progress: Arc::default(),
        to,
        stop: Arc::default(),
        finish: Arc::default(),
    }
}

#[test]
fn a_session_is_settled_after_what_was_durable_is_read() {
    let (to, mut input) = mpsc::channel(1_000);
    let gatherer = Gatherer::new(Subjects::new("main"), Arc::from("events"), 100);
    let asked = Arc::<Asked>::default();
    let mut reading = reading(gatherer, Duration::from_secs(5), to);
    reading.confirm = Some(Arc::clone(&asked) as Arc<dyn Confirm>);
    let mut idle = |now| {
        assert!(reading.idle_at(now).is_ok());
        std::iter::from_fn(|| input.try_recv().ok())
            .filter_map(|input| match input {
                Input::Unsettled(sessions) => Some(sessions),
                _ => None,
            })
            .flatten()
            .map(|asked| (asked.subject.to_string(), asked.unsettled.to))
            .collect::<Vec<_>>()
    };
    let now = Instant::now();
    assert_eq!(idle(now), []);
    let subject = "blocksd.main.dev.pump".to_owned();
    assert_eq!(idle(now), [(subject.clone(), 1)]);
    assert_eq!(idle(now), [(subject, 2)]);
    assert_eq!(*asked.0.lock().unwrap(), [true, false, false]);
}

#[test]
fn what_must_wait_for_others_is_not_taken_for_forwarded() {
    let (to, mut input) = mpsc::channel(1);
    let gatherer = Gatherer::new(Subjects::new("main"), Arc::from("events"), 100);
    let mut reading = reading(gatherer, Duration::ZERO, to);
    let progress = Arc::clone(&reading.progress);
    progress.unread(None);
    reading.lingering = Unread {
        number: 3,
        offset: 70,
    };
    let held = Some(reading.lingering);
    let handed_over = thread::spawn(move || {
        let sent = reading.send(Input::CaughtUp { is_damaged: false });
        sent.is_ok() && reading.send(Input::CaughtUp { is_damaged: true }).is_ok()
    });
    let wait_for = |unread| {
        let until = Instant::now() + Duration::from_secs(10);
        while progress.read().unread != unread {
            assert!(Instant::now() < until, "{:?}", progress.read().unread);
            thread::sleep(Duration::from_millis(1));
        }
    };
    wait_for(held);
    assert!(input.blocking_recv().is_some() && input.blocking_recv().is_some());
    wait_for(None);
    assert!(handed_over.join().unwrap());
}

/// Has an unsettled session whenever it is asked, and takes down how.
#[derive(Default)]
struct Asked(Mutex<Vec<bool>>);

impl Confirm for Asked {
    fn stored(&self, _: &str, _: &str, _: u64, _: u64) {}

    fn unsettled(&self, all: bool) -> Vec<Unsettled> {
        let mut asked = self.0.lock().unwrap();
        asked.push(all);
        vec![Unsettled {
            device: "pump".into(),
            session: "000000000000000a".to_owned(),
            to: asked.len() as u64,
        }]
    }

    fn settled(&self, _: &Unsettled, _: &[(u64, u64)]) {}

    fn gap(&self, _: &[u8]) -> Option<NumberGap> {
        None
    }
}

/// The number of messages that were handed over at each time.
fn counts(inputs: &[Input]) -> Vec<u64> {
    let counts = inputs.iter().filter_map(|input| match input {
        Input::Batches(batches, _) if !batches.is_empty() => Some(count(batches)),
        _ => None,
    });
    counts.collect()
}

fn count(batches: &[crate::batch::Batch]) -> u64 {
    batches.iter().map(crate::batch::Batch::count).sum()
}

/// Reads messages as if they came one a period, and finishes after the last one.
struct Timed {
    reading: Reading,
    now: Instant,
}

impl Visitor for Timed {
    type Error = Ended;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Ended> {
        self.reading.reached = message.position();
        self.reading.message_at(self.now, message)?;
        let next = self.now + PERIOD;
        while self.now < next {
            self.reading.idle_at(self.now)?;
            self.now += LOOK;
        }
        Ok(())
    }

    fn lost(&mut self, _: &Path, lost: &LostRange) -> Result<(), Ended> {
        panic!("{lost}");
    }

    fn idle(&mut self) -> Result<(), Ended> {
        self.reading.finish.store(true, Ordering::Relaxed);
        self.reading.idle_at(self.now)?;
        Err(Ended::Stopped)
    }
}
