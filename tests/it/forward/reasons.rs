//! Why a cluster takes nothing: the log, `/readyz` and the metrics say so, and the daemon listens meanwhile.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::thread;

use blocksd_tests::nats::NatsServer;
use blocksd_tests::nats_wire::NatsWire;
use blocksd_tests::pki::Fleet;
use blocksd_tests::process::{Server, run, wait_until};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::scrape;
use blocksd_tests::skip::skipped;
use blocksd_tests::small_disk::SmallDisk;
use tempfile::TempDir;

use super::stream::{send_lines, serve};

/// The API for streams is not permitted.
const NARROW: &str = "authorization { users: [{ user: plant, password: s3cret, \
                      permissions: { publish: \"blocksd.>\", subscribe: \"_INBOX.>\" } }] }";

#[test]
fn each_reason_is_shown_with_what_to_do() {
    let name = "each_reason_is_shown_with_what_to_do";
    let folder = TempDir::new().expect("a folder for temporary files");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("a file");
        path.display().to_string()
    };
    let (right, wrong) = (file("right", "s3cret"), file("wrong", "guess"));
    let fleet = Fleet::new();
    let path = |name: &str| fleet.path(name).display().to_string();
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}",
        path("server.pem"),
        path("server.key")
    );
    let user = "authorization { user: plant, password: s3cret }";
    let account = "accounts { A { users: [{ user: plant, password: s3cret }] } }";
    let other = Fleet::new();
    let other = other.path("ca.pem").display().to_string();
    let cases = [
        (
            user,
            format!("user=plant,password={wrong}"),
            "the server refuses the login: authorization violation; check `user`",
        ),
        (
            account,
            format!("user=plant,password={right}"),
            "no server answers requests of JetStream; enable it",
        ),
        (
            NARROW,
            format!("user=plant,password={right}"),
            "the login lacks a permission: Permissions Violation for Publish to \"$JS.API.STREAM.INFO.blocksd\"; allow it, as",
        ),
        (
            &tls,
            format!("ca={other}"),
            "TLS fails: no trusted authority has issued the certificate of the server: set `ca`",
        ),
        (
            "",
            format!("ca={}", path("ca.pem")),
            "TLS fails: the server does not answer with TLS: enable it there, or use nats://",
        ),
    ];
    for (config, options, reason) in cases {
        let nats = match NatsServer::start_with(config) {
            Ok(server) => server,
            Err(reason) => return skipped(name, &reason),
        };
        is_shown(&format!("{},{options}", nats.url()), reason);
    }
    let away = ReservedPort::take();
    let to = format!("nats://{}", away.address());
    is_shown(
        &to,
        "the server cannot be reached: Connection refused (os error 111); check",
    );
}

#[test]
fn another_protocol_is_named() {
    let ssh = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("nats://{}", ssh.local_addr().expect("an address"));
    thread::spawn(move || {
        for client in ssh.incoming() {
            // The client may have gone.
            let _ = client.and_then(|mut it| it.write_all(b"SSH-2.0-OpenSSH_9.2\r\n"));
        }
    });
    is_shown(
        &to,
        "this is not the client port of a NATS server: invalid server operation",
    );
}

#[test]
fn each_server_of_a_cluster_is_named_with_its_reason() {
    let name = "each_server_of_a_cluster_is_named_with_its_reason";
    let nats = match NatsServer::start_with("authorization { user: plant, password: s3cret }") {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let away = ReservedPort::take();
    let to = format!("nats://{},{}", away.address(), nats.url());
    let reason = format!(
        "the server refuses the login: nats://{}: Connection refused (os error 111), {}: authorization violation; check",
        away.address(),
        nats.url()
    );
    is_shown(&to, &reason);
}

#[test]
fn one_server_that_answers_is_enough() {
    let name = "one_server_that_answers_is_enough";
    let nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("an address");
    let folder = TempDir::new().expect("a folder for temporary files");
    let to = format!("nats://{silent},{}", nats.url());
    let server = serve(folder.path(), &format!("{to},durable=no,create=true"), &[]);
    scrape::wait_for(
        &server,
        &format!("blocksd_forward_up{{to=\"{to}\"}}"),
        |up| up == 1.0,
    );
    server.stop();
}

#[test]
fn a_daemon_listens_while_a_server_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("nats://{}", silent.local_addr().expect("an address"));
    let folder = TempDir::new().expect("a folder for temporary files");
    let server = serve(folder.path(), &to, &[]);
    // The client still waits.
    assert_eq!(
        ready(&server),
        format!("ok\nwarning: forward to {to}: connecting\n")
    );
    let up = format!("blocksd_forward_up{{to=\"{to}\"}}");
    assert_eq!(scrape::sample(&server, &up), 0.0);
    let sent = run(&["send", "--to", &server.addr().to_string(), "hello"], b"");
    assert_eq!(sent.code, Some(0), "{sent:?}");
    wait_until("the reason is shown", || {
        ready(&server).contains("no answer within 5 s; check")
    });
    server.stop();
}

#[test]
fn a_stream_that_becomes_unusable_is_a_problem_of_a_daemon_that_listens() {
    let name = "a_stream_that_becomes_unusable_is_a_problem_of_a_daemon_that_listens";
    let mut nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let mut wire = NatsWire::connect(&nats.url());
    let config = r#"{"name":"blocksd","subjects":["blocksd.main.>"],"storage":"file","max_msgs_per_subject":1}"#;
    let made = wire.request("$JS.API.STREAM.CREATE.blocksd", config);
    assert!(made["error"].is_null(), "{made}");
    let reason = "the stream cannot be used: it deletes messages of a device beyond a number";
    // At the first answer, it ends the start.
    let folder = TempDir::new().expect("a folder for temporary files");
    let record = folder.path().join("kept");
    let forward = format!("{},durable=false", nats.url());
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--record",
        record.to_str().expect("UTF-8"),
        "--forward",
        &forward,
    ];
    let refused = run(&args, b"");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains(reason), "{refused:?}");
    // Later, it does not.
    nats.signal("STOP");
    let server = serve(&record, &forward, &[]);
    assert!(ready(&server).contains("connecting"));
    nats.restart();
    wait_until("the reason is shown", || ready(&server).contains(reason));
    server.stop();
}

#[test]
fn a_disk_that_is_full_for_a_cluster_that_is_away_names_both() {
    let name = "a_disk_that_is_full_for_a_cluster_that_is_away_names_both";
    let Some(disk) = SmallDisk::of(8) else {
        return skipped(name, "this user cannot mount a file system");
    };
    let away = ReservedPort::take();
    let to = format!("nats://{}", away.address());
    let kept = "; files that are not forwarded are kept\n";
    let cluster = format!("\nwarning: forward to {to}: the server cannot be reached");
    let message = [&(1_u32 << 19).to_be_bytes()[..], &vec![b'x'; 1 << 19]].concat();
    for (keep, limit) in [("forwarded", "4MiB"), ("forwarded", "0"), ("any", "0")] {
        let folder = disk.path().join("kept");
        let options = ["--record-compression", "none", "--record-min-free", limit];
        let server = serve(
            &folder,
            &format!("{to},keep={keep}"),
            if limit == "0" {
                &options[..2]
            } else {
                &options
            },
        );
        let mut device = server.connect();
        let all = message.repeat(64);
        // It ends with an error when the daemon does.
        let sender = thread::spawn(move || device.write_all(&all));
        let mut shown = scrape::get(scrape::addr(&server), "/readyz");
        wait_until("the reason is shown", || {
            shown = scrape::get(scrape::addr(&server), "/readyz");
            shown.body.starts_with("the disk refuses") && shown.body.contains("cannot be reached")
        });
        let reason = match limit {
            "0" => "No space left",
            _ => "all files that are left are kept",
        };
        assert!(shown.body.contains(reason), "{shown:?}");
        assert!(shown.body.contains(&cluster), "{shown:?}");
        assert_eq!(shown.body.contains(kept), keep == "forwarded", "{shown:?}");
        drop(server);
        assert!(sender.join().expect("a sender").is_err());
        fs::remove_dir_all(&folder).expect("a folder");
    }
}

#[test]
fn a_server_without_space_refuses_messages() {
    let name = "a_server_without_space_refuses_messages";
    let folder = TempDir::new().expect("a folder for temporary files");
    let data = folder.path().join("data").display().to_string();
    // The last setting counts.
    let config = format!("jetstream {{ store_dir: \"{data}\", max_file_store: 4MB }}");
    let nats = match NatsServer::start_with(&config) {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let to = nats.url();
    let record = folder.path().join("kept");
    let server = serve(&record, &format!("{to},durable=no,create=true"), &[]);
    send_lines(&server, &format!("{}\n", "x".repeat(1000)).repeat(8000));
    wait_until("the reason is shown", || {
        ready(&server).contains("a server has reached its limit for files (`max_file_store`)")
    });
    let failures = |reason: &str| {
        let sample = format!("blocksd_forward_failures_total{{to=\"{to}\",reason=\"{reason}\"}}");
        scrape::sample(&server, &sample)
    };
    assert!(0.0 < failures("refused"));
    assert_eq!(failures("other"), 0.0);
    let (ended, _) = server.stop();
    assert!(ended.stderr.contains("insufficient"), "{ended:?}");
}

#[test]
fn a_login_in_an_address_is_refused_and_not_printed() {
    let folder = TempDir::new().expect("a folder for temporary files");
    let config = folder.path().join("blocksd.toml");
    for address in [
        "nats://u:s3cret@h:4222",
        "u:s3cret@h:4222",
        "http://u:s3cret@h",
        "nats://u:s3cret,x@h",
        "nats://u:s3cret=x@h",
        "nats://u:x,s3cret=x@h",
        "nats://h,u:s3cret@k",
        "nats://u:x,stream=s3cret@h,bad=1",
    ] {
        let text = format!("record = \"r\"\n[[forward]]\nto = \"{address}\"\n");
        fs::write(&config, text).expect("a file");
        let path = config.to_str().expect("UTF-8");
        for args in [
            vec!["serve", "--record", "r", "--forward", address],
            vec!["check-config", path],
            vec!["read", address],
            vec!["export", address, "--to", "csv"],
            vec!["verify", address],
        ] {
            if !address.contains("://") && !["serve", "check-config"].contains(&args[0]) {
                // There, it is a path.
                continue;
            }
            let ended = run(&args, b"");
            assert_eq!(ended.code, Some(2), "{ended:?}");
            assert!(!ended.stderr.contains("s3cret"), "{args:?}: {ended:?}");
        }
    }
}

/// Starts a daemon, and waits until it names this reason as that of an only cluster which takes nothing.
#[track_caller]
fn is_shown(forward: &str, reason: &str) {
    let record = TempDir::new().expect("a folder for temporary files");
    let server = serve(record.path(), forward, &[]);
    let to = to(forward);
    wait_until(reason, || {
        ready(&server).contains(&format!("forward to {to}: {reason}"))
    });
    let up = format!("blocksd_forward_up{{to=\"{to}\"}}");
    assert_eq!(scrape::sample(&server, &up), 0.0);
    let (ended, _) = server.stop();
    let line = format!("forward to {to} stream=blocksd: {reason}");
    assert!(ended.stderr.contains(&line), "{ended:?}");
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
    assert!(!ended.stderr.contains("ERROR"), "{ended:?}");
}

/// The servers of `--forward`, as they are shown.
fn to(forward: &str) -> String {
    let servers = forward.split(',').filter(|it| !it.contains('='));
    servers.collect::<Vec<_>>().join(",")
}

/// What `/readyz` says of a daemon that is ready.
#[track_caller]
fn ready(server: &Server) -> String {
    let mut shown = scrape::get(scrape::addr(server), "/readyz");
    wait_until("the daemon is ready", || {
        shown = scrape::get(scrape::addr(server), "/readyz");
        shown.status == 200
    });
    shown.body
}
