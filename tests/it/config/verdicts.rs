//! `check-config` has the same verdict and exit code as `serve`, on the same machine, with the same file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use blocksd_tests::process::{blocksd, finish};
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

/// A shell script that prepares the folder, the configuration, and the exit code of both commands.
const CASES: &[(&str, &str, i32)] = &[
    ("", "listen = \"127.0.0.1:0\"", 0),
    // Sockets in the file system.
    ("", "listen = \"unix:s.sock\"", 0),
    ("mkdir d", "listen = \"unix:d/s.sock\"", 0),
    ("mkdir d", "listen = \"unix:d\"", 2),
    ("mkdir d", "listen = \"unix:d/\"", 2),
    ("", "listen = \"unix:new/\"", 2),
    ("", "listen = \"unix:new/.\"", 2),
    ("", "listen = \"unix:.\"", 2),
    ("", "listen = \"unix:..\"", 2),
    ("mkdir d", "listen = \"unix:d/..\"", 2),
    ("mkdir d", "listen = \"unix:d/../s.sock\"", 0),
    ("", "listen = \"unix:d/../s.sock\"", 75),
    ("", "listen = \"unix:new/s.sock\"", 75),
    ("", "listen = \"unix:new/sub/s.sock\"", 75),
    ("touch f", "listen = \"unix:f\"", 2),
    ("touch f", "listen = \"unix:f/s.sock\"", 2),
    ("touch f", "listen = \"unix:f/..\"", 2),
    ("mkfifo f", "listen = \"unix:f\"", 2),
    ("mkfifo f", "listen = \"unix:f/s.sock\"", 2),
    ("ln -s nowhere l", "listen = \"unix:l\"", 2),
    ("ln -s l l", "listen = \"unix:l\"", 2),
    ("ln -s l l", "listen = \"unix:l/s.sock\"", 2),
    ("ln -s nowhere l", "listen = \"unix:l/s.sock\"", 75),
    ("mkdir d; ln -s d l", "listen = \"unix:l/s.sock\"", 0),
    (
        "mkdir d; ln -s d l",
        "listen = [\"unix:l/s.sock\", \"unix:d/s.sock\"]",
        2,
    ),
    // A missing interface, and one that does not exist.
    ("", "listen = \"[fe80::1]:0\"", 2),
    ("", "listen = \"[fe80::1%blocksd9]:0\"", 75),
    ("", "metrics = \"[fe80::1]:0\"\nlisten = \"127.0.0.1:0\"", 2),
    // Folders of recordings.
    ("", "listen = \"127.0.0.1:0\"\nrecord = \"rec\"", 0),
    ("", "listen = \"127.0.0.1:0\"\nrecord = \"a/b/c\"", 0),
    ("", "listen = \"127.0.0.1:0\"\nrecord = \"rec/\"", 0),
    ("", "listen = \"127.0.0.1:0\"\nrecord = \".\"", 0),
    ("", "listen = \"127.0.0.1:0\"\nrecord = \"a/../b\"", 0),
    ("touch f", "listen = \"127.0.0.1:0\"\nrecord = \"f\"", 2),
    ("touch f", "listen = \"127.0.0.1:0\"\nrecord = \"f/\"", 2),
    ("touch f", "listen = \"127.0.0.1:0\"\nrecord = \"f/rec\"", 2),
    (
        "touch f",
        "listen = \"127.0.0.1:0\"\nrecord = \"f/a/rec\"",
        2,
    ),
    ("mkfifo f", "listen = \"127.0.0.1:0\"\nrecord = \"f\"", 2),
    (
        "mkfifo f",
        "listen = \"127.0.0.1:0\"\nrecord = \"f/rec\"",
        2,
    ),
    (
        "ln -s nowhere l",
        "listen = \"127.0.0.1:0\"\nrecord = \"l\"",
        75,
    ),
    (
        "ln -s nowhere l",
        "listen = \"127.0.0.1:0\"\nrecord = \"l/rec\"",
        75,
    ),
    ("ln -s l l", "listen = \"127.0.0.1:0\"\nrecord = \"l\"", 2),
    (
        "ln -s l l",
        "listen = \"127.0.0.1:0\"\nrecord = \"l/rec\"",
        2,
    ),
    (
        "mkdir d; ln -s d l",
        "listen = \"127.0.0.1:0\"\nrecord = \"l\"",
        0,
    ),
    (
        "mkdir d; ln -s d l",
        "listen = \"127.0.0.1:0\"\nrecord = \"l/rec\"",
        0,
    ),
    ("", "listen = \"127.0.0.1:0\"\nrecord = \"/proc/rec\"", 75),
    ("", "listen = \"127.0.0.1:0\"\nrecord = \"/dev/null\"", 2),
    // Files in place of the lock.
    (
        "mkdir rec; touch rec/blocksd.lock",
        "listen = \"127.0.0.1:0\"\nrecord = \"rec\"",
        0,
    ),
    (
        "mkdir rec; mkfifo rec/blocksd.lock",
        "listen = \"127.0.0.1:0\"\nrecord = \"rec\"",
        2,
    ),
    (
        "mkdir -p rec/blocksd.lock",
        "listen = \"127.0.0.1:0\"\nrecord = \"rec\"",
        2,
    ),
    (
        "mkdir rec; ln -s blocksd.lock rec/blocksd.lock",
        "listen = \"127.0.0.1:0\"\nrecord = \"rec\"",
        2,
    ),
    (
        "mkdir rec; ln -s /dev/null rec/blocksd.lock",
        "listen = \"127.0.0.1:0\"\nrecord = \"rec\"",
        2,
    ),
    (
        "mkdir rec; ln -s ../nowhere/lock rec/blocksd.lock",
        "listen = \"127.0.0.1:0\"\nrecord = \"rec\"",
        2,
    ),
    // A socket in a folder that the recording creates, or in place of that folder.
    ("", "listen = \"unix:rec/s.sock\"\nrecord = \"rec\"", 0),
    ("", "listen = \"unix:a/s.sock\"\nrecord = \"a/rec\"", 0),
    ("", "listen = \"unix:./a/./s.sock\"\nrecord = \"a//rec\"", 0),
    ("", "listen = \"unix:rec/../s.sock\"\nrecord = \"rec\"", 0),
    ("", "listen = \"unix:rec/sub/s.sock\"\nrecord = \"rec\"", 75),
    (
        "",
        "listen = \"unix:rec/sub/../s.sock\"\nrecord = \"rec\"",
        75,
    ),
    ("", "listen = \"unix:rec\"\nrecord = \"rec\"", 2),
    ("", "listen = \"unix:a\"\nrecord = \"a/rec\"", 2),
    (
        "",
        "listen = \"unix:rec/blocksd.lock\"\nrecord = \"rec\"",
        2,
    ),
    (
        "mkdir rec",
        "listen = \"unix:rec/s.sock\"\nrecord = \"rec\"",
        0,
    ),
    ("mkdir rec", "listen = \"unix:rec\"\nrecord = \"rec\"", 2),
    (
        "mkdir rec",
        "listen = \"unix:rec/blocksd.lock\"\nrecord = \"rec\"",
        2,
    ),
    (
        "mkdir d; ln -s d l",
        "listen = \"unix:d/rec/s.sock\"\nrecord = \"l/rec\"",
        0,
    ),
    (
        "mkdir d; ln -s d l",
        "listen = \"unix:d/rec\"\nrecord = \"l/rec\"",
        2,
    ),
    ("", "listen = \"unix:s.sock\"\nrecord = \"s.sock/rec\"", 2),
    // The network.
    ("", "listen = \"no-such-host.invalid:1060\"", 75),
    (
        "",
        "listen = \"127.0.0.1:0\"\nmetrics = \"no-such-host.invalid:0\"",
        75,
    ),
    ("", "listen = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"", 0),
    ("", "listen = \"127.0.0.1:0\"\nmetrics = \"unix:m.sock\"", 2),
    ("", "listen = [\"127.0.0.1:1061\", \"[::]:1061\"]", 2),
    ("", "listen = [\"localhost:0\", \"[::1]:0\"]", 0),
    (
        "",
        "listen = [\"localhost:1061\", \"0.0.0.0:1061\", \"[::]:1061\"]",
        2,
    ),
    ("", "listen = [\"127.0.0.1:1061\", \"127.0.0.1:1061\"]", 2),
    (
        "",
        "listen = \"127.0.0.1:1061\"\nmetrics = \"127.0.0.1:1061\"",
        2,
    ),
    (
        "",
        "listen = \"127.0.0.1:1061\"\nmetrics = \"[::]:1061\"",
        2,
    ),
    ("", "listen = \"127.0.0.1:0\"\nmetrics = \"9100\"", 2),
    ("", "listen = \"127.0.0.1:0\"\nmetrics = \":9100\"", 2),
    ("", "listen = \"::1:9\"", 2),
    ("", "listen = \"[::1]\"", 2),
    ("", "listen = \"127.0.0.1:65536\"", 2),
    ("", "listen = \"127.0.0.1\"", 2),
    ("", "listen = \"127.0.0.1:0\"\nkeepalive = 40000", 2),
    ("", "listen = 127.0.0.1:0", 2),
    ("", "[serve]\nlisten = \"127.0.0.1:0\"", 2),
    (
        "",
        "listen = \"127.0.0.1:0\"\n[device.x]\nmatch = [\"300.0.0.1\"]",
        2,
    ),
    // Addresses that are not on this machine.
    ("", "listen = \"192.0.2.1:0\"", 75),
    ("", "listen = \"[2001:db8::1]:0\"", 75),
    (
        "",
        "listen = \"127.0.0.1:0\"\nmetrics = \"192.0.2.1:0\"",
        75,
    ),
    ("", "listen = \"127.9.8.7:0\"", 0),
    // Other lines and files.
    ("", "listen = \"serial:/dev/ttyX9\"", 0),
    ("", "listen = [\"serial:x\", \"unix:x\"]", 2),
    ("", "listen = [\"serial:./x\", \"serial:x?baud=9600\"]", 2),
    ("", "listen = \"127.0.0.1:0\"\nreply = \"file:nowhere\"", 2),
    ("mkdir d", "listen = \"127.0.0.1:0\"\nreply = \"file:d\"", 2),
    (
        "mkfifo f",
        "listen = \"127.0.0.1:0\"\nreply = \"file:f\"",
        2,
    ),
    (
        "",
        "listen = \"127.0.0.1:0\"\ndecode = \"defmt:nowhere\"",
        2,
    ),
    (
        "mkdir d",
        "listen = \"127.0.0.1:0\"\ndecode = \"defmt:d\"",
        0,
    ),
    (
        "mkdir d; mkfifo d/f; echo text > d/t; ln -s /dev/zero d/z",
        "listen = \"127.0.0.1:0\"\ndecode = \"defmt:d\"",
        0,
    ),
    (
        "mkfifo f",
        "listen = \"127.0.0.1:0\"\ndecode = \"defmt:f\"",
        2,
    ),
];

/// Cases for a user that owns no files, in a folder that everybody may write to.
const CASES_OF_NOBODY: &[(&str, &str, i32)] = &[
    // Ports that need a privilege.
    ("", "listen = \"127.0.0.1:81\"", 2),
    ("", "listen = \"0.0.0.0:81\"", 2),
    ("", "listen = \"[::1]:81\"", 2),
    ("", "listen = \"192.0.2.1:81\"", 75),
    (
        "",
        "listen = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:81\"",
        2,
    ),
    ("", "listen = \"127.0.0.1:0\"\nrecord = \"rec\"", 0),
    (
        "mkdir -m 777 rec",
        "listen = \"127.0.0.1:0\"\nrecord = \"rec\"",
        0,
    ),
    (
        "mkdir -m 755 rec",
        "listen = \"127.0.0.1:0\"\nrecord = \"rec\"",
        2,
    ),
    (
        "mkdir -m 700 d",
        "listen = \"127.0.0.1:0\"\nrecord = \"d/rec\"",
        2,
    ),
    // Writable, but not readable.
    (
        "mkdir -m 733 rec",
        "listen = \"127.0.0.1:0\"\nrecord = \"rec\"",
        2,
    ),
    (
        "mkdir -m 733 d",
        "listen = \"127.0.0.1:0\"\nrecord = \"d/rec\"",
        0,
    ),
    (
        "mkdir -m 777 rec; touch rec/blocksd.lock",
        "listen = \"127.0.0.1:0\"\nrecord = \"rec\"",
        2,
    ),
    ("mkdir -m 700 d", "listen = \"unix:d/s.sock\"", 2),
    ("mkdir -m 755 d", "listen = \"unix:d/s.sock\"", 2),
    ("mkdir -m 733 d", "listen = \"unix:d/s.sock\"", 0),
    (
        "touch f; chmod 000 f",
        "listen = \"127.0.0.1:0\"\nreply = \"f\"",
        2,
    ),
    (
        "touch f; chmod 000 f",
        "listen = \"127.0.0.1:0\"\ndecode = \"defmt:f\"",
        2,
    ),
    (
        "mkdir d; chmod 000 d",
        "listen = \"127.0.0.1:0\"\ndecode = \"defmt:d\"",
        2,
    ),
];

#[test]
fn check_config_and_serve_agree() {
    assert_agree(CASES, &[]);
    // A path that no socket can have.
    let config = format!("listen = \"unix:{}\"", "y".repeat(150));
    assert_agree(&[("", &config, 2)], &[]);
    // Names that no file system accepts, alone and in a folder that is to be created.
    let long = "y".repeat(300);
    for record in [
        long.clone(),
        format!("a/{long}"),
        format!("a/b/../{long}/c"),
    ] {
        let config = format!("listen = \"127.0.0.1:0\"\nrecord = \"{record}\"");
        assert_agree(&[("", &config, 2)], &[]);
    }
}

#[test]
fn check_config_and_serve_agree_for_a_user_that_owns_nothing() {
    let nobody = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
    ];
    let (code, reason) = verdict("", "", &nobody, &["--version"]);
    if code != Some(0) {
        skipped(
            "check_config_and_serve_agree_for_a_user_that_owns_nothing",
            format!("this user cannot become another: {reason}"),
        );
        return;
    }
    assert_agree(CASES_OF_NOBODY, &nobody);
}

#[track_caller]
fn assert_agree(cases: &[(&str, &str, i32)], prefix: &[&str]) {
    let mut wrong = Vec::new();
    for (script, config, want) in cases {
        let checked = verdict(script, config, prefix, &["check-config", "blocksd.toml"]);
        let served = verdict(
            script,
            config,
            prefix,
            &[
                "serve",
                "--config",
                "blocksd.toml",
                "--output",
                "none",
                "--for",
                "50ms",
            ],
        );
        if checked.0 != Some(*want) || served != checked {
            wrong.push(format!(
                "after `{script}`, {config:?}: want {want}, check-config {checked:?}, serve {served:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The exit code of a command in a fresh folder, and its errors.
fn verdict(script: &str, config: &str, prefix: &[&str], args: &[&str]) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(folder.path(), all).unwrap();
    let mut shell = Command::new("sh");
    let made = shell
        .current_dir(folder.path())
        .args(["-ec", script])
        .status();
    assert!(made.unwrap().success(), "{script}");
    fs::write(folder.path().join("blocksd.toml"), config).unwrap();
    // A command that hangs ends with 124.
    let words = [prefix, &["timeout", "10"]].concat();
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .arg(blocksd(&[]).get_program())
        .args(args);
    command.current_dir(folder.path());
    let ended = finish(command, b"");
    // The errors, without the reports of a daemon that has started.
    let is_error = |line: &&str| line.starts_with("blocksd: ");
    let errors: Vec<_> = ended.stderr.lines().filter(is_error).collect();
    (ended.code, errors.join("\n"))
}
