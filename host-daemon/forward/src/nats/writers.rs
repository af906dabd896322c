//! A stream and the recordings that are forwarded to it, in one answer: [`listed`].

use async_nats::jetstream::stream::Info;
use serde_json::Value;

use crate::stream::Writers;
use crate::subject::{PREFIX, writer_of};

/// The stream, and the recordings of all sites whose events it has, in the answer to a request with the filter of
/// [`EVENTS`](crate::subject::EVENTS). A stream of other subjects, too, has other writers.
///
/// # Errors
/// If the answer is malformed.
pub(super) fn listed(answer: Value) -> Result<(Info, Writers), serde_json::Error> {
    let of_events = answer.get("state").and_then(|it| it.get("subjects"));
    let of_events = of_events.and_then(Value::as_object);
    let mut writers = Writers::None;
    for subject in of_events.into_iter().flat_map(|it| it.keys()) {
        writers = writers.and(writer_of(subject).and_then(|it| it.parse().ok()));
    }
    let info: Info = serde_json::from_value(answer)?;
    let is_ours = |it: &String| it.split('.').next() == Some(PREFIX);
    let writers = match info.config.subjects.iter().all(is_ours) {
        true => writers,
        false => Writers::Several,
    };
    Ok((info, writers))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_recording_has_a_subject_of_events() {
        let one = "00000000000000a7";
        let writers = |takes: &[&str], names: &[&str]| {
            let names = names.iter().map(|it| ((*it).to_owned(), json!(1)));
            let names: serde_json::Map<_, _> = names.collect();
            let answer = json!({
                "config": {
                    "name": "blocksd", "max_consumers": 0, "max_msgs": 0, "max_bytes": 0,
                    "max_age": 0, "storage": "file", "num_replicas": 1,
                    "retention": "limits", "discard": "old", "subjects": takes,
                },
                "created": "2026-11-30T08:37:31.447544708Z",
                "state": {
                    "messages": 0, "bytes": 0, "first_seq": 1, "last_seq": 0, "consumer_count": 0,
                    "first_ts": "2026-11-30T08:37:31Z", "last_ts": "2026-11-30T08:37:31Z",
                    "subjects": names,
                },
            });
            listed(answer).expect("an answer").1
        };
        let of = |it: &str| format!("blocksd.main.events.{it}");
        let (own, other) = (of(one), of("00000000000000a8"));
        let known = &["blocksd.main.>"];
        assert_eq!(writers(known, &[]), Writers::None);
        let only = Writers::One(one.parse().expect("an instance"));
        assert_eq!(writers(known, &[&own]), only);
        assert_eq!(writers(known, &[&own, &other]), Writers::Several);
        assert_eq!(writers(known, &[&of("else")]), Writers::Several);
        let elsewhere = own.replace("main", "other");
        assert_eq!(writers(&["blocksd.>"], &[&elsewhere]), only);
        let elsewhere = other.replace("main", "other");
        assert_eq!(
            writers(&["blocksd.>"], &[&own, &elsewhere]),
            Writers::Several
        );
        for more in ["else.>", ">", "*.main.>"] {
            assert_eq!(
                writers(&["blocksd.main.>", more], &[&own]),
                Writers::Several
            );
        }
        for malformed in [json!([]), json!(5), json!({ "state": [] }), json!(null)] {
            assert!(listed(malformed).is_err());
        }
    }
}
