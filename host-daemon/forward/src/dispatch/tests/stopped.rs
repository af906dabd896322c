//! Subjects and streams that stop: the others go on, and nothing is lost when they work again.

use super::*;
use crate::lane::LastSeen;

/// A dispatcher with little memory, to which everything is fed, and what it saves.
async fn run_once(
    recording: &Recording,
    stream: &Arc<FakeStream>,
    cursor: &mut Option<Cursor>,
    reached: Reached,
    queued_max: usize,
    limit: Duration,
) -> Option<End> {
    let progress = Arc::default();
    run_with(
        recording, stream, cursor, reached, queued_max, limit, &progress,
    )
    .await
}

/// Forwards all messages within a time, and checks them.
async fn finish(
    recording: &Recording,
    stream: &Arc<FakeStream>,
    cursor: &mut Option<Cursor>,
    limit: Duration,
) {
    let none = Reached::default();
    let ended = run_once(recording, stream, cursor, none, usize::MAX, limit).await;
    assert_eq!(ended, Some(End::Finished));
    recording.check(stream);
}

/// As [`run_once`], with this progress.
async fn run_with(
    recording: &Recording,
    stream: &Arc<FakeStream>,
    cursor: &mut Option<Cursor>,
    reached: Reached,
    queued_max: usize,
    limit: Duration,
    progress: &Arc<Progress>,
) -> Option<End> {
    let extent = stream.extent().await.expect("no faults");
    let from = cursor.as_ref().map(|it| it.place);
    let newest = cursor.as_ref().map(|it| it.newest);
    let (to, input) = mpsc::channel(4);
    let batches = recording.batches(from, &mut Chance(1));
    let end = recording.end();
    let feed = tokio::spawn(async move {
        for (index, batch) in batches.into_iter().enumerate() {
            if index < 50 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            if to.send(Input::Batches(vec![batch], None)).await.is_err() {
                return;
            }
        }
        let _ = to.send(Input::Reached(end)).await;
        let _ = to.send(Input::CaughtUp { is_damaged: false }).await;
    });
    let start = Start {
        reached,
        ..recording.start(extent, newest)
    };
    let mut dispatcher = Dispatcher::new(Arc::clone(stream), Arc::clone(progress), start);
    dispatcher.waiting.max = queued_max;
    let save = |saved: &Cursor| *cursor = Some(saved.clone());
    let ended = tokio::time::timeout(limit, dispatcher.run(input, save)).await;
    feed.abort();
    ended.ok()
}

#[test]
fn a_subject_that_stops_does_not_stop_the_others_and_is_read_again() {
    runtime().block_on(async {
        let recording = Recording::new(1, 400, &mut Chance(1));
        let stream = Arc::new(FakeStream::new(1, Faults::default()));
        stream.set_foreign(Some("device.0"));
        let watched = Arc::clone(&stream);
        let mended = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(300)).await;
            let stored = [1, 2].map(|device| watched.stored(&format!("device.{device}")).len());
            watched.set_foreign(None);
            stored
        });
        let mut cursor = None;
        // Less than the stopped subject has.
        let limit = Duration::from_secs(1000);
        let none = Reached::default();
        let ended = run_once(&recording, &stream, &mut cursor, none, 4000, limit).await;
        let Some(End::Again(reached, _)) = ended else {
            panic!("not read again: {ended:?}");
        };
        let stored = mended.await.expect("no panic");
        for (device, len) in (1..).zip(stored) {
            let all = stream.stored(&format!("device.{device}")).len();
            assert_eq!(len, all, "device {device} had everything before");
            assert!(10 < len);
        }
        let ended = run_once(&recording, &stream, &mut cursor, reached, 4000, limit).await;
        assert_eq!(ended, Some(End::Finished));
        recording.check(&stream);
    });
}

#[test]
fn subjects_that_are_taken_again_share_a_reading() {
    for (caught_up_s, wanted_s) in [(30, 30), (1000, 60)] {
        runtime().block_on(async {
            let recording = Recording::new(1, 400, &mut Chance(1));
            let stream = Arc::new(FakeStream::new(1, Faults::default()));
            stream.set_foreign(Some("device.0"));
            let start = recording.start(stream.extent().await.expect("no faults"), None);
            let begin = Instant::now();
            let (to, input) = mpsc::channel(4);
            let (freeing, batches) = (Arc::clone(&stream), recording.batches(None, &mut Chance(1)));
            let end = recording.end();
            let feed = async move {
                for batch in batches {
                    let _ = to.send(Input::Batches(vec![batch], None)).await;
                }
                let _ = to.send(Input::Reached(end)).await;
                tokio::time::sleep_until(begin + Duration::from_secs(15)).await;
                freeing.set_foreign(None);
                tokio::time::sleep_until(begin + Duration::from_secs(caught_up_s)).await;
                let _ = to.send(Input::CaughtUp { is_damaged: false }).await;
                to.closed().await;
            };
            let mut dispatcher = Dispatcher::new(Arc::clone(&stream), Arc::default(), start);
            dispatcher.waiting.max = 4000;
            let mut cursor = None;
            let running = dispatcher.run(input, |saved: &Cursor| cursor = Some(saved.clone()));
            let ended = tokio::select! {
                ended = running => ended,
                () = feed => unreachable!(),
            };
            assert!(matches!(ended, End::Again(..)), "{ended:?}");
            let took_s = begin.elapsed().as_secs();
            assert!(
                (wanted_s..wanted_s + 6).contains(&took_s),
                "after {took_s} s"
            );
            // No place was saved after messages that were not kept.
            finish(&recording, &stream, &mut cursor, Duration::from_secs(1000)).await;
        });
    }
}

#[test]
fn what_is_lost_when_a_subject_is_taken_again_is_sent_again() {
    // With the place that was saved, and without.
    for lost in [1, 3, 10, 1000] {
        runtime().block_on(async {
            let recording = Recording::new(1, 400, &mut Chance(1));
            let stream = Arc::new(FakeStream::new(1, Faults::default()));
            let losing = Arc::clone(&stream);
            tokio::spawn(async move {
                // After some messages of the subject.
                tokio::time::sleep(Duration::from_millis(200)).await;
                losing.set_foreign(Some("device.0"));
                // Between two checks.
                tokio::time::sleep(Duration::from_secs(303)).await;
                losing.lose_newest(lost);
                losing.set_foreign(None);
            });
            let (mut cursor, mut known) = (None, Reached::default());
            let (mut has_lost, mut reads) = (false, 0);
            let limit = Duration::from_secs(1000);
            while let Some(ended) =
                run_once(&recording, &stream, &mut cursor, known, 4000, limit).await
            {
                reads += 1;
                known = Reached::default();
                match ended {
                    End::Again(reached, _) => known = reached,
                    End::Lost => (cursor, has_lost) = (None, true),
                    End::Copied(_) => panic!("there is no copy"),
                    End::Finished => break,
                }
            }
            assert!(has_lost && 1 < reads, "{lost} lost: {reads} reads");
            recording.check(&stream);
        });
    }
}

#[test]
fn a_subject_that_stops_first_does_not_take_the_place_of_the_others() {
    runtime().block_on(async {
        let mut recording = Recording::new(1, 400, &mut Chance(1));
        // All of the stopped subject come before the others, and more than may wait.
        let file = recording.messages[0].file;
        recording.messages.sort_by_key(|it| it.subject.clone());
        for (before, message) in recording.messages.iter_mut().enumerate() {
            (message.file, message.before) = (file, before as u64);
        }
        let stream = Arc::new(FakeStream::new(1, Faults::default()));
        stream.set_foreign(Some("device.0"));
        let (none, limit) = (Reached::default(), Duration::from_secs(60));
        let progress = Arc::<Progress>::default();
        let ended = run_with(&recording, &stream, &mut None, none, 4000, limit, &progress).await;
        assert_eq!(ended, None);
        let (stopped, others): (Vec<_>, Vec<_>) = std::mem::take(&mut recording.messages)
            .into_iter()
            .partition(|it| &*it.subject == "device.0");
        // Messages that are not kept wait, too.
        let waiting: usize = stopped.iter().map(|it| it.data.len()).sum();
        let shown = progress.read().queued_bytes;
        let headers = 4 * stopped.len();
        assert!(
            (waiting..=waiting + 2 * headers).contains(&(shown as usize)),
            "{shown} of {waiting}"
        );
        recording.messages = others;
        recording.check(&stream);
    });
}

#[test]
fn messages_that_were_deleted_do_not_wait_for_the_window_of_duplicates() {
    runtime().block_on(async {
        let recording = Recording::new(1, 100, &mut Chance(1));
        let stream = Arc::new(FakeStream::new(1, Faults::default()));
        stream.keep_ids();
        // The second start has no cursor, and sends everything again.
        for _ in 0..2 {
            stream.clear();
            finish(&recording, &stream, &mut None, Duration::from_secs(30)).await;
        }
    });
}

#[test]
fn many_subjects_that_stop_do_not_slow_the_others() {
    runtime().block_on(async {
        let mut recording = Recording::new(1, 60, &mut Chance(2));
        let one = recording.messages[0].clone();
        let stopped = (0..2000).map(|index| Recorded {
            subject: format!("stopped.{index}").into(),
            ..one.clone()
        });
        let others = std::mem::take(&mut recording.messages);
        recording.messages = stopped.collect();
        recording.messages.extend(others.iter().cloned());
        let stream = Arc::new(FakeStream::new(2, Faults::default()));
        stream.set_foreign(Some("stopped."));
        let limit = Duration::from_secs(6);
        let none = Reached::default();
        let ended = run_once(&recording, &stream, &mut None, none, usize::MAX, limit).await;
        assert_eq!(ended, None);
        recording.messages = others;
        recording.check(&stream);
    });
}

#[test]
fn many_subjects_without_answers_do_not_slow_the_others() {
    runtime().block_on(async {
        let recording = Recording::new(1, 60, &mut Chance(2));
        let one = recording.messages[0].clone();
        let silent = Recording {
            instance: recording.instance,
            messages: (0..2000)
                .map(|index| Recorded {
                    subject: format!("silent.{index}").into(),
                    ..one.clone()
                })
                .collect(),
        };
        let stream = Arc::new(FakeStream::new(2, Faults::default()));
        let start = recording.start(stream.extent().await.expect("no faults"), None);
        let (to, input) = mpsc::channel(4);
        let feed = async {
            let mut batches = silent.batches(None, &mut Chance(1));
            batches.iter_mut().for_each(|it| it.order += 1_000_000);
            to.send(Input::Batches(batches, None))
                .await
                .expect("it runs");
            // All have failed by then.
            tokio::time::sleep(Duration::from_secs(60)).await;
            let batches = recording.batches(None, &mut Chance(1));
            to.send(Input::Batches(batches, None))
                .await
                .expect("it runs");
            tokio::time::sleep(Duration::from_secs(6)).await;
        };
        let dispatcher = Dispatcher::new(Arc::clone(&stream), Arc::<Progress>::default(), start);
        tokio::select! {
            ended = dispatcher.run(input, |_: &Cursor| {}) => panic!("ended: {ended:?}"),
            () = feed => {}
        }
        recording.check(&stream);
    });
}

#[test]
fn a_message_that_is_refused_is_not_tried_without_pauses() {
    runtime().block_on(async {
        let recording = Recording::new(1, 10, &mut Chance(3));
        let stream = Arc::new(FakeStream::new(3, Faults::default()));
        let extent = stream.extent().await.expect("no faults");
        // Not noticed by a check: the others are as long as they may be.
        stream.set_refuses(true);
        let progress = Arc::<Progress>::default();
        let (to, input) = mpsc::channel(100);
        for batch in recording.batches(None, &mut Chance(1)) {
            to.send(Input::Batches(vec![batch], None))
                .await
                .expect("room");
        }
        let start = recording.start(extent, None);
        let dispatcher = Dispatcher::new(Arc::clone(&stream), Arc::clone(&progress), start);
        let ran = dispatcher.run(input, |_: &Cursor| {});
        assert!(
            tokio::time::timeout(Duration::from_secs(100), ran)
                .await
                .is_err()
        );
        let refused: u64 = progress.read().failures.iter().sum();
        // Three subjects: seven pauses up to 5 s, then one each 5 s.
        assert!((3..=3 * 28).contains(&refused), "{refused}");
        assert!(progress.read().problem.is_some());
    });
}

#[test]
fn nothing_is_published_while_the_stream_is_not_fit() {
    runtime().block_on(async {
        let recording = Recording::new(1, 40, &mut Chance(4));
        let stream = Arc::new(FakeStream::new(4, Faults::default()));
        let start = recording.start(stream.extent().await.expect("no faults"), None);
        let progress = Arc::<Progress>::default();
        let (to, input) = mpsc::channel(100);
        let dispatcher = Dispatcher::new(Arc::clone(&stream), Arc::clone(&progress), start);
        let (watched, shown) = (Arc::clone(&stream), Arc::clone(&progress));
        let batches = recording.batches(None, &mut Chance(1));
        let feed = tokio::spawn(async move {
            watched.set_unfit(true);
            // It is checked every ten seconds.
            tokio::time::sleep(Duration::from_secs(12)).await;
            for batch in batches {
                to.send(Input::Batches(vec![batch], None))
                    .await
                    .expect("it runs");
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            let stored: usize = (0..DEVICES)
                .map(|it| watched.stored(&format!("device.{it}")).len())
                .sum();
            assert_eq!(stored, 0);
            let problem = shown.read().problem.expect("a problem");
            assert!(problem.contains("less than three replicas"), "{problem}");
            watched.set_unfit(false);
        });
        let ran = dispatcher.run(input, |_: &Cursor| {});
        let ended = tokio::time::timeout(Duration::from_secs(1000), ran).await;
        feed.await.expect("no panic");
        assert_eq!(ended, Ok(End::Finished));
        recording.check(&stream);
        assert_eq!(progress.read().problem, None);
    });
}

#[test]
fn shorter_limits_of_a_stream_are_noticed() {
    runtime().block_on(async {
        let recording = Recording::new(1, 40, &mut Chance(5));
        let stream = Arc::new(FakeStream::new(5, Faults::default()));
        let start = recording.start(stream.extent().await.expect("no faults"), None);
        stream.set_body_max(BODY_MAX / 2);
        let (to, input) = mpsc::channel(100);
        for batch in recording.batches(None, &mut Chance(1)) {
            to.send(Input::Batches(vec![batch], None))
                .await
                .expect("room");
        }
        let dispatcher = Dispatcher::new(Arc::clone(&stream), Arc::<Progress>::default(), start);
        let ran = dispatcher.run(input, |_: &Cursor| {});
        let ended = tokio::time::timeout(Duration::from_secs(60), ran).await;
        assert!(matches!(ended, Ok(End::Again(..))), "{ended:?}");
    });
}

#[test]
fn a_lane_that_must_be_read_again_is_not_forgotten() {
    let instance = Instance::random();
    let recording = Recording::new(1, 40, &mut Chance(6));
    let batches = recording.batches(None, &mut Chance(1)).into_iter();
    let mut of_one = batches.filter(|it| &*it.subject == "device.0");
    let mut lane = Lane::default();
    for _ in 0..2 {
        lane.push(of_one.next().expect("several"));
    }
    lane.park();
    assert!(matches!(
        lane.step(instance, BODY_MAX, 0).0,
        Step::Look { .. }
    ));
    lane.found(LastSeen::default(), instance);
    while matches!(lane.step(instance, BODY_MAX, 0).0, Step::Send(_)) {
        lane.acked(1);
    }
    assert!(lane.must_be_read_again() && !lane.is_empty());
}

#[test]
fn short_messages_count_with_the_memory_that_they_take() {
    runtime().block_on(async {
        const MAX: usize = 1 << 20;
        let recording = Recording::new(1, 1, &mut Chance(6));
        let stream = Arc::new(FakeStream::new(6, Faults::default()));
        let start = recording.start(stream.extent().await.expect("no faults"), None);
        let (subject, channel) = (Arc::from("silent.0"), channel("device", None));
        let (to, input) = mpsc::channel(1);
        let feed = async {
            for number in 0..u64::MAX {
                let batch = Batch::new(&ReadMessage {
                    subject: &subject,
                    channel: &channel,
                    connection: 1,
                    seq: number,
                    file: recording.messages[0].file,
                    before: number,
                    order: number,
                    time: number,
                    data: b"x",
                });
                let sent = to.send(Input::Batches(vec![batch], None));
                let sent = tokio::time::timeout(Duration::from_secs(60), sent).await;
                if sent.is_err() {
                    return number as usize;
                }
            }
            0
        };
        let progress = Arc::<Progress>::default();
        let mut dispatcher = Dispatcher::new(stream, Arc::clone(&progress), start);
        dispatcher.waiting.max = MAX;
        let fed = tokio::select! {
            fed = feed => fed,
            ended = dispatcher.run(input, |_: &Cursor| {}) => panic!("{ended:?}"),
        };
        // One is in the channel.
        let (taken, each) = (fed - 1, size_of::<Batch>() + 1 + 4);
        assert!(taken * each < MAX && MAX / 4 < taken * each, "{taken}");
        assert_eq!(progress.read().queued_bytes, taken as u64 * 5);
    });
}

#[test]
fn messages_whose_files_are_deleted_are_counted_when_reading_begins_again() {
    runtime().block_on(async {
        for is_lost in [false, true] {
            let recording = Recording::new(1, 60, &mut Chance(7));
            let stream = Arc::new(FakeStream::new(7, Faults::default()));
            stream.set_refuses(true);
            let newest = is_lost.then_some(Newest {
                sequence: 9,
                nonce: 9,
            });
            let mut start = recording.start(stream.extent().await.expect("no faults"), newest);
            let kept = recording.messages[recording.messages.len() - 1].file;
            start.files = KnownFiles::new(move || Some(vec![kept]));
            if !is_lost {
                stream.set_body_max(BODY_MAX / 2);
            }
            let (to, input) = mpsc::channel(100);
            for batch in recording.batches(None, &mut Chance(1)) {
                let sent = to.send(Input::Batches(vec![batch], None));
                sent.await.expect("room");
            }
            let progress = Arc::<Progress>::default();
            progress.reads(kept.0);
            let dispatcher = Dispatcher::new(stream, Arc::clone(&progress), start);
            let ran = dispatcher.run(input, |_: &Cursor| {});
            let ended = tokio::time::timeout(Duration::from_secs(60), ran).await;
            assert_eq!(ended == Ok(End::Lost), is_lost, "{ended:?}");
            assert!(ended.is_ok());
            let deleted = recording.messages.iter().filter(|it| it.file != kept);
            let deleted = deleted.count() as u64;
            assert!(0 < deleted && deleted < recording.messages.len() as u64);
            assert_eq!(progress.read().missed, deleted);
            // It is deleted before it is read again, and the reader notices all of them.
            progress.deleted(kept.0, 5);
            assert_eq!(progress.read().missed, deleted + 5);
        }
    });
}
