//! The names of all framings, [`specs`], and messages of any length for each: [`message`].

use framing_core::{AnyFraming, Refusal};

use crate::reference::Format;
use crate::samples;

/// The name of every framing in the list of framings: `fixed` with each of the lengths, `delimited` with each of the
/// delimiters. Another framing with an argument has the names that its samples have.
#[must_use]
pub fn specs(lens: &[usize], delimiters: &[&str]) -> Vec<String> {
    let names = AnyFraming::SPECS.iter().flat_map(|&spec| match spec {
        "fixed:N" => lens.iter().map(|len| format!("fixed:{len}")).collect(),
        "delimited:HEX" => {
            let names = delimiters.iter();
            names.map(|it| format!("delimited:{it}")).collect()
        }
        _ if spec.parse::<AnyFraming>().is_ok() => vec![spec.to_owned()],
        _ => {
            let name = spec.trim_end_matches(|it: char| it.is_ascii_uppercase());
            let samples = samples::all().into_iter();
            let mut names: Vec<_> = samples.map(|it| it.spec.to_owned()).collect();
            names.retain(|it| it.starts_with(name));
            names.dedup();
            names
        }
    });
    names.collect()
}

/// [`specs`] with fixed lengths of `fixed` bytes, and delimiters of one byte, of two, and one that overlaps itself.
#[must_use]
pub fn specs_of(fixed: usize) -> Vec<String> {
    specs(&[fixed], &["00", "0d0a", "6161"])
}

/// Whether a framing carries a message without payload.
#[must_use]
pub fn carries_empty(spec: &str) -> bool {
    match Format::of(spec) {
        Format::Blocks | Format::OctetCounted => false,
        format @ Format::Itself(_) => format.encode(&[]).is_ok(),
        _ => true,
    }
}

/// A message of length `len` with arbitrary bytes, including zeros and long runs, as far as the framing can carry them.
/// Its length is at most 255 with `length:u8`, and always N with `fixed:N`.
///
/// # Panics
/// If `spec` is not the name of a framing.
#[must_use]
pub fn message(spec: &str, len: usize) -> Vec<u8> {
    let format = Format::of(spec);
    let len = match format {
        Format::Fixed(fixed) => fixed as usize,
        Format::BigEndian(1) => len.min(255),
        Format::Itself(_) => match format.encode(&vec![b'b'; len]) {
            Err(Refusal::TooLong { max, .. }) => max as usize,
            Err(Refusal::WrongLength { want, .. }) => want as usize,
            _ => len,
        },
        _ => len,
    };
    let any = (0..len).map(|at| match at % 900 {
        at @ 600.. => 1 + (at % 255) as u8,
        at => (at * 7 / 3) as u8,
    });
    let any: Vec<_> = any.collect();
    let carries_any = match format {
        Format::Lines | Format::Delimited(_) => false,
        Format::Itself(_) => any.is_empty() || format.encode(&any).is_ok(),
        _ => true,
    };
    if carries_any {
        return any;
    }
    any.into_iter().map(|byte| b'b' + byte % 24).collect()
}

/// Splits a message into consecutive parts, some of them empty.
#[must_use]
pub fn parts(message: &[u8]) -> Vec<&[u8]> {
    let (first, rest) = message.split_at(message.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    vec![&[], first, &[], &[], second, third, &[]]
}
