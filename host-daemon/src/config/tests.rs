//! The sample config names every option with its default, and values of TOML become the right arguments.

use crate::config::*;

const SAMPLE: &str = include_str!("../../systemd/blocksd.toml");

/// The sample with all its keys.
fn uncommented() -> String {
    let lines = SAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn arguments_of(text: &str) -> Vec<String> {
    let settings = settings(text).unwrap_or_else(|refusal| panic!("{:?}", refusal.reason));
    let arguments = settings.into_iter().map(|setting| setting.argument);
    arguments.collect()
}

#[test]
fn the_sample_names_every_option_and_no_other() {
    let text = uncommented();
    let table = DeTable::parse(&text).unwrap();
    let mut keys: Vec<_> = table
        .get_ref()
        .keys()
        .map(|key| key.get_ref().to_string())
        .collect();
    let serve = serve();
    let names = serve.get_arguments().filter_map(Arg::get_long);
    let mut names: Vec<_> = names
        .filter(|name| *name != CONFIG)
        .map(String::from)
        .collect();
    keys.sort();
    names.sort();
    assert_eq!(keys, names);
}

#[test]
fn the_sample_gives_the_defaults_of_all_options_that_have_one() {
    let arguments = arguments_of(&uncommented());
    // What it sets is what a service needs, and no default.
    let set = ["--record=/var/lib/blocksd", "--output=none"];
    assert_eq!(arguments_of(SAMPLE), set);
    for option in serve().get_arguments() {
        let name = option.get_long().unwrap();
        if name == "output" {
            continue;
        }
        for default in option.get_default_values() {
            let default = default.to_str().unwrap();
            let argument = format!("--{name}={default}");
            let is_off = default == "false" && !arguments.contains(&format!("--{name}"));
            assert!(
                arguments.contains(&argument) || is_off,
                "{argument} is not in {arguments:?}"
            );
        }
    }
}

#[test]
fn the_listener_of_the_sample_is_one() {
    let (_, listener) = SAMPLE.split_once("# [[").unwrap();
    let listener = format!("[[{}", listener.replace("\n# ", "\n"));
    let wanted = "--listen=0.0.0.0:1061,framing=lines,decode=json";
    assert_eq!(arguments_of(&listener), [wanted]);
}

#[test]
fn values_become_arguments_in_the_order_of_the_file() {
    let text = "output = 'json'\nonce = true\nmax-block = 0x1_000\nidle-timeout = 1.5\nlisten = ['a:1', 'b:2,framing=cobs']\n\
        [[listener]]\nmax-skip = 1_0\naddress = 'c:3'\n[[listener]]\naddress = 'd:4'";
    let wanted = [
        "--output=json",
        "--once",
        "--max-block=4096",
        "--idle-timeout=1.5",
        "--listen=a:1",
        "--listen=b:2,framing=cobs",
        "--listen=c:3,max-skip=10",
        "--listen=d:4",
    ];
    assert_eq!(arguments_of(text), wanted);
    assert_eq!(
        arguments_of("listen = 'a:1'\nonce = false"),
        ["--listen=a:1"]
    );
}
