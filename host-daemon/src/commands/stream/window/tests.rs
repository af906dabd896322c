//! Any order of the stream gives the messages and events of each device in the order of the recording.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use blocksd_forward::Kind;

/// A record of a recording: a device, and whether it is an event of it. Device 0 has events only: those of no device.
type Record = (usize, bool);

/// Headers as they are on the wire.
fn head(
    kind: &str,
    instance: u64,
    place: (u64, u64),
    count: usize,
    more: &[(&str, String)],
) -> Head {
    let fields = [
        ("Blocksd-Kind", kind.to_owned()),
        ("Blocksd-Instance", format!("{instance:016x}")),
        (
            "Blocksd-Place",
            format!("{}.00f3a5c7711d2e4b.{}", place.0, place.1),
        ),
        ("Blocksd-Count", count.to_string()),
        ("Blocksd-Time", "7".to_owned()),
    ];
    let fields: BTreeMap<_, _> = fields.iter().chain(more).cloned().collect();
    Head::parse(|name| fields.get(name).map(String::as_str)).expect("headers")
}

/// Messages of the stream with the records at these places of one subject, in batches of these lengths.
fn batches(
    instance: u64,
    records: &[Record],
    is_of: impl Fn(&Record) -> bool,
    lengths: &mut impl Iterator<Item = usize>,
) -> Vec<Fetched> {
    let all = (1_u64..).zip(records).filter(|(_, record)| is_of(record));
    let all: Vec<_> = all.collect();
    let mut rest = all.as_slice();
    let (mut batches, mut first) = (Vec::new(), 0);
    while !rest.is_empty() {
        let len = lengths.next().unwrap_or(1).min(rest.len());
        // A batch has the records of one file. Files have ten records.
        let file = |at: u64| at / 10;
        let same = rest
            .iter()
            .take(len)
            .take_while(|(at, _)| file(*at) == file(rest[0].0));
        let (batch, after) = rest.split_at(same.count());
        rest = after;
        let gaps: Vec<_> = batch
            .windows(2)
            .zip(1..)
            .filter(|(pair, _)| pair[0].0 + 1 != pair[1].0)
            .map(|(pair, index)| format!("{index}+{}", pair[1].0 - pair[0].0 - 1))
            .collect();
        let mut body = Vec::new();
        for (at, (device, is_event)) in batch {
            let data = match (device, is_event) {
                (0, _) => format!(r#"{{"event":"started","at":{at}}}"#),
                (device, true) => format!(
                    r#"{{"event":"silent","device":"d{device}","since":"2026-11-27T12:00:00Z","interval_us":1,"at":{at}}}"#
                ),
                (device, false) => format!("d{device} {at}"),
            };
            body.extend((data.len() as u32).to_be_bytes());
            body.extend(data.as_bytes());
        }
        let (last, (device, is_event)) = batch[batch.len() - 1];
        let (kind, topic) = match *device == 0 || *is_event {
            true => ("events", Topic::Events),
            false => ("messages", Topic::Device(format!("d{device}").into())),
        };
        let more = [
            ("Blocksd-First", first.to_string()),
            ("Blocksd-Gaps", gaps.join(",")),
        ];
        let more = &more[..if gaps.is_empty() { 1 } else { 2 }];
        batches.push(Fetched {
            sequence: 0,
            subject: String::new(),
            topic,
            head: head(kind, instance, (file(last), last), batch.len(), more),
            body: body.into(),
        });
        first += batch.len();
    }
    batches
}

/// What a window emits, by recording and device: the texts.
fn emitted(stream: Vec<Fetched>) -> BTreeMap<(String, String), Vec<String>> {
    let mut window = Window::default();
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for fetched in stream {
        window.push(fetched);
    }
    let mut emit = |it: &Emitted<'_>| {
        let text = String::from_utf8_lossy(it.data).into_owned();
        assert_eq!(it.device.is_none(), it.head.kind == Kind::Events);
        let device = match it.device {
            Some(device) => device.to_string(),
            None if text.contains("started") => "d0".to_owned(),
            None => text
                .split('"')
                .find(|it| it.starts_with('d') && it.len() == 2)
                .expect("a device")
                .to_owned(),
        };
        let of = found
            .entry((it.head.instance.to_string(), device))
            .or_default();
        of.push(text);
        Ok(())
    };
    while window.pop(&mut emit).expect("no error") {}
    assert!(window.lanes.is_empty() && window.bytes == 0);
    found
}

proptest! {
    #[test]
    fn the_events_of_a_device_are_between_its_messages_again(
        recordings in prop::collection::vec(prop::collection::vec((0_usize..4, any::<bool>()), 0..40), 1..3),
        lengths in prop::collection::vec(1_usize..6, 1..20),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 200),
    ) {
        let mut subjects = Vec::new();
        let mut wanted: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for (instance, records) in (1_u64..).zip(&recordings) {
            let mut lengths = lengths.iter().copied().cycle();
            for device in 1..4 {
                let of = |record: &Record| *record == (device, false);
                subjects.push(batches(instance, records, of, &mut lengths));
            }
            let events = |(device, is_event): &Record| *device == 0 || *is_event;
            subjects.push(batches(instance, records, events, &mut lengths));
            for (at, record) in (1_u64..).zip(records) {
                let key = (format!("{instance:016x}"), format!("d{}", record.0));
                let one = batches(instance, &[*record], |_| true, &mut std::iter::once(1)).remove(0);
                let text = one.messages().next().expect("a message").expect("a message").data.to_vec();
                let text = String::from_utf8(text).expect("UTF-8");
                let text = match text.strip_suffix(":1}") {
                    Some(begin) => format!("{begin}:{at}}}"),
                    None => text.replace(" 1", &format!(" {at}")),
                };
                wanted.entry(key).or_default().push(text);
            }
        }
        // The subjects in any order, each in its own.
        let mut stream = Vec::new();
        let mut subjects: Vec<_> = subjects.into_iter().map(VecDeque::from).collect();
        let choices = choices.iter().cycle();
        for choice in choices {
            subjects.retain(|it| !it.is_empty());
            if subjects.is_empty() {
                break;
            }
            let at = choice.index(subjects.len());
            stream.extend(subjects[at].pop_front());
        }
        prop_assert_eq!(emitted(stream), wanted);
    }
}

#[test]
fn a_full_window_gives_way() {
    let records: Vec<Record> = vec![(1, false); 4];
    let mut window = Window::default();
    let mut count = 0;
    for mut fetched in batches(1, &records, |_| true, &mut std::iter::repeat(1)) {
        let mut body = ((BYTES_MAX / 3) as u32).to_be_bytes().to_vec();
        body.resize(4 + BYTES_MAX / 3, b'x');
        fetched.body = body.into();
        window.push(fetched);
        while window.is_full() {
            window
                .pop(&mut |_| {
                    count += 1;
                    Ok(())
                })
                .expect("no error");
        }
        assert!(window.bytes < BYTES_MAX);
    }
    assert_eq!((count, window.len()), (2, 2));
}
