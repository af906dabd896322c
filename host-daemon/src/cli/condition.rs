//! A condition on a field of a message, such as `temp>30`: [`Condition`].

use std::str::FromStr;

/// A comparison of a field with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The name of the field's column.
    pub field: String,
    /// How it is compared.
    pub operator: Operator,
    /// What it is compared with.
    pub value: Operand,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
}

/// The value that a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A number, in its digits.
    Number(String),
    /// A text in quotes.
    Text(String),
    /// A text without quotes, or `true` or `false`.
    Word(String),
}

/// The operators, longer ones first.
const OPERATORS: [(&str, Operator); 7] = [
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("!=", Operator::NotEqual),
    ("==", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("=", Operator::Equal),
];

impl Operator {
    /// Whether it asks for equal or different values.
    #[must_use]
    pub const fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Counted in characters, as an editor does.
        let at = |rest: &str| text.chars().count() - rest.chars().count() + 1;
        let trimmed = text.trim_start();
        let field_len = end_of_field(trimmed);
        let (field, rest) = trimmed.split_at(field_len);
        if field.trim().is_empty() {
            return Err(format!(
                "the name of a field is missing at character {}",
                at(trimmed)
            ));
        }
        let operator = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign));
        let Some((sign, operator)) = operator else {
            return Err(format!(
                "an operator is missing at character {}: < <= > >= = or !=",
                at(rest)
            ));
        };
        let rest = rest.get(sign.len()..).unwrap_or_default().trim_start();
        let value = rest.trim_end();
        let value = match value.chars().next() {
            None => return Err(format!("the value is missing at character {}", at(rest))),
            Some(quote @ ('"' | '\'')) => {
                let inside = value.get(1..).unwrap_or_default();
                let Some((inside, after)) = inside.split_once(quote) else {
                    return Err(format!("the quote at character {} is not closed", at(rest)));
                };
                only(after, at(rest) + inside.chars().count() + 2)?;
                Operand::Text(inside.to_owned())
            }
            Some('<' | '>' | '=' | '!') => {
                return Err(format!(
                    "unknown operator at character {}; the operators are < <= > >= = and !=",
                    at(trimmed) + field.chars().count()
                ));
            }
            Some(_) => {
                let end = value.find(char::is_whitespace).unwrap_or(value.len());
                let (word, after) = value.split_at(end);
                only(after, at(rest) + word.chars().count())?;
                match is_number(word) {
                    true => Operand::Number(word.trim_start_matches('+').to_owned()),
                    false => Operand::Word(word.to_owned()),
                }
            }
        };
        Ok(Self {
            field: field.trim_end().to_owned(),
            operator: *operator,
            value,
        })
    }
}

/// Checks that nothing follows a value. `at` is the character after it.
fn only(after: &str, at: usize) -> Result<(), String> {
    let rest = after.trim_start();
    let skipped = after.chars().count() - rest.chars().count();
    match rest {
        "" => Ok(()),
        _ => Err(format!(
            "text after the value at character {}; write a text with spaces in quotes, and a further condition as another \
             --where",
            at + skipped
        )),
    }
}

/// Length of the name of a field, which may contain parts in double quotes.
fn end_of_field(text: &str) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let end = text.find(|letter| {
        is_quoted ^= letter == '"' && !is_escaped;
        is_escaped = is_quoted && letter == '\\' && !is_escaped;
        !is_quoted && matches!(letter, '<' | '>' | '=' | '!')
    });
    end.unwrap_or(text.len())
}

/// Whether a word is a decimal number.
fn is_number(word: &str) -> bool {
    let digits = word.trim_start_matches(['-', '+', '.']);
    digits.starts_with(|first: char| first.is_ascii_digit()) && word.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, field: &str, operator: Operator, value: Operand) {
        let want = Condition {
            field: field.to_owned(),
            operator,
            value,
        };
        assert_eq!(text.parse(), Ok(want), "{text}");
    }

    #[test]
    fn a_condition_is_a_field_an_operator_and_a_value() {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let number = |text: &str| Operand::Number(text.to_owned());
        let word = |text: &str| Operand::Word(text.to_owned());
        let text = |text: &str| Operand::Text(text.to_owned());
        check("temp>30", "temp", Greater, number("30"));
        check(" temp <= -1.5e3 ", "temp", LessOrEqual, number("-1.5e3"));
        check("pos.lat.0>=+.5", "pos.lat.0", GreaterOrEqual, number(".5"));
        check("s=ok", "s", Equal, word("ok"));
        check("s==ok", "s", Equal, word("ok"));
        check("s != 'a b > c'", "s", NotEqual, text("a b > c"));
        check("s<\"\"", "s", Less, text(""));
        check("s=12:30", "s", Equal, word("12:30"));
        check("s=2026-01-31", "s", Equal, word("2026-01-31"));
        check("s=nan", "s", Equal, word("nan"));
        check("s=inf", "s", Equal, word("inf"));
        check(r#""a=b\"c".d=1"#, r#""a=b\"c".d"#, Equal, number("1"));
        check("a b=1", "a b", Equal, number("1"));
        check("é>ü", "é", Greater, word("ü"));
    }

    #[test]
    fn an_error_names_the_character() {
        for (text, want) in [
            ("", "the name of a field is missing at character 1"),
            (" >3", "the name of a field is missing at character 2"),
            ("temp", "an operator is missing at character 5"),
            ("é 30", "an operator is missing at character 5"),
            ("temp!3", "an operator is missing at character 5"),
            ("temp > ", "the value is missing at character 8"),
            ("temp=<3", "unknown operator at character 5"),
            ("temp<>3", "unknown operator at character 5"),
            ("é='x", "the quote at character 3 is not closed"),
            ("t>3 and u<4", "text after the value at character 5"),
            ("t='x' or", "text after the value at character 7"),
        ] {
            let error = text.parse::<Condition>().expect_err(text);
            assert!(error.starts_with(want), "{text}: {error}");
        }
    }
}
