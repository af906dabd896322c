//! Tests of device tables: their policies, their table for the engine, and mistakes in them.

use std::time::Duration;

use super::{config, mistakes};
use blocksd_engine::event::Peer;

#[test]
fn options_of_a_device_override_those_of_its_listener() {
    let config = config(
        "listen = ['a:1', 'b:2,framing=lines,max-block=200']\nmax-block = 100\nidle-timeout = '1m'\n\
         [device.pump]\nmatch = ['10.0.0.7', '10.0.1.0/24']\nmax-block = '1k'\nidle-timeout = 'off'\n\
         [device.\"10.0.0.8\"]\nname = 'hall'\n\
         [device.\"10.0.0.9\"]\nframing = 'cobs'\noversize = 'pieces'",
    );
    let [one, other] = &config.listeners[..] else {
        panic!("{:?}", config.listeners);
    };
    let one = config.policies(one);
    assert_eq!(one.default_policy().limits.block_max, 100);
    // `hall` has a name and no options.
    assert_eq!(one.iter().count(), 3);
    let pump = one.of("pump");
    assert_eq!((pump.limits.block_max, pump.timeouts.idle), (1000, None));
    assert_eq!(one.of("hall").limits.block_max, 100);
    assert_eq!(one.of("hall").timeouts.idle, Some(Duration::from_secs(60)));
    let other = config.policies(other);
    assert_eq!(other.of("hall").framing.to_string(), "lines");
    assert_eq!(other.of("pump").framing.to_string(), "lines");
    assert_eq!(other.of("pump").limits.block_max, 1000);
    assert_eq!(other.of("10.0.0.9").framing.to_string(), "cobs");
    assert_eq!(other.of("10.0.0.9").limits.skip_max, u32::MAX);
    // The longest message of all.
    assert_eq!(config.bounds().longest, 1000);
    let table = config.device_table();
    let find = |address: &str| {
        let peer = Peer::Network(format!("{address}:5").parse().unwrap());
        table
            .find(&peer, "a:1", address)
            .map(|name| name.to_string())
    };
    assert_eq!(find("10.0.1.99").as_deref(), Some("pump"));
    assert_eq!(find("10.0.0.8").as_deref(), Some("hall"));
    assert_eq!(find("10.0.0.9").as_deref(), Some("10.0.0.9"));
    assert_eq!(find("10.0.0.10"), None);
}

#[test]
fn every_mistake_of_a_device_is_found() {
    let text = "[device.\"a b\"]\nmatch = ['10.0.0.1/8', '10.0.0.7', 'listener:x:1']\nname = 'a/b'\nkeepalive = 5\n\
        [device.\"10.0.0.7\"]\nidletimeout = 5\nmatch = 5\n\
        [device.\"a/b\"]\nmatch = '10.0.0.8'\n\
        [device.one]\nmatch = []\nname = '10.0.0.7'\n\
        [device.\"\"]
[device.\"10.0.0.0/8\"]
[device]
x = 5";
    let found = mistakes(text);
    let found: Vec<_> = found
        .iter()
        .map(|(line, key, reason)| (*line, &**key, &**reason))
        .collect();
    let wanted = [
        (2, "match", "did you mean `10.0.0.0/8`?"),
        (2, "match", "`listener:x:1`: there is no listener `x:1`"),
        (3, "name", "`a/b` cannot be the name of a device"),
        (
            4,
            "keepalive",
            "applies to all devices; put it at the top of the file, before the first [device.\"ID\"]",
        ),
        (
            5,
            "10.0.0.7",
            "`10.0.0.7` is also a match of [device.\"a b\"]",
        ),
        (6, "idletimeout", "did you mean `idle-timeout`?"),
        (7, "match", "takes a list of"),
        (8, "a/b", "`a/b` cannot be the name of a device"),
        (11, "match", "an empty list matches no device"),
        (
            12,
            "name",
            "`10.0.0.7` is also the name of [device.\"10.0.0.7\"]",
        ),
        (13, "", "the ID of a device is empty"),
        (14, "10.0.0.0/8", "put `10.0.0.0/8` into `match`"),
        (16, "x", "takes tables, as [device.\"ID\"], not a number"),
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!((found.0, found.1), (wanted.0, wanted.1));
        assert!(found.2.contains(wanted.2), "{found:?}, not {wanted:?}");
    }
}
