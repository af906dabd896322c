//! Tests of the table of options, the sample config, values in TOML, and mistakes in a file.

mod changes;
mod devices;
mod forwards;

use std::time::Duration;

use toml::de::DeTable;

use crate::config::combine::combine;
use crate::config::error::Reason;
use crate::config::value::{Compression, OutputKind};
use crate::config::*;

const SAMPLE: &str = include_str!("../../systemd/blocksd.toml");

/// The sample with all its keys uncommented.
fn uncommented() -> String {
    let lines = SAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The tables at the end of the sample.
fn tables() -> String {
    let (_, tables) = SAMPLE.split_once("# [[").unwrap();
    let lines = tables.lines().map(|line| line.trim_start_matches("# "));
    // Prose between the tables has no ` = `, and does not begin with a bracket.
    let is_toml = |line: &&str| line.starts_with('[') || line.contains(" = ");
    let lines: Vec<_> = lines.filter(is_toml).collect();
    format!("[[listener]]\n{}", lines.join("\n"))
}

#[track_caller]
fn partial(text: &str) -> Partial {
    let (partial, mistakes) = file::parse(text);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    partial
}

#[track_caller]
fn config(text: &str) -> Config {
    combine(None, Partial::default(), partial(text), Vec::new()).unwrap()
}

/// The mistakes of a text: line, key and reason.
#[track_caller]
fn mistakes(text: &str) -> Vec<(usize, String, String)> {
    let (partial, mistakes) = file::parse(text);
    let error = combine(None, Partial::default(), partial, mistakes).unwrap_err();
    let mistakes = error.error.mistakes.into_iter().map(|mistake| {
        let Some(ValueOrigin::Line(line)) = mistake.origin else {
            panic!("{mistake:?}");
        };
        (
            line,
            mistake.key.unwrap_or_default(),
            mistake.reason.to_string(),
        )
    });
    mistakes.collect()
}

fn set(partial: &mut Partial, key: &str, text: &str, origin: ValueOrigin) {
    let spec = OPTIONS.iter().find(|spec| spec.key == key).unwrap();
    let key = spec.key;
    spec.set(partial, Written { text, origin, key }).unwrap();
}

#[test]
fn every_option_has_one_key_a_help_and_a_default_that_can_be_read() {
    let mut keys: Vec<_> = OPTIONS
        .iter()
        .flat_map(|spec| [Some(spec.key), spec.old])
        .flatten()
        .collect();
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
    let defaults = Partial::defaults();
    for spec in OPTIONS {
        assert!(spec.help.trim_end().ends_with('.'), "{spec:?}");
        let given = spec.given(&defaults).map(|shown| shown.text);
        assert_eq!(given, spec.default, "{spec:?}");
        // Only a policy can differ from listener to listener.
        assert!(
            spec.scope == Scope::Daemon || spec.reload == Reload::Policies,
            "{spec:?}"
        );
    }
    assert!(Config::new(None, Vec::new(), defaults).is_ok());
    assert_eq!(
        Config::new(None, Vec::new(), Partial::default()).err(),
        Some("device-by")
    );
}

#[test]
fn the_sample_has_exactly_the_known_options() {
    let text = uncommented();
    let table = DeTable::parse(&text).unwrap();
    let keys = table.get_ref().keys();
    let mut keys: Vec<_> = keys.map(|key| key.get_ref().to_string()).collect();
    // Shown as a table.
    let names = OPTIONS.iter().map(|spec| spec.key.to_owned());
    let mut names: Vec<_> = names.filter(|it| it != "forward").collect();
    keys.sort();
    names.sort();
    assert_eq!(keys, names);
}

#[test]
fn the_sample_shows_the_default_of_every_option() {
    let all = partial(&uncommented());
    for spec in OPTIONS.iter().filter(|spec| spec.key != "output") {
        let given = spec.given(&all).map(|shown| shown.text);
        if spec.default.is_some() {
            assert_eq!(given, spec.default, "{spec:?}");
        }
    }
    // It sets only what a service needs, which differs from the defaults.
    let sample = partial(SAMPLE);
    let is_set = |spec: &&Spec| spec.given(&sample).is_some();
    let set: Vec<_> = OPTIONS.iter().filter(is_set).map(|spec| spec.key).collect();
    assert_eq!(set, ["record", "output"]);
    let config = config(SAMPLE);
    assert_eq!(config.output, OutputKind::None);
    assert_eq!(config.record, Some("/var/lib/blocksd".into()));
}

#[test]
fn the_tables_of_the_sample_can_be_used() {
    let sample = partial(&tables());
    let listener = ListenerConfig::parse(
        "0.0.0.0:1061,framing=lines,decode=json",
        ValueOrigin::Default,
    );
    assert_eq!(sample.listeners, [listener.unwrap()]);
    let [device] = &sample.devices[..] else {
        panic!("{:?}", sample.devices);
    };
    assert_eq!((device.label(), device.matches().count()), ("pump-7", 3));
    let [forward] = &sample.forwards[..] else {
        panic!("{:?}", sample.forwards);
    };
    assert_eq!((forward.servers().len(), forward.site()), (3, "main"));
    let defaults = ForwardConfig::parse("nats://n", ValueOrigin::Default).unwrap();
    for (key, default) in defaults.all() {
        let shown = forward.all().find(|(it, _)| *it == key).unwrap().1;
        if let Some((default, _)) = default {
            assert_eq!(shown.map(|(text, _)| text), Some(default), "{key}");
            assert_ne!(
                shown.map(|(_, origin)| origin),
                Some(ValueOrigin::Default),
                "{key}"
            );
        }
    }
    let is_recorded = partial(SAMPLE).combine(sample);
    assert!(combine(None, Partial::default(), is_recorded, Vec::new()).is_ok());
}

#[test]
fn values_of_toml_have_the_meaning_of_the_command_line() {
    let it = config(
        "output = 'json'\nonce = true\nmax-block = 0x1_000\nidle-timeout = 1.5\nlisten = ['a:1', 'b:2,framing=cobs']\n\
         record = 'r'\nrecord-compression = 'zstd'\nrecord-rotate-seconds = 90\nrecord-sync-ms = 5\n\
         record-rotate-bytes = '64KiB'\nheader-timeout = '1m 30s'\n\
         [[listener]]\nmax-skip = 1_0\naddress = 'c:3'\n[[listener]]\naddress = 'd:4'",
    );
    assert_eq!(
        (it.output, it.once, it.max_block),
        (OutputKind::Json, true, 4096)
    );
    assert_eq!(it.idle_timeout.0, Some(Duration::from_millis(1500)));
    assert_eq!(it.header_timeout.0, Some(Duration::from_secs(90)));
    let log = it.log_options();
    assert_eq!(log.compression, Compression::Zstd);
    assert_eq!(log.rotate_after, Duration::from_secs(90));
    assert_eq!(log.sync_after, Duration::from_millis(5));
    assert_eq!(log.rotate_bytes, 64 << 10);
    let wanted = ["a:1", "b:2,framing=cobs", "c:3,max-skip=10", "d:4"];
    let wanted = wanted.map(|text| ListenerConfig::parse(text, ValueOrigin::Default).unwrap());
    assert_eq!(it.listeners, wanted);
    assert_eq!(it.warnings().len(), 3, "{:?}", it.warnings());
    // A bare number has the same unit with the new names.
    let new = config("record = 'r'\nrecord-rotate-after = 90\nrecord-sync = 5");
    assert_eq!(new.record_rotate_after, it.record_rotate_after);
    assert_eq!(new.record_sync, it.record_sync);
    assert!(new.warnings().is_empty());
}

#[test]
fn the_command_line_overrides_the_file_and_the_file_the_defaults() {
    let mut line = Partial::default();
    for (key, text) in [("framing", "cobs"), ("listen", "a:1"), ("listen", "b:2")] {
        set(&mut line, key, text, ValueOrigin::CommandLine);
    }
    let file = partial("framing = 'lines'\ndecode = 'json'\nlisten = 'c:3'");
    let config = combine(None, line, file, Vec::new()).unwrap();
    assert_eq!(config.framing.to_string(), "cobs");
    assert_eq!(config.decode.as_str(), "json");
    let addresses: Vec<_> = config.listeners.iter().map(|it| &*it.address).collect();
    assert_eq!(addresses, ["a:1", "b:2"]);
    assert_eq!(config.overridden, ["listen", "framing"]);
    assert_eq!(config.origin("framing"), ValueOrigin::CommandLine);
    assert_eq!(config.origin("decode"), ValueOrigin::Line(2));
    assert_eq!(config.origin("max-block"), ValueOrigin::Default);
}

#[test]
fn every_mistake_is_found() {
    let text = "max-conections = 5\nframing = 'morse'\nonce = 1\nlisten = ['unix:', 'a:1,foo=1', 'a:1']\n\
        record-sync-ms = 5\nrecord-sync = '5ms'\nmax-unfinished = '2MiB'\nidle-timeout = '1x'\noutput = 'jsn'\n\
        [[listener]]\nframing = 'lined'\n[[listener]]\naddress = 'a:1'\nkeepalive = 5\nmax-blck = 5";
    let found = mistakes(text);
    let found: Vec<_> = found
        .iter()
        .map(|(line, key, reason)| (*line, &**key, &**reason))
        .collect();
    let wanted = [
        (
            1,
            "max-conections",
            "unknown key; did you mean `max-connections`?",
        ),
        (
            2,
            "framing",
            "`morse` is not a framing; the framings are blocks, stream, fixed:N, lines",
        ),
        (3, "once", "takes true or false, not a number"),
        (4, "listen", "a path is missing"),
        (4, "listen", "`foo` is not an option of a listener"),
        (5, "record-sync-ms", "needs record = \"DIR\""),
        (6, "record-sync", "remove the old name record-sync-ms"),
        (
            7,
            "max-unfinished",
            "must be at least 4194304, 4 times the largest max-block (1048576), not 2MiB",
        ),
        (8, "idle-timeout", "`1x` is not a duration"),
        (
            9,
            "output",
            "[possible values: text, json, hex, none]; did you mean `json`?",
        ),
        (10, "listener", "a listener needs an address"),
        (11, "framing", "did you mean `lines`?"),
        (14, "keepalive", "applies to all listeners"),
        (15, "max-blck", "unknown key; did you mean `max-block`?"),
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!((found.0, found.1), (wanted.0, wanted.1));
        assert!(found.2.contains(wanted.2), "{found:?}, not {wanted:?}");
    }
}

#[test]
fn an_invalid_value_adds_no_mistake_of_a_dependent_option() {
    for text in [
        "record = 5\nrecord-sync = '5ms'",
        "max-block = 'x'\nmax-unfinished = '2MiB'",
    ] {
        assert_eq!(mistakes(text).len(), 1, "{text}");
    }
}

#[test]
fn after_a_syntax_error_only_syntax_errors_are_reported() {
    let found = mistakes("framming = 'x'\nonce =\nframming = 'y'\nlisten = [\n");
    let lines: Vec<_> = found.iter().map(|(line, key, _)| (*line, &**key)).collect();
    assert_eq!(
        lines,
        [(1, "framming"), (2, ""), (3, ""), (4, "")],
        "{found:?}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_mistake() {
    let error = load(Some("/no/such/file".as_ref()), Partial::default()).unwrap_err();
    assert!(matches!(
        error.mistakes[..],
        [Mistake {
            reason: Reason::Unreadable(_),
            ..
        }]
    ));
    let text = error.to_string();
    assert!(
        text.starts_with("/no/such/file: cannot read the config: "),
        "{text}"
    );
}
