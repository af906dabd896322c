//! Options of `serve`: their groups in the help, their values and units, and their old names.

use blocksd_tests::process::{Server, run};
use framing_core::AnyFraming;
use tempfile::TempDir;

/// Every option under its heading, as in `serve --help`.
const GROUPS: &[(&str, &[&str])] = &[
    ("Options", &["help"]),
    (
        "Listening",
        &["config", "listen", "device-by", "once", "for"],
    ),
    ("Framing", &["framing", "oversize", "after-end"]),
    ("Decoding", &["decode"]),
    (
        "Limits",
        &[
            "max-block",
            "max-skip",
            "max-connections",
            "max-connections-per-device",
            "max-handshakes",
            "max-unfinished",
            "receive-buffer",
        ],
    ),
    (
        "Timeouts",
        &[
            "first-byte-timeout",
            "idle-timeout",
            "header-timeout",
            "block-timeout",
            "keepalive",
        ],
    ),
    (
        "Recording",
        &[
            "record",
            "record-compression",
            "record-sync",
            "record-rotate-after",
            "record-rotate-size",
            "record-max-bytes",
            "record-min-free",
            "forward",
        ],
    ),
    (
        "Sessions",
        &["session", "ack-interval", "heartbeat", "max-sessions"],
    ),
    ("Output", &["output"]),
    (
        "Monitoring",
        &[
            "metrics",
            "metrics-per-device",
            "http",
            "http-token",
            "http-host",
            "http-tls-cert",
            "http-tls-key",
            "http-tls-ca",
            "max-gone-devices",
            "log",
        ],
    ),
    (
        "Reply",
        &[
            "reply",
            "reply-timeout",
            "reply-max-bytes",
            "reply-max-total-bytes",
        ],
    ),
];

#[test]
fn every_option_is_listed_under_the_heading_of_its_group() {
    let help = run(&["serve", "--help"], b"").stdout_text();
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for line in help.lines() {
        if let Some(heading) = line.strip_suffix(':').filter(|it| !it.starts_with(' ')) {
            groups.push((heading.to_owned(), Vec::new()));
        }
        let option = line
            .strip_prefix("      --")
            .or_else(|| line.strip_prefix("  -h, --"));
        if let Some(option) = option {
            let name = option.split_whitespace().next().unwrap();
            groups.last_mut().unwrap().1.push(name.to_owned());
        }
    }
    let wanted = GROUPS.iter().map(|(heading, options)| {
        let options = options.iter().map(|option| (*option).to_owned());
        ((*heading).to_owned(), options.collect())
    });
    assert_eq!(groups, wanted.collect::<Vec<(String, Vec<String>)>>());
}

#[test]
fn help_manual_and_completions_name_the_framings_and_decodings() {
    let decodings = [
        "raw",
        "text",
        "json",
        "cbor",
        "msgpack",
        "kv",
        "defmt:ELF",
        "defmt:DIR",
    ];
    let names: Vec<_> = AnyFraming::SPECS.iter().copied().chain(decodings).collect();
    // The help wraps a long list, and roff escapes hyphens.
    let words = |text: &str| {
        let words = text
            .replace(r"\fI", "")
            .replace(r"\fR", "")
            .replace('\\', "");
        words
            .split_whitespace()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    for args in [&["serve", "--help"][..], &["man", "serve"]] {
        let text = words(&run(args, b"").stdout_text());
        for name in &names {
            let is_it = |word: &str| word.trim_matches(|it: char| ",:]".contains(it)) == *name;
            assert!(
                text.iter().any(|word| is_it(word)),
                "{args:?}: {name} is not in {text:?}"
            );
        }
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = run(&["completions", shell], b"").stdout_text();
        // These two shells do not complete values.
        if ["elvish", "powershell"].contains(&shell) {
            continue;
        }
        let text = text.replace('\\', "");
        for name in &names {
            assert!(text.contains(name), "{shell}: {name} is missing");
        }
    }
    let bash = run(&["completions", "bash"], b"").stdout_text();
    let framings = AnyFraming::SPECS.join(" ");
    assert!(
        bash.contains(&format!("compgen -W \"{framings}\"")),
        "{bash}"
    );
}

#[test]
fn a_framing_with_a_parameter_is_accepted_and_a_misspelled_one_is_not() {
    for framing in ["delimited:0a", "fixed:16", "length:u16le"] {
        let server = Server::start(&["--framing", framing]);
        server.addr_of(framing);
        assert_eq!(server.stop().0.code, Some(0));
    }
    for (args, words) in [
        (["--framing", "lnes"], "did you mean `lines`?"),
        (["--framing", "fixed:N"], "fixed:N needs a length"),
        (
            ["--output", "jsn"],
            "[possible values: text, json, hex, none]",
        ),
        (
            ["--listen", "127.0.0.1:0,oversize=skp,max-block=x"],
            "did you mean `skip`?; max-block: invalid number of bytes: `x`",
        ),
    ] {
        run(&["serve", args[0], args[1]], b"").assert_refused(2, words);
    }
}

#[test]
fn durations_and_sizes_have_units() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("blocksd.toml");
    let config = "listen = '127.0.0.1:0,max-block=64k'\nidle-timeout = '1h30m'\nkeepalive = '2m'\nmax-unfinished = '1.5GiB'\n\
                  reply-max-bytes = '2M'";
    std::fs::write(&file, config).unwrap();
    let ended = run(&["check-config", file.to_str().unwrap()], b"");
    assert!(
        ended.stdout_text().contains(" max-block=64000 "),
        "{ended:?}"
    );
    for (args, words) in [
        (
            ["--max-block", "64kB"],
            "invalid number of bytes: `64kB`; use a number, or one with k, M, G, KiB",
        ),
        (
            ["--max-block", "2GiB"],
            "must be from 1 to 1073741824 bytes",
        ),
        (
            ["--idle-timeout", "5x"],
            "`5x` is not a duration, such as 500ms",
        ),
        (["--idle-timeout", "0s"], "use `off` for no limit"),
        (
            ["--keepalive", "1500ms"],
            "must be a whole number of seconds from 1 to 32767",
        ),
        (["--for", "0"], "the duration must be above zero"),
    ] {
        run(&["serve", args[0], args[1]], b"").assert_refused(2, words);
    }
    let ended = run(
        &["serve", "--listen", "127.0.0.1:0", "--for", "0h 0m 50ms"],
        b"",
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = run(&["send", "--connect-timeout", "1w", "x"], b"");
    ended.assert_refused(2, "`1w` is not a duration");
}

#[test]
fn old_names_are_accepted_with_a_warning_and_are_not_in_the_help() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("record");
    let record = record.to_str().unwrap();
    let old = [
        ("record-sync-ms", "record-sync", "50"),
        ("record-rotate-seconds", "record-rotate-after", "60"),
        ("record-rotate-bytes", "record-rotate-size", "65536"),
    ];
    let mut args = vec!["--record".to_owned(), record.to_owned()];
    for (old, _, value) in old {
        args.extend([format!("--{old}"), value.to_owned()]);
    }
    let args: Vec<_> = args.iter().map(|arg| &**arg).collect();
    let server = Server::start(&args);
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let help = run(&["serve", "--help"], b"").stdout_text();
    let file = folder.path().join("blocksd.toml");
    let name = file.to_str().unwrap();
    let bare = [
        "record-sync = 50",
        "record-rotate-after = 60",
        "record-rotate-size = 65536",
    ];
    for (index, (old, new, value)) in old.into_iter().enumerate() {
        let warning = format!("WARN --{old}: old name of --{new}; use the new name\n");
        assert!(
            ended.stderr.contains(&warning),
            "{warning} is not in {ended:?}"
        );
        assert!(!help.contains(old), "{old}");
        // The file gives the same value, and a warning with the line.
        std::fs::write(&file, format!("record = '{record}'\n{old} = {value}")).unwrap();
        let checked = run(&["check-config", "--print", name], b"");
        assert_eq!(checked.code, Some(0), "{checked:?}");
        let warning = format!("WARN {name}:2: {old}: old name of {new}; use the new name\n");
        assert!(checked.stderr.contains(&warning), "{checked:?}");
        let printed = format!("\n{}  # {name}:2", bare[index]);
        assert!(checked.stdout_text().contains(&printed), "{checked:?}");
        // Giving both names is an error.
        std::fs::write(
            &file,
            format!("record = '{record}'\n{old} = {value}\n{new} = {value}"),
        )
        .unwrap();
        let place = format!("{name}:3: {new}: the same option as {old}; remove the old name {old}");
        run(&["check-config", name], b"").assert_refused(2, &place);
        let both = [format!("--{old}={value}"), format!("--{new}={value}")];
        run(&["serve", &both[0], &both[1]], b"").assert_refused(2, "cannot be used with");
    }
}
