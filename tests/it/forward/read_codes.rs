//! The exit code of `blocksd read` and `blocksd export` while a cluster cannot answer.

use std::time::Duration;

use blocksd_tests::nats::{NatsVersion, make_stream};
use blocksd_tests::nats_cluster::{NODES, NatsCluster};
use blocksd_tests::process::{run, wait_at_most};
use blocksd_tests::skip::skipped;

/// How long the server that is left may answer as if it had the others.
const NOTICED: Duration = Duration::from_secs(60);

#[test]
fn a_cluster_that_is_not_ready_is_a_temporary_error() {
    let name = "a_cluster_that_is_not_ready_is_a_temporary_error";
    let mut cluster = match NatsCluster::start(NatsVersion::Current) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped(name, reason),
    };
    let urls = cluster.urls();
    make_stream(&urls, "blocksd", NODES, 120);
    let leader = cluster.wait_for_leader("blocksd");
    for node in (0..NODES).filter(|it| *it != leader) {
        cluster.kill(node);
    }
    let mut last = None;
    wait_at_most(NOTICED, "the server notices that it is alone", || {
        let read = run(&["read", &urls], b"");
        let is_known = read.stderr.contains("temporarily unavailable");
        last = Some(read);
        is_known
    });
    let read = last.expect("one attempt");
    assert_eq!(read.code, Some(75), "{read:?}");
    assert!(read.stderr.contains("start the others"), "{read:?}");
    let exported = run(&["export", &urls, "--to", "csv", "--decode", "text"], b"");
    assert_eq!(exported.code, Some(75), "{exported:?}");
    // All servers are away.
    cluster.kill(leader);
    let read = run(&["read", &urls], b"");
    assert_eq!(read.code, Some(75), "{read:?}");
}
