//! Files that come with the daemon: manual pages, completions, and systemd units.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use blocksd_tests::process::{Server, run};
use blocksd_tests::scrape::{addr, get};
use tempfile::TempDir;

/// All commands, as `blocksd --help` names them.
fn commands() -> Vec<String> {
    let help = run(&["--help"], b"").stdout_text();
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    // Continuations of long lines are indented further.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.map(String::from).collect()
}

/// Options of `serve` in its help. Their descriptions are indented further.
fn options() -> Vec<String> {
    let help = run(&["serve", "--help"], b"").stdout_text();
    let lines = help.lines();
    let lines = lines.filter_map(|line| line.strip_prefix("      --"));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.map(String::from).collect()
}

#[test]
fn completions_of_every_shell_name_every_command_and_option() {
    let (commands, options) = (commands(), options());
    assert!(commands.contains(&"serve".to_owned()), "{commands:?}");
    assert!(options.contains(&"max-block".to_owned()), "{options:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(&["completions", shell], b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let text = ended.stdout_text();
        for word in commands.iter().chain(&options) {
            assert!(text.contains(word), "{shell}: {word} is missing");
        }
    }
    run(&["completions", "csh"], b"").assert_refused(2, "csh");
}

#[test]
fn the_manual_names_every_command_and_each_has_a_page() {
    let page = |args: &[&str]| {
        let ended = run(args, b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // In roff, a literal hyphen is escaped.
        ended.stdout_text().replace('\\', "")
    };
    let program = page(&["man"]);
    assert!(program.contains(".TH blocksd 1"), "{program}");
    for command in commands().iter().filter(|command| *command != "help") {
        assert!(
            program.contains(&format!("blocksd-{command}(1)")),
            "{command}: {program}"
        );
        let text = page(&["man", command]);
        assert!(text.contains(&format!(".TH blocksd-{command} 1")), "{text}");
    }
    let serve = page(&["man", "serve"]);
    for option in options() {
        assert!(serve.contains(&format!("--{option}")), "{option}: {serve}");
    }
    run(&["man", "bogus"], b"").assert_refused(
        2,
        "unknown command `bogus`; `blocksd --help` lists the commands",
    );
    // All pages at once, into a folder that the command creates.
    let folder = TempDir::new().unwrap();
    let pages = folder.path().join("man/man1");
    let written = run(&["man", "--dir", pages.to_str().unwrap()], b"");
    assert_eq!(written.code, Some(0), "{written:?}");
    for command in commands().iter().filter(|command| *command != "help") {
        let text = fs::read_to_string(pages.join(format!("blocksd-{command}.1")));
        assert_eq!(text.unwrap(), run(&["man", command], b"").stdout_text());
    }
    let text = fs::read_to_string(pages.join("blocksd.1")).unwrap();
    assert_eq!(text, run(&["man"], b"").stdout_text());
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let refused = run(&["man", "--dir", file.to_str().unwrap()], b"");
    refused.assert_refused(2, "cannot write");
}

#[test]
fn the_unit_starts_an_existing_command() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-daemon/systemd/blocksd.service");
    let unit = fs::read_to_string(unit).unwrap();
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let (program, words) = start.unwrap().split_once(" serve ").unwrap();
    assert!(program.ends_with("/blocksd"), "{program}");
    let options = options();
    for word in words.split(' ').filter_map(|word| word.strip_prefix("--")) {
        assert!(options.iter().any(|option| option == word), "--{word}");
    }
    // Only the file decides where it records and listens.
    assert_eq!(words, "--config /etc/blocksd.toml");
    for line in [
        "StartLimitIntervalSec=0",
        "Restart=on-failure",
        "RestartPreventExitStatus=2",
        "RuntimeDirectory=blocksd",
    ] {
        assert!(unit.contains(&format!("\n{line}\n")), "{line}");
    }
    // The unit waits for notifications that the daemon sends.
    assert!(unit.contains("\nType=notify\n") && unit.contains("\nWatchdogSec="));
}

#[test]
fn the_socket_unit_can_be_named_in_a_config() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-daemon/systemd");
    let socket = fs::read_to_string(units.join("blocksd.socket")).unwrap();
    let name = socket
        .lines()
        .find_map(|line| line.strip_prefix("FileDescriptorName="))
        .unwrap();
    let listen = format!("systemd:{name},framing=lines");
    assert!(socket.contains(&format!("[\"{listen}\"]")), "{socket}");
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("blocksd.toml");
    fs::write(&config, format!("listen = [\"systemd\", \"{listen}\"]")).unwrap();
    let ended = run(&["check-config", config.to_str().unwrap()], b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// Nobody can build the image here, so its command is run without it.
#[test]
fn the_command_of_the_container_runs_and_is_healthy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = fs::read_to_string(root.join("Dockerfile")).unwrap();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let version = manifest
        .split("rust-version = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    assert!(file.contains(&format!("FROM rust:{}-", version.unwrap())));
    let command = file.lines().find_map(|line| line.strip_prefix("CMD "));
    let args: Vec<String> = serde_json::from_str(command.unwrap()).unwrap();
    let folder = TempDir::new().unwrap();
    let folder = folder.path().to_str().unwrap();
    let args = args.iter().skip(1).map(|arg| match &**arg {
        "[::]:1060" | "[::]:9106" => "[::]:0",
        "/var/lib/blocksd" => folder,
        other => other,
    });
    let args: Vec<_> = args.collect();
    assert_eq!(args.iter().filter(|&&arg| arg == "[::]:0").count(), 2);
    let server = Server::start(&args);
    let health = file.split("http://127.0.0.1:9106").nth(1).unwrap();
    let health = health.split('"').next().unwrap();
    let mut metrics = addr(&server);
    metrics.set_ip(Ipv4Addr::LOCALHOST.into());
    assert_eq!(get(metrics, health).status, 200);
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
