//! `check-config --print`: every value with its origin, as a config that gives the same values.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use blocksd_tests::process::run;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

#[track_caller]
fn print(path: &Path, options: &[&str]) -> String {
    let args = ["check-config", "--print", path.to_str().unwrap(), "--"];
    let ended = run(&[&args[..], options].concat(), b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout_text()
}

#[test]
fn every_value_is_printed_with_its_origin() {
    let folder = Folder::new();
    let config = "framing = 'lines'\nidle-timeout = '90m'\nlisten = '127.0.0.1:0,decode=json'\n\
                  [[listener]]\naddress = '127.0.0.1:0'\nmax-block = 0x1000\n\
                  [device.pump]\nmatch = ['10.0.0.7', '10.0.1.0/24']\nidle-timeout = 5\n";
    let path = folder.write("blocksd.toml", config);
    let name = path.to_str().unwrap();
    let text = print(&path, &["--output", "none", "--max-block=64k"]);
    for line in [
        format!("framing = \"lines\"  # {name}:1"),
        format!("idle-timeout = \"90m\"  # {name}:2"),
        "output = \"none\"  # command line; needs a restart".to_owned(),
        "max-block = \"64k\"  # command line".to_owned(),
        "max-connections = 10000  # default".to_owned(),
        "keepalive = \"60s\"  # default; needs a restart".to_owned(),
        "# metrics is not set; needs a restart".to_owned(),
        "# record-sync = \"100ms\"  # not used without record".to_owned(),
        format!("address = \"127.0.0.1:0\"  # {name}:3"),
        format!("decode = \"json\"  # {name}:3"),
        format!("address = \"127.0.0.1:0\"  # {name}:5"),
        format!("max-block = 4096  # {name}:6"),
        "[device.\"pump\"]".to_owned(),
        format!("match = [\"10.0.0.7\", \"10.0.1.0/24\"]  # {name}:8"),
        format!("idle-timeout = 5  # {name}:9"),
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
    }
    // The output is a config with the same values.
    let printed = folder.write("printed.toml", &text);
    let value = |line: &str| line.split("  # ").next().unwrap().to_owned();
    let values = |text: &str| text.lines().map(value).collect::<Vec<_>>();
    assert_eq!(values(&print(&printed, &[])), values(&text));
    let plan = |path: &Path, options: &[&str]| {
        let args = ["check-config", path.to_str().unwrap(), "--"];
        run(&[&args[..], options].concat(), b"").stdout_text()
    };
    let wanted = plan(&path, &["--output", "none", "--max-block=64k"]);
    assert_eq!(plan(&printed, &[]), wanted);
    assert!(
        wanted.ends_with("max-block=4096 oversize=skip after-end=close\nok\n"),
        "{wanted}"
    );
}

#[test]
fn an_invalid_config_is_not_printed() {
    let folder = Folder::new();
    let path = folder.write("blocksd.toml", "framing = 'morse'");
    let name = path.to_str().unwrap();
    run(&["check-config", "--print", name], b"").assert_refused(2, "morse");
    let path = folder.write("blocksd.toml", "listen = 'nowhere'");
    let name = path.to_str().unwrap();
    run(&["check-config", "--print", name], b"").assert_refused(2, "cannot listen on nowhere");
    run(&["check-config", name, "--", "--nonsense"], b"").assert_refused(2, "--nonsense");
}

/// Only the file is wrong; the options of the command line correct it.
#[test]
fn options_after_two_dashes_override_the_file() {
    let folder = Folder::new();
    let path = folder.write("blocksd.toml", "listen = 'nowhere'\nrecord-sync = 5");
    let record = folder.0.path().join("record");
    let name = path.to_str().unwrap();
    let args = [
        "check-config",
        name,
        "--",
        "--listen",
        "127.0.0.1:0",
        "--record",
        record.to_str().unwrap(),
    ];
    let ended = run(&args, b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout_text().starts_with("listen on 127.0.0.1:0 "),
        "{ended:?}"
    );
}

#[test]
fn the_operations_page_lists_what_needs_a_restart_and_what_does_not() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = fs::read_to_string(page).unwrap();
    let (table, rest) = page
        .split_once("| applied | to |")
        .and_then(|(_, rest)| rest.split_once("These need a restart:"))
        .unwrap();
    let (list, _) = rest.split_once(';').unwrap();
    let names = |text: &str| {
        let names = text.split('`').skip(1).step_by(2).map(String::from);
        names
            .filter(|name| name != "RUST_LOG")
            .collect::<BTreeSet<_>>()
    };
    let folder = Folder::new();
    let record = folder.0.path().join("record");
    let config = format!("listen = '127.0.0.1:0'\nrecord = '{}'", record.display());
    let text = print(&folder.write("blocksd.toml", &config), &[]);
    let options = text.lines().take_while(|line| !line.is_empty());
    let (mut restart, mut live) = (BTreeSet::new(), BTreeSet::new());
    for line in options.filter(|line| line.contains(" = ") || line.contains(" is not set")) {
        let key = line.trim_start_matches("# ").split(' ').next().unwrap();
        let needs_restart = line.ends_with("; needs a restart");
        let keys = if needs_restart {
            &mut restart
        } else {
            &mut live
        };
        keys.insert(key.to_owned());
    }
    let (table, _) = table.split_once("\n\n").unwrap();
    assert_eq!(names(list), restart);
    assert_eq!(names(table), live);
}

#[test]
fn the_first_hundred_mistakes_are_printed_and_all_are_counted() {
    let folder = Folder::new();
    let text: String = (0..150)
        .map(|number| format!("wrong{number} = 1\n"))
        .collect();
    let file = folder.write("wrong.toml", &text);
    let ended = run(&["check-config", file.to_str().unwrap()], b"");
    assert_eq!(ended.code, Some(2));
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 102, "{}", ended.stderr);
    assert!(lines[99].contains("wrong.toml:100: wrong99: "), "{lines:?}");
    assert!(lines[100].ends_with("... and 50 more"), "{lines:?}");
    assert!(
        lines[101].ends_with("wrong.toml: 150 mistakes"),
        "{lines:?}"
    );
}

#[test]
fn mistakes_in_values_and_in_their_combination_are_reported_together() {
    let folder = Folder::new();
    let mistakes = |text: &str| {
        let file = folder.write("wrong.toml", text);
        let ended = run(&["check-config", file.to_str().unwrap()], b"");
        assert_eq!(ended.code, Some(2), "{ended:?}");
        ended.stderr
    };
    let errors =
        mistakes("listen = '127.0.0.1:0'\nmetrics = '127.0.0.1'\nlog = 'loud'\nrecord = ''\n");
    for part in [
        "2: metrics: ",
        "3: log: ",
        "4: record: must not be empty",
        ": 3 mistakes",
    ] {
        assert!(errors.contains(part), "{errors}");
    }
    let errors =
        mistakes("listen = '127.0.0.1:0'\ndecode = 'defmt:/no/such'\nreply = '/no/such'\n");
    for part in ["2: decode: ", "3: reply: ", ": 2 mistakes"] {
        assert!(errors.contains(part), "{errors}");
    }
    let errors = mistakes("listen = '127.0.0.1:0'\n[device.10.0.0.7]\nname = 'pump'\n");
    assert!(errors.contains("an ID with dots needs quotes"), "{errors}");
    // A wrong address causes no second error, although the default takes its place.
    let errors = mistakes("listen = 'unix:'\nmetrics = '127.0.0.1:1060'\n");
    assert!(
        errors.contains("1: listen: ") && !errors.contains("mistakes"),
        "{errors}"
    );
}

#[test]
fn a_device_that_no_connection_can_match_is_a_warning() {
    let folder = Folder::new();
    let warned = |text: &str| {
        let file = folder.write("devices.toml", text);
        let ended = run(&["check-config", file.to_str().unwrap()], b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stderr.matches("matches no connection").count()
    };
    let listen = "listen = ['127.0.0.1:0', 'unix:/tmp/x.sock']\n";
    let table = |id: &str| format!("[device.\"{id}\"]\nmax-block = 5\n");
    assert_eq!(warned(&[listen, &table("pump")].concat()), 1);
    for id in ["10.0.0.7", "unix:/tmp/x.sock"] {
        assert_eq!(warned(&[listen, &table(id)].concat()), 0, "{id}");
    }
    let by = "device-by = 'peer'\n";
    assert_eq!(warned(&[listen, by, &table("10.0.0.7:5")].concat()), 0);
    assert_eq!(warned(&[listen, by, &table("pump")].concat()), 1);
}

#[test]
fn the_files_of_a_cluster_are_checked_and_its_defaults_are_printed() {
    let folder = Folder::new();
    let empty = folder.write("empty", "\n");
    let empty = empty.to_str().unwrap();
    let table = |options: &str| {
        let to = "to = ['nats://n1:4222', 'nats://n2:4222']";
        let text = format!(
            "record = '{}'\n[[forward]]\n{to}\n{options}\n",
            folder.0.path().join("r").display()
        );
        folder.write("blocksd.toml", &text)
    };
    let cluster = "forward to nats://n1:4222,nats://n2:4222";
    for (options, reason) in [
        (
            "ca = '/nowhere/ca'",
            "ca: cannot read /nowhere/ca: No such file or directory (os error 2)",
        ),
        (
            "cert = '/nowhere/c'\nkey = '/nowhere/k'",
            "cert: cannot read /nowhere/c: No such file or directory (os error 2)",
        ),
        (
            "user = 'u'\npassword = '/nowhere/p'",
            "password: cannot read /nowhere/p: No such file or directory (os error 2)",
        ),
        (
            "token = '/nowhere/t'",
            "token: cannot read /nowhere/t: No such file or directory (os error 2)",
        ),
        (
            "nkey = '/nowhere/n'",
            "nkey: cannot read /nowhere/n: No such file or directory (os error 2)",
        ),
        (
            "credentials = '/nowhere/c'",
            "credentials: cannot read /nowhere/c: No such file or directory (os error 2)",
        ),
        (
            &format!("token = '{empty}'"),
            &format!("token: {empty}: the file is empty"),
        ),
        (
            &format!("ca = '{empty}'"),
            &format!("ca: {empty}: it has no certificate in PEM"),
        ),
    ] {
        let path = table(options);
        let path = path.to_str().unwrap();
        let line = match options.starts_with("user") {
            true => 5,
            false => 4,
        };
        let wanted = format!("blocksd: {path}:{line}: forward: {cluster}: {reason}\n");
        let ended = run(&["check-config", path], b"");
        assert_eq!(
            (ended.code, &*ended.stderr),
            (Some(2), &*wanted),
            "{ended:?}"
        );
        let ended = run(&["serve", "--config", path], b"");
        assert_eq!(
            (ended.code, &*ended.stderr),
            (Some(2), &*wanted),
            "{ended:?}"
        );
    }
    // All at once, also beside a mistake of another kind.
    let path = table("ca = '/nowhere/ca'\ntoken = '/nowhere/t'\nkeep = 'all'");
    let name = path.to_str().unwrap();
    let ended = run(&["check-config", name], b"");
    let lines: Vec<_> = ended.stderr.lines().collect();
    let begins = [
        format!("blocksd: {name}:4: forward: {cluster}: ca: cannot read"),
        format!("{name}:5: forward: {cluster}: token: cannot read"),
        format!("{name}:6: keep: "),
        format!("{name}: 3 mistakes"),
    ];
    assert_eq!(lines.len(), begins.len(), "{ended:?}");
    for (line, begin) in lines.iter().zip(&begins) {
        assert!(line.contains(begin), "{ended:?}");
    }
    let path = table("durable = 'no'");
    let name = path.to_str().unwrap();
    let ended = run(&["check-config", name], b"");
    let line = format!(
        "{cluster} stream=blocksd site=main keep=forwarded ack=recorded durable=false create=false linger=0s\n"
    );
    assert!(ended.stdout_text().contains(&line), "{ended:?}");
    let text = print(&path, &[]);
    for line in [
        format!("durable = false  # {name}:4"),
        "keep = \"forwarded\"  # default".to_owned(),
        "linger = \"0s\"  # default".to_owned(),
        "# ca is not set".to_owned(),
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
}
