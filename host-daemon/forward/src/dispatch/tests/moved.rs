//! Devices that move between two daemons in the middle of their sessions: each message that a daemon has recorded is in the stream
//! once, although both have some of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;

use super::gone_back::{SESSION, Source};
use super::*;
use crate::lane::LastSeen;
use crate::place::Seen;
use crate::stored::Stored;
use crate::stream::Last;

/// A session: which numbers each recording has.
#[derive(Debug, Default)]
struct Moving {
    session: String,
    /// The number after the last one that was recorded anywhere.
    next: u64,
    /// The numbers after the last ones of both recordings.
    ends: [u64; 2],
}

/// Two recordings of devices that move.
fn recordings(chance: &mut Chance) -> [Recording; 2] {
    let mut moving: BTreeMap<u64, Moving> = BTreeMap::new();
    let mut recordings = [(); 2].map(|()| Recording {
        instance: Instance::random(),
        messages: Vec::new(),
    });
    let mut files = [(1, FileNonce::new()), (1, FileNonce::new())];
    let mut counts = [0; 2];
    for visit in 0..30 {
        let device = chance.below(DEVICES);
        let state = moving.entry(device).or_default();
        if state.session.is_empty() || chance.is(8) {
            *state = Moving {
                session: format!("{:016x}", 1 + visit),
                ..Moving::default()
            };
        }
        let index = chance.below(2) as usize;
        // Messages that are not acknowledged are sent again; some are given up.
        let begin = match chance.is(6) {
            true => state.next + chance.below(3),
            false => state.next.saturating_sub(chance.below(8)),
        };
        let begin = begin.max(state.ends[index]);
        let end = begin + chance.below(7);
        // What the device has given up, and what the other daemon has acknowledged.
        let mut since = state.ends[index];
        let subject: Arc<str> = format!("device.{device}").into();
        let channel = channel(&subject, Some(state.session.clone()));
        for number in begin..end {
            if chance.is(20) {
                files[index] = (files[index].0 + 1, FileNonce::new());
                counts[index] = 0;
            }
            let mut data = format!("{} {number} ", state.session).into_bytes();
            if (number + device).is_multiple_of(9) {
                data.resize(2 * BODY_MAX, b'.');
            }
            counts[index] += 1;
            recordings[index].messages.push(Recorded {
                file: files[index],
                before: counts[index] - 1,
                subject: Arc::clone(&subject),
                channel: Arc::clone(&channel),
                connection: visit,
                seq: number,
                since,
                time: visit * 1000,
                data,
            });
            since = number + 1;
        }
        if begin < end {
            state.next = state.next.max(end);
            state.ends[index] = end;
        }
    }
    recordings
}

/// Checks that the stream has each message of both recordings once, and those of each daemon in their order.
fn check(recordings: &[Recording; 2], stream: &FakeStream) {
    for device in 0..DEVICES {
        let subject: Arc<str> = format!("device.{device}").into();
        let mut found = Vec::new();
        let mut parts: BTreeMap<Instance, Vec<u8>> = BTreeMap::new();
        for outgoing in stream.stored(&subject) {
            let head = &outgoing.head;
            let session = head.session.clone().expect("a session");
            let part = parts.entry(head.instance).or_default();
            for message in Messages::new(head, &outgoing.body) {
                let message = message.expect("well-formed");
                if let Some((offset, len)) = head.part {
                    // The beginning of a message that the other daemon has forwarded as a whole may be there, too.
                    part.truncate(offset as usize);
                    assert_eq!(part.len() as u64, offset);
                    part.extend_from_slice(message.data);
                    if offset + (message.data.len() as u64) < len {
                        continue;
                    }
                    found.push((head.instance, session.clone(), message.number, part.clone()));
                } else {
                    let data = message.data.to_vec();
                    found.push((head.instance, session.clone(), message.number, data));
                }
                part.clear();
            }
        }
        let mut wanted = BTreeSet::new();
        for recording in recordings {
            let own: Vec<_> = recording
                .messages
                .iter()
                .filter(|it| it.subject == subject)
                .map(|it| {
                    let session = it.channel.session.clone().expect("a session");
                    (session, it.seq, it.data.clone())
                })
                .collect();
            let mut rest = own.iter();
            for (instance, session, number, data) in &found {
                if *instance == recording.instance {
                    let this = (session.clone(), *number, data.clone());
                    assert!(rest.any(|it| *it == this), "{subject} {session} {number}");
                }
            }
            wanted.extend(own);
        }
        let mut stored: Vec<_> = found
            .into_iter()
            .map(|(_, session, number, data)| (session, number, data))
            .collect();
        stored.sort();
        let short = |(session, number, _): &(String, u64, Vec<u8>)| format!("{session} {number}");
        assert_eq!(
            stored.iter().map(short).collect::<Vec<_>>(),
            wanted.iter().map(short).collect::<Vec<_>>(),
            "{subject}"
        );
        assert!(stored.into_iter().eq(wanted), "{subject}");
    }
}

/// What was confirmed of a recording.
struct Confirmed {
    /// Devices, sessions and numbers of its messages.
    messages: Vec<(String, String, u64)>,
    /// The stream, if it keeps what it has acknowledged.
    stream: Option<Arc<FakeStream>>,
    /// Of each device and session, the numbers that are confirmed.
    numbers: Mutex<HashMap<(String, String), BTreeSet<u64>>>,
    /// The number after the last of them. No report leaves out numbers after it: the recording has lost nothing.
    ends: Mutex<HashMap<(String, String), u64>>,
}

impl Confirmed {
    /// Everything is confirmed at the end.
    fn check(&self) {
        let numbers = self.numbers.lock().expect("no panic");
        for (device, session, number) in &self.messages {
            let confirmed = numbers.get(&(device.clone(), session.clone()));
            assert!(
                confirmed.is_some_and(|it| it.contains(number)),
                "{device} {session} {number}: {confirmed:?}"
            );
        }
    }

    /// These numbers are confirmed: the stream has their messages.
    fn confirm(&self, device: &str, session: &str, confirmed: Range<u64>) {
        let all = self.messages.iter();
        let of =
            all.filter(|it| (&*it.0, &*it.1) == (device, session) && confirmed.contains(&it.2));
        for (.., number) in of.filter(|_| self.stream.is_some()) {
            let stored = self.stream.as_ref().expect("a stream").stored(device);
            let is_stored = stored.iter().any(|it| {
                let head = &it.head;
                let is_whole = head
                    .part
                    .is_none_or(|(offset, len)| len == offset + it.body.len() as u64);
                let numbers = head.first..head.first + head.count;
                is_whole && head.session.as_deref() == Some(session) && numbers.contains(number)
            });
            assert!(
                is_stored,
                "{device} {session} {number} is not in the stream"
            );
        }
        let key = (device.to_owned(), session.to_owned());
        let mut all = self.numbers.lock().expect("no panic");
        all.entry(key).or_default().extend(confirmed);
    }
}

impl Confirm for Confirmed {
    fn stored(&self, device: &str, session: &str, from: u64, next: u64) {
        let mut ends = self.ends.lock().expect("no panic");
        let key = (device.to_owned(), session.to_owned());
        let end = ends.entry(key).or_insert(from);
        // Numbers of earlier gaps are left out, and messages of an earlier run that the stream has lost.
        let left_out = *end..from;
        let mut own = self.messages.iter();
        let is_left_out = own.any(|(of, its, number)| {
            (&**of, &**its) == (device, session) && left_out.contains(number)
        });
        assert!(
            !is_left_out || self.stream.is_none(),
            "{device} {session} {from}: after {end}"
        );
        *end = next.max(*end);
        drop(ends);
        self.confirm(device, session, from..next);
    }

    /// At the begin of a reading, the daemon is taken for restarted: nothing is confirmed.
    fn unsettled(&self, all: bool) -> Vec<Unsettled> {
        let mut numbers = self.numbers.lock().expect("no panic");
        if all {
            numbers.clear();
            self.ends.lock().expect("no panic").clear();
        }
        let mut unsettled: Vec<Unsettled> = Vec::new();
        for (device, session, number) in &self.messages {
            let confirmed = numbers.get(&(device.clone(), session.clone()));
            if confirmed.is_some_and(|it| it.contains(number)) {
                continue;
            }
            let is_of = |it: &&mut Unsettled| &*it.device == device && it.session == *session;
            match unsettled.iter_mut().find(is_of) {
                Some(of) => of.to = of.to.max(number + 1),
                None => unsettled.push(Unsettled {
                    device: device.as_str().into(),
                    session: session.clone(),
                    to: number + 1,
                }),
            }
        }
        unsettled
    }

    fn settled(&self, unsettled: &Unsettled, runs: &[(u64, u64)]) {
        let Unsettled {
            device,
            session,
            to,
        } = unsettled;
        for &(from, to) in runs {
            self.confirm(device, session, from..to);
        }
        // The recording has lost nothing, so nothing is left. Later, a stream that loses messages has less.
        let left = self.unsettled(false).into_iter();
        let mut left = left.filter(|it| (&it.device, &it.session) == (device, session));
        assert!(
            self.stream.is_none() || left.all(|it| *to < it.to),
            "{device} {session}: {runs:?}"
        );
    }

    fn gap(&self, _: &[u8]) -> Option<NumberGap> {
        None
    }
}

fn run_moved(seed: u64, faults: Faults) {
    runtime().block_on(async move {
        let recordings = recordings(&mut Chance(seed));
        let stream = Arc::new(FakeStream::new(seed, faults));
        let confirmed = recordings.each_ref().map(|recording| {
            let sessions = recording.messages.iter().map(|it| {
                let session = it.channel.session.clone().expect("a session");
                (it.subject.to_string(), session, it.seq)
            });
            Arc::new(Confirmed {
                messages: sessions.collect(),
                stream: (!faults.loses).then(|| Arc::clone(&stream)),
                numbers: Mutex::default(),
                ends: Mutex::default(),
            })
        });
        let confirms = confirmed.each_ref();
        let confirms = confirms.map(|it| Some(Arc::clone(it) as Arc<dyn Confirm>));
        forward_both(seed, &recordings, &stream, confirms).await;
        eprintln!("seed {seed}");
        for confirmed in confirmed {
            confirmed.check();
        }
        check(&recordings, &stream);
    });
}

#[test]
fn a_session_that_moves_is_stored_once() {
    for seed in 0..seeds() {
        run_moved(seed, Faults::default());
    }
}

#[test]
fn a_session_that_moves_is_stored_once_whatever_is_lost_or_late() {
    for seed in 0..seeds() {
        let is_faulty = true;
        for loses in [false, true] {
            let faults = Faults {
                is_faulty,
                loses,
                ..Faults::default()
            };
            run_moved(seed, faults);
        }
    }
}

#[test]
fn what_a_removed_message_has_said_of_sessions_is_still_true() {
    use crate::message::Head;

    let source = Source::new(Some(SESSION));
    let [own, other] = [(); 2].map(|()| Instance::random());
    for (was_removed, first) in [(true, 4), (false, 2)] {
        let mut lane = Lane::default();
        lane.push(source.batch(2, 6));
        let head = Head::of(
            &source.batch(0, 4),
            other,
            Seen::default(),
            Stored::default(),
        );
        let last = Last {
            sequence: 9,
            head,
            expected: None,
            answer_len: 0,
        };
        assert!(matches!(lane.step(own, BODY_MAX, 0).0, Step::Look { .. }));
        let shown = LastSeen {
            last: Some(last),
            ..LastSeen::default()
        };
        lane.found(shown, own);
        lane.interrupted();
        assert!(matches!(lane.step(own, BODY_MAX, 0).0, Step::Look { .. }));
        let shown = LastSeen {
            was_removed,
            ..LastSeen::default()
        };
        lane.found(shown, own);
        let (Step::Send(sent), _) = lane.step(own, BODY_MAX, 0) else {
            panic!("nothing to send");
        };
        assert_eq!((sent.head.first, sent.expected), (first, 0));
    }
}
