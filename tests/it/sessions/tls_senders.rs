//! The senders of `docs/send-from` over mutual TLS: delivery across a restart of the daemon, and refusals by either side.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;

use blocksd_tests::pki::{Fleet, Issue};
use blocksd_tests::process::{Ended, Process, wait_until};
use blocksd_tests::recording_daemon::RecordingDaemon;
use blocksd_tests::session_host::RecordingHost;

use super::languages::SenderProgram;
use super::peer_host::PeerHost as _;
use super::senders::messages;

/// The device id.
const DEVICE: &str = "device-1";
/// The file of a configuration of OpenSSL without TLS 1.3.
const OLD: &str = "old.cnf";
const OLD_TEXT: &str = "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = default\n\
    [default]\nMaxProtocol = TLSv1.2\n";
/// Messages of a test.
const MESSAGES: usize = 400;

/// Files and names of a connection.
#[derive(Clone, Copy, Debug)]
struct Tls<'a> {
    ca: &'a Path,
    /// The certificate and the key are `FILE.pem` and `FILE.key` of the fleet.
    file: Option<&'a str>,
    /// The host of the address.
    host: &'a str,
    /// The expected name, if that is not the host.
    name: Option<&'a str>,
    /// The longest wait between two attempts; after a refusal it is ten times as long.
    backoff_ms: u32,
    timeout_s: u32,
    /// A configuration of OpenSSL.
    config: Option<&'a str>,
}

/// Runs `check` with each program, at the same time.
#[track_caller]
fn each(name: &str, check: impl Fn(&SenderProgram) + Sync) {
    let check = &check;
    thread::scope(|scope| {
        for program in SenderProgram::all_with_tls(name) {
            scope.spawn(move || check(program));
        }
    });
}

/// Starts a sender.
fn start(program: &SenderProgram, fleet: &Fleet, to: SocketAddr, tls: Tls<'_>) -> Process {
    let (mut command, names) = program.send_tls(tls.timeout_s, tls.backoff_ms);
    command.arg(names[0]).arg(tls.ca);
    if let Some(file) = tls.file {
        command
            .arg(names[1])
            .arg(fleet.path(&format!("{file}.pem")));
        command
            .arg(names[2])
            .arg(fleet.path(&format!("{file}.key")));
    }
    if let Some(name) = tls.name {
        command.args([names[3], name]);
    }
    command.envs(tls.config.map(|it| ("OPENSSL_CONF", fleet.path(it))));
    if tls.config == Some(OLD) {
        program.without_tls_1_3(&mut command);
    }
    command
        .arg(format!("{}:{}", tls.host, to.port()))
        .arg(DEVICE);
    Process::start(command)
}

impl<'a> Tls<'a> {
    /// The options that connect.
    fn good(ca: &'a Path) -> Self {
        Self {
            ca,
            file: Some(DEVICE),
            host: "localhost",
            name: None,
            backoff_ms: 100,
            timeout_s: 60,
            config: None,
        }
    }

    /// With waits after which a second attempt fits into the time, unless the sender waits for as long as after a refusal.
    fn refused(self) -> Self {
        Self {
            backoff_ms: 12_000,
            timeout_s: 4,
            ..self
        }
    }
}

/// A fleet with a device, a revoked one, and one of another authority.
fn fleet() -> (Fleet, Fleet) {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    fleet.device(DEVICE);
    let revoked = Issue {
        serial: 77,
        ..Issue::named(DEVICE)
    };
    fleet.issue("revoked", &revoked);
    fleet.revoke(&[77], 2090);
    other.device(DEVICE);
    fleet.write(OLD, OLD_TEXT);
    for end in ["pem", "key"] {
        let content = std::fs::read_to_string(other.path(&format!("{DEVICE}.{end}"))).unwrap();
        fleet.write(&format!("foreign.{end}"), &content);
    }
    (fleet, other)
}

fn host(fleet: &Fleet, more: &str) -> RecordingDaemon {
    let list = fleet.path("crl.pem");
    RecordingDaemon::listening(|address| {
        let options = format!(",tls-crl={}{more}", list.display());
        fleet.listen(address, &options)
    })
}

fn lines(messages: &[String]) -> Vec<u8> {
    (messages.join("\n") + "\n").into_bytes()
}

/// Asserts that the sender gave up after one attempt, and said why.
#[track_caller]
fn assert_refused(ended: &Ended, whys: &[&str]) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let count = ended.stderr.matches("refuses").count();
    assert_eq!(count, 1, "{ended:?}");
    assert!(whys.iter().any(|it| ended.stderr.contains(it)), "{ended:?}");
}

#[test]
fn each_message_is_recorded_once_over_tls_across_a_kill_of_the_daemon() {
    let name = "each_message_is_recorded_once_over_tls_across_a_kill_of_the_daemon";
    let (fleet, _) = fleet();
    each(name, |sender| {
        let mut host = host(&fleet, "");
        let sent = messages(MESSAGES);
        let (before, after) = sent.split_at(MESSAGES / 2);
        let ca = fleet.path("ca.pem");
        let mut sending = start(
            sender,
            &fleet,
            RecordingHost::address(&host),
            Tls::good(&ca),
        );
        sending.write_part(&lines(before));
        wait_until("a part is recorded", || {
            host.recorded(DEVICE).len() >= MESSAGES / 4
        });
        RecordingHost::restart(&mut host);
        sending.write(&lines(after));
        let ended = sending.end();
        assert_eq!(ended.code, Some(0), "{}: {ended:?}", sender.name);
        let recorded = host.end();
        recorded.assert_once(&sent);
        assert_eq!(recorded.sessions().len(), 1);
    });
}

/// Messages that are longer than a record, in both versions, to a host that is named by its address.
#[test]
fn long_messages_are_recorded_once_over_tls() {
    let name = "long_messages_are_recorded_once_over_tls";
    let (fleet, _) = fleet();
    let ca = fleet.path("ca.pem");
    let sent: Vec<_> = (0..300)
        .map(|it| format!("{it} {}", "x".repeat(it * 50)))
        .collect();
    each(name, |sender| {
        for (config, more) in [(Some(OLD), ""), (None, ",tls-min=1.3")] {
            let host = host(&fleet, more);
            let tls = Tls {
                host: "127.0.0.1",
                config,
                ..Tls::good(&ca)
            };
            let mut sending = start(sender, &fleet, RecordingHost::address(&host), tls);
            sending.write(&lines(&sent));
            let ended = sending.end();
            assert_eq!(ended.code, Some(0), "{}: {ended:?}", sender.name);
            assert_eq!(ended.stderr, "", "{}", sender.name);
            host.end().assert_once(&sent);
        }
    });
}

#[test]
fn a_sender_that_the_host_refuses_reports_it_and_waits_long() {
    let name = "a_sender_that_the_host_refuses_reports_it_and_waits_long";
    let (fleet, _) = fleet();
    let ca = fleet.path("ca.pem");
    each(name, |sender| {
        let host = host(&fleet, "");
        for (file, whys) in [
            (Some("revoked"), &["revoked"][..]),
            // The authorities have the same name, so the signature is wrong.
            (
                Some("foreign"),
                &["decrypt error", "unknown ca", "error decrypting"],
            ),
            (None, &["certificate required"]),
        ] {
            let tls = Tls {
                file,
                ..Tls::good(&ca).refused()
            };
            let mut sending = start(sender, &fleet, RecordingHost::address(&host), tls);
            sending.write(&lines(&messages(MESSAGES)));
            assert_refused(&sending.end(), whys);
        }
        assert_eq!(host.finish(), []);
    });
}

#[test]
fn a_sender_without_the_version_of_the_host_reports_it_and_waits_long() {
    let name = "a_sender_without_the_version_of_the_host_reports_it_and_waits_long";
    let (fleet, _) = fleet();
    let ca = fleet.path("ca.pem");
    each(name, |sender| {
        let host = host(&fleet, ",tls-min=1.3");
        let tls = Tls {
            config: Some(OLD),
            ..Tls::good(&ca).refused()
        };
        let mut sending = start(sender, &fleet, RecordingHost::address(&host), tls);
        sending.write(&lines(&messages(1)));
        assert_refused(&sending.end(), &["protocol version"]);
        assert_eq!(host.finish(), []);
    });
}

#[test]
fn a_sender_refuses_a_host_of_another_authority_or_name() {
    let name = "a_sender_refuses_a_host_of_another_authority_or_name";
    let (fleet, other) = fleet();
    let (ca, other_ca) = (fleet.path("ca.pem"), other.path("ca.pem"));
    each(name, |sender| {
        let host = host(&fleet, "");
        let good = Tls::good(&ca).refused();
        let authority = Tls {
            ca: &other_ca,
            ..good
        };
        let dns = Tls {
            name: Some("other.example"),
            ..good
        };
        let address = Tls {
            name: Some("127.0.0.2"),
            ..good
        };
        let whys = ["verify failed", "certificate", "ismatch"];
        for tls in [authority, dns, address] {
            let mut sending = start(sender, &fleet, RecordingHost::address(&host), tls);
            sending.write(&lines(&messages(1)));
            assert_refused(&sending.end(), &whys);
        }
        assert_eq!(host.finish(), []);
    });
}

#[test]
fn messages_share_records_and_close_notify_ends_them() {
    let name = "messages_share_records_and_close_notify_ends_them";
    let (fleet, _) = fleet();
    let ca = fleet.path("ca.pem");
    let sent = messages(2000);
    each(name, |sender| {
        let host = RecordingDaemon::start();
        let mut command = Command::new("python3");
        command.args(["-B", "peers/tls_records.py"]);
        command.arg(fleet.folder());
        command.arg(RecordingHost::address(&host).port().to_string());
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        let relay = Process::start(command);
        let port = relay.line("listening ");
        let port = port.rsplit(' ').next().unwrap().trim().parse().unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let mut sending = start(sender, &fleet, to, Tls::good(&ca));
        // The sender connects while it reads, so most messages wait for the handshake.
        sending.write(&lines(&sent));
        assert_eq!(sending.end().code, Some(0), "{}", sender.name);
        let records = relay.line("records ");
        let words: Vec<_> = records.split_whitespace().collect();
        let count: usize = words[1].parse().unwrap();
        assert!(count < sent.len() / 4, "{}: {records}", sender.name);
        let is_notified = words[2] == "close_notify";
        assert_eq!(
            is_notified, sender.sends_close_notify,
            "{}: {records}",
            sender.name
        );
        host.end().assert_once(&sent);
    });
}
