//! `kill -9` of the daemon under the load of sessions: devices continue, and each message is recorded once.

use std::time::Duration;

use blocksd_tests::process::run;
use blocksd_tests::session_kills::{KillPlan, survive};
use tempfile::TempDir;

/// Number of kills; `BLOCKSD_TEST_KILLS` overrides it.
const KILLS: usize = 10;

#[test]
fn each_message_is_recorded_once_whenever_the_daemon_is_killed() {
    let given = std::env::var("BLOCKSD_TEST_KILLS").ok();
    let kills = given.map_or(KILLS, |given| given.parse().expect("a number"));
    let folder = TempDir::new().unwrap();
    let plan = KillPlan {
        kills,
        devices: 4,
        pause: Duration::from_micros(200),
        acks_max: 300,
        delay_max_ms: 20,
        seed: kills as u64,
    };
    let outcome = survive(folder.path(), &plan);
    assert!(
        (kills * plan.devices) as u64 <= outcome.messages,
        "{outcome:?}"
    );
    let verified = run(&["verify", folder.path().to_str().unwrap()], b"");
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
