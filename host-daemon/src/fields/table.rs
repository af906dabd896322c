//! The columns of a table: [`Columns`], which learns names and types from messages, or has the names that were given.

use std::collections::HashMap;

use crate::cli::FieldNames;
use crate::error::CommandError;
use crate::fields::columns::{Leaf, column_name, flatten};
use crate::fields::rows::{FieldRow, RowSink};

/// Maximum number of columns for fields.
const COLUMNS_MAX: usize = 1_000;
/// Maximum length of the names of all columns, in bytes.
const NAMES_MAX: usize = 1 << 20;
/// Fields without a column that a report names.
const NAMED_MAX: usize = 10;
/// Names of columns that are not fields.
const OWN: [&str; 6] = ["time", "device", "conn", "seq", "session", "received"];
/// The integers up to this one, and their negatives, are exact as a double.
const DOUBLE_MAX: u64 = 1 << 53;

/// The columns of a table, in their order.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    places: HashMap<Box<str>, usize>,
    names_len: usize,
    /// A new field gets a column.
    is_open: bool,
    /// The types of the values are known.
    is_learnt: bool,
    left_out: LeftOut,
    /// A message belongs to a session.
    pub(crate) has_session: bool,
}

/// Fields that have no column, since there are too many, or their names are too long.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    /// Values of fields beyond the limit of columns.
    pub(crate) values: u64,
    /// Values of fields with a name that is [too long](crate::fields::columns::NAME_MAX).
    pub(crate) long_names: u64,
    /// Names of the first fields beyond the limit.
    pub(crate) names: Vec<String>,
}

/// The type of a column.
#[cfg_attr(
    not(feature = "parquet"),
    allow(dead_code, reason = "only Parquet has types")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    /// Integers of 64 bits.
    Integer,
    /// Integers of 64 bits from 0.
    Unsigned,
    /// Floats of 64 bits.
    Double,
    /// True and false.
    Boolean,
    /// Text, or values of several types as text.
    Text,
}

#[derive(Debug)]
struct Column {
    name: Box<str>,
    found: FoundKinds,
    is_seen: bool,
}

/// The kinds of values that were found in a column.
#[derive(Clone, Copy, Debug, Default)]
struct FoundKinds {
    integer: bool,
    negative: bool,
    /// An integer that a double cannot hold.
    wide: bool,
    /// An integer above the signed ones.
    unsigned: bool,
    float: bool,
    boolean: bool,
    text: bool,
}

impl Columns {
    /// Columns of these fields, or of all that are learnt.
    pub(crate) fn new(fields: &FieldNames) -> Self {
        let mut columns = Self {
            is_open: true,
            ..Self::default()
        };
        if let FieldNames::Named(names) = fields {
            for name in names {
                columns.add(&column_name(name, &[]));
            }
            columns.is_open = false;
        }
        columns
    }

    /// Takes no more columns, and learns no more types.
    pub(crate) const fn close(&mut self) {
        self.is_open = false;
        self.is_learnt = true;
    }

    /// Calls `each` with the column of each value of a message, and learns the types.
    pub(crate) fn values(&mut self, object: &[u8], mut each: impl FnMut(usize, Leaf<'_>)) {
        let long_names = flatten(object, &[], |name, leaf| {
            if let Some(place) = self.note(name, leaf) {
                each(place, leaf);
            }
        });
        if self.is_open {
            self.left_out.long_names += long_names;
        }
    }

    /// Returns the place of a field, and learns the type of its value.
    fn note(&mut self, name: &str, leaf: Leaf<'_>) -> Option<usize> {
        let known = self.places.get(name).copied();
        let place = match known {
            Some(place) => place,
            None if self.is_open => match self.add(name) {
                Some(place) => place,
                None => {
                    self.left_out.note(name);
                    return None;
                }
            },
            None => return None,
        };
        let column = self.columns.get_mut(place)?;
        column.is_seen = true;
        if !self.is_learnt {
            column.found.note(leaf);
        }
        Some(place)
    }

    /// Number of columns.
    pub(crate) const fn len(&self) -> usize {
        self.columns.len()
    }

    /// The names of the columns in a file. A field with the name of another column gets `_` before its name.
    pub(crate) fn headers(&self) -> impl Iterator<Item = String> {
        self.columns.iter().map(|column| header(&column.name))
    }

    /// The types of the columns.
    #[cfg(feature = "parquet")]
    pub(crate) fn kinds(&self) -> impl Iterator<Item = ColumnKind> {
        self.columns.iter().map(|column| column.found.kind())
    }

    /// The names of the columns of which no value was found.
    pub(crate) fn unseen(&self) -> impl Iterator<Item = &str> {
        let unseen = self.columns.iter().filter(|column| !column.is_seen);
        unseen.map(|column| &*column.name)
    }

    /// Fields that have no column.
    pub(crate) const fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    fn add(&mut self, name: &str) -> Option<usize> {
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        let (place, names_len) = (self.columns.len(), self.names_len + name.len());
        if COLUMNS_MAX <= place || NAMES_MAX < names_len {
            return None;
        }
        self.names_len = names_len;
        self.places.insert(name.into(), place);
        self.columns.push(Column {
            name: name.into(),
            found: FoundKinds::default(),
            is_seen: false,
        });
        Some(place)
    }
}

impl LeftOut {
    /// All values without a column.
    pub(crate) const fn count(&self) -> u64 {
        self.values + self.long_names
    }

    fn note(&mut self, name: &str) {
        self.values += 1;
        if self.names.len() < NAMED_MAX && !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
        }
    }
}

impl FoundKinds {
    fn note(&mut self, leaf: Leaf<'_>) {
        match leaf {
            Leaf::Null => {}
            // Numbers that JSON lacks.
            Leaf::Text("NaN" | "inf" | "-inf") => self.float = true,
            Leaf::Text(_) => self.text = true,
            Leaf::Plain("true" | "false") => self.boolean = true,
            Leaf::Plain(digits) => self.number(digits),
        }
    }

    fn number(&mut self, digits: &str) {
        if let Ok(number) = digits.parse::<i64>() {
            self.integer = true;
            self.negative |= number < 0;
            self.wide |= DOUBLE_MAX < number.unsigned_abs();
        } else if digits.parse::<u64>().is_ok() {
            self.integer = true;
            self.wide = true;
            self.unsigned = true;
        } else if is_float(digits) {
            self.float = true;
        } else {
            // As text, every digit is kept.
            self.text = true;
        }
    }

    #[cfg_attr(
        not(feature = "parquet"),
        allow(dead_code, reason = "only Parquet has types")
    )]
    const fn kind(self) -> ColumnKind {
        let has_number = self.integer || self.float;
        match self {
            Self { text: true, .. } => ColumnKind::Text,
            Self { boolean: true, .. } if has_number => ColumnKind::Text,
            Self { boolean: true, .. } => ColumnKind::Boolean,
            Self {
                float: true, wide, ..
            } => match wide {
                true => ColumnKind::Text,
                false => ColumnKind::Double,
            },
            Self {
                unsigned: true,
                negative,
                ..
            } => match negative {
                true => ColumnKind::Text,
                false => ColumnKind::Unsigned,
            },
            Self { integer: true, .. } => ColumnKind::Integer,
            _ => ColumnKind::Text,
        }
    }
}

/// Whether a number that is not an integer of 64 bits is a float, and not an integer of more digits.
fn is_float(digits: &str) -> bool {
    let is_part = |byte: &u8| matches!(byte, b'.' | b'e' | b'E');
    // Without an exponent, a number of this length is finite.
    let is_short = digits.len() < 300 && !digits.contains(['e', 'E']);
    digits.as_bytes().iter().any(is_part)
        && (is_short || digits.parse::<f64>().is_ok_and(f64::is_finite))
}

/// Whether this is the name of a column that is not a field, or would be without a `_` before it.
pub(crate) fn is_column(name: &str) -> bool {
    OWN.contains(&name.trim_start_matches('_'))
}

/// The name of a field as the name of a column. Different fields have different ones.
fn header(name: &str) -> String {
    match is_column(name) {
        true => format!("_{name}"),
        false => name.to_owned(),
    }
}

/// The first pass over a recording, which learns the columns.
#[derive(Debug)]
pub(crate) struct Survey(pub(crate) Columns);

impl RowSink for Survey {
    const IS_SHOWN: bool = false;

    fn row(&mut self, row: &FieldRow<'_>) -> Result<(), CommandError> {
        self.0.has_session |= row.session.is_some();
        self.0.values(row.object, |_, _| {});
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Columns {
        Columns::new(&FieldNames::All)
    }

    #[track_caller]
    fn check(values: &[Leaf<'_>], want: ColumnKind) {
        let mut columns = all();
        for leaf in values {
            columns.note("x", *leaf);
        }
        let found = columns.columns[0].found.kind();
        assert_eq!(found, want, "{values:?}");
    }

    #[test]
    fn a_type_holds_every_value_exactly() {
        use ColumnKind::{Boolean, Double, Integer, Text, Unsigned};
        use Leaf::{Null, Plain};
        let text = Leaf::Text;
        check(&[Plain("1"), Null, Plain("-9223372036854775808")], Integer);
        check(&[Plain("1"), Plain("18446744073709551615")], Unsigned);
        check(&[Plain("-1"), Plain("18446744073709551615")], Text);
        check(&[Plain("18446744073709551616")], Text);
        check(&[Plain("1"), Plain("1.5")], Double);
        check(&[Plain("1e3")], Double);
        check(&[Plain("1e999")], Text);
        check(&[Plain("9007199254740992"), Plain("0.5")], Double);
        check(&[Plain("9007199254740993"), Plain("0.5")], Text);
        check(&[Plain("1"), text("NaN")], Double);
        check(&[text("-inf"), text("inf")], Double);
        check(&[text("NaN"), text("x")], Text);
        check(&[Plain("true"), Null, Plain("false")], Boolean);
        check(&[Plain("true"), Plain("1")], Text);
        check(&[Plain("1"), text("1")], Text);
        check(&[Null], Text);
    }

    #[test]
    fn names_of_other_columns_get_an_underscore_and_stay_different() {
        let names = ["seq", "_seq", "__time", "seq.0", "temp", "_temp"].map(header);
        assert_eq!(
            names,
            ["_seq", "__seq", "___time", "seq.0", "temp", "_temp"]
        );
    }

    #[test]
    fn columns_have_a_bound_and_the_first_ones_left_out_are_named() {
        let mut columns = all();
        for _ in 0..2 {
            for number in 0..COLUMNS_MAX + 50 {
                columns.note(&format!("f{number}"), Leaf::Null);
            }
        }
        assert_eq!(columns.len(), COLUMNS_MAX);
        assert_eq!(columns.left_out.values, 100);
        let named = (COLUMNS_MAX..).map(|number| format!("f{number}"));
        assert_eq!(
            columns.left_out.names,
            named.take(NAMED_MAX).collect::<Vec<_>>()
        );
        let mut columns = all();
        columns.note("short", Leaf::Null);
        assert_eq!(columns.note(&"n".repeat(NAMES_MAX), Leaf::Null), None);
        assert_eq!(columns.note("other", Leaf::Null), Some(1));
    }

    #[test]
    fn values_of_fields_with_long_names_are_counted_once() {
        let mut columns = all();
        let object = format!(r#"{{"a":1,"{}":[1,2,{{"b":3}}]}}"#, "n".repeat(2000));
        let mut places = Vec::new();
        columns.values(object.as_bytes(), |place, _| places.push(place));
        columns.close();
        columns.values(object.as_bytes(), |place, _| places.push(place));
        assert_eq!((places, columns.len()), (vec![0, 0], 1));
        let left_out = columns.left_out();
        assert_eq!((left_out.long_names, left_out.count()), (3, 3));
    }

    #[test]
    fn named_fields_have_their_order_and_no_others_are_added() {
        let names = ["b", "a"].map(str::to_owned).to_vec();
        let mut columns = Columns::new(&FieldNames::Named(names));
        assert_eq!(columns.note("a", Leaf::Plain("1")), Some(1));
        assert_eq!(columns.note("c", Leaf::Plain("1")), None);
        assert_eq!(columns.left_out.values, 0);
        assert!(columns.headers().eq(["b", "a"]));
        assert!(columns.unseen().eq(["b"]));
    }
}
