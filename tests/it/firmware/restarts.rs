//! Firmware in QEMU, and a daemon that is restarted while the board sends: the board's report agrees with what arrived.

use blocksd_tests::board::{Port, Report, figure, values_by_connection};
use blocksd_tests::process::Server;
use serde_json::Value;

use super::links::{Log, account, boot};

const SAMPLES: u64 = 200;
/// Number of restarts of the daemon.
const RESTARTS: usize = 3;

/// Ends the daemon by this signal and restarts it, three times, while a board sends. Returns the board's report, and the
/// samples of each connection in the daemons' outputs.
fn restarts(log: &Log, signal: &str, more: &[&str]) -> (Report, Vec<Vec<Value>>) {
    let port = Port::reserve();
    let listen = port.listen();
    let args = [&["--listen", &listen], more].concat();
    let mut server = Server::start(&args);
    let board = boot(port.number(), log, SAMPLES);
    let mut connections = Vec::new();
    for _ in 0..RESTARTS {
        server.wait_for("block", 10);
        server.process.signal(signal);
        connections.extend(values_by_connection(&server.end().1));
        server = Server::start(&args);
    }
    let report = board.report();
    connections.extend(values_by_connection(&server.stop().1));
    (report, connections)
}

#[test]
fn the_report_agrees_with_what_arrived_when_the_daemon_is_restarted() {
    for signal in ["TERM", "KILL"] {
        let name = "the_report_agrees_with_what_arrived_when_the_daemon_is_restarted";
        let Some(log) = Log::start(name) else { return };
        let (report, connections) = restarts(&log, signal, &["--reply", "receipt"]);
        account(report, SAMPLES, &connections);
        assert!(report.answered, "{signal}: {report:?}");
        assert!(RESTARTS < connections.len(), "{signal}");
        // The receipt is for the last connection. The samples of the others are in doubt, though most of them arrived.
        let last = connections.last().expect("at least one connection");
        assert_eq!(report.delivered, last.len() as u64, "{signal}");
        // Each sample: none is duplicated or invented, and missing ones are in doubt or lost.
        let mut numbers: Vec<_> = connections
            .concat()
            .iter()
            .map(|sample| figure(sample, "n"))
            .collect();
        let arrived = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), arrived, "{signal}: a duplicated sample");
        assert!(numbers.iter().all(|&number| number < SAMPLES), "{signal}");
        let missing = SAMPLES - arrived as u64;
        assert!(missing <= report.in_doubt + report.lost, "{signal}");
    }
}

#[test]
fn without_a_receipt_nothing_counts_as_delivered() {
    let name = "without_a_receipt_nothing_counts_as_delivered";
    let Some(log) = Log::start(name) else { return };
    let (report, connections) = restarts(&log, "TERM", &[]);
    account(report, SAMPLES, &connections);
    assert_eq!((report.delivered, report.answered), (0, false));
}
