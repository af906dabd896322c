//! Losses of the stream that interrupt nothing: another server has lost its newest messages, and gives their numbers to others.

use std::collections::HashSet;

use tokio::time::error::Elapsed;

use super::*;
use crate::stream::At;

/// A recording with a message of each subject, all others of one subject, and then those of the others. Returns it with the number of
/// messages before the latter.
fn recording(len: usize) -> (Recording, usize) {
    let mut recording = Recording::new(1, len, &mut Chance(1));
    let file = recording.messages[0].file;
    let mut known = HashSet::new();
    let mut is_new = |it: &Recorded| known.insert(it.subject.clone());
    recording
        .messages
        .sort_by_cached_key(|it| (!is_new(it), it.subject.clone()));
    for (before, message) in recording.messages.iter_mut().enumerate() {
        (message.file, message.before) = (file, before as u64);
        message.data.truncate(BODY_MAX / 4);
    }
    let is_first = |it: &&Recorded| &*it.subject == "device.0";
    let first = recording.messages.iter().filter(is_first).count() + DEVICES as usize - 1;
    (recording, first)
}

/// One batch of each message.
fn batches(messages: &[Recorded]) -> Vec<Batch> {
    let batch = |(order, it): (usize, &Recorded)| Batch::new(&it.read(order as u64));
    messages.iter().enumerate().map(batch).collect()
}

/// How the stream loses what one subject has, and what follows.
#[derive(Clone, Copy, Debug)]
struct Loss {
    /// How long nothing was stored before the others.
    quiet: Duration,
    lost: usize,
    /// How many messages others store before the other subjects go on.
    others: usize,
    /// The pause between messages of the other subjects.
    pause: Duration,
}

/// The messages of a stream up to a sequence number.
async fn all_of(stream: &FakeStream, last: u64) -> Vec<Newest> {
    let mut all = Vec::new();
    for sequence in 1..=last {
        if let Ok(At::Message(nonce)) = stream.at(sequence).await {
            all.push(Newest { sequence, nonce });
        }
    }
    all
}

/// How a dispatcher ends within a minute.
async fn ended(
    stream: &Arc<FakeStream>,
    start: Start,
    input: Receiver<Input>,
) -> Result<End, Elapsed> {
    let dispatcher = Dispatcher::new(Arc::clone(stream), Arc::default(), start);
    let ran = dispatcher.run(input, |_: &Cursor| {});
    tokio::time::timeout(Duration::from_secs(60), ran).await
}

/// Forwards what one subject has, loses some of it, and forwards the others, until the loss is noticed and everything is sent again.
async fn lose(loss: Loss) {
    let (recording, first) = recording(120);
    let stream = Arc::new(FakeStream::new(1, Faults::default()));
    let start = recording.start(stream.extent().await.expect("no faults"), None);
    let (to, input) = mpsc::channel(4);
    let all = batches(&recording.messages);
    let losing = Arc::clone(&stream);
    let feed = tokio::spawn(async move {
        for (index, batch) in all.into_iter().enumerate() {
            if index == first {
                // All are stored, and the last check is too far away to see the loss.
                tokio::time::sleep(Duration::from_millis(3100)).await;
                losing.lose_elsewhere(loss.lost, loss.others);
                tokio::time::sleep(loss.quiet).await;
            } else if first < index {
                tokio::time::sleep(loss.pause).await;
            }
            if to.send(Input::Batches(vec![batch], None)).await.is_err() {
                return;
            }
        }
        to.closed().await;
    });
    let ended = ended(&stream, start, input).await;
    assert_eq!(ended, Ok(End::Lost), "{loss:?}");
    feed.abort();
    recording
        .forward(&stream, Chance(1), &mut Saved::default(), None)
        .await;
    recording.check(&stream);
}

#[test]
fn a_number_that_is_not_after_those_that_were_known_shows_a_loss() {
    runtime().block_on(async {
        for lost in [1, 3, 10] {
            lose(Loss {
                quiet: Duration::ZERO,
                lost,
                others: 0,
                pause: Duration::ZERO,
            })
            .await;
        }
    });
}

#[test]
fn what_was_the_newest_before_a_quiet_time_is_checked_although_others_are_newer() {
    runtime().block_on(async {
        for (lost, others) in [(1, 1), (3, 3), (3, 4), (10, 100)] {
            for pause_ms in [0, 20, 400] {
                lose(Loss {
                    quiet: Duration::from_millis(300),
                    lost,
                    others,
                    pause: Duration::from_millis(pause_ms),
                })
                .await;
            }
        }
    });
}

/// The next message of the subject is stored, since the number is the expected one.
#[test]
fn a_message_of_another_recording_at_the_number_of_a_lost_one_proves_nothing() {
    runtime().block_on(async {
        let mut other = Recording::new(2, 1, &mut Chance(3));
        other.messages[0].subject = "other".into();
        let mut recording = Recording::new(1, 2, &mut Chance(2));
        let file = (1, FileNonce::new());
        for (message, before) in recording.messages.iter_mut().zip(0..) {
            (message.before, message.seq, message.since) = (before, before, before);
            (message.subject, message.file) = ("device.0".into(), file);
            message.data.truncate(BODY_MAX / 4);
        }
        let stream = Arc::new(FakeStream::new(1, Faults::default()));
        other
            .forward(&stream, Chance(1), &mut Saved::default(), None)
            .await;
        let start = recording.start(stream.extent().await.expect("no faults"), None);
        let (to, input) = mpsc::channel(4);
        let (all, losing) = (batches(&recording.messages), Arc::clone(&stream));
        let feed = tokio::spawn(async move {
            for (index, batch) in all.into_iter().enumerate() {
                if index == 1 {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    losing.lose_to(other.instance, 1);
                }
                let sent = to.send(Input::Batches(vec![batch], None)).await;
                assert!(sent.is_ok(), "it runs");
            }
            to.closed().await;
        });
        let ended = ended(&stream, start, input).await;
        feed.abort();
        assert_eq!(ended, Ok(End::Lost));
    });
}

/// The messages after the lost ones are in the stream, and do not hide them: those are sent again, and these are not.
#[test]
fn messages_that_are_lost_before_others_of_their_subject_are_sent_again() {
    let session = Some("00f3a5c7711d2e4b".to_owned());
    // A check may have proved them before they were lost.
    let cases = [
        (None, 1, 1),
        (session.clone(), 1, 1),
        (None, 3, 25),
        (session, 3, 25),
    ];
    // The answer to the last one may be lost, or an earlier run of the daemon has stored them.
    let all = cases.iter().chain(&cases).chain(&cases);
    for (index, (session, lost, pause_s)) in all.enumerate() {
        let turn = index / cases.len();
        let (session, lost, pause_s) = (session.clone(), *lost, *pause_s);
        runtime().block_on(async {
            let mut other = Recording::new(2, 1, &mut Chance(3));
            other.messages[0].subject = "other".into();
            let mut recording = Recording::new(1, 9, &mut Chance(2));
            let file = (1, FileNonce::new());
            let channel = channel("device", session.clone());
            for (message, number) in recording.messages.iter_mut().zip(0..) {
                (message.before, message.seq, message.since) = (number, number, number);
                (message.subject, message.file) = ("device.0".into(), file);
                (message.channel, message.data) = (Arc::clone(&channel), number.to_string().into());
            }
            let stream = Arc::new(FakeStream::new(1, Faults::default()));
            other
                .forward(&stream, Chance(1), &mut Saved::default(), None)
                .await;
            let all = batches(&recording.messages);
            if turn == 2 {
                let start = recording.start(stream.extent().await.expect("no faults"), None);
                let (to, input) = mpsc::channel(1);
                let first = all[..4].to_vec();
                let feed = async {
                    for batch in first {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        let sent = to.send(Input::Batches(vec![batch], None)).await;
                        assert!(sent.is_ok(), "it runs");
                    }
                    drop(to);
                };
                let (ended, ()) = tokio::join!(ended(&stream, start, input), feed);
                assert_eq!(ended, Ok(End::Finished));
            }
            for is_lossy in [true, false] {
                let start = Start {
                    since: (!is_lossy).then_some(0),
                    ..recording.start(stream.extent().await.expect("no faults"), None)
                };
                let (to, input) = mpsc::channel(4);
                let (all, losing) = (all.clone(), Arc::clone(&stream));
                let feed = tokio::spawn(async move {
                    for (index, batch) in all.into_iter().enumerate() {
                        if is_lossy {
                            let pause_ms = if index == 4 { pause_s * 1000 } else { 50 };
                            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                        }
                        if is_lossy && index == 4 {
                            losing.lose_to(other.instance, lost);
                        }
                        let sent = to.send(Input::Batches(vec![batch], None)).await;
                        assert!(sent.is_ok(), "it runs");
                    }
                    if is_lossy {
                        to.closed().await;
                    }
                });
                let ended = ended(&stream, start, input).await;
                feed.abort();
                let wanted = if is_lossy { End::Lost } else { End::Finished };
                assert_eq!(ended, Ok(wanted));
            }
            let stored = stream.stored("device.0");
            let own = stored
                .iter()
                .filter(|it| it.head.instance == recording.instance);
            let mut bodies = Vec::new();
            for outgoing in own {
                let messages = Messages::new(&outgoing.head, &outgoing.body);
                bodies.extend(
                    messages.map(|it| {
                        String::from_utf8_lossy(it.expect("well-formed").data).into_owned()
                    }),
                );
            }
            // The lost ones come after the next message, which was accepted.
            let place = |text: &str| bodies.iter().position(|it| it == text);
            let again = (4 - lost).to_string();
            assert!(place("4") < place(&again), "{bodies:?}");
            bodies.sort_unstable();
            let all: Vec<_> = (0..9).map(|it| it.to_string()).collect();
            assert_eq!(bodies, all, "{lost} {session:?}");
        });
    }
}

/// The answers to those that are lost and to the others arrive together.
#[test]
fn a_loss_while_the_answers_are_held_on_the_way_is_noticed() {
    runtime().block_on(async {
        let mut recording = Recording::new(1, 15, &mut Chance(2));
        let file = (1, FileNonce::new());
        for (message, before) in recording.messages.iter_mut().zip(0..) {
            (message.before, message.seq, message.since) = (before, 0, 0);
            (message.subject, message.file) = (format!("device.{before}").into(), file);
            message.data.truncate(BODY_MAX / 4);
        }
        let stream = Arc::new(FakeStream::new(1, Faults::default()));
        let start = recording.start(stream.extent().await.expect("no faults"), None);
        let (to, input) = mpsc::channel(4);
        let (all, losing) = (batches(&recording.messages), Arc::clone(&stream));
        let feed = tokio::spawn(async move {
            for (index, batch) in all.into_iter().enumerate() {
                if index == 1 {
                    tokio::time::sleep(Duration::from_millis(3100)).await;
                    losing.hold(Duration::from_secs(1));
                } else if index == 6 {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    losing.lose_elsewhere(5, 0);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                let sent = to.send(Input::Batches(vec![batch], None)).await;
                assert!(sent.is_ok(), "it runs");
            }
            to.closed().await;
        });
        let ended = ended(&stream, start, input).await;
        feed.abort();
        assert_eq!(ended, Ok(End::Lost));
    });
}

#[test]
fn losses_at_other_servers_are_noticed() {
    for seed in 0..seeds() {
        runtime().block_on(async move {
            let mut chance = Chance(seed);
            let quiet = Duration::from_millis(
                [chance.below(100), 150 + chance.below(12_000)][seed as usize % 2],
            );
            let lost = 1 + chance.below(20);
            // A server takes time to restart, and to store others.
            let others = chance.below([lost, 2 * lost][seed as usize % 2]);
            let pause = Duration::from_millis(chance.below(chance.clone().below(1000) + 1));
            eprintln!("seed {seed}");
            lose(Loss {
                quiet,
                lost: lost as usize,
                others: others as usize,
                pause,
            })
            .await;
        });
    }
}

#[test]
fn checks_end_however_many_subjects_fail_meanwhile() {
    runtime().block_on(async {
        let recording = Recording::new(1, 1, &mut Chance(2));
        let one = &recording.messages[0];
        let stream = Arc::new(FakeStream::new(2, Faults::default()));
        stream.set_foreign(Some("stopped."));
        let start = recording.start(stream.extent().await.expect("no faults"), None);
        let (to, input) = mpsc::channel(4);
        let mut order = 0;
        let mut batch = |subject: String, seq: u64| {
            order += 1;
            let message = Recorded {
                subject: subject.into(),
                seq,
                before: order,
                ..one.clone()
            };
            let mut batch = batches(&[message]).remove(0);
            batch.order = order;
            Input::Batches(vec![batch], None)
        };
        let watched = Arc::clone(&stream);
        let feed = async {
            // Their retries are spread over the time.
            for index in 0..2000 {
                to.send(batch(format!("stopped.{index}"), 0))
                    .await
                    .expect("it runs");
                tokio::time::sleep(Duration::from_micros(2600)).await;
            }
            for index in 0..600 {
                to.send(batch("device.0".to_owned(), index))
                    .await
                    .expect("it runs");
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            let begin = Instant::now();
            to.send(batch("new".to_owned(), 0)).await.expect("it runs");
            while watched.stored("new").is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let took = begin.elapsed();
                assert!(took < Duration::from_millis(300), "a new subject waits");
            }
        };
        let dispatcher = Dispatcher::new(Arc::clone(&stream), Arc::<Progress>::default(), start);
        tokio::select! {
            ended = dispatcher.run(input, |_: &Cursor| {}) => panic!("ended: {ended:?}"),
            () = feed => {}
        }
    });
}

#[test]
fn the_requests_of_a_check_are_made_at_the_same_time() {
    runtime().block_on(async {
        let (recording, _) = recording(120);
        let stream = Arc::new(FakeStream::new(1, Faults::default()));
        recording
            .forward(&stream, Chance(1), &mut Saved::default(), None)
            .await;
        let extent = stream.extent().await.expect("no faults");
        let proofs = all_of(&stream, extent.last).await;
        assert!(40 < proofs.len());
        let mut start = recording.start(extent, None);
        start.reached = Reached {
            proofs,
            created: extent.created,
            ..Reached::default()
        };
        let one = Recorded {
            subject: "new".into(),
            ..recording.messages[0].clone()
        };
        let (to, input) = mpsc::channel(1);
        let begin = Instant::now();
        let batches = batches(&[one]);
        to.send(Input::Batches(batches, None)).await.expect("room");
        drop(to);
        let dispatcher = Dispatcher::new(Arc::clone(&stream), Arc::default(), start);
        assert_eq!(dispatcher.run(input, |_: &Cursor| {}).await, End::Finished);
        // A request takes 5 ms.
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(150), "{took:?}");
    });
}

#[test]
fn messages_are_stored_while_many_others_are_checked() {
    runtime().block_on(async {
        let (recording, _) = recording(4000);
        let stream = Arc::new(FakeStream::new(1, Faults::default()));
        recording
            .forward(&stream, Chance(1), &mut Saved::default(), None)
            .await;
        let extent = stream.extent().await.expect("no faults");
        let mut proofs = all_of(&stream, extent.last).await;
        // More than may be pinned.
        assert!(1024 < proofs.len(), "{}", proofs.len());
        proofs.drain(..proofs.len() - 1025);
        let one = Recorded {
            subject: "known".into(),
            ..recording.messages[0].clone()
        };
        let mut start = recording.start(extent, None);
        let (number, nonce) = one.file;
        let begin = Place {
            number,
            nonce,
            messages: one.before,
            bytes: 0,
        };
        start.reached = Reached {
            subjects: [("known".into(), (begin, proofs[1024]))].into(),
            proofs,
            created: extent.created,
        };
        let (to, input) = mpsc::channel(1);
        to.send(Input::Batches(batches(&[one]), None))
            .await
            .expect("room");
        let begin = Instant::now();
        let watched = Arc::clone(&stream);
        let stored = async {
            while watched.stored("known").is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            begin.elapsed()
        };
        let dispatcher = Dispatcher::new(Arc::clone(&stream), Arc::default(), start);
        let took = tokio::select! {
            ended = dispatcher.run(input, |_: &Cursor| {}) => panic!("ended: {ended:?}"),
            took = stored => took,
        };
        // The whole check takes more than half a second.
        assert!(took < Duration::from_millis(200), "{took:?}");
    });
}

#[test]
fn many_subjects_begin_soon_although_each_waits_for_a_leader_to_settle() {
    runtime().block_on(async {
        let mut recording = Recording::new(1, 1, &mut Chance(4));
        let one = recording.messages[0].clone();
        let of = |index: usize| Recorded {
            subject: format!("device.{index}").into(),
            ..one.clone()
        };
        recording.messages = (0..5000).map(of).collect();
        let faults = Faults {
            is_behind: true,
            ..Faults::default()
        };
        let stream = Arc::new(FakeStream::new(4, faults));
        let mut file = Saved::default();
        let all = recording.forward(&stream, Chance(1), &mut file, None);
        let all = tokio::time::timeout(Duration::from_secs(25), all).await;
        assert!(all.is_err(), "without the faults of some");
        let subjects = recording.messages.iter().map(|it| &it.subject);
        let stored = subjects.filter(|it| !stream.stored(it).is_empty()).count();
        assert!(4000 < stored, "{stored} of 5000");
    });
}
