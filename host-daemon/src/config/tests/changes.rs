//! Tests of the differences between two configurations, and of a configuration that is printed and read again.

use super::{config, set};
use crate::config::combine::combine;
use crate::config::*;

/// A value of every option but `listen` that is not its default.
const OTHER: &[(&str, &str)] = &[
    ("device-by", "listener"),
    ("once", "true"),
    ("for", "1d"),
    ("framing", "lines"),
    ("oversize", "close"),
    ("after-end", "continue"),
    ("decode", "cbor"),
    ("max-block", "1k"),
    ("max-skip", "1k"),
    ("max-connections", "7"),
    ("max-connections-per-device", "7"),
    ("max-handshakes", "7"),
    ("max-unfinished", "1GiB"),
    ("receive-buffer", "1MiB"),
    ("first-byte-timeout", "1m"),
    ("idle-timeout", "1m"),
    ("header-timeout", "off"),
    ("block-timeout", "off"),
    ("keepalive", "off"),
    ("record", "r"),
    ("record-compression", "lz4"),
    ("record-sync", "7"),
    ("record-rotate-after", "7h"),
    ("record-rotate-size", "7MiB"),
    ("record-max-bytes", "70G"),
    ("record-min-free", "7G"),
    ("session", "off"),
    ("ack-interval", "7s"),
    ("heartbeat", "7s"),
    ("max-sessions", "7"),
    ("output", "hex"),
    ("metrics", "a:9106"),
    ("metrics-per-device", "7"),
    ("http", "a:9107"),
    ("http-token", "token"),
    ("http-host", "b,c"),
    ("http-tls-cert", "other.pem"),
    ("http-tls-key", "other.key"),
    ("http-tls-ca", "ca.pem"),
    ("max-gone-devices", "7"),
    ("log", "warn,blocksd=debug"),
    ("reply", "echo"),
    ("reply-timeout", "1m"),
    ("reply-max-bytes", "7k"),
    ("reply-max-total-bytes", "7G"),
    ("forward", "nats://n1:4222"),
];

/// The defaults, a recording and an HTTP server with TLS, with one option changed.
fn with(key: &str, text: &str) -> Config {
    let mut partial = Partial::default();
    set(
        &mut partial,
        "record",
        "recording",
        ValueOrigin::CommandLine,
    );
    for (key, text) in [
        ("http", "a:9100"),
        ("http-tls-cert", "cert.pem"),
        ("http-tls-key", "cert.key"),
    ] {
        set(&mut partial, key, text, ValueOrigin::CommandLine);
    }
    set(&mut partial, key, text, ValueOrigin::CommandLine);
    combine(None, partial, Partial::default(), Vec::new()).unwrap()
}

#[test]
fn a_difference_in_any_option_is_found_and_is_of_one_kind() {
    let old = with("record", "recording");
    let keys: Vec<_> = OTHER.iter().map(|(key, _)| *key).collect();
    let all: Vec<_> = OPTIONS.iter().skip(1).map(|spec| spec.key).collect();
    assert_eq!(keys, all);
    for (key, text) in OTHER {
        let new = with(key, text);
        let diff = diff(&old, &new);
        let of = |specs: &[&'static Spec]| {
            specs
                .iter()
                .map(|spec| (spec.key, spec.reload))
                .collect::<Vec<_>>()
        };
        let found = [
            of(&diff.policies),
            of(&diff.bounds),
            of(&diff.restart),
            of(&diff.retention),
            of(diff.log.as_slice()),
        ];
        let [found] = found.concat()[..] else {
            panic!("{key}: {diff:?}");
        };
        assert_eq!(found.0, *key);
        assert!(diff.added.is_empty() && diff.removed.is_empty() && diff.changed.is_empty());
        let kind = match found.1 {
            Reload::Policies => of(&diff.policies),
            Reload::Bounds => of(&diff.bounds),
            Reload::Restart => of(&diff.restart),
            Reload::Retention => of(&diff.retention),
            Reload::Log => of(diff.log.as_slice()),
            Reload::Listeners => Vec::new(),
        };
        assert_eq!(kind.len(), 1, "{key}: {diff:?}");
        // An option that is not applied keeps its old value.
        let mut kept = new.clone();
        let spec = OPTIONS.iter().find(|spec| spec.key == *key).unwrap();
        spec.keep(&mut kept, &old);
        assert!(!spec.differs(&kept, &old), "{key}");
    }
    // Another text for the same value is not a difference.
    let hour = diff(&with("idle-timeout", "1h"), &with("idle-timeout", "60m"));
    assert!(hour.policies.is_empty(), "{hour:?}");
}

#[test]
fn listeners_and_devices_that_differ_are_named() {
    let old = config(
        "listen = ['a:0', 'b:1', 'c:2,framing=lines']\n[device.x]\nmax-block = 5\n[device.y]\n[device.z]",
    );
    let new = config(
        "listen = ['c:2,framing=cobs', 'a:0', 'a:0', 'd:3']\n[device.x]\nmax-block = 6\n[device.z]\n[device.v]",
    );
    let diff = diff(&old, &new);
    let addresses = |listeners: &[ListenerConfig]| {
        let addresses = listeners.iter().map(|it| it.address.clone());
        addresses.collect::<Vec<_>>()
    };
    assert_eq!(addresses(&diff.added), ["a:0", "d:3"]);
    assert_eq!(addresses(&diff.removed), ["b:1"]);
    assert_eq!(diff.changed, ["c:2"]);
    assert_eq!(diff.devices, ["x", "v"]);
    assert_eq!(diff.removed_devices, ["y"]);
    let swapped = crate::config::diff(
        &config("[device.x]\n[device.y]"),
        &config("[device.y]\n[device.x]"),
    );
    assert_eq!(swapped.devices, ["y", "x"]);
}

#[test]
fn a_printed_config_has_the_same_values() {
    let all: Vec<_> = OTHER
        .iter()
        .map(|(key, text)| format!("{key} = '{text}'"))
        .collect();
    let all = all.join("\n").replace("'true'", "true").replace("'7'", "7");
    let tables = "\n[[listener]]\naddress = 'unix:\"x\\y.sock'\nmax-skip = '7k'\n[[listener]]\naddress = '-'\n\
        [device.\"10.0.0.7\"]\nname = 'p:1'\nmatch = ['10.0.0.0/24', '10.0.0.7']\nblock-timeout = '1h30m'\n[device.\"a \\\"b\"]";
    for text in [
        String::new(),
        tables.to_owned(),
        all.clone(),
        format!("{all}{tables}"),
        "record = 'r'\nrecord-max-bytes = '16MiB'\nrecord-sync-ms = 5".to_owned(),
        "max-block = '1GiB'\nlisten = ['serial:/dev/x?baud=9600', '-,after-end=close']".to_owned(),
    ] {
        let given = config(&text);
        let printed = print(&given);
        let back = config(&printed);
        assert_eq!(back.listeners.len(), given.listeners.len(), "{printed}");
        for (one, other) in given.listeners.iter().zip(&back.listeners) {
            assert_eq!(one.address, other.address);
            let policies =
                |config: &Config, it| format!("{:?}", config.policies(it).default_policy());
            assert_eq!(policies(&given, one), policies(&back, other), "{printed}");
        }
        assert_eq!(given.devices, back.devices, "{printed}");
        // A reload finds no difference, although computed defaults are printed as values.
        for diff in [diff(&given, &back), diff(&back, &given)] {
            let specs = [&diff.policies, &diff.bounds, &diff.restart];
            assert!(specs.iter().all(|it| it.is_empty()), "{diff:?}: {printed}");
            assert!(diff.retention.is_empty() && diff.log.is_none(), "{diff:?}");
        }
        assert_eq!(print(&back).lines().count(), printed.lines().count());
    }
}

#[test]
fn a_computed_default_differs_from_another_value() {
    let rotating = |size: &str| config(&format!("record = 'r'\n{size}"));
    let restart = |old: &str, new: &str| diff(&rotating(old), &rotating(new)).restart.len();
    let size = "record-rotate-size";
    assert_eq!(restart("", &format!("{size} = '1GiB'")), 0);
    assert_eq!(restart("", &format!("{size} = '1MiB'")), 1);
    // Without a value, the size follows the limit.
    assert_eq!(
        restart("record-max-bytes = '16MiB'", "record-max-bytes = '32MiB'"),
        0
    );
}

#[test]
fn a_printed_text_is_a_string_on_one_line() {
    let text = "[device.\"10.0.0.7\"]\nname = 'p'\n[device.'a\\\"b']\nmatch = 'c\\\"d'\nname = 'x'\n\
                [[listener]]\naddress = \"unix:a\\nb\\u0007c\"";
    let printed = print(&config(text));
    for line in [
        r#"[device."10.0.0.7"]"#,
        r#"[device."a\\\"b"]"#,
        r#"address = "unix:a\nb\u0007c"  # default"#,
    ] {
        assert!(
            printed.lines().any(|it| it == line),
            "{line} is not in {printed}"
        );
    }
    let back = config(&printed);
    assert_eq!(back.listeners[0].address, "unix:a\nb\u{7}c");
    assert_eq!(back.devices[1].id, "a\\\"b");
}

#[test]
fn the_effective_after_end_of_a_line_is_printed() {
    let line = "after-end = \"continue\"  # default for this kind of address";
    let is_printed = |text: &str| print(&config(text)).lines().any(|it| it == line);
    assert!(is_printed("listen = '-'"));
    assert!(is_printed("listen = 'serial:/dev/x'"));
    assert!(!is_printed("listen = '-,after-end=close'"));
    assert!(!is_printed("listen = 'a:1'"));
    assert!(!is_printed("listen = 'serial:/dev/x'\nreply = 'echo'"));
}
