//! Compares numbers in their decimal digits, exactly: [`compare`].

use std::cmp::Ordering;

/// Compares two texts as numbers, with any number of digits. Returns `None` if one is not a number.
pub(crate) fn compare(one: &str, other: &str) -> Option<Ordering> {
    Some(Decimal::parse(one)?.cmp(&Decimal::parse(other)?))
}

/// A number.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    /// Compared with zero.
    sign: Ordering,
    magnitude: Magnitude,
}

/// The digits are a fraction: 0.DIGITS, without zeros at either end, times ten to the power of the exponent.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Magnitude {
    Finite {
        exponent: i64,
        digits: String,
    },
    /// A number that JSON lacks, which decoders write as text.
    Infinite,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let sign = match negative {
            true => Ordering::Less,
            false => Ordering::Greater,
        };
        if rest == "inf" {
            let magnitude = Magnitude::Infinite;
            return Some(Self { sign, magnitude });
        }
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [whole, fraction].concat();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let significant = digits.trim_start_matches('0');
        let zeros = digits.len() - significant.len();
        let len = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        let exponent = exponent.saturating_add(len(whole.len()) - len(zeros));
        let digits = significant.trim_end_matches('0').to_owned();
        let is_zero = digits.is_empty();
        Some(Self {
            sign: if is_zero { Ordering::Equal } else { sign },
            magnitude: Magnitude::Finite {
                exponent: if is_zero { 0 } else { exponent },
                digits,
            },
        })
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let magnitudes = self.magnitude.cmp(&other.magnitude);
        self.sign.cmp(&other.sign).then(match self.sign {
            Ordering::Less => magnitudes.reverse(),
            Ordering::Equal | Ordering::Greater => magnitudes,
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// An exponent. One that is beyond all others is replaced by the largest.
fn exponent_of(text: &str) -> Option<i64> {
    /// Beyond the length of any payload.
    const MAX: i64 = i64::MAX / 2;
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(match text.parse::<i64>() {
        Ok(exponent) => exponent.clamp(-MAX, MAX),
        Err(_) if text.starts_with('-') => -MAX,
        Err(_) => MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length_are_in_order() {
        let zeros = "0".repeat(400);
        let [long, longer] = ["0", "1"].map(|digit| format!("1{zeros}{digit}"));
        let ordered = [
            "-inf",
            "-1e99999999999999999999",
            "-12",
            "-1.5",
            "-1.25",
            "-1e-99999999999999999999",
            "0",
            "1e-400",
            "0.000001",
            "0.1",
            "0.10000000000000000000000001",
            "1",
            "9007199254740992",
            "9007199254740993",
            &long,
            &longer,
            "1e402",
            "1e99999999999999999999",
            "inf",
        ];
        for (index, one) in ordered.iter().enumerate() {
            for (number, other) in ordered.iter().enumerate() {
                assert_eq!(
                    compare(one, other),
                    Some(index.cmp(&number)),
                    "{one} {other}"
                );
            }
        }
    }

    #[test]
    fn equal_numbers_are_written_in_several_ways() {
        for equal in [
            ["1500", "1.5e3"],
            ["+.5", "5e-1"],
            ["0", "-0.00e7"],
            ["0012.500", "12.5"],
            ["5.", "5"],
        ] {
            let [one, other] = equal;
            assert_eq!(compare(one, other), Some(Ordering::Equal), "{equal:?}");
        }
    }

    #[test]
    fn other_texts_are_not_numbers() {
        for text in [
            "", "-", ".", "e5", "1e", "1e+", "1 ", "0x1", "1_0", "NaN", "nan", "infinity", "Inf",
            "1e5.0",
        ] {
            assert_eq!(compare(text, "1"), None, "{text}");
        }
    }
}
