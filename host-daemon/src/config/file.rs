//! Reads a config file into a [`Partial`], and finds every mistake in it. Start with [`read`].
//!
//! A deserializer derived by serde stops at the first mistake. This module therefore walks the table of `toml` key by
//! key, and reads each value with the parser of its option.

mod forward;
mod hints;
mod lines;

use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use self::hints::{no_section, quotes_hint};
use self::lines::LineEnds;
use crate::config::error::{ADDRESS, ConfigError, Mistake, Reason, Table, ValueOrigin};
use crate::config::forward::TABLE as FORWARD;
use crate::config::listener_tls::{self, ListenerTls};
use crate::config::partial::{
    self, DeviceConfig, ListenerConfig, MATCH, NAME, PROXY_FROM, Partial, Spec, find,
};
use crate::config::spec::{Kind, Scope, Written};
use crate::config::value::nearest;
use blocksd_engine::admission::identity::{Match, is_name};

/// The table of a listener.
const LISTENER: &str = "listener";
/// The table of all devices.
const DEVICE: &str = "device";

/// Reads a file. An invalid value is listed as a mistake and left out of the result.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn read(path: &Path) -> Result<(Partial, Vec<Mistake>), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::of_file(path, Reason::Unreadable(error)))?;
    Ok(parse(&text))
}

/// Like [`read`], for the content of a file.
pub(super) fn parse(text: &str) -> (Partial, Vec<Mistake>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = ConfigReader {
        lines: LineEnds::of(text),
        mistakes: Vec::new(),
    };
    let partial = reader.top(table.get_ref());
    let mut mistakes = reader.mistakes;
    let at = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    let lines: Vec<_> = errors
        .iter()
        .map(|error| reader.lines.number(at(error)))
        .collect();
    // The meaning of the text after a syntax error is unknown.
    if let Some(first) = lines.iter().min().copied() {
        mistakes.retain(|mistake| mistake.origin < Some(ValueOrigin::Line(first)));
    }
    let mut last = None;
    for (error, line) in errors.iter().zip(lines) {
        // Further errors in a line follow from the first.
        if last.replace(line) == Some(line) {
            continue;
        }
        let written = text.lines().nth(line - 1);
        let hint = written.and_then(quotes_hint).unwrap_or_default();
        mistakes.push(Mistake {
            origin: Some(ValueOrigin::Line(line)),
            key: None,
            reason: Reason::Syntax(error.message().replace('\n', "; ") + &hint),
        });
    }
    mistakes.sort_by_key(|mistake| mistake.origin);
    (partial, mistakes)
}

type TomlKey<'i> = Spanned<DeString<'i>>;
type TomlValue<'i> = Spanned<DeValue<'i>>;

struct ConfigReader {
    lines: LineEnds,
    mistakes: Vec<Mistake>,
}

impl ConfigReader {
    fn top(&mut self, table: &DeTable<'_>) -> Partial {
        let mut partial = Partial::default();
        for (key, value) in in_order(table) {
            match &**key.get_ref() {
                LISTENER => self.listeners(key, value, &mut partial),
                DEVICE => self.devices(key, value, &mut partial),
                FORWARD if is_section(value.get_ref()) => self.forwards(key, value, &mut partial),
                ADDRESS => self.refuse(key, Reason::Address),
                name => match find(name, Scope::Daemon) {
                    Some(spec) => self.option(spec, key, value, &mut partial),
                    None if is_section(value.get_ref()) => {
                        self.refuse(key, Reason::Refused(no_section(name)));
                    }
                    None => {
                        let similar = similar_key(name, Scope::Daemon).map(str::to_owned);
                        self.refuse(key, Reason::Unknown(similar));
                    }
                },
            }
        }
        partial
    }

    fn listeners(&mut self, key: &TomlKey<'_>, value: &TomlValue<'_>, partial: &mut Partial) {
        let wrong_type = |value: &DeValue<'_>| Reason::Type {
            takes: format!("tables, as [[{LISTENER}]]"),
            found: kind(value),
        };
        let Some(array) = value.get_ref().as_array() else {
            return self.refuse(key, wrong_type(value.get_ref()));
        };
        for value in array.iter() {
            match value.get_ref() {
                DeValue::Table(table) => {
                    let listener = self.listener(table, value.span().start);
                    partial.listeners.extend(listener);
                }
                other => self.refuse(key, wrong_type(other)),
            }
        }
    }

    /// One table `[[listener]]`.
    fn listener(&mut self, table: &DeTable<'_>, at: usize) -> Option<ListenerConfig> {
        let mut address = None;
        let mut own = Partial::default();
        let mut tls = ListenerTls::default();
        let mut proxies = None;
        for (key, value) in in_order(table) {
            match &**key.get_ref() {
                ADDRESS => {
                    address = Some(self.address(key, value));
                }
                listener_tls::TABLE => self.tls(key, value, &mut tls),
                PROXY_FROM => proxies = Some((key, value)),
                name => self.own_option(
                    name,
                    key,
                    value,
                    (Table::Listener, Scope::Listener),
                    &mut own,
                ),
            }
        }
        let Some(address) = address else {
            self.mistakes.push(Mistake {
                origin: Some(self.origin(at)),
                key: Some(LISTENER.to_owned()),
                reason: Reason::NoAddress,
            });
            return None;
        };
        let mut listener = address?;
        listener.own = own;
        listener.tls = tls;
        if let Some((key, value)) = proxies {
            self.proxies(key, value, &mut listener);
        }
        Some(listener)
    }

    /// The proxies of a listener: one, or a list.
    fn proxies(&mut self, key: &TomlKey<'_>, value: &TomlValue<'_>, listener: &mut ListenerConfig) {
        let values = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        let texts = values
            .into_iter()
            .map(|value| self.text_of(key, value, "\"CIDR\" or a list of them"));
        let Some(texts) = texts.collect::<Option<Vec<_>>>() else {
            return;
        };
        let set = listener.set_proxies(&texts.join(" "), self.origin(value.span().start));
        self.or_refuse(key, set);
    }

    /// The table `tls` of a listener.
    fn tls(&mut self, key: &TomlKey<'_>, value: &TomlValue<'_>, tls: &mut ListenerTls) {
        let Some(table) = value.get_ref().as_table() else {
            let takes =
                "a table, such as { cert = \"FILE\", key = \"FILE\", ca = \"FILE\" }".to_owned();
            let found = kind(value.get_ref());
            return self.refuse(key, Reason::Type { takes, found });
        };
        for (key, value) in in_order(table) {
            let Some(text) = self.text_of(key, value, "a text") else {
                continue;
            };
            let origin = self.origin(value.span().start);
            let set = tls.set(key.get_ref(), &text, origin);
            self.or_refuse(key, set);
        }
    }

    fn address(&mut self, key: &TomlKey<'_>, value: &TomlValue<'_>) -> Option<ListenerConfig> {
        let text = self.text_of(key, value, "\"ADDR\"")?;
        if text.contains(',') {
            self.refuse(key, Reason::Comma);
            return None;
        }
        let listener = ListenerConfig::new(&text, self.origin(key.span().start));
        self.or_refuse(key, listener)
    }

    fn devices(&mut self, key: &TomlKey<'_>, value: &TomlValue<'_>, partial: &mut Partial) {
        let wrong_type = |value: &DeValue<'_>| Reason::Type {
            takes: format!("tables, as [{DEVICE}.\"ID\"]"),
            found: kind(value),
        };
        let Some(devices) = value.get_ref().as_table() else {
            return self.refuse(key, wrong_type(value.get_ref()));
        };
        for (id, value) in in_order(devices) {
            match value.get_ref() {
                DeValue::Table(table) => {
                    let device = self.device(id, table);
                    partial.devices.push(device);
                }
                other => self.refuse(id, wrong_type(other)),
            }
        }
    }

    /// One table `[device."ID"]`.
    fn device(&mut self, id: &TomlKey<'_>, table: &DeTable<'_>) -> DeviceConfig {
        let mut device = DeviceConfig {
            id: id.get_ref().to_string(),
            origin: self.origin(id.span().start),
            name: None,
            matches: Vec::new(),
            own: Partial::default(),
        };
        let (mut has_name, mut has_match) = (false, false);
        for (key, value) in in_order(table) {
            match &**key.get_ref() {
                NAME => {
                    has_name = true;
                    let name = self.text_of(key, value, "\"NAME\"");
                    let name = name.and_then(|name| self.or_refuse(key, checked_name(name)));
                    device.name = name.map(|name| (name, self.origin(key.span().start)));
                }
                MATCH => {
                    has_match = true;
                    self.matches(key, value, &mut device);
                }
                _ if value.get_ref().is_table() => {
                    let reason = "an ID with dots needs quotes, as in [device.\"10.0.0.7\"]";
                    self.refuse(key, Reason::Refused(reason.to_owned()));
                }
                name => self.own_option(
                    name,
                    key,
                    value,
                    (Table::Device, Scope::Device),
                    &mut device.own,
                ),
            }
        }
        // Without `match`, the ID may be any identity, which is more than a name may be.
        if has_match && !has_name {
            let _ = self.or_refuse(id, checked_name(device.id.clone()));
        } else if let (false, Ok(it @ (Match::Network(_) | Match::Listener(_)))) =
            (has_match, device.id.parse())
        {
            let reason = format!("put `{it}` into `match`, and use a name as the ID of the table");
            self.refuse(id, Reason::Refused(reason));
        } else if device.id.is_empty() {
            self.refuse(
                id,
                Reason::Refused("the ID of a device is empty".to_owned()),
            );
        } else if let (false, Err(error)) = (has_match, device.id.parse::<Match>()) {
            self.refuse(id, Reason::Refused(error.to_string()));
        }
        if device.id.contains(char::is_control) {
            let reason = "the ID of a device contains a control character; remove it";
            self.refuse(id, Reason::Refused(reason.to_owned()));
        }
        device
    }

    fn matches(&mut self, key: &TomlKey<'_>, value: &TomlValue<'_>, device: &mut DeviceConfig) {
        let takes = "a list of \"ADDRESS\", \"NETWORK/PREFIX\", \"listener:ADDR\" or \"ID\"";
        let values = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        if values.is_empty() {
            let reason = "an empty list matches no device; remove it, or name a device";
            self.refuse(key, Reason::Refused(reason.to_owned()));
        }
        for value in values {
            let Some(text) = self.text_of(key, value, takes) else {
                continue;
            };
            let found = text.parse().map_err(|error| format!("{error}"));
            if let Some(found) = self.or_refuse(key, found) {
                let origin = self.origin(value.span().start);
                device.matches.push((found, origin));
            }
        }
    }

    /// An option in a table of one listener or device.
    fn own_option(
        &mut self,
        name: &str,
        key: &TomlKey<'_>,
        value: &TomlValue<'_>,
        (table, scope): (Table, Scope),
        own: &mut Partial,
    ) {
        match find(name, scope) {
            Some(spec) => self.option(spec, key, value, own),
            None => self.refuse(key, not_in(table, scope, name)),
        }
    }

    fn option(
        &mut self,
        spec: &Spec,
        key: &TomlKey<'_>,
        value: &TomlValue<'_>,
        into: &mut Partial,
    ) {
        let name = match spec.old {
            Some(old) if old == &**key.get_ref() => old,
            _ => spec.key,
        };
        if let Some(shown) = spec.given(into).filter(|shown| shown.key != name) {
            let reason = format!(
                "the same option as {}; remove the old name {}",
                shown.key,
                spec.old.unwrap_or_default()
            );
            return self.refuse(key, Reason::Refused(reason));
        }
        let values = match (spec.kind, value.get_ref()) {
            (Kind::List, DeValue::Array(values)) => values.iter().collect(),
            _ => vec![value],
        };
        for value in values {
            let Some(text) = text(value.get_ref(), spec.kind) else {
                let (takes, found) = (takes(spec), kind(value.get_ref()));
                self.refuse(key, Reason::Type { takes, found });
                continue;
            };
            let input = Written {
                text: &text,
                origin: self.origin(value.span().start),
                key: name,
            };
            let set = spec.set(into, input);
            self.or_refuse(key, set);
        }
    }

    fn text_of(&mut self, key: &TomlKey<'_>, value: &TomlValue<'_>, takes: &str) -> Option<String> {
        let text = text(value.get_ref(), Kind::Text);
        if text.is_none() {
            let (takes, found) = (takes.to_owned(), kind(value.get_ref()));
            self.refuse(key, Reason::Type { takes, found });
        }
        text
    }

    fn or_refuse<T>(&mut self, key: &TomlKey<'_>, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|reason| self.refuse(key, Reason::Refused(reason)))
            .ok()
    }

    fn refuse(&mut self, key: &TomlKey<'_>, reason: Reason) {
        self.mistakes.push(Mistake {
            origin: Some(self.origin(key.span().start)),
            key: Some(key.get_ref().to_string()),
            reason,
        });
    }

    fn origin(&self, at: usize) -> ValueOrigin {
        ValueOrigin::Line(self.lines.number(at))
    }
}

fn checked_name(name: String) -> Result<String, String> {
    if is_name(&name) {
        Ok(name)
    } else {
        Err(format!(
            "`{}` cannot be the name of a device; use 1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `:` and `-`",
            name.escape_debug()
        ))
    }
}

/// The reason for which a table refuses a key.
fn not_in(table: Table, scope: Scope, key: &str) -> Reason {
    if key == "listen" && table == Table::Listener {
        return Reason::Unknown(Some(ADDRESS.to_owned()));
    }
    if find(key, Scope::Daemon).is_some() {
        return Reason::Global { near: None, table };
    }
    match (similar_key(key, scope), similar_key(key, Scope::Daemon)) {
        (Some(own), _) => Reason::Unknown(Some(own.to_owned())),
        (None, Some(global)) if find(global, Scope::Daemon).is_some() => Reason::Global {
            near: Some(global.to_owned()),
            table,
        },
        (None, _) => {
            let keys: Vec<_> = partial::keys(scope).collect();
            Reason::Refused(format!(
                "unknown key; the keys of {table} are {}",
                keys.join(", ")
            ))
        }
    }
}

/// Whether a value is a table, or a list of tables.
fn is_section(value: &DeValue<'_>) -> bool {
    let is_table = |value: &TomlValue<'_>| value.get_ref().is_table();
    value.is_table() || value.as_array().is_some_and(|all| all.iter().any(is_table))
}

/// The key that may have been meant.
fn similar_key(key: &str, scope: Scope) -> Option<&'static str> {
    nearest(key, partial::keys(scope))
}

/// A value as text, as on the command line.
fn text(value: &DeValue<'_>, kind: Kind) -> Option<String> {
    match (value, kind) {
        (DeValue::Boolean(value), Kind::Flag) => Some(value.to_string()),
        (_, Kind::Flag) => None,
        (DeValue::String(text), _) => Some(text.to_string()),
        (DeValue::Integer(number), Kind::Number) => {
            let number = i128::from_str_radix(number.as_str(), number.radix());
            number.ok().map(|number| number.to_string())
        }
        (DeValue::Float(number), Kind::Number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

/// The kind of value that an option takes, for an error message.
fn takes(spec: &Spec) -> String {
    match spec.kind {
        Kind::Flag => "true or false".to_owned(),
        Kind::Number => spec.value.to_owned(),
        Kind::Text => format!("\"{}\"", spec.value),
        Kind::List => format!("\"{}\" or a list of them", spec.value),
        Kind::Word => {
            let names: Vec<_> = (spec.choices)().iter().map(|choice| choice.name).collect();
            names.join("|")
        }
    }
}

const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The keys of a table in the order of the file.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a TomlKey<'i>, &'a TomlValue<'i>)> {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    keys
}
