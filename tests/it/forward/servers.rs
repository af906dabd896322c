//! Each version of the server, and a server that hangs.

use std::time::Duration;

use blocksd_tests::link::{Condition, Link};
use blocksd_tests::nats::{NatsServer, NatsVersion};
use blocksd_tests::nats_cluster::urls;
use blocksd_tests::process::{Server, run, wait_at_most};
use blocksd_tests::scrape;
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::stream::{assert_same, forwarded, recorded, serve, wait_until_forwarded};

#[test]
fn the_current_version_takes_everything() {
    take_everything("the_current_version_takes_everything", NatsVersion::Current);
}

#[test]
fn the_version_of_debian_takes_everything() {
    take_everything(
        "the_version_of_debian_takes_everything",
        NatsVersion::Debian,
    );
}

/// Messages of any length, before and after a kill of the server.
fn take_everything(name: &str, version: NatsVersion) {
    let mut nats = match NatsServer::start_version(version) {
        Ok(server) => server,
        Err(reason) => return skipped(name, reason),
    };
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("kept");
    let forward = format!("{},durable=no,create=true", nats.url());
    let server = serve(&record, &forward, &[]);
    for device in ["a.b:c", "d"] {
        let lines = format!("first\n{}\nlast\n", "x".repeat(600_000));
        send(&server, device, &lines);
        nats.restart();
    }
    wait_until_forwarded(&server, &nats.url(), &record);
    server.stop();
    let wanted = recorded(&record);
    assert_eq!(wanted.values().map(Vec::len).sum::<usize>(), 6);
    assert_same(&forwarded(&nats.url(), "blocksd"), &wanted);
}

#[test]
fn a_server_that_hangs_is_left_for_another() {
    let name = "a_server_that_hangs_is_left_for_another";
    let nats = match NatsServer::start() {
        Ok(server) => server,
        Err(reason) => return skipped(name, reason),
    };
    let to = nats.url().replace("nats://", "").parse().unwrap();
    let [one, other] = [Link::to(to), Link::to(to)];
    other.set(Condition::Cut);
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("kept");
    let servers = urls([one.address(), other.address()]);
    let forward = format!("{servers},durable=no,create=true");
    let server = serve(&record, &forward, &[]);
    send(&server, "a", "before\n");
    let stored = |count: f64| {
        let page = scrape::get(scrape::addr(&server), "/metrics").body;
        let samples = scrape::samples(&page);
        let of = |name: &String| name.starts_with("blocksd_forward_messages_total");
        let found = samples.iter().find(|(name, _)| of(name));
        found.is_some_and(|(_, stored)| count <= *stored)
    };
    // The message and the events of its connection.
    wait_at_most(Duration::from_secs(60), "the first is stored", || {
        stored(3.0)
    });
    one.set(Condition::Silent);
    other.set(Condition::Open);
    send(&server, "a", "after\n");
    wait_at_most(Duration::from_secs(90), "the second is stored", || {
        forwarded(&nats.url(), "blocksd")["a"].len() == 2
    });
}

#[track_caller]
fn send(server: &Server, device: &str, lines: &str) {
    let to = server.addr().to_string();
    let args = ["send", "--to", &to, "--session", "--device", device];
    let sent = run(&args, lines.as_bytes());
    assert_eq!(sent.code, Some(0), "{sent:?}");
}
