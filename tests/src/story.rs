//! A short form of the daemon's events, for comparisons.

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
