//! Selects messages by their fields, and takes a time from one of them: [`RowFilter`].

use std::cmp::Ordering;

use crate::cli::{Condition, Operand, Operator, TimeField};
use crate::fields::columns::{Leaf, column_name, flatten};
use crate::fields::decimal;
use crate::fields::time::of_leaf;

/// Conditions that messages must meet, and the field with their time.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowFilter {
    conditions: Vec<Condition>,
    time_field: Option<TimeField>,
    /// Which conditions the current message meets.
    met: Vec<bool>,
    /// Of which conditions a message had the field.
    seen: Vec<bool>,
}

/// What a filter found in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The message meets all conditions.
    pub(crate) is_selected: bool,
    /// The time in the field, in nanoseconds since 1970.
    pub(crate) time: Option<u64>,
}

impl RowFilter {
    pub(crate) fn new(conditions: &[Condition], time_field: Option<&TimeField>) -> Self {
        let mut conditions = conditions.to_vec();
        for condition in &mut conditions {
            condition.field = column_name(&condition.field, &[]);
        }
        let mut time_field = time_field.cloned();
        if let Some(time) = &mut time_field {
            time.field = column_name(&time.field, &[]);
        }
        Self {
            seen: vec![false; conditions.len()],
            conditions,
            time_field,
            met: Vec::new(),
        }
    }

    /// The field with the time.
    pub(crate) const fn time_field(&self) -> Option<&TimeField> {
        self.time_field.as_ref()
    }

    /// The fields of conditions that no message had so far, each once.
    pub(crate) fn unseen(&self) -> impl Iterator<Item = &str> {
        let conditions = self.conditions.iter().zip(&self.seen).enumerate();
        let unseen = conditions.filter(|(index, (condition, is_seen))| {
            let before = self.conditions.iter().take(*index);
            !**is_seen && before.into_iter().all(|it| it.field != condition.field)
        });
        unseen.map(|(_, (condition, _))| &*condition.field)
    }

    /// Looks at a message, which is a JSON object.
    pub(crate) fn pass(&mut self, object: &[u8]) -> Passed {
        let mut time = None;
        if self.conditions.is_empty() && self.time_field.is_none() {
            return Passed {
                is_selected: true,
                time,
            };
        }
        let (conditions, met, seen) = (&self.conditions, &mut self.met, &mut self.seen);
        met.clear();
        met.resize(conditions.len(), false);
        // A condition on a field with a longer name is never met, and reported.
        let _ = flatten(object, &[], |name, leaf| {
            let flags = met.iter_mut().zip(seen.iter_mut());
            for (condition, (met, seen)) in conditions.iter().zip(flags) {
                if condition.field == name {
                    *met = is_met(condition, leaf);
                    *seen = true;
                }
            }
            if let Some(field) = &self.time_field
                && field.field == name
            {
                time = of_leaf(leaf, field.unit);
            }
        });
        let is_selected = met.iter().all(|met| *met);
        Passed { is_selected, time }
    }
}

/// Whether a value meets a condition. Null never does.
fn is_met(condition: &Condition, leaf: Leaf<'_>) -> bool {
    let (text, is_text) = match leaf {
        Leaf::Null => return false,
        Leaf::Text(text) => (text, true),
        Leaf::Plain(text) => (text, false),
    };
    let order = match &condition.value {
        Operand::Number(number) => decimal::compare(text, number),
        Operand::Text(wanted) => is_text.then(|| text.cmp(wanted)),
        // The word of a boolean, or a text.
        Operand::Word(wanted) => Some(text.cmp(wanted)).filter(|_| {
            is_text || matches!(text, "true" | "false") && condition.operator.is_equality()
        }),
    };
    match condition.operator {
        Operator::Less => order == Some(Ordering::Less),
        Operator::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Operator::Greater => order == Some(Ordering::Greater),
        Operator::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        Operator::Equal => order == Some(Ordering::Equal),
        // Values of different types differ, and so does NaN from every number.
        Operator::NotEqual => order != Some(Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &[u8] = br#"{"temp":30.5,"n":9007199254740993,"big":18446744073709551616,"neg":-2,
        "s":"ok","num":"273.15","nan":"NaN","inf":"-inf","b":true,"z":null,"pos":{"lat":[1,2]},"a.b":7,"day":"2026-01-31",
        "huge":10000000000000000000000000000000000000001,"over":1e400,"word":"infinity","a,b":3,"p<q":4,"t ":5}"#;

    #[track_caller]
    fn check(met: bool, conditions: &[&str]) {
        let parsed: Vec<Condition> = conditions
            .iter()
            .map(|it| it.parse().expect("a condition"))
            .collect();
        let passed = RowFilter::new(&parsed, None).pass(OBJECT);
        assert_eq!(passed.is_selected, met, "{conditions:?}");
    }

    #[test]
    fn conditions_compare_numbers_texts_and_words() {
        for met in [
            "temp>30",
            "temp >= 30.5",
            "temp<1e2",
            "temp!=30",
            "temp=30.50",
            "neg < -1",
            "neg=-2",
            "n>9007199254740992",
            "n<9007199254740994",
            "big>18446744073709551615",
            "s=ok",
            "s=\"ok\"",
            "s>=a",
            "s!=no",
            "num>273",
            "nan!=1",
            "inf<0",
            "b=true",
            "b!=false",
            "pos.lat.1=2",
            "\"a.b\"=7",
            "day>=2026-01-02",
            "s!=3",
            "b!=1",
            "huge>10000000000000000000000000000000000000000",
            "huge!=10000000000000000000000000000000000000000",
            "over=1e400",
            "over>1e399",
            "inf<-1e400",
            "word!=1e400",
            "\"a,b\"=3",
            "\"p<q\"=4",
            "\"t \"=5",
            "\"temp\">30",
            "\"pos\".lat.1=2",
        ] {
            check(true, &[met]);
        }
        for not_met in [
            "temp>30.5",
            "temp<30.5",
            "temp!=30.5",
            "s=no",
            "s>3",
            "s<3",
            "s=3",
            "nan>1",
            "nan<1",
            "nan=1",
            "b=\"true\"",
            "b>false",
            "b=1",
            "temp=ok",
            "temp>a",
            "z=null",
            "z!=1",
            "z=0",
            "absent=1",
            "absent!=1",
            "pos=1",
            "pos.lat=1",
            "pos.lat.2!=1",
            "a.b=7",
            "n=9007199254740992",
            "huge=10000000000000000000000000000000000000000",
            "over=1e401",
            "word=1e400",
            "word>1",
            "inf=-1e400",
        ] {
            check(false, &[not_met]);
        }
    }

    #[test]
    fn all_conditions_must_hold() {
        check(true, &[]);
        check(true, &["temp>30", "temp<31", "s=ok"]);
        check(false, &["temp>30", "temp<30", "s=ok"]);
    }

    #[test]
    fn fields_that_no_message_has_are_known() {
        let conditions = ["temp>30", "absent=1", "z=1", "\"pos\".x=2", "absent>1"];
        let conditions = conditions.map(|it| it.parse().expect("a condition"));
        let mut filter = RowFilter::new(&conditions, None);
        assert!(!filter.pass(OBJECT).is_selected && !filter.pass(b"{}").is_selected);
        let unseen: Vec<_> = filter.unseen().collect();
        assert_eq!(unseen, ["absent", "pos.x"]);
    }

    #[test]
    fn a_time_is_taken_from_its_field() {
        let field = "neg:ms".parse().expect("a field");
        let passed = RowFilter::new(&[], Some(&field)).pass(br#"{"neg":5}"#);
        assert_eq!(passed.time, Some(5_000_000));
        let passed = RowFilter::new(&[], Some(&field)).pass(br#"{"other":5}"#);
        assert_eq!((passed.time, passed.is_selected), (None, true));
    }
}
