//! Messages of any length for each framing: [`message`].

/// The name of each framing, with an argument where necessary: fixed lengths of `fixed` bytes, and delimiters of one byte,
/// of two, and one that overlaps itself.
#[must_use]
pub fn specs(fixed: usize) -> Vec<String> {
    let plain = framing_core::AnyFraming::SPECS.iter();
    let plain = plain.filter(|spec| !spec.contains(['N', 'H']));
    let delimited = ["delimited:00", "delimited:0d0a", "delimited:6161"];
    let specs = plain.copied().chain(delimited).map(String::from);
    specs.chain([format!("fixed:{fixed}")]).collect()
}

/// A message of length `len` with arbitrary bytes, including zeros and long runs, as far as the framing can carry them.
/// Its length is at most 255 with `length:u8`, and always N with `fixed:N`.
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

/// Splits a message into consecutive parts, some of them empty.
#[must_use]
pub fn parts(message: &[u8]) -> Vec<&[u8]> {
    let (first, rest) = message.split_at(message.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    vec![&[], first, &[], &[], second, third, &[]]
}
