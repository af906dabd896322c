//! The tables `[[forward]]` of a config file.

use toml::de::{DeTable, DeValue};

use super::{ConfigReader, TomlKey, TomlValue, in_order, kind, text};
use crate::config::error::Reason;
use crate::config::forward::{ForwardConfig, TABLE, TO};
use crate::config::partial::Partial;
use crate::config::spec::Kind;

impl ConfigReader {
    /// All tables.
    pub(super) fn forwards(
        &mut self,
        key: &TomlKey<'_>,
        value: &TomlValue<'_>,
        partial: &mut Partial,
    ) {
        let tables = value.get_ref().as_array().into_iter().flatten();
        let mut is_array = false;
        for value in tables {
            is_array = true;
            if let DeValue::Table(table) = value.get_ref() {
                let forward = self.forward(key, table);
                partial.forwards.extend(forward);
            }
        }
        if !is_array {
            let takes = format!("tables, as [[{TABLE}]]");
            let found = kind(value.get_ref());
            self.refuse(key, Reason::Type { takes, found });
        }
    }

    /// One table.
    fn forward(&mut self, at: &TomlKey<'_>, table: &DeTable<'_>) -> Option<ForwardConfig> {
        let to = in_order(table)
            .into_iter()
            .find(|(key, _)| &**key.get_ref() == TO);
        let Some((key, value)) = to else {
            let reason = format!("a cluster needs `{TO}`, the address of a server");
            self.refuse(at, Reason::Refused(reason));
            return None;
        };
        let values = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        let texts = values
            .into_iter()
            .map(|value| self.text_of(key, value, "\"nats://HOST:PORT\" or a list of them"));
        let texts = texts.collect::<Option<Vec<_>>>()?;
        let servers: Vec<_> = texts.iter().flat_map(|text| text.split(',')).collect();
        let made = ForwardConfig::new(&servers, self.origin(key.span().start));
        let mut forward = self.or_refuse(key, made)?;
        for (key, value) in in_order(table) {
            if &**key.get_ref() == TO {
                continue;
            }
            let text = match value.get_ref() {
                DeValue::Boolean(value) => Some(value.to_string()),
                number @ (DeValue::Integer(_) | DeValue::Float(_)) => text(number, Kind::Number),
                _ => self.text_of(key, value, "a text"),
            };
            if let Some(text) = text {
                let origin = self.origin(value.span().start);
                let set = forward.set(key.get_ref(), &text, origin);
                self.or_refuse(key, set);
            }
        }
        let checked = forward.check();
        self.or_refuse(key, checked)?;
        Some(forward)
    }
}
