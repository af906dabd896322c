//! A stream and the recordings that are forwarded to it, in one answer: [`listed`].

use async_nats::jetstream::stream::Info;
use serde_json::Value;

use crate::stream::Writers;
use crate::subject::Subjects;

/// The stream, and the recordings whose events it has, in the answer to a request with the filter of these subjects.
///
/// # Errors
/// If the answer is malformed.
pub(super) fn listed(
    answer: Value,
    subjects: Option<&Subjects>,
) -> Result<(Info, Writers), serde_json::Error> {
    let of_events = answer.get("state").and_then(|it| it.get("subjects"));
    let of_events = of_events.and_then(Value::as_object);
    let mut writers = match subjects {
        Some(_) => Writers::None,
        None => Writers::Several,
    };
    for subject in of_events.into_iter().flat_map(|it| it.keys()) {
        let instance = subjects.and_then(|it| it.instance_of(subject));
        writers = writers.and(instance.and_then(|it| it.parse().ok()));
    }
    Ok((serde_json::from_value(answer)?, writers))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_recording_has_a_subject_of_events() {
        let subjects = Subjects::new("main");
        let one = "00000000000000a7";
        let writers = |subjects: Option<&Subjects>, names: &[&str]| {
            let names = names.iter().map(|it| ((*it).to_owned(), json!(1)));
            let names: serde_json::Map<_, _> = names.collect();
            let answer = json!({
                "config": {
                    "name": "blocksd", "max_consumers": 0, "max_msgs": 0, "max_bytes": 0,
                    "max_age": 0, "storage": "file", "num_replicas": 1,
                    "retention": "limits", "discard": "old",
                },
                "created": "2026-11-30T08:37:31.447544708Z",
                "state": {
                    "messages": 0, "bytes": 0, "first_seq": 1, "last_seq": 0, "consumer_count": 0,
                    "first_ts": "2026-11-30T08:37:31Z", "last_ts": "2026-11-30T08:37:31Z",
                    "subjects": names,
                },
            });
            listed(answer, subjects).expect("an answer").1
        };
        let of = |it: &str| format!("blocksd.main.events.{it}");
        let (own, other) = (of(one), of("00000000000000a8"));
        let known = Some(&subjects);
        assert_eq!(writers(known, &[]), Writers::None);
        let only = Writers::One(one.parse().expect("an instance"));
        assert_eq!(writers(known, &[&own]), only);
        assert_eq!(writers(known, &[&own, &other]), Writers::Several);
        assert_eq!(writers(known, &[&of("else")]), Writers::Several);
        assert_eq!(writers(None, &[]), Writers::Several);
        for malformed in [json!([]), json!(5), json!({ "state": [] }), json!(null)] {
            assert!(listed(malformed, known).is_err());
        }
    }
}
