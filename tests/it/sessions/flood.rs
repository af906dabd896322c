//! A flood of HELLOs: it leaves no session, no memory, and few bytes of the recording.

use std::fs;

use blocksd_tests::process::{Server, wait_until};
use blocksd_tests::recording_daemon::recording_args;
use blocksd_tests::scrape::sample;
use blocksd_tests::session_devices::{DevicePlan, SessionDevices};
use blocksd_tests::session_oracle::SessionOracle;
use blocksd_tests::session_peer::{HostFrame, SessionPeer};
use tempfile::TempDir;

/// Connections at the same time.
const CONNECTIONS: usize = 2000;
const FLOODS: usize = 10;
/// Allowed growth of the resident memory after the second flood, when the allocator has its arenas. The sessions of the other
/// floods would take 6 MB.
const GROWTH_MAX_KB: u64 = 3000;
/// Bound on the length of the recording: an event for each connection would take 3 MB.
const RECORDING_MAX: u64 = 600_000;

#[test]
fn a_flood_of_hellos_leaves_no_session_and_few_bytes() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let folder = TempDir::new().unwrap();
    let more = [
        "--ack-interval",
        "0",
        "--record-compression",
        "none",
        "--metrics",
        "127.0.0.1:0",
        // Devices that are gone are bounded by this.
        "--max-gone-devices",
        "10",
    ];
    let server = Server::start(&recording_args(folder.path(), &more));
    let honest = SessionDevices::start("honest", 1, DevicePlan::default());
    honest.connect_to(server.addr());
    honest.wait_for_acks(1);
    honest.leave();
    let mut resident = Vec::new();
    for flood in 0..FLOODS {
        let mut peers: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let mut peer = SessionPeer::connect(server.addr());
                // Half of them claim a session, which the daemon adopts.
                let session = (number % 2 * number) as u64;
                peer.hello(&format!("flood-{flood}-{number}"), session, 100, 7);
                peer
            })
            .collect();
        for peer in &mut peers {
            assert!(matches!(peer.read(), HostFrame::Welcome(_)));
        }
        drop(peers);
        wait_until("the connections are gone", || {
            sample(&server, "blocksd_connections") == 0.0
        });
        resident.push(server.process.memory_kb("VmRSS"));
    }
    assert!(
        resident[FLOODS - 1] < resident[1] + GROWTH_MAX_KB,
        "{resident:?} kB"
    );
    // The session of the honest device is still known.
    honest.connect_to(server.addr());
    honest.wait_for_acks(1);
    let outcomes = honest.finish();
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let oracle = SessionOracle::of(folder.path());
    oracle.assert_outcomes(&outcomes);
    assert_eq!(oracle.sessions.len(), 1, "{:?}", oracle.sessions.keys());
    let payload = outcomes[0].pushed * (64 + 31);
    let files = fs::read_dir(folder.path()).unwrap();
    let len: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(
        len < payload + RECORDING_MAX,
        "{len} bytes, {payload} of payload"
    );
}
