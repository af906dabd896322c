//! Messages of any length that each framing can carry.

/// Each framing's name, with an argument where it needs one: fixed lengths of `fixed` bytes, and delimiters of
/// one byte, of two, and one that overlaps itself.
#[must_use]
pub fn specs(fixed: usize) -> Vec<String> {
    let plain = framing_core::AnyFraming::SPECS.iter();
    let plain = plain.filter(|spec| !spec.contains(['N', 'H']));
    let delimited = ["delimited:00", "delimited:0d0a", "delimited:6161"];
    let specs = plain.copied().chain(delimited).map(String::from);
    specs.chain([format!("fixed:{fixed}")]).collect()
}

/// A message of so many bytes: any bytes, zeros and long runs among them, where the framing carries those.
/// At most 255 with `length:u8`, and always as many as `fixed:N` says.
///
/// # Panics
/// If `spec` is not the name of a framing.
#[must_use]
pub fn message(spec: &str, len: usize) -> Vec<u8> {
    let len = match spec.split_once(':') {
        Some(("fixed", fixed)) => fixed.parse().expect(spec),
        Some((_, "u8")) => len.min(255),
        _ => len,
    };
    let any = (0..len).map(|at| match at % 900 {
        at @ 600.. => 1 + (at % 255) as u8,
        at => (at * 7 / 3) as u8,
    });
    if spec == "lines" || spec.starts_with("delimited") {
        return any.map(|byte| b'b' + byte % 24).collect();
    }
    any.collect()
}

/// A message in parts, one behind the other, empty ones among them.
#[must_use]
pub fn parts(message: &[u8]) -> Vec<&[u8]> {
    let (first, rest) = message.split_at(message.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    vec![&[], first, &[], &[], second, third, &[]]
}
