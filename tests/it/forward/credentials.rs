//! Logins with a JWT and a seed, from a file of credentials, and the rights that a login needs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use blocksd_tests::nats::NatsServer;
use blocksd_tests::nats_jwt::{NatsCredentials, NatsOperator, NatsUser};
use blocksd_tests::process::{Process, Server, blocksd, run, wait_at_most};
use blocksd_tests::scrape;
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::stream::{serve, wait_until_stored};

/// Subjects in which a login must be allowed to publish, so that a daemon can forward.
const FORWARDING: [&str; 3] = [
    "blocksd.SITE.>",
    "$JS.API.STREAM.INFO.STREAM",
    "$JS.API.STREAM.MSG.GET.STREAM",
];
/// The further one for `create`.
const CREATING: &str = "$JS.API.STREAM.CREATE.STREAM";
/// Those for reading: the last one is needed only to remove what reading has made.
const READING: [&str; 6] = [
    "$JS.API.STREAM.INFO.STREAM",
    "$JS.API.STREAM.MSG.GET.STREAM",
    "$JS.API.CONSUMER.CREATE.STREAM",
    "$JS.API.CONSUMER.MSG.NEXT.STREAM.*",
    "$JS.API.CONSUMER.INFO.STREAM.*",
    "$JS.API.CONSUMER.DELETE.STREAM.*",
];
/// Those to which a login must be allowed to subscribe.
const ANSWERS: &str = "_INBOX.>";
/// Time within which a daemon shows a problem.
const NOTICED: Duration = Duration::from_secs(60);

#[test]
fn credentials_of_an_account_are_accepted_and_those_of_another_one_see_no_stream() {
    let name = "credentials_of_an_account_are_accepted_and_those_of_another_one_see_no_stream";
    let mut operator = NatsOperator::new();
    let (plant, other) = (operator.account("plant"), operator.account("other"));
    let nats = match NatsServer::start_with(&operator.config()) {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().expect("a folder for temporary files");
    let credentials = plant.user(&NatsUser::default());
    let whole = credentials.file();
    let (seed_last, _) = whole.rsplit_once("\n\n*").expect("a line of stars");
    for (name, content) in [
        ("as-nsc-writes-it", &*whole),
        ("the-seed-last", &format!("{seed_last}\n")),
        ("no-last-newline", seed_last),
        ("carriage-returns", &seed_last.replace('\n', "\r\n")),
    ] {
        let login = credentials_in(folder.path(), name, content);
        let record = folder.path().join(format!("kept-{name}"));
        let to = format!("{},{login}", nats.url());
        let server = serve(&record, &format!("{to},durable=no,create=true"), &[]);
        send(&server);
        wait_until_stored(&server, &to);
        server.stop();
        let ended = run(&["read", &to], b"");
        assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
        assert!(ended.stdout_text().contains("hello"), "{name}: {ended:?}");
    }
    let foreign = other.user(&NatsUser::default());
    let foreign = credentials_in(folder.path(), "other", &foreign.file());
    let ended = run(&["read", &format!("{},{foreign}", nats.url())], b"");
    assert_ne!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("no stream"), "{ended:?}");
    assert!(!ended.stdout_text().contains("hello"), "{ended:?}");
}

#[test]
fn refused_credentials_are_a_problem_and_show_no_secret() {
    let name = "refused_credentials_are_a_problem_and_show_no_secret";
    let mut operator = NatsOperator::new();
    let plant = operator.account("plant");
    let nats = match NatsServer::start_with(&operator.config()) {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().expect("a folder for temporary files");
    let good = plant.user(&NatsUser::default());
    let expired = plant.user(&NatsUser {
        expires_s: Some(-60),
        ..NatsUser::default()
    });
    let wrong_seed = NatsCredentials {
        seed: expired.seed.clone(),
        ..good.clone()
    };
    // The server does not know this account.
    let foreign = NatsOperator::new()
        .account("plant")
        .user(&NatsUser::default());
    let refused = [
        ("expired", &expired),
        ("wrong-seed", &wrong_seed),
        ("foreign", &foreign),
    ];
    let daemons = refused.map(|(name, credentials)| {
        let login = credentials_in(folder.path(), name, &credentials.file());
        let to = format!("{},{login}", nats.url());
        let ended = run(&["read", &to], b"");
        assert_ne!(ended.code, Some(0), "{name}: {ended:?}");
        assert!(
            ended.stderr.contains("refuses the login"),
            "{name}: {ended:?}"
        );
        assert_no_secret(&format!("{ended:?}"), credentials);
        let record = folder.path().join(format!("kept-{name}"));
        let server = serve(&record, &format!("{to},durable=no,create=true"), &[]);
        send(&server);
        (server, credentials)
    });
    for (server, credentials) in daemons {
        let shown = wait_for_problem(&server, &nats.url());
        assert_no_secret(&shown, credentials);
        let stored = format!("blocksd_forward_messages_total{{to=\"{}\"}}", nats.url());
        assert_eq!(scrape::sample(&server, &stored), 0.0);
        let (ended, _) = server.stop();
        assert_no_secret(&format!("{ended:?}"), credentials);
    }
    // A seed with a typing error, and half a file.
    let damaged = NatsCredentials {
        seed: good.seed.replacen('A', "B", 1),
        ..good.clone()
    };
    let half = good.file();
    let (half, _) = half.split_once("-----BEGIN USER").expect("a seed");
    for (name, content) in [("damaged", &*damaged.file()), ("half", half)] {
        let login = credentials_in(folder.path(), name, content);
        let to = format!("{},{login}", nats.url());
        let record = folder.path().join(format!("kept-{name}"));
        let record = record.display().to_string();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--record", &record];
        for args in [
            &["read", &to][..],
            &[&serve[..], &["--forward", &to]].concat(),
        ] {
            let ended = run(args, b"");
            assert!(![Some(0), None].contains(&ended.code), "{name}: {ended:?}");
            assert!(ended.stderr.contains("credentials"), "{name}: {ended:?}");
            assert_no_secret(&format!("{ended:?}"), &damaged);
        }
    }
}

#[test]
fn a_login_that_expires_loses_nothing() {
    let name = "a_login_that_expires_loses_nothing";
    let mut operator = NatsOperator::new();
    let plant = operator.account("plant");
    let nats = match NatsServer::start_with(&operator.config()) {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().expect("a folder for temporary files");
    let record = folder.path().join("kept");
    let short = plant.user(&NatsUser {
        expires_s: Some(10),
        ..NatsUser::default()
    });
    let login = credentials_in(folder.path(), "login", &short.file());
    let to = format!("{},{login}", nats.url());
    let server = serve(&record, &format!("{to},durable=no,create=true"), &[]);
    send(&server);
    wait_until_stored(&server, &to);
    wait_at_most(NOTICED, "the login has expired", || {
        run(&["read", &to], b"").code != Some(0)
    });
    send(&server);
    let shown = wait_for_problem(&server, &nats.url());
    assert_no_secret(&shown, &short);
    server.stop();
    let long = plant.user(&NatsUser::default());
    credentials_in(folder.path(), "login", &long.file());
    let server = serve(&record, &format!("{to},durable=no"), &[]);
    wait_at_most(NOTICED, "both messages are in the stream", || {
        let ended = run(&["read", &to], b"");
        ended.stdout_text().matches("hello").count() == 2
    });
    server.stop();
}

#[test]
fn the_rights_for_forwarding_and_reading_are_those_of_the_documentation() {
    let name = "the_rights_for_forwarding_and_reading_are_those_of_the_documentation";
    let document = include_str!("../../../docs/forwarding.md");
    let rights = FORWARDING.iter().chain(&READING);
    for right in rights.chain([&CREATING, &ANSWERS]) {
        assert!(document.contains(&format!("`{right}`")), "{right}");
    }
    let mut operator = NatsOperator::new();
    let plant = operator.account("plant");
    let nats = match NatsServer::start_with(&operator.config()) {
        Ok(server) => server,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().expect("a folder for temporary files");
    let with = |name: &str, user: NatsUser| {
        let file = plant.user(&user).file();
        let login = credentials_in(folder.path(), name, &file);
        format!("{},stream=fleet,site=plant-7,{login}", nats.url())
    };
    let daemon = |name: &str, to: &str| {
        let record = folder.path().join(name);
        let server = serve(&record, &format!("{to},durable=no"), &[]);
        send(&server);
        server
    };
    let reading = with("reading", limited(&READING, ANSWERS));
    let read = |to: &str, options: &[&str]| run(&[&["read", to], options].concat(), b"");
    let wait_for_messages = |wanted: usize| {
        wait_at_most(NOTICED, "the messages are in the stream", || {
            let ended = read(&reading, &[]);
            ended.stdout_text().matches("hello").count() == wanted
        });
    };
    // Another recording makes the stream, and has the last message of the subject.
    let creating = [&FORWARDING[..], &[CREATING]].concat();
    let creating = with("creating", limited(&creating, ANSWERS));
    let server = daemon("first", &format!("{creating},create=true"));
    wait_for_messages(1);
    server.stop();
    // A restart checks what the stream has.
    let forwarding = with("forwarding", limited(&FORWARDING, ANSWERS));
    for count in [2, 3] {
        let server = daemon("second", &forwarding);
        wait_for_messages(count);
        server.stop();
    }
    for options in [
        &["--last", "2"],
        &["--from", "10m"],
        &["--device", "127.0.0.1"],
    ] {
        let ended = read(&reading, options);
        assert_eq!(ended.code, Some(0), "{options:?}: {ended:?}");
        assert!(
            ended.stdout_text().contains("hello"),
            "{options:?}: {ended:?}"
        );
    }
    assert!(!nats.log().contains("Violation"), "{}", nats.log());
    // Each right is needed.
    let without = |rights: &[&'static str], lacking: usize| {
        let kept = rights
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != lacking);
        kept.map(|(_, right)| *right).collect::<Vec<_>>()
    };
    let users =
        (0..FORWARDING.len()).map(|lacking| limited(&without(&FORWARDING, lacking), ANSWERS));
    let only_events = [&["blocksd.SITE.events.>"], &FORWARDING[1..]].concat();
    let daemons: Vec<_> = users
        .chain([
            limited(&FORWARDING, "nothing"),
            limited(&only_events, ANSWERS),
        ])
        .enumerate()
        .map(|(index, user)| {
            let name = format!("refused-{index}");
            daemon(&name, &with(&name, user))
        })
        .collect();
    for server in daemons {
        wait_for_problem(&server, &nats.url());
        server.stop();
    }
    wait_for_messages(3);
    let readers: Vec<_> = (0..5)
        .map(|lacking| {
            let user = limited(&without(&READING, lacking), ANSWERS);
            let to = with(&format!("reading-{lacking}"), user);
            Process::start(blocksd(&["read", &to]))
        })
        .collect();
    for (mut reader, lacks) in readers.into_iter().zip(READING) {
        wait_at_most(NOTICED, "it gives up", || !reader.runs());
        let ended = reader.end();
        assert_ne!(ended.code, Some(0), "{ended:?}");
        let lacks = lacks.trim_end_matches('*').replace(".STREAM", ".fleet");
        let lacks = lacks.replace("API.fleet", "API.STREAM");
        let reason =
            format!("the login lacks a permission: Permissions Violation for Publish to \"{lacks}");
        assert!(ended.stderr.contains(&reason), "{lacks}: {ended:?}");
    }
    let user = limited(&without(&READING, 5), ANSWERS);
    let ended = read(&with("reading-5", user), &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let log = nats.log();
    for refused in [
        "Publish Violation - Subject \"blocksd.plant-7.",
        "Publish Violation - Subject \"$JS.API.STREAM.INFO.fleet\"",
        "Publish Violation - Subject \"$JS.API.STREAM.MSG.GET.fleet\"",
        "Publish Violation - Subject \"$JS.API.CONSUMER.CREATE.fleet\"",
        "Publish Violation - Subject \"$JS.API.CONSUMER.MSG.NEXT.fleet.",
        "Publish Violation - Subject \"$JS.API.CONSUMER.INFO.fleet.",
        "Publish Violation - Subject \"$JS.API.CONSUMER.DELETE.fleet.",
        "Subscription Violation - Subject \"_INBOX.",
    ] {
        assert!(log.contains(refused), "{refused}: {log}");
    }
}

/// A user with these rights for a stream `fleet` and a site `plant-7`.
fn limited(publish: &[&str], subscribe: &str) -> NatsUser {
    let names = |subject: &&str| {
        let tokens = subject
            .split('.')
            .enumerate()
            .map(|(index, token)| match token {
                "SITE" => "plant-7",
                // The third one is that of the API.
                "STREAM" if 2 < index => "fleet",
                other => other,
            });
        tokens.collect::<Vec<_>>().join(".")
    };
    NatsUser {
        publish: Some(publish.iter().map(names).collect()),
        subscribe: Some(vec![subscribe.to_owned()]),
        expires_s: None,
    }
}

/// Writes a file of credentials. Returns the option that names it.
fn credentials_in(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(format!("{name}.creds"));
    fs::write(&path, content).expect("a file");
    format!("credentials={}", path.display())
}

/// Waits until a daemon shows that a cluster does not take something. Returns what it shows.
#[track_caller]
fn wait_for_problem(server: &Server, url: &str) -> String {
    let mut shown = String::new();
    wait_at_most(NOTICED, "the problem is shown", || {
        shown = scrape::get(scrape::addr(server), "/readyz").body;
        shown.contains(&format!("forward to {url}"))
    });
    shown
}

#[track_caller]
fn assert_no_secret(shown: &str, credentials: &NatsCredentials) {
    let NatsCredentials { jwt, seed } = credentials;
    // The signature is the last part of the JWT.
    let (_, signature) = jwt.rsplit_once('.').expect("three parts");
    for secret in [seed, jwt, signature] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// Sends a message to a daemon.
#[track_caller]
fn send(server: &Server) {
    let sent = run(&["send", "--to", &server.addr().to_string(), "hello"], b"");
    assert_eq!(sent.code, Some(0), "{sent:?}");
}
