//! One subject of a stream that has gone back to an older state, and what its messages then say.

use super::*;
use crate::lane::LastSeen;
use crate::message::Head;
use crate::place::Seen;
use crate::recent::{Acked, Lost};
use crate::stored::Stored;
use crate::stream::{Last, Outgoing};

pub(super) const SESSION: &str = "00000000000000a7";

/// The messages of one file, all of one subject.
pub(super) struct Source {
    file: (u64, FileNonce),
    session: Option<String>,
}

impl Source {
    pub(super) fn new(session: Option<&str>) -> Self {
        Self {
            file: (1, FileNonce::new()),
            session: session.map(str::to_owned),
        }
    }

    /// A batch of some of them.
    pub(super) fn batch(&self, first: u64, count: u64) -> Batch {
        let channel = channel("device", self.session.clone());
        let subject: Arc<str> = "device".into();
        let message = |seq: u64| ReadMessage {
            subject: &subject,
            channel: &channel,
            connection: 1,
            seq,
            file: self.file,
            before: seq,
            order: seq,
            time: 0,
            data: b"data",
        };
        let mut batch = Batch::new(&message(first));
        for seq in first + 1..first + count {
            assert!(batch.push(&message(seq), BODY_MAX));
        }
        batch
    }

    /// A message of the stream, as one that was acknowledged.
    fn acked(&self, sequence: u64, first: u64) -> Acked {
        let batch = self.batch(first, 1);
        let numbers = batch.numbers();
        Acked {
            message: Newest {
                sequence,
                nonce: sequence,
            },
            begin: batch.begin(),
            end: batch.end(),
            numbers: numbers.map(|(session, from, to)| (session.into(), from, to)),
        }
    }
}

fn last(sequence: u64, head: Head) -> Last {
    Last {
        sequence,
        head,
        answer_len: 0,
    }
}

/// A look that has found a message.
fn shown(last: Last) -> LastSeen {
    LastSeen {
        last: Some(last),
        has_gone_back: true,
        ..LastSeen::default()
    }
}

fn look(lane: &mut Lane, instance: Instance) {
    let (step, _) = lane.step(instance, 1, 0);
    assert!(matches!(step, Step::Look { .. }), "{step:?}");
}

/// Sends the next message alone.
fn send(lane: &mut Lane, instance: Instance) -> Outgoing {
    send_within(lane, instance, 1)
}

fn send_within(lane: &mut Lane, instance: Instance, body_max: usize) -> Outgoing {
    match lane.step(instance, body_max, 0) {
        (Step::Send(outgoing), _) => *outgoing,
        (step, _) => panic!("{step:?}"),
    }
}

/// A lane of a stream that has gone back to nothing: it has the first message again, and refuses one with all others, so that the last
/// message is to be found.
fn refused(source: &Source, own: Instance) -> Lane {
    let mut lane = Lane::default();
    lane.push(source.batch(0, 8));
    look(&mut lane, own);
    let nothing = LastSeen {
        has_gone_back: true,
        ..LastSeen::default()
    };
    lane.found(nothing, own);
    assert_eq!(send(&mut lane, own).head.first, 0);
    lane.acked(3, 0);
    assert_eq!(send_within(&mut lane, own, BODY_MAX).head.first, 1);
    lane.refused();
    look(&mut lane, own);
    lane
}

/// Sends messages with these numbers, each alone and after the one before it, and nothing more.
fn send_rest(lane: &mut Lane, own: Instance, numbers: impl IntoIterator<Item = u64>, first: u64) {
    for (number, sequence) in numbers.into_iter().zip(first..) {
        let sent = send(lane, own);
        assert_eq!((sent.head.first, sent.head.count), (number, 1));
        assert_eq!(sent.expected, sequence - 1);
        lane.acked(sequence, 0);
    }
    assert!(lane.is_empty());
}

/// The message of another daemon was on its way when the stream went back. It is accepted, since the last message of the subject has the
/// number again that it expects, and says where this recording was before.
#[test]
fn a_message_that_was_on_its_way_says_nothing_of_what_is_sent_again() {
    for session in [None, Some(SESSION)] {
        let source = Source::new(session);
        let [own, other] = [(); 2].map(|()| Instance::random());
        let mut lane = refused(&source, own);
        let (mut seen, mut stored) = (Seen::default(), Stored::default());
        seen.note(own, source.batch(0, 6).end());
        if let Some(session) = session {
            stored.note(session, 0, 6);
        }
        // It has the number 6 of the session.
        let head = Head::of(&source.batch(6, 1), other, seen, stored);
        lane.found(shown(last(4, head)), own);
        let rest = (1..8).filter(|number| session.is_none() || *number != 6);
        send_rest(&mut lane, own, rest, 5);
    }
}

/// What comes after the place of the subject is sent again in any case, and others may have stored it again.
#[test]
fn a_loss_without_later_messages_is_no_hole() {
    let source = Source::new(Some(SESSION));
    let mut recent = Recent::default();
    for number in 0..4 {
        recent.note(source.acked(1 + number, number), 0);
    }
    let lost: Vec<_> = recent.all().skip(2).map(|it| it.message).collect();
    let place = source.batch(0, 2).end();
    assert!(recent.is_doubtful(place), "a look must find out");
    assert!(!recent.is_overtaken(&lost, place));
    assert!(recent.is_overtaken(&lost, source.batch(0, 3).end()));
    assert!(!recent.is_overtaken(&[], source.batch(0, 4).end()));
}

/// A lane that has lost 1 and 2 of 0 to 3, and the message that shows 3, whose answer may be lost.
fn repairing(source: &Source, own: Instance, is_answered: bool) -> (Lane, Last) {
    let mut lane = Lane::default();
    let mut recent = Recent::default();
    for number in 0..3 + u64::from(is_answered) {
        recent.note(source.acked(1 + number, number), 0);
    }
    let messages = recent.all().skip(1).take(2).map(|it| it.message).collect();
    lane.remember(recent);
    lane.push(source.batch(0, 6));
    look(&mut lane, own);
    let mut stored = Stored::default();
    stored.note(SESSION, 0, 3);
    let head = Head::of(&source.batch(3, 1), own, Seen::default(), stored);
    let head = Head { nonce: 4, ..head };
    let lost = Lost {
        messages,
        before: None,
    };
    let last = last(4, head);
    let shown = LastSeen {
        lost: Some(Box::new(lost)),
        ..shown(last.clone())
    };
    lane.found(shown, own);
    assert!(lane.has_hole());
    (lane, last)
}

#[test]
fn a_message_without_an_answer_that_is_found_is_not_sent_again_in_a_hole() {
    let cases = [None, Some(SESSION)].map(|session| [(session, false), (session, true)]);
    for (session, is_late) in cases.into_iter().flatten() {
        let source = Source::new(session);
        let own = Instance::random();
        let (mut lane, before) = repairing(&source, own, true);
        let sent = send(&mut lane, own);
        assert_eq!(sent.head.first, 1);
        lane.failed();
        look(&mut lane, own);
        if is_late {
            lane.found(shown(before), own);
            assert_eq!(send(&mut lane, own).head.first, 1);
            lane.refused();
            look(&mut lane, own);
        }
        lane.found(shown(last(5, sent.head)), own);
        send_rest(&mut lane, own, [2, 4, 5], 6);
    }
}

/// The second repair begins before what the first one had stored.
#[test]
fn a_repair_that_is_interrupted_goes_on() {
    let cases = [None, Some(SESSION)].map(|session| [(session, false), (session, true)]);
    for (session, is_answered) in cases.into_iter().flatten() {
        let source = Source::new(session);
        let own = Instance::random();
        let (mut lane, _) = repairing(&source, own, is_answered);
        let sent = send(&mut lane, own);
        lane.acked(5, 0);
        let last_sent = last(
            5,
            Head {
                nonce: 5,
                ..sent.head
            },
        );
        let recent = lane.into_recent();
        let place = last_sent.own(own).expect("its own");
        let lost: Vec<_> = recent.all().skip(1).take(2).map(|it| it.message).collect();
        // The repair may have begun far back.
        assert!(recent.is_doubtful(Place {
            messages: 0,
            ..place
        }));
        assert!(recent.is_overtaken(&lost, place));
        let mut lane = Lane::default();
        lane.remember(recent);
        lane.push(source.batch(0, 6));
        look(&mut lane, own);
        let lost = Lost {
            messages: lost,
            before: None,
        };
        let shown = LastSeen {
            lost: Some(Box::new(lost)),
            ..shown(last_sent)
        };
        lane.found(shown, own);
        send_rest(&mut lane, own, [2, 4, 5], 6);
    }
}

/// It was in flight when the loss was noticed, and is stored before the first of those that are sent again.
#[test]
fn a_late_message_of_the_dispatcher_before_hides_no_hole() {
    let source = Source::new(None);
    let own = Instance::random();
    let (mut lane, _) = repairing(&source, own, true);
    assert_eq!(send(&mut lane, own).head.first, 1);
    lane.refused();
    look(&mut lane, own);
    let late = Head::of(&source.batch(4, 1), own, Seen::default(), Stored::default());
    lane.found(shown(last(5, late)), own);
    send_rest(&mut lane, own, [1, 2, 5], 6);
}

/// It comes from a connection that was given up, when the last message has the number again that it expects.
#[test]
fn a_message_from_before_the_loss_says_nothing_of_those_before_it() {
    for session in [None, Some(SESSION)] {
        let source = Source::new(session);
        let own = Instance::random();
        let mut lane = refused(&source, own);
        let mut stored = Stored::default();
        if let Some(session) = session {
            stored.note(session, 0, 6);
        }
        let late = Head::of(&source.batch(6, 1), own, Seen::default(), stored);
        lane.found(shown(last(4, late)), own);
        let rest = (1..8).filter(|number| session.is_none() || *number != 6);
        send_rest(&mut lane, own, rest, 5);
    }
}
