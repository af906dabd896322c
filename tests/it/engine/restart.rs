//! A restart under socket activation: devices that connect meanwhile are served by the next daemon.

use blocksd_tests::process::{blocksd, finish, python};

#[test]
fn no_device_is_turned_away_while_a_daemon_with_a_passed_socket_restarts() {
    let program = blocksd(&[]);
    let program = program.get_program().to_str().unwrap();
    let ended = finish(python("restart.py", &[program]), b"");
    let text = ended.stdout_text();
    assert!(text.contains("answered 80 of 80"), "{text}{ended:?}");
}
