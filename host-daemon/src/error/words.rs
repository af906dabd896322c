//! The words of errors with figures, such as [`not_whole`].

use std::error::Error;
use std::fmt;
use std::io;

pub(super) fn duplicate(first: &str, again: &str) -> String {
    if first == again {
        format!("{again} is given twice; remove one of them")
    } else {
        format!("{again} is the same address as {first}; remove one of them")
    }
}

/// What to do if a listener is refused for want of a privilege.
pub(super) fn listen_hint(address: &str, error: &io::Error) -> &'static str {
    let port = address.rsplit_once(':').map(|(_, port)| port.parse());
    match port {
        Some(Ok(1..1024_u16)) if error.kind() == io::ErrorKind::PermissionDenied => {
            "; a port below 1024 needs the capability CAP_NET_BIND_SERVICE"
        }
        _ => "",
    }
}

pub(super) fn not_whole(lost: u64, unread: u64) -> String {
    let files = match unread {
        1 => "1 file".to_owned(),
        _ => format!("{unread} files"),
    };
    let files = format!("{files} of the recording cannot be read");
    match (lost, unread) {
        (0, 1..) => files,
        (_, 0) => format!("{lost} bytes of the recording are lost"),
        _ => format!("{lost} bytes of the recording are lost, and {files}"),
    }
}

pub(super) fn not_exported(messages: u64, values: u64) -> String {
    match (messages, values) {
        (messages, 0) => format!("messages that are not exported: {messages}"),
        (0, values) => format!("values that are not exported: {values}"),
        _ => format!("messages that are not exported: {messages}; values: {values}"),
    }
}

pub(super) fn unrecorded(least: u64, most: u64) -> String {
    match least {
        0 => format!("up to {most}"),
        _ => format!("at least {least} and up to {most}"),
    }
}

/// An error followed by its causes, separated by colons.
pub(crate) fn with_causes(error: &dyn Error) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let mut next = Some(error);
        while let Some(error) = next {
            next = error.source();
            write!(f, "{error}{}", if next.is_some() { ": " } else { "" })?;
        }
        Ok(())
    })
}
