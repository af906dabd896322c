//! One subject of a stream that has gone back to an older state: the content of its messages counts, and not their headers about others.

use super::*;
use crate::dispatch::call::{Found, Known, Looked};
use crate::lane::{Base, TailRead};
use crate::message::Head;
use crate::place::Seen;
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
}

/// A subject of which a lane reads the messages.
struct ReadSubject {
    own: Instance,
    source: Source,
    lane: Lane,
    /// The last number of the stream.
    last: u64,
    /// What no look has shown.
    unread: Vec<Last>,
}

impl ReadSubject {
    /// A lane of messages 0 to 7, of a subject that has this.
    fn new(session: Option<&str>, base: impl FnOnce(&Source, Instance) -> Base) -> Self {
        let (own, source) = (Instance::random(), Source::new(session));
        let mut lane = Lane::default();
        lane.push(source.batch(0, 8));
        let base = base(&source, own);
        let mut read = Self {
            own,
            source,
            lane,
            last: 10,
            unread: Vec::new(),
        };
        read.look_with(Some(base));
        read
    }

    /// The stream stores a message of the recording with these numbers. It says that all before 7 are there.
    fn store(&mut self, instance: Instance, first: u64, count: u64) {
        let (mut seen, mut stored) = (Seen::default(), Stored::default());
        seen.note(self.own, self.source.batch(0, 7).end());
        if let Some(session) = &self.source.session {
            stored.note(session, 0, 7);
        }
        let batch = self.source.batch(first, count);
        self.last += 1;
        let head = Head::of(&batch, instance, seen, stored);
        self.unread.push(message(self.last, head));
    }

    fn look(&mut self) {
        self.look_with(None);
    }

    fn look_with(&mut self, base: Option<Base>) {
        let (step, _) = self.lane.step(self.own, 1, 0);
        assert!(matches!(step, Step::Look { .. }), "{step:?}");
        let read = TailRead {
            base,
            messages: std::mem::take(&mut self.unread),
            last: Some(Some(Newest {
                sequence: self.last,
                nonce: 0,
            })),
        };
        self.lane.read(read, 10, self.own);
    }

    /// Sends the next message alone.
    fn send(&mut self) -> Outgoing {
        match self.lane.step(self.own, 1, 0) {
            (Step::Send(outgoing), _) => *outgoing,
            (step, _) => panic!("{step:?}"),
        }
    }

    fn acked(&mut self) {
        self.last += 1;
        self.lane.acked(self.last);
    }

    /// Sends the rest. Returns the numbers.
    fn send_rest(&mut self) -> Vec<u64> {
        let mut sent = Vec::new();
        while !self.lane.is_empty() {
            match self.lane.step(self.own, 1, 0).0 {
                Step::Send(outgoing) => {
                    assert_eq!(outgoing.head.count, 1);
                    sent.push(outgoing.head.first);
                    self.acked();
                }
                Step::Wait => {}
                step @ Step::Look { .. } => panic!("{step:?}"),
            }
        }
        sent
    }
}

fn message(sequence: u64, head: Head) -> Last {
    Last {
        sequence,
        head,
        expected: None,
        answer_len: 0,
    }
}

/// The subject has the first messages.
fn after(count: u64) -> impl FnOnce(&Source, Instance) -> Base {
    move |source, own| {
        let head = Head::of(
            &source.batch(0, count),
            own,
            Seen::default(),
            Stored::default(),
        );
        Base::After(Box::new(message(9, head)))
    }
}

fn both(test: impl Fn(Option<&str>)) {
    for session in [None, Some(SESSION)] {
        test(session);
    }
}

#[test]
fn what_is_certain_is_not_sent_again() {
    both(|session| {
        assert_eq!(
            ReadSubject::new(session, |_, _| Base::Empty).send_rest(),
            [0, 1, 2, 3, 4, 5, 6, 7]
        );
        assert_eq!(
            ReadSubject::new(session, after(3)).send_rest(),
            [3, 4, 5, 6, 7]
        );
    });
}

/// The message of another daemon, or of this one, was on its way when the stream went back.
#[test]
fn a_message_that_was_on_its_way_says_nothing_of_what_is_sent_again() {
    both(|session| {
        for is_own in [true, false] {
            let mut read = ReadSubject::new(session, after(2));
            assert_eq!(read.send().head.first, 2);
            let instance = if is_own { read.own } else { Instance::random() };
            read.store(instance, 5, 1);
            read.lane.refused();
            read.look();
            let is_there = is_own || session.is_some();
            let wanted = (2..8).filter(|it| *it != 5 || !is_there);
            assert_eq!(read.send_rest(), wanted.collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_message_whose_answer_was_lost_is_not_sent_again() {
    both(|session| {
        let mut read = ReadSubject::new(session, after(2));
        for (number, is_stored) in [(2, true), (3, false), (3, true)] {
            assert_eq!(read.send().head.first, number);
            read.lane.failed();
            if is_stored {
                let own = read.own;
                read.store(own, number, 1);
            }
            read.look();
        }
        assert_eq!(read.send_rest(), [4, 5, 6, 7]);
    });
}

/// The stream has lost 1 and 4, and has 2, 3 and 5 after them.
#[test]
fn only_what_is_missing_is_sent() {
    both(|session| {
        let mut read = ReadSubject::new(session, after(1));
        assert_eq!(read.send().head.first, 1);
        let own = read.own;
        read.store(own, 2, 2);
        read.store(own, 5, 1);
        read.lane.refused();
        read.look();
        assert_eq!(read.send().head.first, 1);
        read.acked();
        // One that is found later was late.
        assert_eq!(read.send().head.first, 4);
        read.store(own, 7, 1);
        read.lane.refused();
        read.look();
        assert_eq!(read.send_rest(), [4, 6]);
    });
}

/// The last message of the subject was deleted before the first one that is left. What that says of those before it is believed.
#[test]
fn the_next_message_speaks_for_one_that_was_deleted() {
    both(|session| {
        let base = |source: &Source, own: Instance| {
            let mut stored = Stored::default();
            if let Some(session) = session {
                stored.note(session, 0, 4);
            }
            let head = Head::of(&source.batch(4, 1), own, Seen::default(), stored);
            Base::Before(Box::new(message(11, head)))
        };
        let mut read = ReadSubject::new(session, base);
        assert_eq!(
            read.send().head.first,
            if session.is_some() { 5 } else { 4 }
        );
    });
}

/// The end of a long message is there, and its beginning is lost.
#[test]
fn a_long_message_that_lacks_a_part_is_sent_again() {
    for (is_whole, wanted) in [(true, 3), (false, 2)] {
        let mut read = ReadSubject::new(Some(SESSION), after(2));
        let other = Instance::random();
        let parts: &[(u64, u64)] = match is_whole {
            true => &[(0, 2), (2, 4)],
            false => &[(2, 4)],
        };
        for (offset, end) in parts {
            read.store(other, 2, 1);
            let head = &mut read.unread.last_mut().expect("a message").head;
            (head.kind, head.part) = (Kind::Part, Some((*offset, 4)));
            if *end < 4 {
                (head.place.messages, head.place.bytes) = (2, *end);
            }
        }
        assert_eq!(read.send().head.first, 2);
        read.lane.refused();
        read.look();
        assert_eq!(read.send().head.first, wanted);
    }
}

/// Somebody has deleted the last messages of the subject.
#[test]
fn the_next_message_comes_after_the_one_that_is_left() {
    let mut read = ReadSubject::new(None, after(2));
    assert_eq!(read.send().expected, 10);
    read.lane.refused();
    read.last = 4;
    read.look();
    assert_eq!(read.send().expected, 4);
}

/// How long the fake stream takes for a request.
const REQUEST: Duration = Duration::from_millis(5);

/// A stream with five messages of a subject, and a call that reads them after the first one.
async fn reading(own: Instance) -> (Arc<FakeStream>, Call<FakeStream>) {
    let (source, stream) = (Source::new(None), FakeStream::new(1, Faults::default()));
    for first in 0..5 {
        let batch = source.batch(first, 1);
        let outgoing = Outgoing {
            head: Head::of(&batch, own, Seen::default(), Stored::default()),
            expected: first,
            body: bytes::Bytes::new(),
            identity: 0,
        };
        let stored = stream.publish("device", &outgoing).await;
        stored.expect("it is stored");
    }
    let stream = Arc::new(stream);
    let call = Call {
        stream: Arc::clone(&stream),
        instance: own,
        subject: Some("device".into()),
        is_retry: false,
        created: 1,
        disruptions: 0,
        begun: (0, Instant::now()),
        checks: Listed::default(),
        since: Some(1),
    };
    (stream, call)
}

const UNKNOWN: Known = Known {
    reached: None,
    said: None,
    read_to: None,
};

async fn found(look: impl Future<Output = Answer>) -> Found {
    match look.await.outcome {
        Outcome::Found(Ok(found)) => found,
        _ => panic!("no answer"),
    }
}

/// The stream goes back between two messages that are read, and their numbers belong to others when the daemon is connected again.
#[tokio::test(start_paused = true)]
async fn what_was_read_before_an_interruption_is_not_joined_with_what_came_after_it() {
    let (own, other) = (Instance::random(), Instance::random());
    let (stream, call) = reading(own).await;
    let look = tokio::spawn(async { found(call.look(UNKNOWN, false)).await });
    // The last message and two others were shown.
    tokio::time::sleep(3 * REQUEST + REQUEST / 2).await;
    stream.lose_to(other, 4);
    stream.lose_newest(0);
    let Looked::Read(read, _) = look.await.expect("no panic").seen else {
        panic!("the subject is read");
    };
    let owners: Vec<_> = read.messages.iter().map(|it| it.head.instance).collect();
    assert_eq!(owners, [own, own]);
    assert!(read.last.is_none(), "{read:?}");
}

/// A look was interrupted, and what it had read was lost, before another one that is interrupted, too.
#[tokio::test(start_paused = true)]
async fn what_was_read_and_is_lost_is_noticed_before_more_is_read() {
    let known = Known {
        said: Some(Newest {
            sequence: 3,
            nonce: 1,
        }),
        read_to: Some(3),
        ..UNKNOWN
    };
    let (stream, call) = reading(Instance::random()).await;
    let look = tokio::spawn(async { found(call.look(known, false)).await });
    tokio::time::sleep(2 * REQUEST + REQUEST / 2).await;
    stream.lose_newest(0);
    assert!(!look.await.expect("no panic").is_intact);
}

/// It was sent in parts, and is now not longer than a message of the stream may be. The message before it in the recording is of another
/// subject.
#[test]
fn a_message_of_which_the_stream_has_a_part_is_sent_as_a_whole() {
    let mut read = ReadSubject::new(None, after(8));
    read.lane.push(read.source.batch(9, 2));
    assert_eq!(read.send().head.first, 9);
    read.lane.refused();
    read.store(read.own, 9, 1);
    let head = &mut read.unread.last_mut().expect("a message").head;
    (head.kind, head.part) = (Kind::Part, Some((0, 4)));
    (head.place.messages, head.place.bytes) = (9, 2);
    read.look();
    assert_eq!(read.send_rest(), [9, 10]);
}
