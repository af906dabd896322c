//! Tests of the clusters of a configuration.

use std::time::Duration;

use super::{config, mistakes};
use crate::config::combine::combine;
use crate::config::{ForwardConfig, Partial, ValueOrigin, file};

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
    // It is shown with its unit.
    for (linger, shown) in [
        ("5", " linger=5s"),
        ("1.5", " linger=1.5s"),
        ("0", " linger=0s"),
        ("900ms", " linger=900ms"),
    ] {
        let of = of(&format!("nats://n1,linger={linger}"))
            .unwrap()
            .to_string();
        assert!(of.ends_with(shown), "{of}");
    }
    assert_eq!(of("nats://n1,linger=0").unwrap(), of("nats://n1").unwrap());
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

#[test]
fn the_name_of_an_option_alone_is_no_server() {
    let of = |text: &str| ForwardConfig::parse(text, ValueOrigin::CommandLine);
    let refused = of("nats://n1:4222, create").unwrap_err();
    assert_eq!(
        refused,
        "`create` is an option, and not the address of a server; write `create=true`, or `create:4222` if a host has this name"
    );
    let refused = of("nats://n1:4222,site,n2").unwrap_err();
    assert!(refused.contains("write `site=VALUE`"), "{refused}");
    let mistakes = mistakes_of("to = ['nats://n1', 'durable']");
    assert!(mistakes[0].starts_with("3: to: `durable` is an option"));
    for host in ["stream:4222", "nats://stream", "tls://create", "creates"] {
        assert!(of(&format!("nats://n1,{host}")).is_ok(), "{host}");
    }
}

#[test]
fn a_key_of_another_place_is_not_taken_for_a_short_one() {
    let mistakes = mistakes_of("to = 'nats://n1'\nrecord-max-bytes = '1GB'\nusr = 'x'");
    assert!(!mistakes[0].contains("did you mean"), "{mistakes:?}");
    assert!(mistakes[1].contains("did you mean `user`?"), "{mistakes:?}");
}

/// The mistakes of a table `[[forward]]`, each as `line: key: reason`.
fn mistakes_of(table: &str) -> Vec<String> {
    all_mistakes(&format!("record = 'r'\n[[forward]]\n{table}"))
}

/// The mistakes of a file, if there are any, each as `line: key: reason`.
fn all_mistakes(text: &str) -> Vec<String> {
    let (partial, mistakes) = file::parse(text);
    let refused = combine(None, Partial::default(), partial, mistakes).err();
    let found = refused.into_iter().flat_map(|it| it.error.mistakes);
    let line = |origin| match origin {
        Some(ValueOrigin::Line(line)) => line,
        _ => 0,
    };
    found
        .map(|it| {
            let key = it.key.unwrap_or_default();
            format!("{}: {key}: {}", line(it.origin), it.reason)
        })
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

#[test]
fn every_mistake_of_a_cluster_is_found() {
    let table = "to = ['n1', '']\nsteam = 'x'\nack = 'forward'\nuser = 'u'\ntoken = '/t'\nlinger = '2m'\ncert = '/c'\n\
        durable = 'maybe'\nkeep = []";
    let wanted = [
        "3: to: `n1`: a server is nats://HOST:PORT or tls://HOST:PORT",
        "3: to: an address is empty; remove it, or write nats://HOST:PORT",
        "4: steam: unknown key; did you mean `stream`?",
        "5: ack: takes recorded or forwarded, not `forward`",
        "6: user: needs `password`",
        "7: token: cannot be combined with `user`",
        "8: linger: `2m`: at most 60 s",
        "9: cert: needs `key`",
        "10: durable: takes true or false, not `maybe`",
        "11: keep: takes a text, not a list",
    ];
    assert_eq!(mistakes_of(table), wanted);
    // A name that is unknown is refused, whatever it is for.
    let named = mistakes_of("to = 'nats://n'\nservers = ['nats://n']\nsubjects = []");
    let keys = "4: servers: unknown key; did you mean `to`?";
    assert!(
        named[0] == keys && named[1].contains("unknown key"),
        "{named:?}"
    );
    // A value that is wrong contradicts nothing, nor does one that was meant.
    for table in [
        "to = 'nats://n'\nuser = ''\npassword = '/p'",
        "to = 'nats://n'\nuser = 'u'\npasword = '/p'",
        "to = 'nats://n'\nuser = 'u'\npassword = []",
    ] {
        assert_eq!(mistakes_of(table).len(), 1, "{table}");
    }
    // Without a recording, and in two tables.
    let text = "[[forward]]\nsite = ''\n[[forward]]\nto = 'nats://n'\nsite = ''\nack = 'forwarded'\nkeep = 'any'";
    let found: Vec<_> = mistakes(text)
        .into_iter()
        .map(|(line, key, _)| format!("{line}: {key}"))
        .collect();
    let wanted = ["1: forward", "1: forward", "2: site", "5: site", "6: ack"];
    assert_eq!(found, wanted);
}

#[test]
fn mistakes_on_the_command_line_name_the_option() {
    for (options, wanted) in [
        (
            "ack=forward",
            "ack: takes recorded or forwarded, not `forward`",
        ),
        ("durable=maybe", "durable: takes true or false, not `maybe`"),
        ("steam=x", "steam: unknown key; did you mean `stream`?"),
        ("stream=x,stream=y", "stream: is given twice"),
        (
            "user=u,create=1",
            "create: takes true or false, not `1`; user: needs `password`",
        ),
        ("token=/t,nkey=/n", "nkey: cannot be combined with `token`"),
        (
            " durable = no, site= x",
            "durable: remove the spaces around `=`, as in `durable=VALUE`; site: remove the spaces around `=`, as in \
             `site=VALUE`",
        ),
        (
            "user = u,password=/p",
            "user: remove the spaces around `=`, as in `user=VALUE`",
        ),
        ("linger=61", "linger: `61`: at most 60 s"),
    ] {
        let parsed =
            ForwardConfig::parse(&format!("nats://n1,{options}"), ValueOrigin::CommandLine);
        assert_eq!(parsed.unwrap_err(), wanted, "{options}");
    }
    let wanted = "write the servers without `to=`, as in nats://n1:4222,nats://n2:4222; `to` is a key of the config file";
    for text in ["to=nats://n1", "nats://n1,to=n2", "to = [\"nats://n1\"]"] {
        let parsed = ForwardConfig::parse(text, ValueOrigin::CommandLine);
        assert_eq!(parsed.unwrap_err(), wanted, "{text}");
    }
}

#[test]
fn the_keys_of_a_table_are_named_with_that_of_the_servers() {
    let mistakes =
        mistakes_of("to = 'nats://n1'\nreplicas = 3\nrecord-max-bytes = '1GB'\nlisten = []");
    let wanted = "4: replicas: unknown key; the keys of a cluster are to, stream, site,";
    assert!(mistakes[0].starts_with(wanted), "{mistakes:?}");
    let place =
        "applies to the whole daemon; put it at the top of the file, before the first [[forward]]";
    assert_eq!(mistakes[1], format!("5: record-max-bytes: {place}"));
    assert_eq!(mistakes[2], format!("6: listen: {place}"));
    let of = |text: &str| ForwardConfig::parse(text, ValueOrigin::CommandLine);
    let refused = of("nats://n1,record-max-bytes=1").unwrap_err();
    let wanted = "record-max-bytes: unknown key; the keys of a cluster are stream, site,";
    assert!(refused.starts_with(wanted), "{refused}");
}

#[test]
fn a_cluster_is_named_once() {
    let of = |one: &str, other: &str| {
        let table = |to: &str| format!("[[forward]]\nto = {to}\n");
        let text = format!("record = 'r'\n{}{}", table(one), table(other));
        all_mistakes(&text)
    };
    let twice = "5: forward: `nats://n2:4222` is named twice with the stream `blocksd`; name all servers of a cluster in one `to`";
    for (one, other) in [
        ("'nats://n2:4222'", "'nats://n2:4222'"),
        ("['nats://n1:4222', 'nats://n2:4222']", "'nats://n2:4222'"),
        (
            "['nats://n1', 'tls://N2']",
            "['nats://n3:4222', 'nats://n2:4222']",
        ),
    ] {
        assert_eq!(of(one, other), [twice], "{one} {other}");
    }
    for other in [
        "'nats://n2'",
        "'nats://n1:4223'",
        "'nats://n1'\nstream = 'x'",
    ] {
        assert!(of("'nats://n1'", other).is_empty(), "{other}");
    }
    let sites = "['nats://n2', 'nats://n1']\nsite = 'b'";
    assert!(of("['nats://n1', 'nats://n2']\nsite = 'a'", sites).is_empty());
    // A table with a wrong stream may be of another one.
    let wrong = of("'nats://n1'", "'nats://n1'\nstream = 'a.b'");
    assert_eq!(wrong.len(), 1, "{wrong:?}");
}

#[test]
fn a_table_whose_name_is_like_one_is_a_question() {
    for (name, wanted) in [
        ("[[forwards]]", "did you mean [[forward]]?"),
        ("[foward]", "did you mean [[forward]]?"),
        ("[[listeners]]", "did you mean [[listener]]?"),
        ("[devices]", "did you mean [device.\"ID\"]?"),
        ("[limits]", "put its keys at the top of the file"),
        ("[recording]", "put its keys at the top of the file"),
        ("[server]", "put its keys at the top of the file"),
    ] {
        let [(_, _, reason)] = &mistakes(&format!("{name}\nto = 'x'"))[..] else {
            panic!("{name}");
        };
        assert!(reason.contains(wanted), "{name}: {reason}");
    }
}
