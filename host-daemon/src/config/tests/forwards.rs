//! Tests of the clusters of a configuration.

use std::time::Duration;

use super::{config, mistakes};
use crate::config::{ForwardConfig, ValueOrigin};

#[test]
fn options_of_a_cluster_have_one_meaning_in_each_spelling() {
    let of = |text: &str| ForwardConfig::parse(text, ValueOrigin::CommandLine);
    let plain = of("nats://n1,n2:4223,durable=false,create=true,linger=1500ms").unwrap();
    assert!(!plain.is_durable() && plain.creates());
    assert_eq!(plain.linger(), Duration::from_millis(1_500));
    for text in [
        "nats://n1, n2:4223, durable=no, create=yes, linger=1500ms",
        " nats://n1,nats://n2:4223 ,durable=false , create=true,linger=1500ms",
    ] {
        assert_eq!(of(text).unwrap(), plain, "{text}");
    }
    let tables =
        "record = 'r'\n[[forward]]\nto = ['nats://n1', 'nats://n2:4223']\nlinger = '1500ms'\n";
    for options in [
        "durable = false\ncreate = true",
        "durable = 'no'\ncreate = 'yes'",
    ] {
        let config = config(&format!("{tables}{options}"));
        assert_eq!(config.forwards.first(), Some(&plain), "{options}");
    }
    let seconds = config("record = 'r'\n[[forward]]\nto = 'nats://n1'\nlinger = 2");
    assert_eq!(seconds.forwards[0].linger(), Duration::from_secs(2));
    for wrong in ["linger=61", "linger=x", "durable=maybe", "create=1"] {
        assert!(of(&format!("nats://n1,{wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn acknowledgements_that_no_session_waits_for_are_warned_of() {
    let of = |options: &str| {
        let text =
            format!("record = 'r'\n{options}\n[[forward]]\nto = 'nats://n1'\nack = 'forwarded'");
        let warnings = config(&text).warnings();
        warnings
            .iter()
            .any(|it| it.contains("`ack=forwarded` has no effect"))
    };
    assert!(of("session = 'off'"));
    assert!(of("framing = 'lines'"));
    assert!(!of(""));
    assert!(!of(
        "session = 'off'\nlisten = ['127.0.0.1:1,session=auto', '127.0.0.1:2']"
    ));
}

/// The mistakes of a table `[[forward]]`, each as `line: key: reason`.
fn mistakes_of(table: &str) -> Vec<String> {
    let found = mistakes(&format!("record = 'r'\n[[forward]]\n{table}"));
    let found = found.into_iter();
    found
        .map(|(line, key, reason)| format!("{line}: {key}: {reason}"))
        .collect()
}

#[test]
fn an_element_of_to_is_one_server() {
    let option = "3: to: `stream=` is an option, and not the address of a server; write `stream` as a key of the table";
    let empty = "3: to: an address is empty; remove it, or write nats://HOST:PORT";
    let wrong =
        |text: &str| format!("3: to: `{text}`: a server is nats://HOST:PORT or tls://HOST:PORT");
    for (to, wanted) in [
        ("['nats://n1:4222,stream=x']", option.to_owned()),
        ("['nats://n1:4222', 'stream=x']", option.to_owned()),
        ("'nats://n1:4222,stream=x'", option.to_owned()),
        ("['nats://n1:4222', '']", empty.to_owned()),
        ("'nats://n1:4222,'", empty.to_owned()),
        ("''", empty.to_owned()),
        (
            "[]",
            "3: to: a server is missing, such as nats://HOST:PORT".to_owned(),
        ),
        (
            "['nats://n1:4222 n2:4222']",
            wrong("nats://n1:4222 n2:4222"),
        ),
        ("['nats://stream=x']", wrong("nats://stream=x")),
        ("['nats://n1/stream']", wrong("nats://n1/stream")),
        ("['nats://n1?stream']", wrong("nats://n1?stream")),
        ("['n1:4222']", wrong("n1:4222")),
        (
            "['nats://:4222']",
            "3: to: `nats://:4222`: the host is missing".to_owned(),
        ),
    ] {
        assert_eq!(mistakes_of(&format!("to = {to}")), [wanted], "{to}");
    }
    // A secret in a wrong place is not shown.
    let [secret] = &mistakes_of("to = ['nats://n1', 'token=hunter2']")[..] else {
        panic!("one mistake");
    };
    assert!(!secret.contains("hunter2"), "{secret}");
    let spaces = ForwardConfig::parse("nats://n1:4222 stream=x", ValueOrigin::CommandLine);
    assert!(spaces.is_err());
    let of = |to: &str| {
        let config = config(&format!("record = 'r'\n[[forward]]\nto = {to}"));
        config.forwards[0].servers().to_vec()
    };
    let both = ["nats://n1:4222", "nats://n2:4222"];
    for to in [
        "['nats://n1:4222', 'nats://n2:4222']",
        "['nats://n1:4222', 'n2:4222']",
        "'nats://n1:4222,n2:4222'",
        "'nats://n1:4222/, nats://n2:4222/'",
    ] {
        assert_eq!(of(to), both, "{to}");
    }
    assert_eq!(of("'tls://[fe80::1%eth0]:4222'").len(), 1);
}
