//! Where the last messages of a stream begin: [`begin`].

use blocksd_forward::reader::Begin;

use crate::cli::Last;
use crate::commands::stream::{RemoteStream, received};
use crate::commands::stream_address::{LastBegin, StreamBegin};
use crate::error::CommandError;
use blocksd_recording::Wanted;

/// Messages of the stream that are read first. If they have too few messages, four times as many are.
const SPAN: u64 = 64;

/// Finds where to begin, and how many of the selected messages from there on precede the last ones.
///
/// # Errors
/// If the stream cannot be read.
pub(super) fn begin(
    stream: &RemoteStream,
    wanted: &Wanted,
    last: Last,
) -> Result<LastBegin, CommandError> {
    let count = match last {
        Last::Within(duration) => {
            let duration = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
            let newest = newest(stream, wanted)?.unwrap_or_default();
            return Ok(LastBegin {
                from: newest.saturating_sub(duration),
                begin: StreamBegin { sequence: None },
                skip: 0,
            });
        }
        Last::Count(count) => count,
    };
    let begin = |span| (stream.end + 1).saturating_sub(span).max(stream.first);
    let mut span = SPAN;
    let mut has_enough = false;
    loop {
        let sequence = begin(span);
        let found = stream.count(wanted, Begin::Sequence(sequence))?;
        // Events may be stored before the messages that they follow, so reading begins earlier than at the first message.
        if has_enough || sequence <= stream.first {
            return Ok(LastBegin {
                from: wanted.from,
                begin: StreamBegin {
                    sequence: Some(sequence),
                },
                skip: found.saturating_sub(count),
            });
        }
        has_enough = count <= found;
        span = span.saturating_mul(4);
    }
}

/// When the newest selected message was received. Reads the last message of each subject; with an end of the range, all.
pub(super) fn newest(stream: &RemoteStream, wanted: &Wanted) -> Result<Option<u64>, CommandError> {
    let begin = match wanted.to {
        u64::MAX => Begin::LastOfEach,
        _ => Begin::First,
    };
    let mut newest = None;
    stream.heads(wanted, begin, &mut |stored| {
        let times = stored.head.times();
        let selected = times.filter(|time| wanted.has_time(*time));
        newest = newest.max(selected.map(|time| received(time, stored)).max());
        true
    })?;
    Ok(newest)
}
