//! Command-line tools, and a sender that reconnects at EOF.

use blocksd_tests::process::python;
use blocksd_tests::programs::Program;

use super::{Daemon, send_lines};

#[test]
fn socat_keeps_one_connection() {
    let Some(socat) = Program::find("socat_keeps_one_connection", "socat") else {
        return;
    };
    let daemon = Daemon::start(&["lines"]);
    let to = format!("TCP:{}", daemon.server.addr());
    send_lines(daemon, socat.command(&["-", &to]), "eof");
}

#[test]
fn nc_of_openbsd_keeps_one_connection() {
    let Some(nc) = Program::find("nc_of_openbsd_keeps_one_connection", "nc.openbsd") else {
        return;
    };
    let daemon = Daemon::start(&["lines"]);
    let port = daemon.server.addr().port().to_string();
    send_lines(daemon, nc.command(&["-N", "127.0.0.1", &port]), "eof");
}

#[test]
fn traditional_nc_keeps_one_connection() {
    let Some(nc) = Program::find("traditional_nc_keeps_one_connection", "nc.traditional") else {
        return;
    };
    let daemon = Daemon::start(&["lines"]);
    let port = daemon.server.addr().port().to_string();
    send_lines(daemon, nc.command(&["-q", "0", "127.0.0.1", &port]), "eof");
}

#[test]
fn a_sender_that_reconnects_at_eof_keeps_one_connection() {
    let daemon = Daemon::start(&["lines"]);
    let port = daemon.server.addr().port().to_string();
    let sender = python("reconnecting_peer.py", &["127.0.0.1", &port]);
    send_lines(daemon, sender, "eof");
}
