//! The daemon under attack for some seconds; the long form is `cargo run -p blocksd-tests --example chaos`.

use std::time::Duration;

use blocksd_tests::chaos::{Plan, replies, run};

#[test]
fn honest_devices_lose_nothing_and_attackers_leave_no_trace() {
    let report = run(Plan {
        seed: 5,
        time: Duration::from_secs(6),
        attackers: 16,
        tls: false,
    });
    eprintln!("{report}");
}

#[test]
fn honest_devices_within_tls_lose_nothing() {
    let report = run(Plan {
        seed: 6,
        time: Duration::from_secs(6),
        attackers: 16,
        tls: true,
    });
    eprintln!("{report}");
}

#[test]
fn honest_devices_get_their_echoes_among_peers_that_do_not_read_theirs() {
    let (echoed, closed) = replies::run(5, Duration::from_secs(6), 8);
    eprintln!("{echoed} echoes of honest devices, {closed} connections of others closed");
}
