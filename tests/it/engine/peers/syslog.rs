//! Syslog daemons that forward messages: one connection with a syslog header and counted messages, one with lines.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Process};
use blocksd_tests::programs::Program;

use super::{Daemon, documented, messages, replace};

/// The documented configuration of a syslog daemon for this `blocksd serve`, appended to the test's own settings.
#[track_caller]
fn configure(own: &str, heading: &str, daemon: &Daemon) -> String {
    let documented = documented(heading, 0) + &documented(heading, 1);
    let mut config = replace(&documented, "192.0.2.10", "127.0.0.1");
    for (port, framing) in [("1060", "octet-counted"), ("1061", "lines")] {
        let here = daemon.server.addr_of(framing).port().to_string();
        config = replace(&config, port, &here);
    }
    format!("{own}\n{config}")
}

/// Sends the messages to a syslog daemon. `line` is a message on the connection with lines.
#[track_caller]
fn forwards(mut daemon: Daemon, command: Command, socket: &Path, line: impl Fn(&str) -> String) {
    let process = Process::start(command);
    let sender = UnixDatagram::unbound().unwrap();
    daemon.receive(|message| {
        let datagram = format!("<13>Jan  1 00:00:00 app: {message}");
        let until = Instant::now() + DEADLINE;
        while let Err(error) = sender.send_to(datagram.as_bytes(), socket) {
            let text = process.error_text();
            assert!(Instant::now() < until, "{error}; it reports:\n{text}");
            sleep(Duration::from_millis(10));
        }
    });
    process.signal("TERM");
    let ended = process.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (counted, lines): (Vec<_>, Vec<_>) = daemon
        .end("eof")
        .into_iter()
        .partition(|connection| connection[0].starts_with('<'));
    let sent = messages();
    let wanted: Vec<_> = sent.iter().map(|message| line(message)).collect();
    assert_eq!(lines, [wanted]);
    let [counted] = &counted[..] else {
        panic!("{counted:?}");
    };
    // `<13>1 TIME HOST app - - DATA MESSAGE`
    for (text, message) in counted.iter().zip(&sent) {
        let words: Vec<_> = text.split(' ').collect();
        assert_eq!((words[0], &words[3..6]), ("<13>1", &["app", "-", "-"][..]));
        let ending = format!(" {message}\n");
        assert!(text.ends_with(&ending), "{text:?}");
        assert_eq!(text.matches("message").count(), 1, "{text:?}");
    }
}

#[test]
fn rsyslog_keeps_one_connection_for_each_action() {
    let name = "rsyslog_keeps_one_connection_for_each_action";
    let Some(rsyslog) = Program::find(name, "rsyslogd") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (here, socket) = (folder.path().display(), folder.path().join("log"));
    let own = format!(
        "global(workDirectory=\"{here}\" processInternalMessages=\"off\")\n\
         module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
         input(type=\"imuxsock\" Socket=\"{}\")\n",
        socket.display()
    );
    let daemon = Daemon::start(&["octet-counted", "lines"]);
    let file = folder.path().join("rsyslog.conf");
    fs::write(&file, configure(&own, "rsyslog", &daemon)).unwrap();
    let mut command = rsyslog.command(&["-n", "-i", "NONE", "-f"]);
    command.arg(file);
    forwards(daemon, command, &socket, |message| format!(" {message}"));
}

#[test]
fn syslog_ng_keeps_one_connection_for_each_destination() {
    let name = "syslog_ng_keeps_one_connection_for_each_destination";
    let Some(syslog_ng) = Program::find(name, "syslog-ng") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("log");
    // The oldest version in the maintained releases of Debian and Ubuntu.
    let own = format!(
        "@version: 3.35\noptions {{ stats-freq(0); }};\nsource s_src {{ unix-dgram(\"{}\"); }};\n",
        socket.display()
    );
    let daemon = Daemon::start(&["octet-counted", "lines"]);
    let file = folder.path().join("syslog-ng.conf");
    fs::write(&file, configure(&own, "syslog-ng", &daemon)).unwrap();
    let mut command = syslog_ng.command(&["--foreground", "--no-caps", "--stderr"]);
    let files = [
        ("-f", "syslog-ng.conf"),
        ("-R", "persist"),
        ("-p", "pid"),
        ("-c", "control"),
    ];
    for (option, name) in files {
        command.arg(option).arg(folder.path().join(name));
    }
    forwards(daemon, command, &socket, str::to_owned);
}
