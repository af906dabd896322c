//! Prints a [`Config`] as a config file, with the origin of every value: [`print`].

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use toml_writer::{ToTomlValue as _, TomlStringBuilder};

use crate::config::error::{ADDRESS, ValueOrigin};
use crate::config::forward;
use crate::config::partial::{Config, MATCH, NAME, OPTIONS, PROXY_FROM, Partial, Spec};
use crate::config::spec::{Kind, Reload, Written};
use crate::config::value::AfterEnd;

/// Prints every effective value as TOML that gives the same configuration. The comment after a value has its origin,
/// and says whether a change needs a restart. The last line is a comment with the [`digest`].
#[must_use]
pub fn print(config: &Config) -> String {
    format!("{}# digest {}\n", page(config, true), digest(config))
}

fn page(config: &Config, has_comments: bool) -> String {
    let mut page = PrintedConfig {
        has_comments,
        file: config.file.as_ref().map(|path| {
            let path = path.display().to_string();
            path.escape_debug().to_string()
        }),
        text: String::new(),
    };
    let mut group = None;
    for spec in OPTIONS.iter().filter(|spec| spec.kind != Kind::List) {
        if group != Some(spec.group) {
            group = Some(spec.group);
            page.comment(format_args!("# {}", spec.group.heading()));
        }
        page.option(config, spec);
    }
    for listener in &config.listeners {
        page.line(format_args!("\n[[listener]]"));
        page.value(ADDRESS, &quoted(&listener.address), listener.origin, "");
        page.own(&listener.own);
        for (key, text, origin) in listener.tls.written() {
            page.value(&format!("tls.{key}"), &quoted(text), origin, "");
        }
        if let Some((proxies, origin)) = &listener.proxy_from {
            let texts = proxies.to_string();
            let list: Vec<_> = texts.split(' ').map(quoted).collect();
            page.value(PROXY_FROM, &format!("[{}]", list.join(", ")), *origin, "");
        }
        let after_end = config.after_end(listener);
        if listener.own.after_end.is_none() && after_end != config.after_end {
            let word = match after_end {
                AfterEnd::Close => "close",
                AfterEnd::Continue => "continue",
            };
            page.value(
                "after-end",
                &quoted(word),
                ValueOrigin::Default,
                " for this kind of address",
            );
        }
    }
    for forward in &config.forwards {
        page.line(format_args!("\n[[{}]]", forward::TABLE));
        let servers: Vec<_> = forward.servers().iter().map(|it| quoted(it)).collect();
        let servers = format!("[{}]", servers.join(", "));
        page.value(forward::TO, &servers, forward.origin(), "; needs a restart");
        for (key, given) in forward.all() {
            match given {
                Some((text @ ("true" | "false"), origin)) => page.value(key, text, origin, ""),
                Some((text, origin)) => page.value(key, &quoted(text), origin, ""),
                None => page.comment(format_args!("# {key} is not set")),
            }
        }
    }
    for device in &config.devices {
        page.line(format_args!("\n[device.{}]", quoted(&device.id)));
        if let Some((name, origin)) = &device.name {
            page.value(NAME, &quoted(name), *origin, "");
        }
        if let Some((_, origin)) = device.matches.first() {
            let texts = device.matches.iter().map(|(it, _)| quoted(&it.to_string()));
            let list = texts.collect::<Vec<_>>().join(", ");
            page.value(MATCH, &format!("[{list}]"), *origin, "");
        }
        page.own(&device.own);
    }
    page.text
}

/// Returns the SHA-256 of the effective values, as `sha256:` and 64 hexadecimal digits. Two configurations with the
/// same values in the same spelling have the same digest, wherever the values come from.
#[must_use]
pub fn digest(config: &Config) -> String {
    let page = page(config, false);
    let digest = Sha256::digest(page);
    let hex = digest.iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", hex.collect::<String>())
}

struct PrintedConfig {
    /// Whether to print comments.
    has_comments: bool,
    file: Option<String>,
    text: String,
}

impl PrintedConfig {
    fn option(&mut self, config: &Config, spec: &Spec) {
        let note = match spec.reload {
            Reload::Restart => "; needs a restart",
            _ => "",
        };
        let shown = spec.given(&config.given);
        let value = shown.map(|shown| written(spec, shown)).or_else(|| {
            let computed = config.computed(spec.key)?;
            Some(computed.to_string())
        });
        let origin = shown.map_or(ValueOrigin::Default, |shown| shown.origin);
        match value {
            None => self.comment(format_args!("# {} is not set{note}", spec.key)),
            Some(value) if spec.needs_record && config.record.is_none() => {
                self.comment(format_args!(
                    "# {} = {value}  # not used without record",
                    spec.key
                ));
            }
            Some(value) => self.value(spec.key, &value, origin, note),
        }
    }

    fn own(&mut self, own: &Partial) {
        for spec in OPTIONS {
            if let Some(shown) = spec.given(own) {
                self.value(spec.key, &written(spec, shown), shown.origin, "");
            }
        }
    }

    fn value(&mut self, key: &str, value: &str, origin: ValueOrigin, note: &str) {
        if !self.has_comments {
            return self.line(format_args!("{key} = {value}"));
        }
        match (origin, self.file.take()) {
            (ValueOrigin::Line(line), Some(file)) => {
                self.line(format_args!("{key} = {value}  # {file}:{line}{note}"));
                self.file = Some(file);
            }
            (origin, file) => {
                let origin = match origin {
                    ValueOrigin::CommandLine => "command line",
                    _ => "default",
                };
                self.line(format_args!("{key} = {value}  # {origin}{note}"));
                self.file = file;
            }
        }
    }

    fn comment(&mut self, line: std::fmt::Arguments<'_>) {
        if self.has_comments {
            self.line(line);
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// A value as TOML.
fn written(spec: &Spec, shown: Written<'_>) -> String {
    let is_number = spec.kind == Kind::Number && shown.text.parse::<u64>().is_ok();
    if is_number || spec.kind == Kind::Flag {
        // `+5` and `007` are numbers on the command line, and not in TOML.
        let number = shown.text.parse::<u64>();
        return number.map_or_else(|_| shown.text.to_owned(), |number| number.to_string());
    }
    quoted(shown.text)
}

/// A string of TOML on one line, which is also a key.
fn quoted(text: &str) -> String {
    TomlStringBuilder::new(text).as_basic().to_toml_value()
}
