//! Two daemons that write to one subject of a stream that goes back to an older state while their messages are on the way: the number of
//! a lost message can be that of another one, after which the next message is accepted.

use std::collections::BTreeMap;

use super::*;

/// Messages of a recording.
const LEN: usize = 30;
/// Virtual time in which everything is stored.
const ENDS: Duration = Duration::from_secs(20_000);

/// What may be different.
#[derive(Clone, Copy, Debug)]
struct Course {
    /// Messages that nobody waits for any more are stored, too.
    is_late: bool,
    /// The daemons end, and start again, between parts of the recording.
    restarts: bool,
    /// Some messages have parts.
    is_long: bool,
}

#[test]
fn messages_that_are_held_while_a_server_goes_back_are_stored_once() {
    forward_all(false);
}

#[test]
fn messages_that_arrive_late_after_a_server_has_gone_back_are_stored_once() {
    forward_all(true);
}

fn forward_all(is_late: bool) {
    for (restarts, is_long) in [(false, false), (false, true), (true, false), (true, true)] {
        let course = Course {
            is_late,
            restarts,
            is_long,
        };
        for seed in 0..seeds() {
            runtime().block_on(forward(seed, course));
        }
    }
}

async fn forward(seed: u64, course: Course) {
    let mut chance = Chance(seed);
    let recordings = [1, 2].map(|name| of_one_subject(name, course, &mut chance));
    let faults = Faults {
        goes_back: true,
        is_late: course.is_late,
        ..Faults::default()
    };
    let stream = Arc::new(FakeStream::new(seed, faults));
    let mut files = <[Saved; 2]>::default();
    let rounds: &[usize] = match course.restarts {
        true => &[LEN / 3, 2 * LEN / 3, LEN, LEN],
        false => &[LEN, LEN],
    };
    for (round, len) in (1..).zip(rounds) {
        if round == rounds.len() {
            // A daemon that has ended sends messages that are lost later at its next start.
            stream.keep();
        }
        let [file, other_file] = &mut files;
        let chances = [1, 2].map(|name| Chance(seed ^ name ^ ((round as u64) << 32)));
        let [chance, other_chance] = chances;
        let [one, other] = recordings.each_ref().map(|it| Recording {
            instance: it.instance,
            messages: it.messages[..*len].to_vec(),
        });
        let both = async {
            tokio::join!(
                one.forward(&stream, chance, file, None),
                other.forward(&stream, other_chance, other_file, None)
            )
        };
        let ended = tokio::time::timeout(ENDS, both).await;
        assert!(ended.is_ok(), "{course:?} seed {seed}: it does not end");
    }
    for recording in &recordings {
        let counts = counts(recording, &stream);
        let wrong: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
        assert!(wrong.is_empty(), "{course:?} seed {seed}: {wrong:?}");
    }
}

/// A recording of one device.
fn of_one_subject(name: u64, course: Course, chance: &mut Chance) -> Recording {
    let mut recording = Recording::new(name, LEN, chance);
    let mut next: HashMap<u64, u64> = HashMap::new();
    for message in &mut recording.messages {
        if !course.is_long {
            message.data.truncate(30);
        }
        message.subject = "device.0".into();
        let seq = next.entry(message.connection).or_default();
        (message.seq, message.since) = (*seq, *seq);
        *seq += 1;
    }
    recording
}

/// How often each message is in the stream, as a reader joins the parts.
fn counts(recording: &Recording, stream: &FakeStream) -> BTreeMap<String, usize> {
    let name = |data: &[u8]| {
        let text = String::from_utf8_lossy(data);
        text.trim_end_matches('.').to_owned()
    };
    let messages = recording.messages.iter();
    let mut counts: BTreeMap<_, _> = messages.map(|it| (name(&it.data), 0)).collect();
    let mut joined = Vec::new();
    for outgoing in stream.stored("device.0") {
        let head = &outgoing.head;
        if head.instance != recording.instance {
            continue;
        }
        match head.part {
            Some((offset, _)) if offset as usize <= joined.len() => {
                joined.truncate(offset as usize);
            }
            Some(_) => {
                joined.clear();
                continue;
            }
            None => joined.clear(),
        }
        for message in Messages::new(head, &outgoing.body) {
            joined.extend_from_slice(message.expect("well-formed").data);
            if head.part.is_none_or(|(_, len)| len <= joined.len() as u64) {
                let whole = std::mem::take(&mut joined);
                *counts.entry(name(&whole)).or_default() += 1;
            }
        }
    }
    counts
}
