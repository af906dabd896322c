//! Sources and texts of errors.

use std::error::Error;

use framing_core::ReceiveError;

use super::*;

#[test]
fn an_error_of_a_recording_includes_its_cause_once() {
    let (path, source) = (PathBuf::from("a.mcap"), io::Error::other("no such disk"));
    let error = CommandError::from(RecordingError::Folder { path, source });
    assert_eq!(error.to_string(), "cannot record to a.mcap: no such disk");
    let cause = error.source().and_then(Error::source).expect("a cause");
    assert_eq!(cause.to_string(), "no such disk");
}

#[test]
fn a_wrapped_error_is_the_source() {
    let io = || io::Error::other("cause");
    let refusal = Refusal::Empty;
    let (path, address) = (PathBuf::new(), String::new());
    for error in [
        CommandError::listen(([127, 0, 0, 1], 0).into(), io()),
        CommandError::Connect {
            address,
            error: io(),
        },
        CommandError::File {
            path: path.clone(),
            error: io(),
        },
        CommandError::Write {
            path: path.clone(),
            error: io(),
        },
        CommandError::from(RecordingError::Read {
            path: path.clone(),
            source: io(),
        }),
        CommandError::Start(io()),
        CommandError::Unsendable {
            path,
            framing: AnyFraming::Lines(framing_core::Lines),
            refusal,
        },
        CommandError::Refused(refusal),
        CommandError::Fault(Fault::EarlyEnd { missing: 1 }),
        CommandError::Connection(io()),
        CommandError::stdout(io()),
        CommandError::only_output("1 message".to_owned(), Some(io())),
        CommandError::Io(io()),
        CommandError::Partly {
            failure: Box::new(CommandError::Unbalanced),
            done: "half".to_owned(),
        },
    ] {
        let cause = error.source().expect("a source").to_string();
        assert!(error.to_string().contains(&cause), "{error:?}");
    }
}

#[test]
fn an_error_of_a_receiver_has_its_own_words() {
    for error in [
        ReceiveError::BufferTooSmall { len: 3 },
        ReceiveError::NoBoundaries,
    ] {
        let words = error.to_string();
        assert_eq!(CommandError::from(error).to_string(), words);
    }
}
