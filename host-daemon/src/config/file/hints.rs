//! What may have been meant by text that has no meaning: [`no_section`] and [`quotes_hint`].

use super::{DEVICE, LISTENER};
use crate::config::forward::TABLE as FORWARD;

/// How alike a name must be to that of a table, at most 1.
const ALIKE: f64 = 0.85;

/// The error of a section that does not exist.
pub(super) fn no_section(name: &str) -> String {
    let tables = [
        (LISTENER, format!("[[{LISTENER}]]")),
        (DEVICE, format!("[{DEVICE}.\"ID\"]")),
        (FORWARD, format!("[[{FORWARD}]]")),
    ];
    let mut near = tables.into_iter();
    if let Some((_, near)) = near.find(|(it, _)| ALIKE < strsim::jaro(it, name)) {
        return format!("there is no section [{name}]; did you mean {near}?");
    }
    format!(
        "there is no section [{name}]; put its keys at the top of the file, before the first [[{LISTENER}]] or [{DEVICE}.\"ID\"]"
    )
}

/// What to do about a line that is not TOML: most likely a text without quotes.
pub(super) fn quotes_hint(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._:/%[]*-".contains(letter);
    let is_valid = matches!(value, "true" | "false") || value.parse::<f64>().is_ok();
    let is_text = !value.is_empty() && !value.starts_with('[') && value.chars().all(is_plain);
    (is_text && !is_valid).then(|| format!("; a text needs quotes: {key} = \"{value}\""))
}
