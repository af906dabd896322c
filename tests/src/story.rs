//! A short form of the daemon's events, for comparisons.

use framing_core::{Fault, Part};
use serde_json::Value;

/// An event in short form, without its connection, time and addresses: `block 0 5 "hello"`.
pub fn brief(event: &Value) -> String {
    let kind = event["event"].as_str().unwrap_or("no event");
    let names: &[&str] = match kind {
        "block" => &["seq", "len", "text", "base64"],
        "piece" => &[
            "offset",
            "len",
            "first",
            "last",
            "truncated",
            "text",
            "base64",
        ],
        "end" => &["blocks"],
        "after_end" => &["bytes"],
        "fault" => &[
            "fault", "declared", "limit", "lost", "where", "have", "want", "found", "offset",
            "missing",
        ],
        "close" => &["reason", "blocks", "bytes", "series"],
        _ => &[],
    };
    let mut words = vec![kind.to_owned()];
    words.extend(names.iter().filter_map(|&name| match &event[name] {
        Value::Null => None,
        Value::String(word) if ["fault", "where", "reason"].contains(&name) => Some(word.clone()),
        value if ["seq", "text"].contains(&name) => Some(value.to_string()),
        value => Some(format!("{name}={value}")),
    }));
    words.join(" ")
}

/// Whether a character acts on a terminal, or changes how the text around it looks.
pub fn acts_on_a_terminal(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0001}'..='\u{e007f}'
        )
}

/// The short form of a fault. `None` if it is not one of the daemon's: the close says that a series is open.
///
/// # Panics
/// If the fault is unknown.
#[must_use]
pub fn fault_text(fault: &Fault) -> Option<String> {
    let figure = |name: &str, figure: Option<u32>| {
        figure.map_or_else(String::new, |it| format!(" {name}={it}"))
    };
    Some(match *fault {
        Fault::TooLong {
            declared,
            limit,
            lost,
        } => {
            let declared = figure("declared", declared);
            format!("fault too_long{declared} limit={limit} lost={lost}")
        }
        Fault::BadLength { found, offset } => {
            format!("fault bad_length found={found} offset={offset}")
        }
        Fault::BadEnding { want, found } => format!("fault bad_ending want={want} found={found}"),
        Fault::EarlyEnd { missing } => format!("fault bad_ending missing={missing}"),
        Fault::BadChecksum { want, found } => {
            format!("fault bad_checksum want={want}{}", figure("found", found))
        }
        Fault::Truncated { part, have, want } => {
            let part = match part {
                Part::Header => "header",
                Part::Payload => "payload",
                Part::End => return None,
            };
            format!("fault truncated {part} have={have} want={want}")
        }
        fault => panic!("{fault:?} has no short form"),
    })
}
