//! The fields of the messages of one device: their last values, and values over time. Start with [`FieldTable`].

use std::collections::HashMap;

use crate::api::device::FieldView;
use crate::fields::{Leaf, flatten};
use crate::view::series::Series;

/// Fields of a device that are kept.
pub(super) const FIELDS_MAX: usize = 200;
/// Longest name of a field that is kept, in bytes.
const NAME_MAX: usize = 256;
/// Characters of a value that are shown.
const VALUE_MAX: usize = 200;
/// Most bytes of a character.
pub(super) const CUT_BYTES: usize = 4;
/// Memory of a field besides its two names and its value, in bytes.
const FIELD_COST: usize = size_of::<Field>() + 64;
/// The most memory of a name and a value of [`first_values`], in bytes.
pub(super) const FIRST_VALUE_MAX: usize = CUT_BYTES * (NAME_MAX + VALUE_MAX + 2);

/// The fields of a device, in the order in which they first occurred.
#[derive(Debug, Default)]
pub(super) struct FieldTable {
    fields: Vec<Field>,
    places: HashMap<Box<str>, usize>,
    /// Fields beyond the bound that one message has had.
    more: usize,
}

/// A field.
#[derive(Debug)]
struct Field {
    name: Box<str>,
    last: Box<str>,
    /// The time of the last value.
    last_ms: i64,
    min: f64,
    max: f64,
    /// Values, and those of them that are numbers.
    count: u64,
    numbers: u64,
    series: Option<Box<Series>>,
    /// When a plot of it was last asked for: a larger number is later.
    asked: u64,
}

impl FieldTable {
    /// Takes the values of a message, which is one JSON object. Messages may come in any order. A number is added to the series
    /// of its field, if that has one; `admit` is asked for a field that has none.
    pub(super) fn message(&mut self, time_ms: i64, object: &[u8], mut admit: impl FnMut() -> bool) {
        let mut more = 0;
        let long_names = flatten(object, &[], |name, leaf| {
            let Some(field) = self.place(name) else {
                more += 1;
                return;
            };
            if let Some(field) = self.fields.get_mut(field) {
                field.value(time_ms, leaf, &mut admit);
            }
        });
        let long_names = usize::try_from(long_names).unwrap_or(usize::MAX);
        self.more = self.more.max(long_names.saturating_add(more));
    }

    fn place(&mut self, name: &str) -> Option<usize> {
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        let place = self.fields.len();
        if FIELDS_MAX <= place || NAME_MAX < name.len() {
            return None;
        }
        self.places.insert(name.into(), place);
        self.fields.push(Field::new(name));
        Some(place)
    }

    /// The series of a field, if it has one.
    pub(super) fn series(&self, name: &str) -> Option<&Series> {
        let place = self.places.get(name)?;
        self.fields.get(*place)?.series.as_deref()
    }

    /// Whether a field has occurred.
    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Memory without that of series, in bytes.
    pub(super) fn cost(&self) -> usize {
        let fields = self.fields.iter();
        fields
            .map(|it| FIELD_COST + 2 * it.name.len() + it.last.len())
            .sum()
    }

    /// The most that [`cost`](Self::cost) can be.
    pub(super) const COST_MAX: usize =
        FIELDS_MAX * (FIELD_COST + 2 * NAME_MAX + CUT_BYTES * (VALUE_MAX + 1));

    /// Notes that a plot of a field was asked for, and gives it a series if `admit` agrees. Returns `false` if it has none.
    pub(super) fn ask(&mut self, name: &str, asked: u64, admit: impl FnOnce() -> bool) -> bool {
        let Some(place) = self.places.get(name).copied() else {
            return false;
        };
        let Some(field) = self.fields.get_mut(place) else {
            return false;
        };
        field.asked = asked;
        if field.series.is_none() && admit() {
            field.series = Some(Box::new(Series::new()));
        }
        field.series.is_some()
    }

    /// Number of series.
    pub(super) fn plotted(&self) -> usize {
        self.fields.iter().filter(|it| it.series.is_some()).count()
    }

    /// When the series that was asked for the longest time ago was asked for.
    pub(super) fn least_asked(&self) -> Option<u64> {
        let with_series = self.fields.iter().filter(|field| field.series.is_some());
        with_series.map(|field| field.asked).min()
    }

    /// Drops one series that was asked for then.
    pub(super) fn drop_series(&mut self, asked: u64) {
        let mut fields = self.fields.iter_mut();
        if let Some(field) = fields.find(|it| it.series.is_some() && it.asked == asked) {
            field.series = None;
        }
    }

    /// The fields, and the number of those that are not kept.
    pub(super) fn view(&self) -> (Vec<FieldView>, u64) {
        let fields = self.fields.iter().filter(|field| field.count != 0);
        (fields.map(Field::view).collect(), self.more as u64)
    }
}

/// The first fields of a message, with their values as text.
pub(super) fn first_values(object: &[u8], most: usize) -> Vec<(String, String)> {
    let mut values = Vec::new();
    // Those with longer names are not among the first.
    let _ = flatten(object, &[], |name, leaf| {
        if values.len() < most {
            values.push((cut(name, NAME_MAX), text(leaf)));
        }
    });
    values
}

impl Field {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            last: Box::default(),
            last_ms: i64::MIN,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            count: 0,
            numbers: 0,
            series: None,
            asked: 0,
        }
    }

    fn value(&mut self, time_ms: i64, leaf: Leaf<'_>, admit: &mut impl FnMut() -> bool) {
        self.count += 1;
        if self.last_ms <= time_ms {
            self.last_ms = time_ms;
            self.last = text(leaf).into();
        }
        let Some(number) = number(leaf) else {
            return;
        };
        self.numbers += 1;
        self.min = self.min.min(number);
        self.max = self.max.max(number);
        if self.series.is_none() && self.is_numeric() && admit() {
            self.series = Some(Box::new(Series::new()));
        }
        if let Some(series) = &mut self.series {
            series.add(time_ms, number);
        }
    }

    const fn is_numeric(&self) -> bool {
        self.count < 2 * self.numbers
    }

    fn view(&self) -> FieldView {
        let known = |value: f64| value.is_finite().then_some(value);
        FieldView {
            field: self.name.to_string(),
            numeric: self.is_numeric(),
            last: self.last.to_string(),
            min: known(self.min),
            max: known(self.max),
            count: self.count,
            plotted: self.series.is_some(),
        }
    }
}

/// A number, or a truth value as 0 or 1.
fn number(leaf: Leaf<'_>) -> Option<f64> {
    match leaf {
        Leaf::Plain("true") => Some(1.0),
        Leaf::Plain("false") => Some(0.0),
        Leaf::Plain(digits) => digits.parse().ok().filter(|value: &f64| value.is_finite()),
        Leaf::Text(_) | Leaf::Null => None,
    }
}

fn text(leaf: Leaf<'_>) -> String {
    match leaf {
        Leaf::Plain(text) | Leaf::Text(text) => cut(text, VALUE_MAX),
        Leaf::Null => "null".to_owned(),
    }
}

/// The first characters of a text.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::series::PlotSpan;

    fn fields(table: &FieldTable) -> Vec<FieldView> {
        table.view().0
    }

    #[test]
    fn a_field_is_numeric_if_most_of_its_values_are() {
        let mut table = FieldTable::default();
        for (at, value) in ["1", "\"x\"", "3.5", "-2", "null"].iter().enumerate() {
            let object = format!(r#"{{"a":{value},"b":"text","c":true}}"#);
            table.message(at as i64, object.as_bytes(), || true);
        }
        let [a, b, c] = &*fields(&table) else {
            panic!("{:?}", fields(&table));
        };
        assert!(a.numeric && a.plotted && c.numeric && !b.numeric && !b.plotted);
        assert_eq!((a.min, a.max, a.count), (Some(-2.0), Some(3.5), 5));
        assert_eq!((&*a.last, &*b.last, b.min), ("null", "text", None));
    }

    #[test]
    fn a_value_from_before_is_not_the_last_one() {
        let mut table = FieldTable::default();
        table.message(1000, br#"{"a":1}"#, || true);
        table.message(500, br#"{"a":2}"#, || true);
        let [a] = &*fields(&table) else { panic!() };
        assert_eq!((&*a.last, a.max), ("1", Some(2.0)));
        let span = PlotSpan::new(1000, 60, 600);
        let points = table.series("a").unwrap().points(&span, 10_000);
        assert_eq!(points, [(500, Some(2.0)), (1000, Some(1.0))]);
    }

    #[test]
    fn fields_and_their_memory_are_bounded() {
        let mut table = FieldTable::default();
        let many: Vec<_> = (0..500).map(|number| format!(r#""f{number}":1"#)).collect();
        table.message(0, format!("{{{}}}", many.join(",")).as_bytes(), || false);
        let (fields, more) = table.view();
        assert_eq!((fields.len(), more), (FIELDS_MAX, 300));
        let mut table = FieldTable::default();
        let long = format!(r#"{{"{}":1,"b":"{}"}}"#, "k".repeat(5000), "v".repeat(5000));
        table.message(0, long.as_bytes(), || false);
        let (fields, more) = table.view();
        assert_eq!((fields.len(), more), (1, 1));
        assert_eq!(fields[0].last.chars().count(), VALUE_MAX + 1);
    }

    #[test]
    fn a_series_gives_way_to_one_that_is_asked_for() {
        let mut table = FieldTable::default();
        table.message(0, br#"{"a":1,"b":2}"#, || true);
        assert!(table.ask("b", 7, || false));
        assert!(!table.ask("new", 8, || true) && !table.has("new"));
        assert_eq!((table.plotted(), table.least_asked()), (2, Some(0)));
        table.drop_series(0);
        assert_eq!((table.plotted(), table.least_asked()), (1, Some(7)));
        assert!(table.series("a").is_none() && table.series("b").is_some());
        assert!(table.ask("a", 8, || true) && table.has("a"));
    }

    #[test]
    fn numbers_that_a_plot_cannot_show_are_left_out() {
        let mut table = FieldTable::default();
        table.message(0, br#"{"a":1e999,"b":18446744073709551616}"#, || true);
        let [a, b] = &*fields(&table) else { panic!() };
        assert_eq!((a.numeric, a.min), (false, None));
        assert_eq!(b.min, Some(1.844_674_407_370_955_2e19));
    }
}
