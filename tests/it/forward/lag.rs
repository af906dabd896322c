//! `blocksd read` while a server of a cluster has not yet got what the others have.

use std::time::{Duration, Instant};

use blocksd_tests::nats::{NatsVersion, make_stream};
use blocksd_tests::nats_cluster::{NODES, NatsCluster};
use blocksd_tests::nats_wire::{NatsWire, forwarded_head};
use blocksd_tests::process::{Process, blocksd};
use blocksd_tests::skip::skipped;

/// Messages that the server lacks.
const MESSAGES: u64 = 300;
/// Length of each: the server needs some seconds to get them.
const LEN: usize = 60_000;
/// How long the stream is read. The server has everything before that.
const READING: Duration = Duration::from_secs(6);

#[test]
fn a_server_that_comes_back_hides_no_message() {
    let name = "a_server_that_comes_back_hides_no_message";
    let mut cluster = match NatsCluster::start(NatsVersion::Current) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped(name, reason),
    };
    let urls = cluster.urls();
    make_stream(&urls, "blocksd", NODES, 120);
    let leader = cluster.wait_for_leader("blocksd");
    let follower = (leader + 1) % NODES;
    cluster.kill(follower);
    let mut wire = NatsWire::connect(&format!("nats://{}", cluster.address(leader)));
    let body = [&(LEN as u32).to_be_bytes()[..], &[b'x'; LEN]].concat();
    for number in 0..MESSAGES {
        let first = number.to_string();
        let head = forwarded_head(&[("Blocksd-First", &first)]);
        wire.publish("blocksd.main.dev.imu", &head, &body);
    }
    cluster.run(follower);
    let last = format!(",imu,{},", MESSAGES - 1);
    let (begun, mut reads) = (Instant::now(), 0);
    while begun.elapsed() < READING {
        let all = &["--output", "csv"][..];
        let newest = &["--output", "csv", "--last", "3"];
        let near = &["--output", "csv", "--last", "1h", "--device", "imu"];
        let readers = [
            (all, MESSAGES),
            (newest, 3),
            (near, MESSAGES),
            (all, MESSAGES),
        ];
        let readers = readers.map(|(options, wanted)| {
            let args = [&["read", &urls], options].concat();
            (Process::start(blocksd(&args)), wanted)
        });
        for (reader, wanted) in readers {
            let read = reader.end();
            // A busy cluster may need more than the five seconds of a request. Then nothing is printed.
            if read.code == Some(75) && read.stderr.contains("does not answer") {
                assert!(!read.stdout_text().contains(",imu,"));
                continue;
            }
            assert_eq!((read.code, &*read.stderr), (Some(0), ""));
            let text = read.stdout_text();
            let found = text.lines().filter(|line| line.contains(",imu,"));
            assert_eq!(found.count() as u64, wanted, "after {:?}", begun.elapsed());
            assert!(text.contains(&last), "after {:?}", begun.elapsed());
            reads += 1;
        }
    }
    eprintln!("{reads} reads");
    assert_ne!(reads, 0);
    let consumers = wire.request("$JS.API.CONSUMER.LIST.blocksd", "");
    assert_eq!(consumers["total"], 0, "{consumers}");
}
