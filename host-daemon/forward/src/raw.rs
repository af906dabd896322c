//! One message of a stream, as its leader answers: [`found`], [`last`] and [`head`].

use std::error::Error;

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::RawMessage;
use serde_json::Value;

use crate::message::{Head, Malformed, name};
use crate::stream::Last;

/// The message in an answer to a request for one. `None` if the stream has none there.
pub(crate) fn found(answer: Response<Value>) -> Result<Option<RawMessage>, Box<dyn Error>> {
    match answer {
        Response::Ok(mut got) => {
            // An index would panic if the answer is no object.
            let message = got.get_mut("message").map(Value::take);
            Ok(Some(serde_json::from_value(message.unwrap_or_default())?))
        }
        Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
        Response::Err { error } => Err(error.into()),
    }
}

/// The message of a daemon, which is the last one of its subject or was.
pub(crate) fn last(message: RawMessage) -> Result<Last, Malformed> {
    let sequence = message.sequence;
    let headers = message.headers.as_ref().map_or(0, String::len);
    let answer_len = message.payload.len() + headers;
    let headers = parsed(message)?;
    let expected = headers.get(name::EXPECTED);
    Ok(Last {
        sequence,
        head: parse(&headers)?,
        expected: expected.and_then(|it| it.as_str().parse().ok()),
        answer_len,
    })
}

/// The headers of a message. Another program can publish any bytes as headers.
pub(crate) fn head(message: RawMessage) -> Result<Head, Malformed> {
    parse(&parsed(message)?)
}

fn parsed(message: RawMessage) -> Result<HeaderMap, Malformed> {
    let parsed = StreamMessage::try_from(message).map_err(|_| Malformed::Unparsable)?;
    Ok(parsed.headers)
}

fn parse(headers: &HeaderMap) -> Result<Head, Malformed> {
    Head::parse(|name| Some(headers.get(name)?.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_that_has_no_message_is_an_error() {
        let found = |answer| found(serde_json::from_value(answer).unwrap());
        for answer in [
            json!([]),
            json!([{ "message": 1 }]),
            json!(5),
            json!("x"),
            json!(true),
            json!(null),
            json!({}),
            json!({ "message": [] }),
        ] {
            let error = found(answer.clone()).map(drop).unwrap_err().to_string();
            assert!(error.contains("struct RawMessage"), "{answer} {error}");
        }
        let nothing = json!({ "error": { "code": 404, "err_code": 10_037, "description": "no message found" } });
        assert!(found(nothing).unwrap().is_none());
    }

    #[test]
    fn headers_that_no_client_can_parse_are_malformed() {
        let head = |headers: Option<&str>| {
            let message = json!({
                "subject": "blocksd.main.dev.d", "seq": 7, "time": "2026-11-29T19:56:51.982237786Z", "hdrs": headers,
            });
            head(serde_json::from_value(message).unwrap())
        };
        assert_eq!(head(None), Err(Malformed::Header(name::KIND)));
        // No name, bytes that are no text, no version, and no base64.
        for headers in [
            "TkFUUy8xLjANCkJhZA0KDQo=",
            "TkFUUy8xLjANCkE6IP/+DQoNCg==",
            "WEFUUy8xLjANCkE6IGINCg0K",
            "?",
        ] {
            assert_eq!(head(Some(headers)), Err(Malformed::Unparsable), "{headers}");
        }
    }
}
