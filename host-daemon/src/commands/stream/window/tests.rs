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
            published: 0,
            subject: String::new(),
            topic,
            head: head(kind, instance, (file(last), last), batch.len(), more),
            body: body.into(),
        });
        first += batch.len();
    }
    batches
}

/// Passes messages of the stream through a window, which holds nothing afterwards.
fn emit_all(stream: Vec<Fetched>, emit: &mut Emit<'_>) {
    let mut window = Window::new(WINDOW_BYTES);
    for fetched in stream {
        let wrong = window.push(fetched, emit).expect("no error");
        assert_eq!(wrong, None);
    }
    while window.pop(emit).expect("no error") {}
    assert!(window.lanes.is_empty() && window.bytes == 0);
}

/// What a window emits, by recording and device: the texts.
fn emitted(stream: Vec<Fetched>) -> BTreeMap<(String, String), Vec<String>> {
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
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
    emit_all(stream, &mut emit);
    found
}

/// Whatever comes between them in the stream: a reader of the events has room for one piece.
#[test]
fn a_piece_and_the_event_with_its_position_stay_together() {
    let records = [(1, true), (2, false), (2, true), (3, true)];
    let of = |is_of: fn(&Record) -> bool| batches(1, &records, is_of, &mut [4].into_iter());
    let mut pieces = of(|it| *it == (2, false));
    pieces[0].head.kind = Kind::Pieces;
    let stream = [pieces, of(|it| it.1)].concat();
    let mut found = Vec::new();
    emit_all(stream, &mut |it| {
        found.push(String::from_utf8_lossy(it.data).into_owned());
        Ok(())
    });
    assert_eq!(found[0], "d2 2");
    assert!(found[1].contains(r#""at":3"#), "{found:?}");
    assert_eq!(found.len(), 4);
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

/// What a window emits of these messages of the stream, by the place that each text ends with.
fn places(stream: Vec<Fetched>) -> Vec<u64> {
    let mut places = Vec::new();
    let mut emit = |it: &Emitted<'_>| {
        let text = String::from_utf8_lossy(it.data);
        let (_, place) = text
            .trim_end_matches('}')
            .rsplit_once(' ')
            .expect("a place");
        places.push(place.parse().expect("a number"));
        Ok(())
    };
    emit_all(stream, &mut emit);
    places
}

/// An event of a connection of a device, or the session that gives it another name.
fn of_connection(place: u64, conn: u64, device: u8, former: Option<u8>) -> Fetched {
    let text = match former {
        Some(former) => format!(
            r#"{{"event":"session","device":"d{device}","conn":{conn},"session":"0000000000000001","former":"d{former}","kind":"new","resume":0,"held":0,"lost":0,"room":0,"uptime_us":0,"at": {place}}}"#
        ),
        None => format!(
            r#"{{"event":"open","device":"d{device}","conn":{conn},"peer":"p","at": {place}}}"#
        ),
    };
    hostile(1, None, place, &[], text.as_bytes())
}

#[test]
fn a_connection_that_gets_another_name_is_opened_after_what_was_recorded_before() {
    let open = of_connection(1, 4, 1, None);
    let message = hostile(1, Some(1), 2, &[], b"message 2");
    let end = of_connection(3, 4, 1, None);
    let opened = of_connection(4, 5, 1, None);
    let session = of_connection(5, 5, 2, Some(1));
    let named = hostile(1, Some(2), 6, &[], b"message 6");
    let last = hostile(1, Some(1), 7, &[], b"message 7");
    let all = [&open, &message, &end, &opened, &session, &named, &last];
    // The events come before the messages, or after them.
    for order in [
        [0, 2, 3, 4, 1, 5, 6],
        [1, 5, 6, 0, 2, 3, 4],
        [0, 5, 2, 1, 6, 3, 4],
    ] {
        let found = places(order.map(|at| all[at].clone()).into());
        assert_eq!(&found[..6], [1, 2, 3, 4, 5, 6], "{order:?}");
    }
}

/// What happens next in a recording in which connections get the names of other devices.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open(u8),
    /// The connection that has waited longest gets the name of a device.
    Name(u8),
    Event(u8),
    Message(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_u8..3).prop_map(Step::Open),
        (1_u8..6).prop_map(Step::Name),
        (1_u8..6).prop_map(Step::Event),
        (1_u8..6).prop_map(Step::Message),
    ]
}

proptest! {
    #[test]
    fn connections_that_get_other_names_are_in_the_order_of_both_devices(
        steps in prop::collection::vec(step(), 0..40),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        // The places of each device, in which those of a connection that got its name are, too.
        let mut expected: [Vec<u64>; 6] = Default::default();
        let mut subjects: [VecDeque<Fetched>; 6] = Default::default();
        let mut waiting = VecDeque::new();
        for (place, step) in (1..).zip(&steps) {
            let (subject, device, fetched) = match *step {
                Step::Open(device) => {
                    waiting.push_back((place, device));
                    (0, device, of_connection(place, place, device, None))
                }
                Step::Name(device) => {
                    let Some((conn, former)) = waiting.pop_front() else {
                        continue;
                    };
                    if former != device {
                        expected[usize::from(device)].push(conn);
                    }
                    (0, device, of_connection(place, conn, device, Some(former)))
                }
                Step::Event(device) => (0, device, of_connection(place, 0, device, None)),
                Step::Message(device) => {
                    let text = format!("message {place}");
                    (device, device, hostile(1, Some(device), place, &[], text.as_bytes()))
                }
            };
            expected[usize::from(device)].push(place);
            subjects[usize::from(subject)].push_back(fetched);
        }
        let mut stream = Vec::new();
        for choice in &choices {
            let mut left: Vec<_> = subjects.iter_mut().filter(|it| !it.is_empty()).collect();
            if !left.is_empty() {
                let at = choice.index(left.len());
                stream.extend(left[at].pop_front());
            }
        }
        let found = places(stream);
        for (device, mut expected) in expected.into_iter().enumerate() {
            expected.sort_unstable();
            let found: Vec<u64> = found.iter().copied().filter(|it| expected.contains(it)).collect();
            prop_assert_eq!(found, expected, "device {}", device);
        }
    }
}

#[test]
fn a_connection_that_gets_another_name_is_opened_between_messages_of_one_batch() {
    let mut batch = hostile(1, Some(1), 4, &[], b"message 2");
    let more = [("Blocksd-First", "0"), ("Blocksd-Gaps", "1+1")];
    let more = more.map(|(name, value)| (name, value.to_owned()));
    batch.head = head("messages", 1, (1, 4), 2, &more);
    batch.body = [&batch.body[..], &batch.body[..12], b"4"].concat().into();
    let (opened, session) = (
        of_connection(3, 5, 1, None),
        of_connection(5, 5, 2, Some(1)),
    );
    let found = places(vec![opened, session, batch]);
    assert_eq!(found, [2, 3, 5, 4]);
}

#[test]
fn a_full_window_gives_way() {
    let records: Vec<Record> = vec![(1, false); 4];
    let mut window = Window::new(WINDOW_BYTES);
    let mut count = 0;
    for mut fetched in batches(1, &records, |_| true, &mut std::iter::repeat(1)) {
        let mut body = ((WINDOW_BYTES / 3) as u32).to_be_bytes().to_vec();
        body.resize(4 + WINDOW_BYTES / 3, b'x');
        fetched.body = body.into();
        let pushed = window.push(fetched, &mut |_| {
            count += 1;
            Ok(())
        });
        assert_eq!(pushed.expect("no error"), None);
        assert!(window.bytes < WINDOW_BYTES);
    }
    assert_eq!((count, window.pushed() - window.popped()), (2, 2));
}

/// A message of the stream: of a device, or of events if there is none, in a recording of its own, at a place.
fn hostile(
    instance: u64,
    device: Option<u8>,
    place: u64,
    more: &[(&str, String)],
    data: &[u8],
) -> Fetched {
    let (kind, topic) = match device {
        Some(device) => ("messages", Topic::Device(format!("d{device}").into())),
        None => ("events", Topic::Events),
    };
    let first = ("Blocksd-First", "0".to_owned());
    let more: Vec<_> = [first].into_iter().chain(more.iter().cloned()).collect();
    let len = u32::try_from(data.len()).expect("a short message");
    Fetched {
        sequence: 1,
        published: 0,
        subject: "s".repeat(100),
        topic,
        head: head(kind, instance, (1, place), 1, &more),
        body: [&len.to_be_bytes(), data].concat().into(),
    }
}

/// Counts what a window holds, and checks that it is not more than the limit.
fn check_memory(window: &Window) {
    let lanes = window.lanes.values().map(Lane::held);
    let held = lanes.sum::<usize>() + ENTRY * window.order.len();
    assert_eq!(window.bytes, held);
    let all = held + LANE * window.lanes.len();
    assert!(all < window.max, "{all} bytes");
}

proptest! {
    #[test]
    fn hostile_messages_do_not_exceed_the_memory(
        stream in prop::collection::vec(
            (0_u64..3, prop::option::of(0_u8..20), prop_oneof![Just(1_u64), 0_u64..2000], 0_usize..200, 0_usize..4, any::<bool>()),
            0..600,
        ),
    ) {
        let mut window = Window::new(1 << 16);
        let (mut pushed, mut emitted, mut wrong) = (0, 0, 0);
        let mut emit = |_: &Emitted<'_>| {
            emitted += 1;
            Ok(())
        };
        for (instance, device, place, len, what, is_blocked) in stream {
            let pad = "x".repeat(len);
            let other = device.unwrap_or(7) % 20;
            let data = match (device, what) {
                (Some(_), _) => pad.clone(),
                (None, 0) => format!(r#"{{"event":"started","at":"{pad}"}}"#),
                (None, 1) => format!(r#"{{"event":"open","device":"d{other}","conn":{what},"peer":"{pad}"}}"#),
                (None, 2) => format!(r#"{{"event":"session","device":"d1","conn":1,"session":"0000000000000001","former":"d{other}","kind":"new","resume":0,"held":0,"lost":0,"room":0,"uptime_us":0,"at":"{pad}"}}"#),
                (None, _) => pad.clone(),
            };
            let more = match len {
                0 => vec![("Blocksd-Framing", "f".repeat(4000)), ("Blocksd-Session", "00f3a5c7711d2e4b".to_owned())],
                _ => Vec::new(),
            };
            // Events that are recorded long after the messages of their device wait for those.
            let place = if is_blocked { place + 5000 * u64::from(device.is_none()) } else { place };
            pushed += 1;
            let not_json = window.push(hostile(instance, device, place, &more, data.as_bytes()), &mut emit).expect("no error");
            wrong += not_json.map_or(0, |it| it.count);
            check_memory(&window);
        }
        while window.pop(&mut emit).expect("no error") {
            check_memory(&window);
        }
        prop_assert_eq!(emitted + wrong, pushed);
        prop_assert!(window.lanes.is_empty() && window.bytes == 0);
    }
}

#[test]
fn hostile_order_takes_a_short_time() {
    // Each event is recorded before those that wait, and gives a connection another name.
    let started = std::time::Instant::now();
    let mut window = Window::new(WINDOW_BYTES);
    let mut emitted = 0;
    let mut emit = |_: &Emitted<'_>| {
        emitted += 1;
        Ok(())
    };
    let count = 20_000;
    for at in 0..count {
        let former = at % 2;
        let data = format!(
            r#"{{"event":"session","device":"d{}","conn":{at},"session":"0000000000000001","former":"d{former}","kind":"new","resume":0,"held":0,"lost":0,"room":0,"uptime_us":0}}"#,
            1 - former
        );
        let event = hostile(1, None, count - at, &[], data.as_bytes());
        assert_eq!(window.push(event, &mut emit).expect("no error"), None);
        let message = hostile(1, Some(1), 0, &[], b"x");
        assert_eq!(window.push(message, &mut emit).expect("no error"), None);
    }
    while window.pop(&mut emit).expect("no error") {}
    assert_eq!(emitted, 2 * count);
    let time = started.elapsed();
    assert!(time < std::time::Duration::from_secs(20), "{time:?}");
}
