//! Headers and bodies: the reader's inverse of the writer, and hostile input.

use std::collections::HashMap;
use std::sync::Arc;

use blocksd_recording::FileNonce;
use proptest::prelude::*;

use super::*;
use crate::batch::{Channel, ReadMessage};
use crate::stored::Stored;

/// Channel, connection, first number, and messages with their times and places.
type Contents = (Arc<Channel>, u64, u64, Vec<(u64, u64, Vec<u8>)>);

/// Reads headers as a client gets them.
fn parse(pairs: &[(&'static str, String)]) -> Result<Head, Malformed> {
    let headers: HashMap<&str, &str> = pairs
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    Head::parse(|name| headers.get(name).copied())
}

fn channel(kind: Kind, session: Option<u64>) -> Arc<Channel> {
    Arc::new(Channel {
        device: "d".into(),
        kind,
        framing: "blocks".to_owned(),
        decode: "json".to_owned(),
        session: session.map(|it| format!("{it:016x}")),
    })
}

prop_compose! {
    fn contents()(
        kind in prop::sample::select(vec![Kind::Messages, Kind::Pieces, Kind::Events]),
        session in any::<Option<u64>>(),
        connection in any::<u32>(),
        first in any::<u32>(),
        messages in prop::collection::vec((0_u64..4, any::<u16>(), 0_u64..3, prop::collection::vec(any::<u8>(), 0..40)), 1..60),
    ) -> Contents {
        let (mut time, mut place) = (1_700_000_000_000_000_000, 10);
        let messages = messages.into_iter().map(|(step, by, between, data)| {
            // The same time, later, or earlier.
            time = match step { 0 | 1 => time, 2 => time + u64::from(by), _ => time - u64::from(by) };
            place += 1 + between;
            (time, place, data)
        });
        let messages = messages.collect();
        (channel(kind, session), connection.into(), first.into(), messages)
    }
}

/// A batch of these messages, and those that did not fit.
fn batch((channel, connection, first, messages): &Contents) -> Batch {
    let subject: Arc<str> = "s".into();
    let mut batch: Option<Batch> = None;
    for (index, (time, place, data)) in (0..).zip(messages) {
        let message = ReadMessage {
            subject: &subject,
            channel,
            connection: *connection,
            seq: first + index,
            file: (4, FileNonce::of_digits("0000000000000009").unwrap()),
            before: place - 1,
            order: index,
            time: *time,
            data,
        };
        match &mut batch {
            None => batch = Some(Batch::new(&message)),
            Some(batch) => assert!(batch.push(&message, 1 << 20)),
        }
    }
    batch.unwrap()
}

proptest! {
    #[test]
    fn what_is_written_is_read(contents in contents(), seen in any::<u64>()) {
        let batch = batch(&contents);
        let (channel, connection, first, wanted) = &contents;
        let mut others = Seen::default();
        others.note(Instance::random(), batch.end());
        others.note(format!("{seen:016x}").parse().unwrap(), batch.begin());
        let head = Head::of(&batch, Instance::random(), others, Stored::default());
        let parsed = parse(&head.pairs());
        prop_assert_eq!(parsed.as_ref(), Ok(&head));
        let parsed = parsed.unwrap();
        prop_assert_eq!((parsed.kind, parsed.connection), (channel.kind, *connection));
        prop_assert_eq!(&parsed.session, &channel.session);
        let body = batch.body();
        let found: Vec<_> = Messages::new(&parsed, &body).collect::<Result<_, _>>().unwrap();
        let found: Vec<_> = found.iter().map(|it| (it.number, it.time, it.place, it.data.to_vec())).collect();
        let wanted: Vec<_> = (*first..).zip(wanted).map(|(number, (time, place, data))| (number, *time, *place, data.clone())).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn hostile_headers_do_not_panic(headers in prop::collection::vec(("[ -~]{0,30}", any::<bool>()), 16), number in any::<u64>()) {
        let names = [
            name::KIND, name::INSTANCE, name::PLACE, name::SEEN, name::COUNT, name::FIRST, name::TIME, name::STEPS, name::GAPS, name::GAPS,
            name::CONNECTION, name::SESSION, name::FRAMING, name::DECODE, name::PART, name::ID, name::EXPECTED,
        ];
        let sound: HashMap<_, _> = [
            (name::KIND, "part".to_owned()),
            (name::INSTANCE, "00000000000000a7".to_owned()),
            (name::PLACE, format!("{number}.00f3a5c7711d2e4b.{number}+{number}")),
            (name::COUNT, number.to_string()),
            (name::FIRST, number.to_string()),
            (name::TIME, number.to_string()),
            (name::STEPS, format!("1-{}", number >> 1)),
            (name::GAPS, format!("1+{number},2+{number}")),
            (name::PART, format!("{number}/{number}")),
        ].into();
        let pairs: Vec<_> = names.into_iter().zip(&headers).map(|(name, (text, is_sound))| {
            (name, sound.get(name).filter(|_| *is_sound).unwrap_or(text).clone())
        }).collect();
        if let Ok(head) = parse(&pairs) {
            for kind in [Kind::Messages, Kind::Part] {
                let head = Head { kind, ..head.clone() };
                let _ = messages(&head, b"\0\0\0\x01x\0\0\0\0");
            }
            let again = parse(&head.pairs());
            prop_assert_eq!(again, Ok(head));
        }
    }

    #[test]
    fn hostile_bodies_are_refused_or_read_within_their_length(
        body in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255), any::<u8>()], 0..200),
        count in 0_u64..60,
        steps in prop::collection::vec((any::<u64>(), any::<i64>()), 0..10),
    ) {
        let (mut head, _) = sample();
        (head.count, head.steps, head.first) = (count, steps, u64::MAX - 3);
        let mut taken = 0;
        let mut ends = 0;
        for message in Messages::new(&head, &body) {
            match message {
                Ok(message) => taken += HEADER_LEN + message.data.len(),
                Err(_) => ends += 1,
            }
        }
        prop_assert!(taken <= body.len() && ends <= 1);
        prop_assert_eq!(messages(&head, &body).is_ok(), ends == 0);
    }
}

/// Headers and body of two messages.
fn sample() -> (Head, Vec<u8>) {
    let contents = (
        channel(Kind::Messages, None),
        3,
        40,
        vec![(5, 1, b"hi".to_vec()), (7, 4, b"there".to_vec())],
    );
    let batch = batch(&contents);
    let head = Head::of(
        &batch,
        Instance::random(),
        Seen::default(),
        Stored::default(),
    );
    (head, batch.body().to_vec())
}

/// The messages of a body, or why one cannot be read.
fn messages<'a>(head: &'a Head, body: &'a [u8]) -> Result<Vec<Forwarded<'a>>, Malformed> {
    Messages::new(head, body).collect()
}

#[test]
fn a_body_with_another_number_of_messages_is_refused() {
    let (mut head, body) = sample();
    assert_eq!(messages(&head, &body).map(|it| it.len()), Ok(2));
    head.count = 3;
    assert_eq!(
        messages(&head, &body),
        Err(Malformed::Header("Blocksd-Count"))
    );
    head.count = 2;
    let cut = &body[..body.len() - 1];
    assert_eq!(
        messages(&head, cut),
        Err(Malformed::Body { at: 6, len: 14 })
    );
    // A length of 4 GiB.
    let long = [&[255; 4][..], b"x"].concat();
    assert_eq!(
        messages(&head, &long),
        Err(Malformed::Body { at: 0, len: 5 })
    );
}

#[test]
fn a_missing_header_is_named() {
    let (head, _) = sample();
    for missing in [
        name::KIND,
        name::INSTANCE,
        name::PLACE,
        name::COUNT,
        name::FIRST,
        name::TIME,
    ] {
        let mut pairs = head.pairs();
        pairs.retain(|(name, _)| *name != missing);
        assert_eq!(parse(&pairs), Err(Malformed::Header(missing)));
    }
}
