//! Dispatchers of two daemons and a stream that fails in every way: each message is stored once, in order.

mod chance;
mod copied;
mod fake;
mod gone_back;
mod holes;
mod moved;
mod recorded;
mod spliced;
mod stopped;
mod unnoticed;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use blocksd_recording::FileNonce;
use tokio::sync::mpsc;

use self::chance::Chance;
use self::fake::{FakeStream, Faults};
use self::recorded::Recorded;
use super::*;
use crate::batch::{Channel, Kind, ReadMessage};
use crate::confirm::{NumberGap, Unsettled};
use crate::cursor::Saved;
use crate::message::Messages;
use crate::stream::Extent;

/// Longest body of a message of the stream.
const BODY_MAX: usize = 200;
/// Devices of a recording.
const DEVICES: u64 = 3;

/// A recording of random messages.
struct Recording {
    instance: Instance,
    messages: Vec<Recorded>,
}

impl Recording {
    /// The place after the last message.
    fn end(&self) -> Place {
        let last = self.messages.last().expect("a message");
        let (number, nonce) = last.file;
        Place {
            number,
            nonce,
            messages: last.before + 1,
            bytes: 0,
        }
    }

    fn start(&self, extent: Extent, newest: Option<Newest>) -> Start {
        let files: Vec<_> = self.messages.iter().map(|it| it.file).collect();
        Start {
            instance: self.instance,
            files: KnownFiles::new(move || Some(files.clone())),
            extent,
            newest,
            reached: Reached::default(),
            since: None,
        }
    }

    /// Forwards everything, with crashes. Every start reads from the beginning, or from the last place in the file, which is this.
    async fn forward(
        &self,
        stream: &Arc<FakeStream>,
        chance: Chance,
        file: &mut Saved,
        confirm: Option<Arc<dyn Confirm>>,
    ) {
        let known = Reached::default();
        let ended = self.forward_as(stream, chance, file, confirm, known).await;
        assert_eq!(ended, End::Finished, "there is no copy");
    }

    /// As [`forward`](Self::forward), until everything is stored or there is a copy.
    async fn forward_as(
        &self,
        stream: &Arc<FakeStream>,
        mut chance: Chance,
        file: &mut Saved,
        confirm: Option<Arc<dyn Confirm>>,
        mut known: Reached,
    ) -> End {
        let progress = Arc::<Progress>::default();
        let begun = (Instant::now(), file.cursors.first().map_or(0, |it| it.at_s));
        let mut has_gone_back = false;
        loop {
            let Ok(extent) = stream.extent().await else {
                continue;
            };
            let mut saved = file.clone();
            saved.retain_of(extent.created);
            saved.has_gone_back |= has_gone_back;
            match saved.remove_lost(&**stream, &extent).await {
                Ok(is_older) => saved.has_gone_back |= is_older,
                Err(_) => continue,
            }
            has_gone_back = saved.has_gone_back;
            *file = saved;
            let newest = file.cursors.first().map(|it| it.cursor.newest);
            let from = file.place();
            let batches = self.batches(from, &mut chance);
            let (to, input) = mpsc::channel(4);
            let end = self.end();
            let delays = chance.is(2);
            let mut pauses = stream.goes_back().then(|| chance.clone());
            let unsettled = unsettled(confirm.as_deref(), true);
            let feed = tokio::spawn(async move {
                for batch in batches {
                    if delays {
                        tokio::time::sleep(Duration::from_millis(700)).await;
                    } else if let Some(pauses) = &mut pauses {
                        tokio::time::sleep(Duration::from_millis(pauses.below(200))).await;
                    }
                    if to.send(Input::Batches(vec![batch], None)).await.is_err() {
                        return;
                    }
                }
                // The dispatcher may have ended.
                let _ = to.send(Input::Reached(end)).await;
                let _ = to.send(Input::CaughtUp { is_damaged: false }).await;
                let _ = to.send(Input::Unsettled(unsettled)).await;
            });
            let start = Start {
                reached: std::mem::take(&mut known),
                since: has_gone_back.then(|| newest.map_or(0, |it| it.sequence)),
                ..self.start(extent, newest)
            };
            let dispatcher = Dispatcher::new(Arc::clone(stream), Arc::clone(&progress), start)
                .confirming(confirm.clone());
            let limit = match chance.is(2) && stream.is_faulty() && !stream.is_purged() {
                true => Duration::from_millis(chance.below(40_000)),
                false => Duration::from_secs(100_000),
            };
            let save = |saved: &Cursor| {
                has_gone_back = false;
                file.has_gone_back = false;
                file.add(saved.clone(), begun.1 + begun.0.elapsed().as_secs());
            };
            let ended = tokio::time::timeout(limit, dispatcher.run(input, save)).await;
            feed.abort();
            match ended {
                // The stream has not answered.
                Ok(End::Finished) if !self::unsettled(confirm.as_deref(), false).is_empty() => {}
                Ok(ended @ (End::Finished | End::Copied(_))) => return ended,
                Ok(End::Lost) => {
                    has_gone_back = true;
                    file.has_gone_back = true;
                }
                Ok(End::Again(reached, _)) => known = reached,
                // A crash. The file may have been deleted, unless it says that the stream has gone back, or the stream does not say any
                // more what it had.
                Err(_) => {
                    let may_be_deleted = !has_gone_back && !stream.is_purged() && chance.is(2);
                    if may_be_deleted {
                        *file = Saved::default();
                    }
                    has_gone_back = false;
                }
            }
        }
    }

    /// Checks the messages of a stream against those of the recording: each once, in order.
    fn check(&self, stream: &FakeStream) {
        for device in 0..DEVICES {
            let subject: Arc<str> = format!("device.{device}").into();
            let (mut found, mut joined) = (Vec::new(), Vec::new());
            for outgoing in stream.stored(&subject) {
                eprintln!(
                    "{subject} {} exp {} {} seen {} first {} n {}",
                    outgoing.head.instance,
                    outgoing.expected,
                    outgoing.head.place,
                    outgoing.head.seen,
                    outgoing.head.first,
                    outgoing.head.count
                );
                let head = &outgoing.head;
                if head.instance != self.instance {
                    continue;
                }
                for message in Messages::new(head, &outgoing.body) {
                    let message = message.expect("well-formed");
                    joined.extend_from_slice(message.data);
                    if let Some((offset, len)) = head.part
                        && offset + (message.data.len() as u64) < len
                    {
                        assert_eq!(joined.len() as u64, offset + message.data.len() as u64);
                        continue;
                    }
                    let data = std::mem::take(&mut joined);
                    found.push((head.connection, message.number, message.time, data));
                }
            }
            let own = self.messages.iter().filter(|it| it.subject == subject);
            let expected: Vec<_> = own
                .map(|it| (it.connection, it.seq, it.time, it.data.clone()))
                .collect();
            let short = |all: &[(u64, u64, u64, Vec<u8>)]| -> Vec<String> {
                let text = |data: &[u8]| {
                    String::from_utf8_lossy(data)
                        .trim_end_matches('.')
                        .to_owned()
                };
                all.iter()
                    .map(|(conn, seq, time, data)| {
                        format!("{conn}/{seq} {time} {} {}", text(data), data.len())
                    })
                    .collect()
            };
            assert_eq!(short(&found), short(&expected), "{subject}");
        }
    }
}

/// All sessions that are not settled.
fn unsettled(confirm: Option<&dyn Confirm>, all: bool) -> Vec<Asked> {
    let unsettled = confirm.map(|it| it.unsettled(all)).unwrap_or_default();
    let asked = unsettled.into_iter().map(|unsettled| Asked {
        subject: Arc::clone(&unsettled.device),
        gap: None,
        is_whole: false,
        unsettled,
    });
    asked.collect()
}

/// A channel of a device, with a session or not.
fn channel(device: &str, session: Option<String>) -> Arc<Channel> {
    Arc::new(Channel {
        kind: Kind::Messages,
        framing: "blocks".to_owned(),
        decode: "raw".to_owned(),
        session,
        device: device.into(),
    })
}

/// Forwards two recordings to a stream at once.
fn run(seed: u64, faults: Faults) {
    runtime().block_on(async move {
        let mut chance = Chance(seed);
        let recordings = [1, 2].map(|name| Recording::new(name, 40, &mut chance));
        let stream = Arc::new(FakeStream::new(seed, faults));
        forward_both(seed, &recordings, &stream, [None, None]).await;
        eprintln!("seed {seed}");
        for recording in &recordings {
            recording.check(&stream);
        }
    });
}

/// Forwards two recordings to a stream at once, until it has everything.
async fn forward_both(
    seed: u64,
    recordings: &[Recording; 2],
    stream: &Arc<FakeStream>,
    confirms: [Option<Arc<dyn Confirm>>; 2],
) {
    let [one, other] = recordings;
    let mut files = <[Saved; 2]>::default();
    for round in 0..2 {
        let [file, other_file] = &mut files;
        let chances = [1, 2].map(|name| Chance(seed ^ name ^ (round << 32)));
        let [chance, other_chance] = chances;
        tokio::join!(
            one.forward(stream, chance, file, confirms[0].clone()),
            other.forward(stream, other_chance, other_file, confirms[1].clone())
        );
        // A daemon that has finished sends what the stream loses later at its next start.
        stream.keep();
    }
}

#[test]
fn a_subject_that_stops_stays_a_problem_while_the_others_work() {
    runtime().block_on(async {
        let recording = Recording::new(1, 40, &mut Chance(1));
        let faults = Faults {
            is_foreign: true,
            ..Faults::default()
        };
        let stream = Arc::new(FakeStream::new(1, faults));
        let (to, input) = mpsc::channel(4);
        let (first, later) = (
            recording.batches(None, &mut Chance(1)),
            Duration::from_secs(60),
        );
        let progress = Arc::new(Progress::to("here"));
        let watched = Arc::clone(&progress);
        let feed = tokio::spawn(async move {
            let mut problems = Vec::new();
            for batch in first {
                tokio::time::sleep(Duration::from_secs(1)).await;
                problems.push(watched.read().problem.is_some());
                // The dispatcher runs until its time has passed.
                let _ = to.send(Input::Batches(vec![batch], None)).await;
            }
            to.closed().await;
            problems
        });
        let start = recording.start(stream.extent().await.expect("no faults"), None);
        let dispatcher = Dispatcher::new(Arc::clone(&stream), Arc::clone(&progress), start);
        let ended = tokio::time::timeout(later, dispatcher.run(input, |_: &Cursor| {})).await;
        assert!(ended.is_err());
        let problems = feed.await.expect("no panic");
        let mut problems = problems.into_iter().skip_while(|is_so| !is_so);
        assert!(problems.all(|is_so| is_so));
        let stored = |subject| stream.stored(subject).len();
        assert_eq!(stored("device.0"), 0);
        assert!(0 < stored("device.1") && 0 < stored("device.2"));
        let problem = progress.read().problem.expect("a problem");
        assert!(problem.contains("message 7 of device.0"), "{problem}");
    });
}

#[test]
fn each_message_is_stored_once_and_in_order() {
    for seed in 0..20 {
        run(seed, Faults::default());
    }
}

#[test]
fn answers_that_are_lost_or_late_lose_and_double_nothing() {
    for seed in 0..seeds() {
        run(
            seed,
            Faults {
                is_faulty: true,
                ..Faults::default()
            },
        );
    }
}

#[test]
fn a_leader_that_answers_before_it_has_settled_doubles_nothing() {
    let faults = Faults {
        is_faulty: true,
        is_behind: true,
        ..Faults::default()
    };
    for seed in 0..seeds() {
        runtime().block_on(async {
            // Of one daemon: such a leader takes messages of two of them as if both were the next.
            let recording = Recording::new(1, 40, &mut Chance(seed));
            let stream = Arc::new(FakeStream::new(seed, faults));
            recording
                .forward(&stream, Chance(seed), &mut Saved::default(), None)
                .await;
            eprintln!("seed {seed}");
            recording.check(&stream);
        });
    }
}

#[test]
fn messages_that_the_stream_loses_are_sent_again() {
    for seed in 0..seeds() {
        run(
            seed,
            Faults {
                is_faulty: true,
                loses: true,
                ..Faults::default()
            },
        );
    }
}

#[test]
fn messages_that_somebody_deletes_are_not_sent_again() {
    for seed in 0..seeds() {
        run(
            seed,
            Faults {
                is_faulty: true,
                is_purged: true,
                ..Faults::default()
            },
        );
    }
}

#[test]
fn a_stream_that_is_made_again_gets_everything_again() {
    for seed in 0..seeds() {
        run(
            seed,
            Faults {
                is_faulty: true,
                is_remade: true,
                ..Faults::default()
            },
        );
    }
}

/// A runtime whose time is simulated.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    builder.build().expect("a runtime")
}

/// Number of seeds of a test.
fn seeds() -> u64 {
    let seeds = std::env::var("BLOCKSD_TEST_SEEDS");
    seeds.ok().and_then(|it| it.parse().ok()).unwrap_or(100)
}
