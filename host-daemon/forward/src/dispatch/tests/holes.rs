//! Messages of a session that the recording has lost: what is confirmed leaves their numbers out.

use std::collections::HashSet;
use std::sync::Mutex;

use super::*;

/// The device, and its session.
const DEVICE: &str = "device.0";
const SESSION: &str = "00f3a5c7711d2e4b";

/// Takes down what is confirmed.
#[derive(Debug, Default)]
struct Reports(Mutex<Vec<(u64, u64)>>);

impl Confirm for Reports {
    fn stored(&self, device: &str, session: &str, from: u64, next: u64) {
        assert_eq!((device, session), (DEVICE, SESSION));
        self.0.lock().expect("no panic").push((from, next));
    }

    fn unsettled(&self, _: bool) -> Vec<Unsettled> {
        Vec::new()
    }

    fn settled(&self, _: &Unsettled, _: &[(u64, u64)]) {}

    fn gap(&self, _: &[u8]) -> Option<NumberGap> {
        None
    }
}

impl Reports {
    /// Takes the reports.
    fn take(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

/// A recording of a session with these numbers, each message in a file of its own so that no batch has two.
fn recording(instance: Instance, numbers: impl IntoIterator<Item = u64>) -> Recording {
    let channel = channel(DEVICE, Some(SESSION.to_owned()));
    let message = |(index, seq): (usize, u64)| Recorded {
        file: (
            1 + index as u64 / 4,
            FileNonce::of_digits("00f3a5c7711d2e4b").expect("digits"),
        ),
        before: index as u64 % 4,
        subject: DEVICE.into(),
        channel: Arc::clone(&channel),
        connection: 1,
        seq,
        since: seq,
        time: 1000,
        data: seq.to_string().into_bytes(),
    };
    Recording {
        instance,
        messages: numbers.into_iter().enumerate().map(message).collect(),
    }
}

#[test]
fn numbers_that_the_recording_has_lost_are_not_confirmed() {
    runtime().block_on(async {
        let stream = Arc::new(FakeStream::new(1, Faults::default()));
        let reports = Arc::<Reports>::default();
        let confirm = || Some(Arc::clone(&reports) as Arc<dyn Confirm>);
        let instance = Instance::random();
        let first = recording(instance, 0..8);
        first
            .forward(&stream, Chance(1), &mut Saved::default(), confirm())
            .await;
        let confirmed: HashSet<_> = reports
            .take()
            .into_iter()
            .flat_map(|(from, to)| from..to)
            .collect();
        assert_eq!(confirmed, (0..8).collect());
        // After a restart, 8 to 11 are lost. What the stream has is reported first.
        let later = recording(instance, (0..8).chain(12..20));
        later
            .forward(&stream, Chance(2), &mut Saved::default(), confirm())
            .await;
        let mut ends = reports.take();
        assert!(
            ends.iter().all(|(from, to)| *to <= 8 || 12 <= *from),
            "{ends:?}"
        );
        let position = |it: (u64, u64)| ends.iter().position(|end| *end == it);
        assert!(position((0, 8)) < ends.iter().position(|(from, _)| *from == 12));
        // They are recorded again, and those after them.
        let again = recording(instance, (0..8).chain(12..20).chain(8..24));
        again
            .forward(&stream, Chance(3), &mut Saved::default(), confirm())
            .await;
        ends = reports.take();
        assert!(ends.contains(&(0, 24)), "{ends:?}");
        // Each is in the stream once.
        let stored = stream.stored(DEVICE);
        let mut numbers: Vec<_> = stored
            .iter()
            .flat_map(|it| it.head.first..it.head.first + it.head.count)
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..24).collect::<Vec<_>>());
    });
}

#[test]
fn what_comes_back_to_the_recording_is_not_taken_for_stored_by_its_place() {
    runtime().block_on(async {
        let stream = Arc::new(FakeStream::new(1, Faults::default()));
        let reports = Arc::<Reports>::default();
        let confirm = || Some(Arc::clone(&reports) as Arc<dyn Confirm>);
        let instance = Instance::random();
        let all = recording(instance, 0..20);
        // A file is missing while the others are forwarded.
        let mut rest = recording(instance, 0..20);
        rest.messages.retain(|it| it.file.0 != 2);
        rest.forward(&stream, Chance(1), &mut Saved::default(), confirm())
            .await;
        let is_of_file = |number: u64| (4..8).contains(&number);
        let confirmed = || -> Vec<_> {
            let reports = reports.take().into_iter();
            reports.flat_map(|(from, to)| from..to).collect()
        };
        assert!(!confirmed().into_iter().any(is_of_file));
        // It is there again when the recording is read from its beginning.
        all.forward(&stream, Chance(2), &mut Saved::default(), confirm())
            .await;
        let confirmed = confirmed();
        assert!(!confirmed.iter().copied().any(is_of_file), "{confirmed:?}");
        let others = (0..20).filter(|it| !is_of_file(*it));
        assert!(others.into_iter().all(|it| confirmed.contains(&it)));
    });
}

#[test]
fn lost_messages_at_the_begin_of_a_session_are_not_taken_for_stored() {
    runtime().block_on(async {
        for seed in 0..seeds() {
            let faults = Faults {
                is_faulty: true,
                ..Faults::default()
            };
            let stream = Arc::new(FakeStream::new(seed, faults));
            let reports = Arc::<Reports>::default();
            let confirm = Some(Arc::clone(&reports) as Arc<dyn Confirm>);
            recording(Instance::random(), 12..20)
                .forward(&stream, Chance(seed), &mut Saved::default(), confirm)
                .await;
            assert!(reports.take().iter().all(|(from, _)| 12 <= *from));
        }
    });
}

/// A session, and the runs that it was settled with.
type SettledRuns = (String, Vec<(u64, u64)>);

/// Takes down how sessions are settled.
#[derive(Debug, Default)]
struct Settled(Mutex<Vec<SettledRuns>>);

impl Confirm for Settled {
    fn stored(&self, _: &str, _: &str, _: u64, _: u64) {}

    fn unsettled(&self, _: bool) -> Vec<Unsettled> {
        Vec::new()
    }

    fn settled(&self, unsettled: &Unsettled, runs: &[(u64, u64)]) {
        let settled = (unsettled.session.clone(), runs.to_vec());
        self.0.lock().expect("no panic").push(settled);
    }

    fn gap(&self, _: &[u8]) -> Option<NumberGap> {
        None
    }
}

#[test]
fn sessions_that_the_limits_have_removed_are_stored_unless_something_is_lost() {
    runtime().block_on(async {
        let sessions: Vec<_> = (0..30).map(|it| format!("{it:016x}")).collect();
        let stream = Arc::new(FakeStream::new(1, Faults::default()));
        let mut recorded = recording(Instance::random(), [0; 30]);
        for (message, session) in recorded.messages.iter_mut().zip(&sessions) {
            message.channel = channel(DEVICE, Some(session.clone()));
        }
        recorded
            .forward(&stream, Chance(1), &mut Saved::default(), None)
            .await;
        for is_whole in [true, false] {
            let settled = Arc::<Settled>::default();
            let asked = sessions.iter().map(|session| Asked {
                subject: DEVICE.into(),
                gap: None,
                is_whole,
                unsettled: Unsettled {
                    device: DEVICE.into(),
                    session: session.clone(),
                    to: 1,
                },
            });
            let (to, input) = mpsc::channel(1);
            let sent = to.try_send(Input::Unsettled(asked.collect()));
            assert!(sent.is_ok());
            drop(to);
            let start = recorded.start(stream.extent().await.expect("no faults"), None);
            let dispatcher = Dispatcher::new(Arc::clone(&stream), Arc::default(), start)
                .confirming(Some(Arc::clone(&settled) as Arc<dyn Confirm>));
            assert_eq!(dispatcher.run(input, |_: &Cursor| {}).await, End::Finished);
            let mut settled = settled.0.lock().expect("no panic").clone();
            settled.sort();
            assert_eq!(settled.len(), sessions.len());
            for (number, (_, runs)) in (0..).zip(settled) {
                // The newest one, and 16 others.
                let is_known = 30 - 17 <= number;
                match (is_known, is_whole) {
                    (true, _) | (false, true) => assert_eq!(runs, [(0, 1)]),
                    (false, false) => assert!(runs.is_empty()),
                }
            }
        }
    });
}

#[test]
fn gaps_are_confirmed_with_the_messages_after_them() {
    runtime().block_on(async {
        for seed in 0..seeds() {
            let stream = Arc::new(FakeStream::new(seed, Faults::default()));
            let reports = Arc::<Reports>::default();
            // More gaps than a message of the stream has runs of numbers.
            let gaps = 4 * crate::stored::Stored::SESSION_MAX as u64;
            let numbers = (0..gaps).flat_map(|at| [10 * at + 3, 10 * at + 4, 10 * at + 5]);
            let mut recording = recording(Instance::random(), numbers);
            for message in &mut recording.messages {
                if message.seq % 10 == 3 {
                    message.since = message.seq.saturating_sub(7);
                }
            }
            let mut file = Saved::default();
            for round in 0..2 {
                let confirm = Some(Arc::clone(&reports) as Arc<dyn Confirm>);
                recording
                    .forward(&stream, Chance(seed + round), &mut file, confirm)
                    .await;
                let mut end = 0;
                for (from, to) in reports.take() {
                    assert!(from <= end, "{from} after {end}");
                    end = to.max(end);
                }
                assert!(round == 1 || end == 10 * gaps - 4);
                if seed % 2 != 0 {
                    file = Saved::default();
                }
            }
            // The stream says only which messages it has.
            for outgoing in stream.stored(DEVICE) {
                let stored = &outgoing.head.stored;
                for number in 0..10 * gaps {
                    let is_gap = !(3..6).contains(&(number % 10));
                    assert!(!is_gap || stored.end_of(SESSION, number).is_none());
                }
            }
        }
    });
}
