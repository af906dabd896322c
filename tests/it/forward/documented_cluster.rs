//! The configuration of three servers in `docs/forwarding.md`, with its users: a daemon makes the stream with three replicas.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use blocksd_tests::code_blocks::{code_blocks, replace};
use blocksd_tests::nats::NatsVersion;
use blocksd_tests::nats_cluster::urls;
use blocksd_tests::process::{Process, run, wait_at_most};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::scrape;
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::stream::serve;

/// Number of servers.
const SERVERS: usize = 3;
/// Time within which they have elected a leader, and the message is stored.
const STORED: Duration = Duration::from_secs(90);

#[test]
fn the_documented_cluster_takes_the_recording() {
    let name = "the_documented_cluster_takes_the_recording";
    let program = match NatsVersion::Current.program() {
        Ok(program) => program,
        Err(reason) => return skipped(name, reason),
    };
    let folder = TempDir::new().expect("a folder for temporary files");
    let blocks = code_blocks("docs/forwarding.md");
    let block = |text: &str| {
        let mut found = blocks.iter().filter(|it| it.code.contains(text));
        let code = found.next().expect(text).code.clone();
        assert!(found.next().is_none(), "{text} is in two blocks");
        code
    };
    let config = format!("{}{}", block("server_name:"), block("permissions:"));
    let ports: Vec<_> = (0..SERVERS)
        .map(|_| (ReservedPort::take(), ReservedPort::take()))
        .collect();
    let servers: Vec<_> = (1..=SERVERS)
        .zip(&ports)
        .map(|(number, (clients, routes))| {
            let at = folder.path().join(format!("n{number}"));
            fs::create_dir(&at).expect("a folder");
            let own = [
                ("server_name: n1", format!("server_name: n{number}")),
                ("0.0.0.0:4222", clients.address().to_string()),
                ("0.0.0.0:6222", routes.address().to_string()),
                ("/var/lib/nats", at.join("data").display().to_string()),
            ];
            let mut config = config.clone();
            for (text, own) in own {
                config = replace(&config, text, own);
            }
            for (number, (_, routes)) in (1..=SERVERS).zip(&ports) {
                config = replace(&config, &format!("n{number}:6222"), routes.address());
            }
            start(&program, &at, &config)
        })
        .collect();
    let password = folder.path().join("nats.password");
    fs::write(&password, "s3cret\n").expect("a file");
    let to = format!(
        "{},user=plant,password={}",
        urls(ports.iter().map(|(clients, _)| clients.address())),
        password.display()
    );
    let server = serve(
        &folder.path().join("kept"),
        &format!("{to},create=true"),
        &[],
    );
    let sent = run(&["send", "--to", &server.addr().to_string(), "hello"], b"");
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let made = "made the stream (`create=true`): replicas=3 subjects=blocksd.main.>";
    let stored = "blocksd_forward_messages_total";
    wait_at_most(STORED, "the message is in the stream", || {
        let page = scrape::get(scrape::addr(&server), "/metrics");
        let samples = scrape::samples(&page.body);
        samples
            .iter()
            .any(|(name, count)| name.starts_with(stored) && 0.0 < *count)
    });
    let (ended, _) = server.stop();
    assert!(ended.stderr.contains(made), "{ended:?}");
    drop(servers);
}

/// Starts a server with a configuration in a folder.
#[track_caller]
fn start(program: &Path, folder: &Path, config: &str) -> Process {
    let path = folder.join("nats.conf");
    fs::write(&path, config).expect("a file");
    let mut command = Command::new(program);
    command.arg("-c").arg(path);
    Process::start(command)
}
