//! Which gaps of sessions come before a batch.

use std::collections::BTreeMap;

use blocksd_recording::MessageOrigin;
use blocksd_recording::topic::SESSIONS_TOPIC;

use super::*;
use crate::confirm::{NumberGap, Unsettled};

const BODY_MAX: usize = 100;
const DEVICE: &str = "pump";
/// Two sessions of the device.
const A: &str = "000000000000000a";
const B: &str = "000000000000000b";

/// Reads entries that are a session and two numbers.
struct Entries;

impl Confirm for Entries {
    fn stored(&self, _: &str, _: &str, _: u64, _: u64) {}

    fn unsettled(&self, _: bool) -> Vec<Unsettled> {
        Vec::new()
    }

    fn settled(&self, _: &Unsettled, _: &[(u64, u64)]) {}

    fn gap(&self, entry: &[u8]) -> Option<NumberGap> {
        let mut words = std::str::from_utf8(entry).ok()?.split(' ');
        Some(NumberGap {
            device: DEVICE.to_owned(),
            session: words.next()?.to_owned(),
            from: words.next()?.parse().ok()?,
            to: words.next()?.parse().ok()?,
        })
    }
}

/// Gathers messages and entries of a file.
struct Recorded {
    gatherer: Gatherer,
    file: (u64, FileNonce),
    before: u64,
}

impl Recorded {
    fn new(confirm: Option<Arc<dyn Confirm>>) -> Self {
        let gatherer = Gatherer::new(Subjects::new("main"), "events".into(), BODY_MAX);
        Self {
            gatherer: gatherer.confirming(confirm),
            file: (1, FileNonce::new()),
            before: 0,
        }
    }

    fn add(&mut self, topic: &str, metadata: BTreeMap<String, String>, seq: u64, data: &[u8]) {
        let channel = Arc::new(ChannelInfo::new(topic.to_owned(), metadata));
        let origin = MessageOrigin::new(1, seq).expect("a connection");
        let message = Message::new(&channel, 0, Some(origin), 0, data);
        self.gatherer.add(self.file, self.before, &message);
        self.before += 1;
    }

    fn gap(&mut self, session: &str, from: u64, to: u64) {
        let entry = format!("{session} {from} {to}");
        self.add(SESSIONS_TOPIC, BTreeMap::new(), 0, entry.as_bytes());
    }

    fn message(&mut self, session: &str, seq: u64, len: usize) {
        let metadata = [(SESSION_KEY.to_owned(), session.to_owned())].into();
        let topic = format!("/device/{DEVICE}/blocks");
        self.add(&topic, metadata, seq, &vec![b'.'; len]);
    }

    /// The batches: session, first number, the first of the numbers right before it that have no message, and count.
    fn take(&mut self) -> Vec<(String, u64, u64, u64)> {
        let batches = self.gatherer.take().into_iter();
        let numbers = |batch: Batch| {
            let session = batch.channel.session.clone().expect("a session");
            (session, batch.first, batch.since(), batch.count())
        };
        batches.map(numbers).collect()
    }
}

#[test]
fn a_gap_comes_before_the_next_message_of_its_session() {
    let mut recorded = Recorded::new(Some(Arc::new(Entries)));
    recorded.message(A, 0, 5);
    recorded.message(A, 1, 5);
    recorded.gap(A, 2, 4);
    recorded.gap(B, 1, 9);
    recorded.gap(A, 4, 5);
    recorded.add(SESSIONS_TOPIC, BTreeMap::new(), 0, b"another entry");
    // It may have been handed over, or not, and the file may be another one.
    let of_a = |first, since, count| (A.to_owned(), first, since, count);
    assert_eq!(recorded.take(), [of_a(0, 0, 2)]);
    (recorded.file, recorded.before) = ((2, FileNonce::new()), 0);
    recorded.message(A, 5, 5);
    recorded.message(A, 6, 5);
    recorded.message(B, 9, 5);
    // A long message after a gap.
    recorded.gap(A, 7, 8);
    recorded.message(A, 8, 2 * BODY_MAX);
    // A message that is lost is in no gap.
    recorded.gap(A, 9, 10);
    recorded.message(A, 11, 5);
    let of_b = (B.to_owned(), 9, 1, 1);
    let parts = [of_a(8, 7, 1), of_a(8, 7, 1)];
    let [one, other] = parts;
    assert_eq!(
        recorded.take(),
        [of_a(5, 2, 2), of_b, one, other, of_a(11, 11, 1)]
    );
}

#[test]
fn nothing_is_known_of_gaps_that_nobody_reads() {
    let mut recorded = Recorded::new(None);
    recorded.message(A, 7, 5);
    recorded.gap(A, 8, 9);
    recorded.message(A, 9, 5);
    let of = |first| (A.to_owned(), first, first, 1);
    assert_eq!(recorded.take(), [of(7), of(9)]);
}
