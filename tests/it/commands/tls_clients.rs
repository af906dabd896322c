//! The commands over TLS, to a daemon after a relay that ends it by OpenSSL.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use blocksd_tests::process::{Ended, Process, Server, blocksd, finish, wait_until};
use blocksd_tests::recording::{BEGIN, File, STEP, put};
use blocksd_tests::recording_daemon::RecordingDaemon;
use blocksd_tests::scrape;
use blocksd_tests::session_host::RecordingHost as _;
use blocksd_tests::test_ca::{TestCa, Validity};
use blocksd_tests::tls_relay::{TlsRelay, TlsSite};
use blocksd_tests::tmux::Tmux;
use serde_json::Value;
use tempfile::TempDir;

const DEVICE: &str = "boiler-7";
/// The end of a client that is not cut off.
const ENDED: &str = "client ended by close_notify";

fn command(args: &[&str], tls: &[String]) -> Command {
    let mut command = blocksd(args);
    command.args(tls);
    command
}

#[track_caller]
fn assert_done(ended: &Ended) {
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
}

/// The texts of the messages that a daemon has printed.
fn texts(server: &mut Server, count: usize) -> Vec<String> {
    let events = server.wait_for("block", count);
    let blocks = events.iter().filter(|event| event["event"] == "block");
    let text = |event: &Value| event["text"].as_str().unwrap().to_owned();
    blocks.map(text).collect()
}

#[test]
fn messages_of_each_kind_are_sent_over_each_version() {
    let site = TlsSite::new();
    let file = site.folder.path().join("message");
    // Longer than many TLS records.
    let long = "a long message, ".repeat(20_000);
    fs::write(&file, &long).unwrap();
    for (version, options) in [
        ("TLSv1.2", &["--max", "1.2"][..]),
        ("TLSv1.3", &["--min", "1.3"]),
    ] {
        let mut server = Server::start(&["--max-block", "1MiB"]);
        let relay = site.relay(server.addr(), options);
        let to = relay.at("localhost");
        let send = ["send", "--to", &to];
        let sent = finish(command(&send, &site.trust()), b"three\nfour\n");
        assert_done(&sent);
        relay.process.line(&format!("handshake {version} "));
        relay.process.line(ENDED);
        let mut of_file = command(&send, &site.trust());
        of_file.arg("--file").arg(&file);
        assert_done(&finish(of_file, b""));
        let mut of_arguments = command(&send, &site.trust());
        of_arguments.args(["one", "two"]);
        assert_done(&finish(of_arguments, b""));
        assert_eq!(
            texts(&mut server, 5),
            ["three", "four", &long, "one", "two"]
        );
        server.stop();
    }
}

#[test]
fn a_reply_is_read_over_tls() {
    let site = TlsSite::new();
    let reply = site.folder.path().join("reply");
    fs::write(&reply, "Farewell, client").unwrap();
    let server = Server::start(&["--reply", reply.to_str().unwrap()]);
    for options in [&[][..], &["--max", "1.2"], &["--bytes", "1"]] {
        let relay = site.relay(server.addr(), options);
        // The certificate has the address as a name, too.
        for host in ["localhost", "127.0.0.1"] {
            let args = ["send", "--to", &relay.at(host), "--wait-reply", "hello"];
            let sent = finish(command(&args, &site.trust()), b"");
            assert_done(&sent);
            assert_eq!(sent.stdout_text(), "Farewell, client\n");
        }
    }
}

#[test]
fn the_cas_of_the_system_are_those_of_tls() {
    let site = TlsSite::new();
    let mut server = Server::start(&[]);
    let relay = site.relay(server.addr(), &[]);
    let args = ["send", "--to", &relay.at("localhost"), "--tls", "one"];
    let mut trusting = command(&args, &[]);
    trusting
        .env("SSL_CERT_FILE", site.ca.path())
        .env_remove("SSL_CERT_DIR");
    assert_done(&finish(trusting, b""));
    assert_eq!(texts(&mut server, 1), ["one"]);
    let others = TestCa::new(site.folder.path(), "other");
    let none = site.folder.path().join("none");
    fs::write(&none, "").unwrap();
    for (file, text) in [
        (others.path(), "is not signed by a CA of this system"),
        (none, "the system has no trusted CAs"),
    ] {
        let mut refused = command(&args, &[]);
        refused
            .env("SSL_CERT_FILE", file)
            .env_remove("SSL_CERT_DIR");
        finish(refused, b"").assert_refused(2, text);
    }
}

#[test]
fn another_name_may_be_expected() {
    let site = TlsSite::new();
    let named = site.ca.server(&["daemon.example"], Validity::Now);
    let mut server = Server::start(&[]);
    let relay = TlsRelay::start(server.addr(), &named, &[]);
    let args = ["send", "--to", &relay.at("localhost"), "one"];
    let mut sending = command(&args, &site.trust());
    sending.args(["--tls-name", "daemon.example"]);
    assert_done(&finish(sending, b""));
    assert_eq!(texts(&mut server, 1), ["one"]);
}

/// `blocksd send --session` of [`DEVICE`].
fn session(to: &str, tls: &[String], more: &[&str]) -> Command {
    let args = ["send", "--session", "--device", DEVICE, "--to", to];
    let mut command = command(&args, tls);
    command.args(more);
    command
}

#[test]
fn a_session_has_a_client_certificate_and_ends_tls() {
    let site = TlsSite::new();
    let mut host = RecordingDaemon::start();
    for (version, options) in [
        ("TLSv1.2", &["--max", "1.2"][..]),
        ("TLSv1.3", &["--min", "1.3"]),
        ("TLSv1.3", &["--bytes", "1"]),
    ] {
        let relay = site.mutual(host.address(), options);
        let to = relay.at("localhost");
        let sent = finish(session(&to, &site.identity(), &["one"]), b"");
        assert_done(&sent);
        let handshake = relay.process.line(&format!("handshake {version} "));
        assert!(handshake.ends_with(" boiler-7"), "{handshake}");
        relay.process.line(ENDED);
        let lines: String = (0..200).map(|number| format!("line {number}\n")).collect();
        assert_done(&finish(
            session(&to, &site.identity(), &[]),
            lines.as_bytes(),
        ));
    }
    let recorded = host.recorded(DEVICE);
    assert_eq!(recorded.len(), 3 * 201);
}

#[test]
fn a_session_continues_after_its_relay_was_killed() {
    let site = TlsSite::new();
    let mut host = RecordingDaemon::start();
    let relay = site.relay(host.address(), &["--cut", "60"]);
    let first = relay.at("localhost");
    // The WELCOME has 48 bytes, so each connection is cut within the answers that follow.
    let args = ["--connect-timeout", "30"];
    let mut sending = session(&first, &site.trust(), &args);
    sending.args(["one", "two"]);
    let sent = finish(sending, b"");
    // Each connection makes progress: the WELCOME acknowledges.
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert_eq!(host.recorded(DEVICE), [&b"one"[..], b"two"]);
}

/// A recording with `count` connections that are open at once, each with a message.
fn recording(count: u64) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let mut file = File::begin(None, false);
    let event = |event: &str, conn: u64, more: &str| {
        format!(r#"{{"event":"{event}","conn":{conn},"device":"d{conn}"{more}}}"#)
    };
    for conn in 1..=count {
        file.event(BEGIN, &event("open", conn, r#","peer":"10.0.0.7:4000""#));
    }
    for conn in 1..=count {
        let data = format!("message {conn}");
        file.message(
            &format!("d{conn}"),
            "blocks",
            ("blocks", "raw"),
            0,
            BEGIN + STEP,
            data.as_bytes(),
        );
    }
    for conn in 1..=count {
        let more = r#","blocks":1,"bytes":1,"reason":"eof""#;
        file.event(BEGIN + 2 * STEP, &event("close", conn, more));
    }
    let path = put(folder.path(), 1, ".mcap", &file.seal());
    (folder, path)
}

#[test]
fn a_replay_shares_the_sessions_of_its_connections() {
    let site = TlsSite::new();
    let (_folder, path) = recording(150);
    let mut server = Server::start(&[]);
    for options in [&[][..], &["--max", "1.2"]] {
        let relay = site.mutual(server.addr(), options);
        let to = relay.at("localhost");
        let args = [
            "replay",
            path.to_str().unwrap(),
            "--to",
            &to,
            "--speed",
            "max",
        ];
        let replayed = finish(command(&args, &site.identity()), b"");
        assert_eq!(replayed.code, Some(0), "{replayed:?}");
        assert!(
            replayed.stderr.contains("replayed 150 messages"),
            "{replayed:?}"
        );
        wait_until("each connection has ended", || {
            relay.process.printed_text().matches(ENDED).count() == 150
        });
        let printed = relay.process.printed_text();
        assert!(100 < printed.matches(" resumed").count(), "{printed:.2000}");
    }
    let mut received = texts(&mut server, 300);
    received.sort_unstable();
    received.dedup();
    assert_eq!(received.len(), 150);
}

#[test]
fn a_replay_that_is_cut_is_reported() {
    let site = TlsSite::new();
    let (_folder, path) = recording(3);
    let server = Server::start(&[]);
    let relay = site.relay(server.addr(), &["--no-end"]);
    let to = relay.at("localhost");
    let args = ["replay", path.to_str().unwrap(), "--to", &to];
    let replayed = finish(command(&args, &site.trust()), b"");
    assert_eq!(replayed.code, Some(1), "{replayed:?}");
    for text in ["ended without a close_notify", "of 3 of 3 connections"] {
        assert!(replayed.stderr.contains(text), "{replayed:?}");
    }
}

#[test]
fn sessions_of_a_replay_have_tls() {
    let site = TlsSite::new();
    let (_folder, path) = recording(120);
    let host = RecordingDaemon::start();
    let relay = site.mutual(host.address(), &[]);
    let to = relay.at("localhost");
    let args = ["replay", path.to_str().unwrap(), "--to", &to, "--session"];
    let replayed = finish(command(&args, &site.identity()), b"");
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    assert_eq!(host.finish().len(), 120);
}

/// A daemon with an API, one message of a device, and a relay before its API.
fn with_api(site: &TlsSite, options: &[&str]) -> (Server, TlsRelay) {
    let args = [
        "--http",
        "127.0.0.1:0",
        "--framing",
        "lines",
        "--output",
        "none",
    ];
    let server = Server::start(&args);
    server.connect().write_all(b"hello\n").unwrap();
    let http: SocketAddr = scrape::http_addr(&server);
    let relay = site.mutual(http, options);
    (server, relay)
}

#[test]
fn devices_and_tap_ask_over_https() {
    let site = TlsSite::new();
    for options in [&[][..], &["--max", "1.2"], &["--bytes", "1"]] {
        let (server, relay) = with_api(&site, options);
        let url = format!("https://{}/", relay.at("localhost"));
        wait_until("the device is listed", || {
            let listed = finish(command(&["devices", "--url", &url], &site.identity()), b"");
            assert_done(&listed);
            listed.stdout_text().contains("127.0.0.1")
        });
        let args = ["tap", "--url", &url, "--last", "0"];
        let tap = Process::start(command(&args, &site.identity()));
        let mut sender = server.connect();
        wait_until("tap prints a message", || {
            sender.write_all(b"hello, tap\n").unwrap();
            tap.printed_text().contains("hello, tap")
        });
        tap.signal("INT");
        assert_done(&tap.end());
    }
}

#[test]
fn top_asks_over_https() {
    let site = TlsSite::new();
    let (server, relay) = with_api(&site, &[]);
    let program = blocksd(&[]);
    let program = program.get_program().to_str().unwrap();
    let line = format!(
        "{program} top --url https://{} {}; echo ended=$?; cat",
        relay.at("localhost"),
        site.identity().join(" ")
    );
    let Some(tmux) = Tmux::start("top_asks_over_https", (90, 30), &line) else {
        return;
    };
    tmux.wait_for("127.0.0.1");
    assert_eq!(server.stop().0.code, Some(0));
    tmux.wait_for("LOST, trying again");
    tmux.press(&["q"]);
    tmux.wait_for("ended=0");
}

#[test]
fn a_cut_answer_is_incomplete() {
    let site = TlsSite::new();
    let reply = site.folder.path().join("reply");
    fs::write(&reply, "Farewell, client").unwrap();
    let args = ["--reply", reply.to_str().unwrap(), "--framing", "lines"];
    let server = Server::start(&args);
    let send = |relay: &TlsRelay, more: &[&str]| {
        let to = relay.at("localhost");
        let args = ["send", "--to", &to, "--framing", "lines", "hello"];
        finish(command(&[&args, more].concat(), &site.trust()), b"")
    };
    for options in [
        &["--no-end"][..],
        &["--no-end", "--max", "1.2"],
        // Within the line, and after it.
        &["--cut", "3"],
        &["--cut", "17"],
    ] {
        let relay = site.relay(server.addr(), options);
        // A peer that refuses what it has received may close so, too.
        for more in [&["--wait-reply"][..], &[]] {
            let cut = send(&relay, more);
            assert_eq!(cut.code, Some(1), "{options:?}: {cut:?}");
            assert!(
                cut.stderr.contains("ended without a close_notify"),
                "{cut:?}"
            );
        }
    }
    let relay = site.relay(server.addr(), &[]);
    assert_done(&send(&relay, &["--wait-reply"]));
}

#[test]
fn an_answer_that_says_where_it_ends_needs_no_close_notify() {
    let site = TlsSite::new();
    let reply = site.folder.path().join("reply");
    fs::write(&reply, "Farewell, client").unwrap();
    let server = Server::start(&["--reply", reply.to_str().unwrap()]);
    let relay = site.relay(server.addr(), &["--no-end"]);
    let to = relay.at("localhost");
    let args = ["send", "--to", &to, "--wait-reply", "hello"];
    let sent = finish(command(&args, &site.trust()), b"");
    assert_done(&sent);
    assert_eq!(sent.stdout_text(), "Farewell, client\n");
    // An answer of the API has a length.
    let (_server, relay) = with_api(&site, &["--cut", "60"]);
    let url = format!("https://{}", relay.at("localhost"));
    let cut = finish(command(&["devices", "--url", &url], &site.identity()), b"");
    assert_eq!(cut.code, Some(1), "{cut:?}");
    let (_server, relay) = with_api(&site, &["--no-end"]);
    let url = format!("https://{}", relay.at("localhost"));
    assert_done(&finish(
        command(&["devices", "--url", &url], &site.identity()),
        b"",
    ));
}
