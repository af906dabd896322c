//! The operator's view: the demo, the outputs `text`, `hex` and `none`, signals, and a closed pipe.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::{ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use blocksd_tests::process::{Process, Server, blocksd, brief, finish, run, wait_until};
use tempfile::TempDir;

use crate::engine::serve::SERIES;

#[test]
fn the_demo_shows_four_devices_and_two_faults_and_keeps_everything_once() {
    let folder = TempDir::new().unwrap();
    let ended = finish(demo_in(&folder), b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_nothing_remains(&folder);
    let text = ended.stdout_text();
    let (events, table) = text
        .rsplit_once("\n\n")
        .expect("events, an empty line, a table");
    let fault = |words: &str| events.lines().filter(|line| line.contains(words)).count();
    assert_eq!(fault("over the limit of"), 1, "{text}");
    assert_eq!(fault("stream closed"), 1, "{text}");

    // A row for each device and a total: sent, kept, bytes, too long, cut off, series.
    let rows: Vec<(&str, Vec<u64>)> = table
        .lines()
        .skip(1)
        .take(5)
        .map(|row| {
            let (name, figures) = row.split_once(' ').expect("a name and figures");
            let figures = figures
                .split_whitespace()
                .map(|figure| figure.parse().expect("a figure"));
            (name, figures.collect())
        })
        .collect();
    let (total, devices) = rows.split_last().expect("a total");
    assert_eq!((total.0, devices.len()), ("total", 4), "{text}");
    for (name, figures) in devices {
        let [sent, kept, bytes, too_long, cut_off, _] = figures[..] else {
            panic!("six figures in {text}");
        };
        assert_eq!(sent, kept + too_long + cut_off, "{text}");
        assert!(1 < kept && kept < bytes, "{text}");
        if *name == "meter" {
            continue;
        }
        let shown = events
            .lines()
            .filter(|line| line.split_whitespace().nth(1) == Some(name));
        // `#7: ` begins a message, and `#7 ` another event of the connection.
        let is_message = |line: &&str| {
            let mut words = line.split_whitespace();
            words.any(|word| word.starts_with('#') && word.ends_with(':'))
        };
        let blocks = shown.filter(is_message).count();
        assert_eq!(blocks as u64, kept, "{name} in {text}");
    }
    for (column, figure) in total.1.iter().enumerate() {
        assert_eq!(
            *figure,
            devices
                .iter()
                .map(|(_, figures)| figures[column])
                .sum::<u64>(),
            "{text}"
        );
    }
    assert_eq!(total.1[3..5], [1, 1], "{text}");
}

#[test]
fn the_demo_kills_a_recorder_and_cuts_a_session_that_loses_nothing() {
    let text = run(&["demo", "--seconds", "2"], b"").stdout_text();
    let lines = text
        .lines()
        .filter(|line| line.split_whitespace().nth(1) == Some("meter"));
    let story: Vec<_> = lines
        .map(|line| line.split_once("meter").unwrap().1.trim())
        .collect();
    let [opened, killed, started, cut] = story[..] else {
        panic!("four events of the meter in {text}");
    };
    let number = |text: &str, before: &str, after: &str| -> u64 {
        let rest = text.strip_prefix(before);
        let number = rest.and_then(|rest| rest.strip_suffix(after));
        let number = number.and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("no {before:?} in {text:?}"))
    };
    let first = number(opened, "session with a recorder, process ", "");
    let second = number(started, "recorder started again, process ", "");
    assert_ne!(first, second);
    let before_kill = number(killed, "recorder killed with SIGKILL after ", " messages");
    let before_cut = number(cut, "connection cut after ", " messages");
    let last = text.lines().last().unwrap();
    let sent = last.rsplit_once("cut once; ").unwrap().1;
    let sent: u64 = sent.split(' ').next().unwrap().parse().unwrap();
    assert!(
        0 < before_kill && before_kill <= before_cut && before_cut < sent,
        "{text}"
    );
    let wanted = format!(
        "meter: its recorder was killed once and its connection was cut once; {sent} sent, {sent} kept, none twice"
    );
    assert_eq!(last, wanted);
}

#[test]
fn a_signal_ends_the_demo_its_recorder_and_its_files() {
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let folder = TempDir::new().unwrap();
        let process = Process::start(demo_in(&folder));
        wait_until("the recorder runs", || recorders(&folder) == 1);
        process.signal(signal);
        let ended = process.end();
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert_nothing_remains(&folder);
    }
}

#[test]
fn a_closed_output_ends_the_demo_its_recorder_and_its_files() {
    let folder = TempDir::new().unwrap();
    let mut command = demo_in(&folder);
    command.stdout(Stdio::piped());
    let mut process = Process::start_unread(command);
    wait_until("the recorder runs", || recorders(&folder) == 1);
    drop(process.take_stdout());
    let ended = process.end();
    // Its reader has seen enough, which is not an error.
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_nothing_remains(&folder);
}

#[test]
fn a_signal_ends_a_demo_whose_output_is_not_read() {
    let folder = TempDir::new().unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while (&writer).write(b"full").is_ok() {}
    let mut command = demo_in(&folder);
    command.stdout(writer);
    let process = Process::start_unread(command);
    let is_begun = || fs::read_dir(&folder).unwrap().count() != 0;
    wait_until("the demo has begun", is_begun);
    process.signal("TERM");
    let ended = process.end();
    assert_eq!(ended.code, Some(143), "{ended:?}");
    assert_nothing_remains(&folder);
}

/// A demo of two seconds whose temporary files are in `folder`.
fn demo_in(folder: &TempDir) -> Command {
    demo_with(folder, &["--seconds", "2"])
}

/// A demo with these arguments whose temporary files are in `folder`.
pub(super) fn demo_with(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = blocksd(&[&["demo"], args].concat());
    command.env("TMPDIR", folder.path());
    command
}

/// Number of processes whose command line names a file in `folder`.
fn recorders(folder: &TempDir) -> usize {
    let folder = folder.path().to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(folder))
        .count()
}

#[track_caller]
pub(super) fn assert_nothing_remains(folder: &TempDir) {
    assert_eq!(recorders(folder), 0);
    let files = fs::read_dir(folder).unwrap();
    assert_eq!(files.count(), 0, "files of the demo remain");
}

/// Runs the daemon for one connection that sends a text, a block of two lines, and bytes.
fn output(form: &str) -> String {
    let args = ["--output", form, "--once"];
    let server = Server::start(&args);
    let text = b"\0\0\0\x0bcold, 21 \xc2\xb0";
    let lines = b"\0\0\0\x0cone\ntwo\x1b[31m";
    let bytes = b"\0\0\0\x04\xde\xad\xbe\xef\0\0\0\0";
    server
        .connect()
        .write_all(&[&text[..], lines, bytes].concat())
        .unwrap();
    let ended = server.process.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.totals()["block"], 3);
    ended.stdout_text()
}

#[test]
fn text_has_one_line_per_block_with_time_and_device() {
    let text = output("text");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("cold, 21 °"))
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains("127.0.0.1"), "{text}");
    assert!(lines[0].split(':').count() > 2, "no time in {text}");
    let lines = text
        .lines()
        .filter(|line| line.contains("one") || line.contains("two"));
    assert_eq!(lines.count(), 1, "{text}");
    assert!(
        !text.contains('\x1b'),
        "a device must not control the terminal: {text:?}"
    );
}

#[test]
fn hex_is_a_dump_of_every_byte() {
    let text = output("hex");
    assert!(text.contains("127.0.0.1"), "{text}");
    let packed = text.replace([' ', '\n'], "").to_lowercase();
    assert!(packed.contains("deadbeef"), "{text}");
    assert!(packed.contains("636f6c642c203231"), "{text}");
}

#[test]
fn the_output_none_is_empty_but_blocks_are_counted() {
    assert_eq!(output("none"), "");
}

#[test]
fn a_broken_pipe_ends_the_demo_with_one_line_and_a_failure() {
    let mut command = Server::command(&[]);
    command.stdout(Stdio::piped());
    let mut process = Process::start_unread(command);
    drop(process.take_stdout());
    let mut server = Server::of(process, &[]);
    let mut device = server.connect();
    // Sends until the daemon notices, so that it has something to print.
    while server.process.runs() && device.write_all(&SERIES[..34]).is_ok() {}
    let (ended, _) = server.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let line = "blocksd: standard output was closed by its reader";
    assert!(ended.stderr.contains(line), "{ended:?}");
}

#[test]
fn an_unread_log_loses_no_event() {
    let mut server = Server::start(&[]);
    server.process.leave_stderr();
    // The first fault is read from the log; later ones meet a broken pipe.
    for conn in 1..=5 {
        server.connect().write_all(b"\0\0").unwrap();
        let cut = "fault truncated header have=2 want=4";
        assert_eq!(
            server.story(conn),
            ["open", cut, "close eof blocks=0 bytes=0"]
        );
    }
    server.connect().write_all(SERIES).unwrap();
    assert_eq!(
        server.story(6).last().unwrap(),
        "close end blocks=3 bytes=93"
    );
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn messages_sent_before_the_signal_are_printed_before_the_end() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        let mut device = server.connect();
        server.wait_for("open", 1);
        device.write_all(&SERIES[..34].repeat(1000)).unwrap();
        server.process.signal(signal);
        let (ended, events) = server.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let blocks = events.iter().filter(|event| event["event"] == "block");
        assert_eq!(blocks.count(), 1000, "{signal}");
        let close = events.last().unwrap();
        assert_eq!(
            brief(close),
            "close shutdown blocks=1000 bytes=30000 series=\"open\""
        );
        let totals = ended.totals();
        assert_eq!(
            (totals["connection"], totals["block"], totals["byte"]),
            (1, 1000, 30_000)
        );
    }
}

#[test]
fn a_signal_under_load_ends_the_demo_with_totals_that_balance() {
    let mut server = Server::start(&[]);
    let devices: Vec<TcpStream> = (0..8).map(|_| server.connect()).collect();
    server.wait_for("open", 8);
    let load = SERIES[..34].repeat(10);
    thread::scope(|scope| {
        for mut device in devices {
            let load = &load;
            // Sends until the daemon has ended, without a pause that it could take for the end.
            scope.spawn(move || {
                while device.write_all(load).is_ok() {
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        while server.process.printed() < 1 << 20 {
            thread::yield_now();
        }
        let (ended, events) = server.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let count =
            |kind: &str| events.iter().filter(|event| event["event"] == kind).count() as u64;
        let closes = events.iter().filter(|event| event["event"] == "close");
        let blocks: u64 = closes.map(|close| close["blocks"].as_u64().unwrap()).sum();
        let totals = ended.totals();
        assert_eq!((count("open"), count("close")), (8, 8));
        assert_eq!((totals["connection"], totals["block"]), (8, blocks));
        assert_eq!((count("block"), totals["byte"]), (blocks, blocks * 30));
    });
}

/// A daemon that cannot print: its standard output is a full pipe that is not read.
fn blocked() -> (Server, Option<ChildStdout>, TcpStream) {
    let mut command = Server::command(&[]);
    command.stdout(Stdio::piped());
    let mut process = Process::start_unread(command);
    let stdout = process.take_stdout();
    let server = Server::of(process, &[]);
    let mut device = server.connect();
    device.set_nonblocking(true).unwrap();
    let load = SERIES[..34].repeat(2000);
    // Full once nothing is accepted for a while: the pipe, the queue and the sockets.
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(1500) {
        if device.write(&load).is_ok_and(|len| len != 0) {
            last = Instant::now();
        } else {
            thread::sleep(Duration::from_millis(5));
        }
    }
    (server, stdout, device)
}

#[test]
fn a_signal_ends_the_demo_even_if_its_output_is_not_read() {
    let (server, _stdout, _device) = blocked();
    server.process.signal("TERM");
    let ended = server.process.end();
    // Some received data was neither printed nor recorded.
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("received and not shown: "),
        "{ended:?}"
    );
    assert!(ended.totals()["block"] > 0);
}

#[test]
fn a_second_signal_ends_the_demo_at_once() {
    let (server, _stdout, _device) = blocked();
    server.process.signal("TERM");
    // Half a second after the daemon has seen the first signal, this counts as a second one.
    server.wait_until_stopping();
    thread::sleep(Duration::from_millis(600));
    server.process.signal("INT");
    let ended = server.process.end();
    assert_eq!(
        ended.code,
        Some(128 + 2),
        "not a success, since received data was not printed: {ended:?}"
    );
}

/// An installed program runs no file of the folder that it was built in.
#[test]
fn the_board_of_the_demo_needs_a_checkout() {
    let folder = TempDir::new().unwrap();
    let mut command = blocksd(&["demo", "--seconds", "1", "--firmware"]);
    command.current_dir(&folder);
    let ended = finish(command, b"");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("--firmware needs a checkout"),
        "{ended:?}"
    );
}
