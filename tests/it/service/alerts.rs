//! Prometheus's own checks of the metrics page, in both formats, and of the alert rules.

use std::fs;
use std::path::Path;

use blocksd_tests::process::{Ended, Process, Server};
use blocksd_tests::programs::Program;
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::scrape;
use tempfile::TempDir;

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/alerts.yml");
const TESTS: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/peers/alerts.test.yml"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/peers/alerts-days.test.yml"),
];

/// Runs `promtool`; `None` if it is missing.
fn promtool(test: &str, args: &[&str], stdin: &str) -> Option<Ended> {
    let program = Program::find(test, "promtool")?;
    let mut process = Process::start(program.command(args));
    process.write(stdin.as_bytes());
    Some(process.end())
}

#[test]
fn promtool_accepts_the_metrics() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().to_str().unwrap();
    let cluster = ReservedPort::take();
    let forward = format!("nats://{},durable=no", cluster.address());
    let record = ["--record", record, "--forward", &forward];
    for record in [&record[..], &[]] {
        let args = [&["--metrics", "127.0.0.1:0"], record].concat();
        let server = Server::start(&args);
        // Like `curl`, which accepts everything.
        let page = scrape::get(scrape::addr(&server), "/metrics").body;
        let checked = promtool("promtool_accepts_the_metrics", &["check", "metrics"], &page);
        let Some(checked) = checked else {
            return;
        };
        assert_eq!(checked.code, Some(0), "{checked:?}");
        // It exits with 0 after some complaints.
        let complaints = checked.stdout_text() + &checked.stderr;
        assert_eq!(complaints, "");
        server.stop();
    }
}

#[test]
fn promtool_accepts_the_alerts_and_their_tests() {
    let name = "promtool_accepts_the_alerts_and_their_tests";
    let Some(checked) = promtool(name, &["check", "rules", "--lint=all", RULES], "") else {
        return;
    };
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for tests in TESTS {
        let tested = promtool(name, &["test", "rules", tests], "").unwrap();
        assert_eq!(tested.code, Some(0), "{tested:?}");
    }
}

#[test]
fn every_alert_has_a_severity_and_a_summary() {
    let rules = fs::read_to_string(Path::new(RULES)).unwrap();
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 10, "found only {} alerts", alerts.len());
    for alert in alerts {
        let has = |key: &str| {
            let value = alert.lines().find_map(|line| line.trim().strip_prefix(key));
            value.is_some_and(|value| !value.trim().is_empty())
        };
        assert!(has("summary:"), "{alert}");
        let severity = alert
            .lines()
            .find_map(|line| line.trim().strip_prefix("severity: "));
        assert!(matches!(severity, Some("warning" | "critical")), "{alert}");
    }
}
