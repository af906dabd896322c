//! What the answer to a published message says.

use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, ErrorCode};

use crate::stream::{PublishError, StreamError};

/// Whether a server says that the last message is another one, without its number.
pub(super) fn is_wrong_last(error: &(dyn std::error::Error + 'static)) -> bool {
    let found = error
        .source()
        .and_then(|it| it.downcast_ref::<jetstream::Error>());
    found.is_some_and(|it| it.error_code() == ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
}

/// The sequence number at which a message was stored. Only the stream itself can say whether it has a duplicate.
pub(super) fn stored(ack: &PublishAck, stream: &str) -> Result<u64, PublishError> {
    match ack.duplicate {
        _ if ack.stream != stream => Err(StreamError::NoStream.into()),
        true => Err(PublishError::Duplicate),
        false => Ok(ack.sequence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_stored_by_this_call_is_believed() {
        let ack = |duplicate| PublishAck {
            stream: "blocksd".to_owned(),
            sequence: 7,
            domain: String::new(),
            duplicate,
            value: None,
        };
        assert!(matches!(stored(&ack(false), "blocksd"), Ok(7)));
        let refused = stored(&ack(true), "blocksd");
        assert!(matches!(refused, Err(PublishError::Duplicate)));
        assert!(stored(&ack(false), "other").is_err());
    }
}
