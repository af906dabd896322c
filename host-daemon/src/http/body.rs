//! The body of a response: [`AnswerBody`] is a text, a long text, or lines that come over time.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Length of a part of a long text, in bytes.
const PART_LEN: usize = 64 << 10;

/// A body.
#[derive(Debug)]
pub(super) enum AnswerBody {
    /// A text; `None` once it was sent.
    Text(Option<Bytes>),
    /// A long text, in parts. The permit is given back once the last part is on its way.
    Parts {
        rest: Bytes,
        _permit: OwnedSemaphorePermit,
    },
    /// Lines, until the sender is dropped.
    Lines(mpsc::Receiver<Bytes>),
}

impl AnswerBody {
    /// A long text, which is sent in parts.
    pub(super) fn parts(text: impl Into<Bytes>, permit: OwnedSemaphorePermit) -> Self {
        Self::Parts {
            rest: text.into(),
            _permit: permit,
        }
    }
}

impl From<&'static str> for AnswerBody {
    fn from(text: &'static str) -> Self {
        Self::Text(Some(Bytes::from_static(text.as_bytes())))
    }
}

impl From<String> for AnswerBody {
    fn from(text: String) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<Vec<u8>> for AnswerBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Text(Some(bytes.into()))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let bytes = match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().filter(|text| !text.is_empty())),
            Self::Parts { rest, .. } => {
                let part = rest.split_to(PART_LEN.min(rest.len()));
                Poll::Ready(Some(part).filter(|part| !part.is_empty()))
            }
            Self::Lines(lines) => lines.poll_recv(context),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.as_ref().is_none_or(Bytes::is_empty),
            Self::Parts { rest, .. } => rest.is_empty(),
            Self::Lines(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Parts { rest, .. } => SizeHint::with_exact(rest.len() as u64),
            Self::Lines(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use tokio::sync::Semaphore;

    use super::*;

    /// The parts that are ready, and whether the body has ended.
    fn parts(body: &mut AnswerBody) -> (Vec<Bytes>, bool) {
        let mut parts = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match Pin::new(&mut *body).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(frame))) => parts.push(frame.into_data().expect("data")),
                Poll::Ready(None) => return (parts, true),
                Poll::Pending => return (parts, false),
            }
        }
    }

    #[test]
    fn a_text_is_sent_once_with_its_length() {
        for (text, want) in [("", vec![]), ("ok", vec!["ok"])] {
            let mut body = AnswerBody::from(text.to_owned());
            assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
            assert_eq!(body.is_end_stream(), text.is_empty());
            assert_eq!(
                parts(&mut body),
                (want.into_iter().map(Bytes::from).collect(), true)
            );
            assert!(body.is_end_stream());
        }
    }

    #[test]
    fn a_long_text_is_sent_in_parts_and_keeps_its_permit_until_it_is_dropped() {
        let permits = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&permits).try_acquire_owned().expect("a permit");
        let text: Vec<u8> = (0..PART_LEN * 2 + 7).map(|at| at as u8).collect();
        let mut body = AnswerBody::Parts {
            rest: text.clone().into(),
            _permit: permit,
        };
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        let (sent, has_ended) = parts(&mut body);
        assert!(has_ended && body.is_end_stream());
        assert_eq!(sent.iter().map(Bytes::len).max(), Some(PART_LEN));
        assert_eq!(sent.concat(), text);
        assert_eq!(permits.available_permits(), 0);
        drop(body);
        assert_eq!(permits.available_permits(), 1);
    }

    #[test]
    fn lines_end_with_their_sender() {
        let (sender, lines) = mpsc::channel(4);
        let mut body = AnswerBody::Lines(lines);
        assert_eq!(
            (parts(&mut body), body.is_end_stream()),
            ((vec![], false), false)
        );
        sender.try_send(Bytes::from("a\n")).expect("room");
        assert_eq!(parts(&mut body), (vec![Bytes::from("a\n")], false));
        assert_eq!(body.size_hint().exact(), None);
        drop(sender);
        assert_eq!(parts(&mut body), (vec![], true));
    }
}
