//! The options of a table with a column for each field: [`TableOptions`].

use std::str::FromStr;

use clap::Args;

use crate::cli::condition::Condition;
use crate::cli::export::TimeField;

/// The columns and rows of a table of fields.
#[derive(Args, Clone, Debug, Default)]
pub struct TableOptions {
    /// Write a column for each of these fields of the decoded messages, such as temp,pos.lat,samples.0; or all, for those that
    /// occur. For csv and parquet.
    #[arg(long, value_name = "FIELD,...|all")]
    pub fields: Option<FieldNames>,
    /// Take only messages whose field compares like this, such as 'temp>30', with < <= > >= = or !=; may be given more than
    /// once. For csv and parquet.
    #[arg(long = "where", value_name = "CONDITION")]
    pub conditions: Vec<Condition>,
    /// Take the time of a row from this field, such as t or header.stamp:ms; a number is in the unit ns, us, ms or s (default)
    /// since 1970, a text is RFC 3339. A message without the field keeps its time of reception. For csv and parquet.
    #[arg(long, value_name = "FIELD[:UNIT]")]
    pub time_field: Option<TimeField>,
}

/// The fields that have columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FieldNames {
    /// All that occur.
    #[default]
    All,
    /// These, in this order.
    Named(Vec<String>),
}

impl TableOptions {
    /// Whether an option is given that needs decoded messages.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        self.fields.is_some() || !self.conditions.is_empty() || self.time_field.is_some()
    }
}

impl FromStr for FieldNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let mut names: Vec<String> = Vec::new();
        for name in split(text) {
            let name = name.trim();
            if name.is_empty() {
                return Err("the name of a field is missing".to_owned());
            }
            if name == "all" {
                return Err(
                    "`all` is used alone; a field of this name is written \"all\"".to_owned(),
                );
            }
            if names.iter().any(|known| known == name) {
                return Err(format!("the field `{name}` is named twice"));
            }
            names.push(name.to_owned());
        }
        match names.len() {
            0..=NAMES_MAX => Ok(Self::Named(names)),
            count => Err(format!(
                "{count} fields are named; a table has at most {NAMES_MAX}"
            )),
        }
    }
}

/// Maximum number of fields.
const NAMES_MAX: usize = 1_000;

/// The parts between commas that are not inside of double quotes.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |letter| {
        is_quoted ^= letter == '"' && !is_escaped;
        is_escaped = is_quoted && letter == '\\' && !is_escaped;
        letter == ',' && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_separated_by_commas_outside_of_quotes() {
        let parse = |text: &str| text.parse::<FieldNames>();
        let named = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned());
            Ok(FieldNames::Named(names.collect()))
        };
        assert_eq!(parse("all"), Ok(FieldNames::All));
        assert_eq!(parse("\"all\""), named(&["\"all\""]));
        assert_eq!(
            parse("temp,pos.lat, l.0"),
            named(&["temp", "pos.lat", "l.0"])
        );
        assert_eq!(
            parse(r#"a."b,c","d\",e""#),
            named(&[r#"a."b,c""#, r#""d\",e""#])
        );
        for text in ["", "a,", ",a", "a,,b", "a,b,a", "all,a", "a,all"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let many: Vec<_> = (0..=NAMES_MAX).map(|number| number.to_string()).collect();
        assert!(parse(&many.join(",")).is_err());
        assert!(parse(&many[1..].join(",")).is_ok());
    }
}
