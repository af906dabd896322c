//! Errors of the commands that send over acknowledged sessions. Start with [`SessionError`].

use std::fmt;
use std::io;
use std::path::PathBuf;

use framing_core::session::HeardError;
use framing_core::session::wire::ClosingCode;

/// Why a command could not send everything over a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// There was no connection for too long.
    #[error("{}: {cause}{}", unsent(*messages, *acknowledged), kept(*messages, *untaken, spool.as_deref()))]
    Unacknowledged {
        /// Number of messages that are not acknowledged.
        messages: u64,
        /// Number of those among them for which the ring had no room.
        untaken: u64,
        /// Number of messages that are acknowledged.
        acknowledged: u64,
        /// The file that has the others.
        spool: Option<Box<KeptIn>>,
        /// Why the last connection, or the last attempt to connect, ended.
        #[source]
        cause: SessionEnd,
    },
    /// The daemon refuses the session, and a retry cannot help.
    #[error("the daemon refuses the session: {}; {}", refusal(*code), unsent(*messages, *acknowledged))]
    Refused {
        /// Why.
        code: ClosingCode,
        /// Number of messages that are not acknowledged.
        messages: u64,
        /// Number of messages that are acknowledged.
        acknowledged: u64,
    },
    /// The listener takes no messages without a session.
    #[error("nothing was recorded: this listener requires sessions; use --session")]
    Required,
    /// A message is longer than the daemon takes.
    #[error(
        "a message of {len} bytes is longer than the daemon takes, {max} bytes; raise its --max-block"
    )]
    TooLong {
        /// Length of the message, in bytes.
        len: u64,
        /// Length of the longest message that the daemon takes, in bytes.
        max: u32,
    },
    /// The daemon has acknowledged messages and not recorded them, because they are longer than it takes.
    #[error("{}, since the daemon takes {max} bytes; raise its --max-block", not_recorded(*messages, *longest))]
    NotRecorded {
        /// Number of these messages.
        messages: u64,
        /// Length of the longest, in bytes.
        longest: u64,
        /// Length of the longest message that the daemon takes, in bytes.
        max: u32,
    },
    /// A line of standard input is longer than the daemon takes.
    #[error("line {number} of standard input: {error}")]
    Line {
        /// Number of the line, from 1.
        number: u64,
        /// The reason.
        #[source]
        error: Box<Self>,
    },
    /// The spool cannot be used.
    #[error("spool {}: {fault}", path.display())]
    Spool {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        fault: SpoolFault,
    },
}

/// Where messages are kept for another run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptIn {
    /// The spool.
    pub path: PathBuf,
    /// The address of the daemon that they are for.
    pub address: String,
    /// The options of TLS, each after a space.
    pub tls: String,
}

/// Why a connection of a session ended, or was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The address cannot be reached.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// The address as it was given.
        address: String,
        /// The error of the system.
        #[source]
        error: io::Error,
    },
    /// The connection failed.
    #[error("connection failed: {0}")]
    Failed(#[source] io::Error),
    /// The peer closed the connection.
    #[error("the daemon closed the connection")]
    Closed,
    /// The peer closed the connection, and had not answered the HELLO.
    #[error(
        "the daemon closed the connection without an answer, as a listener with TLS does if the sender has none (--tls)"
    )]
    Unwelcome,
    /// The peer did not answer the HELLO.
    #[error(
        "no answer within {timeout_s} s; send to a daemon that records (--record), on a listener with the framing `blocks`"
    )]
    Unanswered {
        /// The time, in s.
        timeout_s: u64,
    },
    /// Nothing came from the peer for too long.
    #[error("the daemon was silent for {timeout_s} s")]
    Silent {
        /// The time, in s.
        timeout_s: u64,
    },
    /// The peer closed the connection, and said why.
    #[error("the daemon closed the connection: {}", closing(*code))]
    Closing {
        /// A [`ClosingCode`], or one of a later version.
        code: u8,
    },
    /// The peer broke the protocol.
    #[error("{0}")]
    Protocol(#[source] HeardError),
}

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolFault {
    /// The file is not a spool.
    #[error("not a spool; name a file that does not exist, or that an earlier `--spool` has made")]
    NotSpool,
    /// The file was made by a later version.
    #[error("its format has version {version}, and this program reads version 1")]
    Version {
        /// The version of the file.
        version: u8,
    },
    /// Bytes of the file have changed.
    #[error("damaged at byte {offset}; to go on without its messages, move it away")]
    Damaged {
        /// Position of the damaged header or record.
        offset: u64,
    },
    /// It is that of another device.
    #[error(
        "it is that of device {recorded}, not of {given}; use another file for another --device"
    )]
    Device {
        /// The device of the file.
        recorded: String,
        /// The device of the command line.
        given: String,
    },
    /// Another process uses it.
    #[error("another process is using it")]
    Locked,
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn unacknowledged(messages: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| match messages {
        0 => f.write_str("every message that was sent is acknowledged"),
        1 => f.write_str("1 message is not acknowledged"),
        _ => write!(f, "{messages} messages are not acknowledged"),
    })
}

/// As [`unacknowledged`], unless nothing was sent.
fn unsent(messages: u64, acknowledged: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| match (messages, acknowledged) {
        (0, 0) => f.write_str("nothing was sent"),
        _ => write!(f, "{}", unacknowledged(messages)),
    })
}

fn not_recorded(messages: u64, longest: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| match messages {
        1 => write!(
            f,
            "1 message of {longest} bytes was refused as too long, and is not recorded"
        ),
        _ => write!(
            f,
            "{messages} messages of up to {longest} bytes were refused as too long, and are not recorded"
        ),
    })
}

/// What to do about messages that are not acknowledged.
fn kept(messages: u64, untaken: u64, spool: Option<&KeptIn>) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        match spool {
        _ if messages == 0 => Ok(()),
        Some(KeptIn { path, address, tls }) => {
            let kept = messages - untaken;
            if kept != 0 {
                write!(
                    f,
                    "; {kept} in the spool: send with `blocksd send --session --to {address}{tls} --spool {} </dev/null`",
                    path.display()
                )?;
            }
            if untaken != 0 {
                write!(f, "; {untaken} not in the spool, which has no room: give them again")?;
            }
            Ok(())
        }
        None => f.write_str(
            "; they may be recorded or not; use `send --session --spool FILE` to keep such messages for another run",
        ),
    }
    })
}

/// Why the daemon refuses a session, and what to do.
fn refusal(code: ClosingCode) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        match code {
        ClosingCode::NoSession => f.write_str(
            "it has no sessions here; they need --record, the framing `blocks`, --oversize skip and no --reply, and must not be off (--session)",
        ),
        ClosingCode::Forbidden => {
            f.write_str("this device may not connect; permit it in the daemon's configuration, or choose another --device")
        }
        ClosingCode::Version => f.write_str("it speaks another version of the protocol; use the same release of both"),
        ClosingCode::Unsupported => f.write_str("it lacks a feature of this program; use the same release of both"),
        _ => f.write_str("it takes the HELLO for malformed; use the same release of both"),
    }
    })
}

/// The meaning of a code in a few words.
fn closing(code: u8) -> impl fmt::Display {
    let named = [
        (ClosingCode::Version, "it speaks another version"),
        (ClosingCode::BadHello, "it takes the HELLO for malformed"),
        (ClosingCode::Forbidden, "this device may not connect"),
        (ClosingCode::Full, "it has too many sessions or connections"),
        (
            ClosingCode::Superseded,
            "another connection continues the session",
        ),
        (ClosingCode::Unsupported, "it lacks a feature"),
        (ClosingCode::Again, "it lost messages on its disk"),
        (ClosingCode::Shutdown, "it stops"),
        (ClosingCode::Protocol, "the sender broke the protocol"),
        (ClosingCode::NoSession, "it has no sessions here"),
    ];
    fmt::from_fn(
        move |f| match named.iter().find(|(known, _)| *known as u8 == code) {
            Some((_, text)) => f.write_str(text),
            None => write!(f, "code {code}"),
        },
    )
}
