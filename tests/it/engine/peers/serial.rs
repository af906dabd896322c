//! ser2net between a serial port and the daemon.

use std::fs;

use blocksd_tests::process::Process;
use blocksd_tests::programs::Program;

use super::{Daemon, count, documented, messages, replace};
use crate::engine::listeners::Plug;

#[test]
fn ser2net_keeps_one_connection() {
    let Some(ser2net) = Program::find("ser2net_keeps_one_connection", "ser2net") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("ttyUSB0");
    let mut plug = Plug::new(&port);
    plug.order("plug");
    let mut daemon = Daemon::start(&["lines"]);
    let config = documented("ser2net", 0);
    let config = replace(&config, "/dev/ttyUSB0", port.to_str().unwrap());
    let to = format!("127.0.0.1,{}", daemon.server.addr().port());
    let config = replace(&config, "192.0.2.10,1060", &to);
    let file = folder.path().join("ser2net.yaml");
    fs::write(&file, config).unwrap();
    // In the foreground, without lock files.
    let mut command = ser2net.command(&["-n", "-u", "-c"]);
    command.arg(file);
    let process = Process::start(command);
    daemon.wait(|events| count(events, "open") == 1);
    daemon.receive(|message| {
        let line = format!("{message}\n");
        let hex: String = line.bytes().map(|byte| format!("{byte:02x}")).collect();
        plug.order(&format!("send {hex}"));
    });
    // It takes seconds to end by itself.
    drop(process);
    assert_eq!(daemon.end("eof"), [messages()]);
}
