//! The commands over TLS to the TLS of the daemon itself.

use std::fs;
use std::process::Command;

use blocksd_tests::process::{Process, Server, blocksd, finish, wait_until};
use blocksd_tests::recording_daemon::recording_args;
use blocksd_tests::scrape;
use blocksd_tests::test_ca::{TestCa, Validity};
use blocksd_tests::tls_relay::TlsSite;
use tempfile::TempDir;

fn command(args: &[&str], tls: &[String]) -> Command {
    let mut command = blocksd(args);
    command.args(tls);
    command
}

/// The option of a listener that requires certificates of the site.
fn listener(site: &TlsSite, more: &str) -> String {
    format!(
        "127.0.0.1:0,tls-cert={},tls-key={},tls-ca={}{more}",
        site.server.cert(),
        site.server.key(),
        site.ca.text()
    )
}

#[test]
fn messages_and_replies_pass_the_listener() {
    let site = TlsSite::new();
    let reply = site.folder.path().join("reply");
    fs::write(&reply, "Farewell, client").unwrap();
    for framing in ["blocks", "lines"] {
        let listen = listener(&site, "");
        let args = ["--listen", &listen, "--framing", framing, "--reply"];
        let mut server = Server::start(&[&args[..], &[reply.to_str().unwrap()]].concat());
        let to = format!("localhost:{}", server.addr().port());
        let send = ["send", "--to", &to, "--framing", framing, "one"];
        let sent = finish(command(&send, &site.identity()), b"");
        assert_eq!((sent.code, &*sent.stderr), (Some(0), ""), "{sent:?}");
        // The daemon ends its answer with a close_notify.
        let mut asking = command(&send, &site.identity());
        asking.arg("--wait-reply");
        let sent = finish(asking, b"");
        assert_eq!((sent.code, &*sent.stderr), (Some(0), ""), "{sent:?}");
        assert_eq!(sent.stdout_text(), "Farewell, client\n");
        let events = server.wait_for("close", 2);
        let closed = events.iter().filter(|event| event["event"] == "close");
        for close in closed {
            assert_eq!(close["device"], "boiler-7", "{close}");
            assert!(
                ["eof", "end"].contains(&close["reason"].as_str().unwrap()),
                "{close}"
            );
        }
        assert_eq!(server.stop().0.code, Some(0));
    }
}

#[test]
fn sessions_and_replays_pass_the_listener() {
    let site = TlsSite::new();
    let folder = TempDir::new().unwrap();
    let listen = listener(&site, "");
    let server = Server::start(&recording_args(folder.path(), &["--listen", &listen]));
    let to = format!("localhost:{}", server.addr().port());
    let args = [
        "send",
        "--session",
        "--device",
        "boiler-7",
        "--to",
        &to,
        "one",
        "two",
    ];
    let sent = finish(command(&args, &site.identity()), b"");
    assert_eq!((sent.code, &*sent.stderr), (Some(0), ""), "{sent:?}");
    assert_eq!(server.stop().0.code, Some(0));

    let copy = TempDir::new().unwrap();
    let server = Server::start(&recording_args(copy.path(), &["--listen", &listen]));
    let to = format!("localhost:{}", server.addr().port());
    let recorded = folder.path().to_str().unwrap();
    for more in [&[][..], &["--session"]] {
        let args = [&["replay", recorded, "--to", &to, "--speed", "max"], more].concat();
        let replayed = finish(command(&args, &site.identity()), b"");
        assert_eq!(replayed.code, Some(0), "{replayed:?}");
        assert!(
            replayed.stderr.contains("replayed 2 messages"),
            "{replayed:?}"
        );
    }
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn refusals_of_the_listener_are_named() {
    let site = TlsSite::new();
    let other = TestCa::new(site.folder.path(), "other");
    let allowed = site.folder.path().join("allowed");
    fs::write(&allowed, "pump-*\n").unwrap();
    let list = site.ca.revoke_clients();
    let with = |options: Vec<String>| [site.trust(), options].concat();
    let foreign = other.client("boiler-7", Validity::Now).options();
    let expired = site.ca.client("old", Validity::Past).options();
    for version in ["1.2", "1.3"] {
        let min = format!(",tls-min={version}");
        let allow = format!("{min},tls-allow={}", allowed.display());
        let revoked = format!("{min},tls-crl={}", list.display());
        for (more, options, want) in [
            (&min, site.trust(), "it requires a client certificate"),
            (
                &min,
                with(foreign.clone()),
                "it does not trust the CA of the client certificate",
            ),
            (
                &min,
                with(expired.clone()),
                "has expired, or is not valid yet",
            ),
            (&revoked, site.identity(), "is revoked; use another one"),
            (
                &allow,
                site.identity(),
                "is not permitted there; permit its name at the server",
            ),
        ] {
            let server = Server::start(&["--listen", &listener(&site, more)]);
            let to = format!("localhost:{}", server.addr().port());
            for args in [
                &["send", "--to", &to, "one"][..],
                &["send", "--to", &to, "--wait-reply", "one"],
                &["send", "--session", "--to", &to, "one"],
            ] {
                let refused = finish(command(args, &options), b"");
                assert!(
                    refused.stderr.contains(want),
                    "{args:?} {want}: {refused:#?}"
                );
                assert_eq!(refused.code, Some(2), "{args:?}: {refused:#?}");
            }
        }
    }
}

#[test]
fn the_api_is_asked_over_https() {
    let site = TlsSite::new();
    let ca = site.ca.text();
    let server = Server::start(&[
        "--http",
        "127.0.0.1:0",
        "--http-tls-cert",
        site.server.cert(),
        "--http-tls-key",
        site.server.key(),
        "--http-tls-ca",
        &ca,
        "--framing",
        "lines",
        "--output",
        "none",
    ]);
    let url = format!("https://localhost:{}", scrape::https_addr(&server).port());
    let mut sender = server.connect();
    let write = |sender: &mut std::net::TcpStream| {
        std::io::Write::write_all(sender, b"hello, tap\n").unwrap();
    };
    write(&mut sender);
    wait_until("the device is listed", || {
        let listed = finish(command(&["devices", "--url", &url], &site.identity()), b"");
        assert_eq!((listed.code, &*listed.stderr), (Some(0), ""), "{listed:?}");
        listed.stdout_text().contains("127.0.0.1")
    });
    let args = ["tap", "--url", &url, "--last", "0"];
    let tap = Process::start(command(&args, &site.identity()));
    wait_until("tap prints a message", || {
        write(&mut sender);
        tap.printed_text().contains("hello, tap")
    });
    let refused = finish(command(&["devices", "--url", &url], &site.trust()), b"");
    refused.assert_refused(2, "it requires a client certificate");
    assert_eq!(server.stop().0.code, Some(0));
    let ended = tap.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("the daemon has ended"), "{ended:?}");
}

#[test]
fn a_session_without_tls_hears_that_the_listener_may_need_it() {
    let site = TlsSite::new();
    let folder = TempDir::new().unwrap();
    let listen = listener(&site, "");
    let server = Server::start(&recording_args(folder.path(), &["--listen", &listen]));
    let to = server.addr().to_string();
    let args = [
        "send",
        "--session",
        "--connect-timeout",
        "1",
        "--to",
        &to,
        "one",
    ];
    let sent = finish(blocksd(&args), b"");
    assert_eq!(sent.code, Some(1), "{sent:?}");
    assert!(sent.stderr.contains("(--tls)"), "{sent:?}");
}
