//! Learns a JSON Schema from messages: [`Shape`].
//!
//! A schema claims nothing that a message contradicted: a property with values of several types, or with null, is not
//! listed. No property is required, and more are allowed. Only what Foxglove and Lichtblick accept is used: each listed
//! property has one type, and items of arrays are not arrays.

use std::collections::BTreeMap;

use json_event_parser::{JsonEvent, SliceJsonParser};
use serde_json::{Map, Value as Tree, json};

/// Bounds of a [`Shape`].
#[derive(Clone, Copy, Debug)]
pub struct ShapeLimits {
    /// Maximum number of values with a type, over all levels.
    pub values: usize,
    /// Maximum nesting.
    pub depth: usize,
    /// Maximum length of the name of a property, in bytes.
    pub name_len: usize,
}

/// The properties and types of the JSON values seen so far.
///
/// # Examples
/// ```
/// use blocksd::payload::{Shape, ShapeLimits};
///
/// let mut shape = Shape::new(ShapeLimits { values: 64, depth: 4, name_len: 64 });
/// shape.learn(br#"{"temp":21,"unit":"C"}"#);
/// shape.learn(br#"{"temp":21.5,"unit":7}"#);
/// let schema = r#"{"type":"object","properties":{"temp":{"type":"number"}}}"#;
/// assert_eq!(shape.schema(), schema);
/// ```
#[derive(Clone, Debug)]
pub struct Shape {
    limits: ShapeLimits,
    /// Number of values that may be added.
    spare: usize,
    /// The first is the root.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    kind: ValueKind,
    properties: BTreeMap<Box<str>, usize>,
    items: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ValueKind {
    /// No value was seen.
    #[default]
    Unseen,
    Boolean,
    Number,
    Text,
    Array,
    Object,
    /// Null, or values of several types.
    Mixed,
}

/// An array or an object that has not ended.
struct OpenContainer {
    is_object: bool,
    /// Its node, if it is within the limits.
    node: Option<usize>,
}

impl Shape {
    /// The shape of no value.
    #[must_use]
    pub fn new(limits: ShapeLimits) -> Self {
        Self {
            limits,
            spare: usize::MAX,
            nodes: vec![Node::default()],
        }
    }

    /// Number of values with a type. This many units of memory are in use.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no value was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes
            .first()
            .is_none_or(|root| root.kind == ValueKind::Unseen)
    }

    /// Allows at most `spare` more values with a type, within the limits.
    pub fn allow(&mut self, spare: usize) {
        self.spare = spare;
    }

    /// Adds a value. Returns whether it contradicts the schema of the values before it.
    pub fn learn(&mut self, json: &[u8]) -> bool {
        let mut parser = SliceJsonParser::new(json);
        let (mut levels, mut next) = (Vec::<OpenContainer>::new(), Some(0));
        let mut contradicts = false;
        while let Ok(event) = parser.parse_next() {
            let kind = match &event {
                JsonEvent::Eof => break,
                JsonEvent::EndObject | JsonEvent::EndArray => {
                    levels.pop();
                    continue;
                }
                JsonEvent::ObjectKey(name) => {
                    let node = levels.last().and_then(|level| level.node);
                    next = node.and_then(|node| self.property(node, name, levels.len()));
                    continue;
                }
                JsonEvent::StartObject => ValueKind::Object,
                JsonEvent::StartArray => ValueKind::Array,
                JsonEvent::String(_) => ValueKind::Text,
                JsonEvent::Number(_) => ValueKind::Number,
                JsonEvent::Boolean(_) => ValueKind::Boolean,
                JsonEvent::Null => ValueKind::Mixed,
            };
            if let Some(level) = levels.last()
                && !level.is_object
            {
                next = level.node.and_then(|node| self.items(node, levels.len()));
            }
            let node = next.take();
            contradicts |= node.is_some_and(|node| self.widen(node, kind));
            if matches!(kind, ValueKind::Object | ValueKind::Array) {
                // The inside of a value of several types is not described.
                let is_known =
                    |node: &usize| self.nodes.get(*node).is_some_and(|it| it.kind == kind);
                levels.push(OpenContainer {
                    is_object: kind == ValueKind::Object,
                    node: node.filter(is_known),
                });
            }
        }
        contradicts
    }

    /// The schema, as compact JSON. Anything is allowed if values that are not objects were seen.
    #[must_use]
    pub fn schema(&self) -> String {
        let schema = match self.nodes.first().map(|root| root.kind) {
            Some(ValueKind::Object) => self.node_schema(0),
            Some(ValueKind::Unseen) => Some(json!({"type": "object"})),
            _ => None,
        };
        schema.unwrap_or_else(|| json!({})).to_string()
    }

    /// The schema of a node, if there is a single type to claim. Recurses to the maximum nesting of the limits.
    fn node_schema(&self, node: usize) -> Option<Tree> {
        let node = self.nodes.get(node)?;
        match node.kind {
            ValueKind::Unseen | ValueKind::Mixed => None,
            ValueKind::Boolean => Some(json!({"type": "boolean"})),
            ValueKind::Number => Some(json!({"type": "number"})),
            ValueKind::Text => Some(json!({"type": "string"})),
            ValueKind::Array => {
                let items = self.node_schema(node.items?)?;
                let is_array = items.get("type").is_some_and(|ty| ty == "array");
                (!is_array).then(|| json!({"type": "array", "items": items}))
            }
            ValueKind::Object => {
                let known = node.properties.iter().filter_map(|(name, node)| {
                    let schema = self.node_schema(*node)?;
                    Some((name.to_string(), schema))
                });
                let properties: Map<_, _> = known.collect();
                Some(match properties.is_empty() {
                    true => json!({"type": "object"}),
                    false => json!({"type": "object", "properties": properties}),
                })
            }
        }
    }

    /// Adds a type to a node. Returns whether the schema claimed another one.
    fn widen(&mut self, node: usize, kind: ValueKind) -> bool {
        let Some(node) = self.nodes.get_mut(node) else {
            return false;
        };
        match node.kind {
            ValueKind::Unseen => node.kind = kind,
            ValueKind::Mixed => {}
            known if known == kind => {}
            _ => {
                node.kind = ValueKind::Mixed;
                return true;
            }
        }
        false
    }

    fn property(&mut self, node: usize, name: &str, depth: usize) -> Option<usize> {
        if let Some(known) = self.nodes.get(node)?.properties.get(name) {
            return Some(*known);
        }
        if self.limits.name_len < name.len() {
            return None;
        }
        let new = self.add(depth)?;
        self.nodes
            .get_mut(node)?
            .properties
            .insert(name.into(), new);
        Some(new)
    }

    fn items(&mut self, node: usize, depth: usize) -> Option<usize> {
        if let Some(known) = self.nodes.get(node)?.items {
            return Some(known);
        }
        let new = self.add(depth)?;
        self.nodes.get_mut(node)?.items = Some(new);
        Some(new)
    }

    fn add(&mut self, depth: usize) -> Option<usize> {
        let is_full = self.limits.values <= self.nodes.len() || self.spare == 0;
        if is_full || self.limits.depth < depth {
            return None;
        }
        self.spare -= 1;
        self.nodes.push(Node::default());
        Some(self.nodes.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ShapeLimits = ShapeLimits {
        values: 64,
        depth: 4,
        name_len: 16,
    };

    #[track_caller]
    fn check(values: &[&str], want: &str) {
        let mut shape = Shape::new(LIMITS);
        for value in values {
            shape.learn(value.as_bytes());
        }
        assert_eq!(shape.schema(), want);
    }

    #[test]
    fn properties_and_types_are_found_at_every_level() {
        check(&[], r#"{"type":"object"}"#);
        check(&["{}"], r#"{"type":"object"}"#);
        check(
            &[r#"{"b":true,"a":[1,2],"o":{"x":1,"s":"t"},"l":[{"y":2}]}"#],
            r#"{"type":"object","properties":{"a":{"type":"array","items":{"type":"number"}},"b":{"type":"boolean"},"l":{"type":"array","items":{"type":"object","properties":{"y":{"type":"number"}}}},"o":{"type":"object","properties":{"s":{"type":"string"},"x":{"type":"number"}}}}}"#,
        );
    }

    #[test]
    fn nothing_is_claimed_that_a_value_contradicts() {
        let number = r#"{"type":"object","properties":{"a":{"type":"number"}}}"#;
        check(&[r#"{"a":1}"#, r#"{"a":1.5}"#, "{}"], number);
        for other in ["null", "\"x\"", "true", "[1]", "{}"] {
            let other = format!(r#"{{"a":{other}}}"#);
            check(&[r#"{"a":1}"#, &other], r#"{"type":"object"}"#);
            check(&[&other, r#"{"a":1}"#], r#"{"type":"object"}"#);
            check(
                &[r#"{"a":1}"#, &other, r#"{"a":1}"#],
                r#"{"type":"object"}"#,
            );
        }
        for root in ["1", "[1]", "null", "\"\""] {
            check(&[root], "{}");
            check(&["{\"a\":1}", root], "{}");
            check(&[root, "{\"a\":1}"], "{}");
        }
        // Parts of a schema that the tools refuse are left out.
        check(
            &[r#"{"a":[[1]],"b":[],"c":[1,"x"],"d":[null]}"#],
            r#"{"type":"object"}"#,
        );
    }

    #[test]
    fn a_contradiction_is_reported_once() {
        let mut shape = Shape::new(LIMITS);
        let learnt = [
            "{\"a\":1}",
            "{\"a\":2,\"b\":1}",
            "{\"a\":\"x\"}",
            "{\"a\":1}",
            "{\"b\":null}",
        ];
        let found = learnt.map(|json| shape.learn(json.as_bytes()));
        assert_eq!(found, [false, false, true, false, true]);
        assert!(shape.learn(b"7"), "it is not an object");
    }

    #[test]
    fn hostile_values_stay_within_the_limits() {
        let mut shape = Shape::new(LIMITS);
        for number in 0..10_000 {
            shape.learn(format!("{{\"a{number}\":{{\"b{number}\":[{{}}]}}}}").as_bytes());
        }
        assert_eq!(shape.len(), LIMITS.values);
        let mut shape = Shape::new(LIMITS);
        shape.learn(format!("{{\"{}\":1}}", "n".repeat(17)).as_bytes());
        shape.learn(("{\"a\":".repeat(1_000) + "1" + &"}".repeat(1_000)).as_bytes());
        shape.learn(("[".repeat(1_000) + &"]".repeat(1_000)).as_bytes());
        assert!(shape.len() <= 6, "{}", shape.len());
        // Cut or damaged text is learnt as far as it goes.
        for json in ["", "{", "{\"a\"", "{\"a\":[", "]", "{\"a\":1,}", "\u{1}"] {
            Shape::new(LIMITS).learn(json.as_bytes());
        }
        assert_eq!(Shape::new(LIMITS).schema(), r#"{"type":"object"}"#);
    }
}
