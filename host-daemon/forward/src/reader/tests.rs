//! Hostile messages of a stream: each is read or refused, in a time that depends on its length alone.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use proptest::prelude::*;

use super::*;

/// A message with these headers besides those that each one needs, or in their place.
fn message(headers: &[(&str, &str)], body: &[u8]) -> async_nats::Message {
    let needed = [
        (name::KIND, "messages"),
        (name::INSTANCE, "00000000000000a7"),
        (name::PLACE, "1.00f3a5c7711d2e4b.2"),
        (name::COUNT, "1"),
        (name::FIRST, "0"),
        (name::TIME, "5"),
    ];
    let mut all = HeaderMap::new();
    let is_given = |name| headers.iter().any(|(other, _)| *other == name);
    for (name, value) in needed.iter().filter(|(name, _)| !is_given(*name)) {
        all.append(*name, *value);
    }
    for (name, value) in headers {
        all.append(*name, *value);
    }
    async_nats::Message {
        subject: "blocksd.main.dev.d".into(),
        reply: None,
        payload: Bytes::copy_from_slice(body),
        headers: Some(all),
        status: None,
        description: None,
        length: 0,
    }
}

fn device() -> Topic {
    Topic::Device("d".into())
}

#[test]
fn the_size_is_that_of_the_server() {
    let most = u64::MAX.to_string();
    let sizes = |sizes: &[&str], count: &str| {
        let sizes = sizes.iter().map(|it| (SIZE, *it));
        let headers: Vec<_> = sizes.chain([(name::COUNT, count)]).collect();
        head(&message(&headers, b""), &device(), true).is_ok()
    };
    assert!(sizes(&["8"], "2") && sizes(&[&most, "8"], "2"));
    assert!(!sizes(&["8"], "3") && !sizes(&[&most, "8"], "3"));
    assert!(!sizes(&[], "1") && !sizes(&["many"], "1"));
    // No message is longer than a server takes.
    assert!(sizes(&[&most], "16777216") && !sizes(&[&most], "16777217"));
}

#[test]
fn times_are_those_of_the_steps() {
    let headers = [
        (name::COUNT, "16777216"),
        (name::STEPS, "3+1000,7-5"),
        (SIZE, "67108864"),
    ];
    let head = head(&message(&headers, b""), &device(), true).unwrap();
    assert_eq!(head.times().collect::<Vec<_>>(), [5, 1005, 1000]);
}

#[test]
fn headers_that_contradict_each_other_are_named() {
    let most = &*u64::MAX.to_string();
    for (headers, wrong) in [
        (&[(name::COUNT, "0")][..], name::COUNT),
        (&[(name::FIRST, most)], name::FIRST),
        (&[(name::PART, "0/9")], name::PART),
        (&[(name::KIND, "part")], name::PART),
        (&[(name::KIND, "part"), (name::PART, "9/9")], name::PART),
        (
            &[
                (name::KIND, "pieces"),
                (name::PART, "0/9"),
                (name::COUNT, "2"),
            ],
            name::COUNT,
        ),
        (&[(name::KIND, "events")], name::KIND),
        (&[(name::SESSION, "1")], name::SESSION),
        (&[(name::SESSION, "00000000000000A7")], name::SESSION),
        (&[(name::STEPS, "0+1")], name::STEPS),
        (&[(name::STEPS, "1+1")], name::STEPS),
        (&[(name::COUNT, "9"), (name::GAPS, "2+1,2+1")], name::GAPS),
    ] {
        let found = head(&message(headers, b"\0\0\0\x01x"), &device(), false);
        let cause = UnreadableCause::Malformed(Malformed::Header(wrong));
        assert_eq!(found, Err(cause), "{headers:?}");
    }
    let long = "x".repeat(HEADERS_MAX);
    let found = head(&message(&[("Other", &long)], b""), &device(), false);
    assert!(
        matches!(found, Err(UnreadableCause::Headers { .. })),
        "{found:?}"
    );
}

/// A header: sound, hostile, or any text.
fn value(name: &'static str) -> impl Strategy<Value = Option<String>> {
    let most = u64::MAX;
    let list = |item: &str| vec![item; 500].join(",");
    let sound = match name {
        name::KIND => "part",
        name::INSTANCE => "00000000000000a7",
        name::PLACE => {
            "18446744073709551615.00f3a5c7711d2e4b.18446744073709551615+18446744073709551615"
        }
        name::SEEN => "00000000000000a8=1.00f3a5c7711d2e4b.2",
        name::STORED => "00f3a5c7711d2e4b=0-18446744073709551615",
        name::NONCE | name::SESSION => "00f3a5c7711d2e4b",
        name::STEPS => "1+9223372036854775807,2-9223372036854775808",
        name::GAPS => "1+18446744073709551615,2+18446744073709551615",
        name::PART => "0/18446744073709551615",
        _ => "3",
    };
    prop_oneof![
        8 => Just(Some(sound.to_owned())),
        2 => Just(None),
        1 => prop::sample::select(vec!["messages", "pieces", "events", "1", "2", "0/5", "3/5", "0", "-1", ""]).prop_map(|it| Some(it.to_owned())),
        1 => Just(Some(most.to_string())),
        1 => Just(Some(list(sound))),
        1 => "[ -~]{0,40}".prop_map(Some),
    ]
}

fn headers() -> impl Strategy<Value = [(&'static str, Option<String>); 16]> {
    let names = [
        name::KIND,
        name::INSTANCE,
        name::PLACE,
        name::SEEN,
        name::NONCE,
        name::STORED,
        name::COUNT,
        name::FIRST,
        name::TIME,
        name::STEPS,
        name::GAPS,
        name::CONNECTION,
        name::SESSION,
        name::FRAMING,
        name::PART,
        SIZE,
    ];
    names.map(|name| value(name).prop_map(move |value| (name, value)))
}

proptest! {
    #[test]
    fn hostile_messages_are_read_or_refused_in_a_short_time(
        stream in prop::collection::vec(
            (headers(), prop::collection::vec(prop_oneof![4 => Just(0_u8), 1 => any::<u8>()], 0..40), any::<bool>(), any::<bool>()),
            1..10,
        ),
    ) {
        let mut assembler = Assembler::new(1 << 16, false);
        for (sequence, (headers, body, only_heads, is_event)) in (1..).zip(stream) {
            let given: Vec<_> = headers.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
            let mut pulled = message(&[], &body);
            let mut all = HeaderMap::new();
            for (name, value) in given {
                all.append(name, value);
            }
            pulled.headers = Some(all);
            let topic = if is_event { Topic::Events } else { device() };
            let started = Instant::now();
            if let Ok(head) = head(&pulled, &topic, only_heads) {
                prop_assert!(head.times().count() <= 129);
                let stored = Fetched {
                    sequence,
                    published: 0,
                    subject: pulled.subject.to_string(),
                    topic,
                    head,
                    body: pulled.payload,
                };
                if !only_heads && let Some(whole) = assembler.add(stored).whole {
                    let messages = whole.messages().count();
                    let most = whole.head.part.map_or(whole.body.len() / HEADER_LEN, |_| 1);
                    prop_assert!(messages <= most);
                    prop_assert!(whole.messages().all(|it| it.is_ok()));
                }
            }
            let took = started.elapsed();
            prop_assert!(took < Duration::from_secs(2), "{:?}", took);
        }
        assembler.finish();
    }
}
