//! The tables `[[forward]]` of a config file.

use toml::de::{DeTable, DeValue};

use super::{ConfigReader, TomlKey, TomlValue, in_order, kind, text};
use crate::config::error::{Mistake, Reason, Table};
use crate::config::forward::{ForwardConfig, KEYS, TABLE, TO};
use crate::config::partial::{Partial, find};
use crate::config::spec::{Kind, Scope};

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
                let forward = self.forward(table, value.span().start);
                partial.forwards.push(forward);
            }
        }
        if !is_array {
            let takes = format!("tables, as [[{TABLE}]]");
            let found = kind(value.get_ref());
            self.refuse(key, Reason::Type { takes, found });
        }
    }

    /// One table, which begins `at` this byte. What is wrong is left out.
    fn forward(&mut self, table: &DeTable<'_>, at: usize) -> ForwardConfig {
        let keys = in_order(table);
        let to = keys.iter().find(|(key, _)| &**key.get_ref() == TO);
        let mut forward = match to {
            Some((key, value)) => self.servers(key, value),
            None => {
                let reason = format!("a cluster needs `{TO}`, the address of a server");
                self.mistakes.push(Mistake {
                    origin: Some(self.origin(at)),
                    key: Some(TABLE.to_owned()),
                    reason: Reason::Refused(reason),
                });
                ForwardConfig::new(&[], self.origin(at)).0
            }
        };
        let options = keys.iter().filter(|(key, _)| &**key.get_ref() != TO);
        let mut refused = Vec::new();
        for (key, value) in options.clone() {
            let name = &**key.get_ref();
            if !KEYS.contains(&name) && find(name, Scope::Daemon).is_some() {
                let (near, table) = (None, Table::Forward);
                self.refuse(key, Reason::Global { near, table });
                continue;
            }
            let text = match value.get_ref() {
                DeValue::Boolean(value) => Some(value.to_string()),
                number @ (DeValue::Integer(_) | DeValue::Float(_)) => text(number, Kind::Number),
                // Its name is refused.
                _ if !KEYS.contains(&name) => Some(String::new()),
                _ => self.text_of(key, value, "a text"),
            };
            let set = text.and_then(|text| {
                let origin = self.origin(value.span().start);
                let set = forward.set(name, &text, origin);
                self.or_refuse(key, set)
            });
            if set.is_none() {
                refused.push(name);
            }
        }
        for (name, reason) in forward.contradictions(&refused) {
            if let Some((key, _)) = options.clone().find(|(key, _)| &**key.get_ref() == name) {
                self.refuse(key, Reason::Refused(reason));
            }
        }
        forward
    }

    /// A cluster with the servers of `to`.
    fn servers(&mut self, key: &TomlKey<'_>, value: &TomlValue<'_>) -> ForwardConfig {
        let values = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        let texts = values
            .into_iter()
            .map(|value| self.text_of(key, value, "\"nats://HOST:PORT\" or a list of them"));
        let texts = texts.collect::<Option<Vec<_>>>();
        let origin = self.origin(key.span().start);
        let Some(texts) = texts else {
            return ForwardConfig::new(&[], origin).0;
        };
        let servers: Vec<_> = texts.iter().flat_map(|text| text.split(',')).collect();
        let (forward, mistakes) = ForwardConfig::new(&servers, origin);
        for reason in mistakes {
            self.refuse(key, Reason::Refused(reason));
        }
        forward
    }
}
