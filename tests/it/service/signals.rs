//! Signals: the first SIGTERM shuts down gracefully, signals in quick succession are one, and SIGHUP and others never end
//! collection.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Process, Server, blocksd, finish, run, wait_until};
use blocksd_tests::scrape;
use blocksd_tests::skip::skipped;
use blocksd_tests::small_disk::SmallDisk;
use tempfile::TempDir;

/// Delay after which a second signal ends the daemon at once: over half a second after the daemon has seen the first.
const LATER: Duration = Duration::from_millis(600);
const MESSAGE: &[u8] = b"\0\0\0\x02hi";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Asserts that a recording was ended properly: all files are sealed and sound.
#[track_caller]
fn assert_sealed(folder: &Path) {
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
    let torn: Vec<_> = names.filter(|name| name.ends_with(".part")).collect();
    assert!(torn.is_empty(), "{torn:?}");
    let verified = run(&["verify", text(folder)], b"");
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn signals_in_quick_succession_count_as_one() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("INT", "INT")] {
        let until = Instant::now() + DEADLINE;
        loop {
            let folder = TempDir::new().unwrap();
            let mut server = Server::start(&["--record", text(folder.path())]);
            let mut device = server.connect();
            device.write_all(MESSAGE).unwrap();
            server.wait_for("block", 1);
            let begin = Instant::now();
            // Like GNU timeout, and a terminal whose key is held down.
            for signal in [first, second, second] {
                server.process.signal(signal);
            }
            let ended = server.end().0;
            // If this machine was too slow for quick succession, tries again.
            if Duration::from_millis(500) < begin.elapsed() && Instant::now() < until {
                continue;
            }
            assert_eq!(ended.code, Some(0), "{first} {second}: {ended:?}");
            assert_sealed(folder.path());
            break;
        }
    }
}

#[test]
fn children_of_tests_have_default_dispositions_and_an_empty_mask() {
    let mut command = Command::new("cat");
    command.arg("/proc/self/status");
    let status = finish(command, b"").stdout_text();
    for name in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
        // The C library keeps signals 32 and 33 to itself.
        assert_eq!(mask & !(0b11 << 31), 0, "{name} {mask:x}");
    }
}

#[test]
fn tests_do_not_depend_on_the_signals_of_the_run() {
    let program = std::env::current_exe().unwrap();
    // Without the name of this binary.
    let (_, module) = module_path!().split_once("::").unwrap();
    let test = "children_of_tests_have_default_dispositions_and_an_empty_mask";
    let mut command = Command::new("env");
    command
        .args(["--ignore-signal=INT,QUIT,TERM,HUP,PIPE,USR1,USR2,ALRM,CHLD,XFSZ,WINCH"])
        .args(["--block-signal=INT,TERM,HUP,USR1"])
        .arg(program)
        .args(["--exact", "--nocapture"])
        .arg(format!("{module}::{test}"));
    let ended = finish(command, b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout_text().contains("1 passed"), "{ended:?}");
}

#[test]
fn gnu_timeout_ends_a_recording_gracefully() {
    let folder = TempDir::new().unwrap();
    let daemon = Server::command(&["--record", text(folder.path())]);
    let mut command = Command::new("timeout");
    command.arg("4").arg(daemon.get_program());
    command.args(daemon.get_args());
    let mut server = Server::of(Process::start(command), &[]);
    let mut device = server.connect();
    device.write_all(MESSAGE).unwrap();
    server.wait_for("block", 1);
    let ended = server.end().0;
    // The exit code of timeout if the time is over.
    assert_eq!(ended.code, Some(124), "{ended:?}");
    assert!(ended.stderr.contains("totals: "), "{ended:?}");
    assert_sealed(folder.path());
}

#[test]
fn a_second_signal_later_ends_at_once() {
    let name = "a_second_signal_later_ends_at_once";
    let Some(disk) = SmallDisk::mount(name) else {
        return;
    };
    let args = ["--record", text(disk.path()), "--record-sync", "10"];
    let server = Server::start(&args);
    let mut device = server.connect();
    let message = [&(1_u32 << 19).to_be_bytes()[..], &vec![b'x'; 1 << 19]].concat();
    device.write_all(&message.repeat(3)).unwrap();
    server.process.wait_for_error("devices are held back");
    // The daemon waits five seconds for a disk that refuses everything.
    server.process.signal("TERM");
    server.wait_until_stopping();
    std::thread::sleep(LATER);
    server.process.signal("INT");
    let ended = server.process.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(!ended.stderr.contains("totals: "), "{ended:?}");
}

#[test]
fn unrelated_signals_do_not_end_collection() {
    let mut server = Server::start(&[]);
    let mut device = server.connect();
    for (count, signal) in [
        "HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "STKFLT", "PIPE", "XFSZ",
        "WINCH", "CHLD", "CONT", "URG", "RTMIN", "RTMIN+7", "64",
    ]
    .into_iter()
    .enumerate()
    {
        server.process.signal(signal);
        device.write_all(MESSAGE).unwrap();
        server.wait_for("block", count + 1);
        assert!(server.process.runs(), "{signal}");
    }
    server.process.wait_for_error("SIGUSR1 ignored");
    server
        .process
        .wait_for_error("SIGHUP: there is nothing to reload");
    let ended = server.stop().0;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_run_of_limited_time_ends_gracefully() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("blocksd.toml");
    fs::write(&config, "for = \"3000ms\"").unwrap();
    let record = folder.path().join("record");
    for args in [&["--for", "3s"][..], &["--config", text(&config)]] {
        let args = [args, &["--record", text(&record)]].concat();
        let begin = Instant::now();
        let server = Server::start(&args);
        let mut device = server.connect();
        device.write_all(MESSAGE).unwrap();
        let ended = server.end().0;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.totals()["block"], 1, "{ended:?}");
        assert!(Duration::from_secs(3) <= begin.elapsed());
        assert_sealed(&record);
    }
    for time in ["0", "-1", "1w", "soon"] {
        run(&["serve", "--for", time], b"").assert_refused(2, time);
    }
}

#[test]
fn a_slow_start_answers_and_obeys_signals() {
    let folder = TempDir::new().unwrap();
    let args = ["--record", text(folder.path()), "--metrics", "127.0.0.1:0"];
    let server = Server::start(&args);
    let mut device = server.connect();
    device.write_all(MESSAGE).unwrap();
    let synced = "blocksd_record_messages_synced_total";
    scrape::wait_for(&server, synced, |blocks| blocks == 1.0);
    server.process.signal("KILL");
    drop(server);
    let files = fs::read_dir(folder.path()).unwrap();
    let mut files = files.map(|file| file.unwrap().path());
    let torn = files.find(|path| path.extension().is_some_and(|it| it == "part"));
    let torn = torn.expect("it was killed");
    // Many chunks of unknown length, which must be searched byte by byte.
    let file = fs::File::options().write(true).open(&torn).unwrap();
    if file.set_len(64 << 30).is_err() {
        skipped(
            "a_slow_start_answers_and_obeys_signals",
            "the file system has no large files",
        );
        return;
    }
    let process = Process::start(Server::command(&args));
    process.wait_for_error("metrics on ");
    let addr = process.error_text();
    let addr = addr
        .lines()
        .find_map(|line| line.strip_prefix("metrics on "));
    let addr = addr.unwrap().parse().unwrap();
    wait_until("the recording is repaired", || {
        let ready = scrape::get(addr, "/readyz");
        assert_eq!(ready.status, 503);
        ready.body == "repairing the recording\n"
    });
    assert_eq!(scrape::get(addr, "/healthz").status, 200);
    assert_eq!(scrape::get(addr, "/metrics").status, 200);
    process.signal("HUP");
    let begin = Instant::now();
    process.signal("TERM");
    let ended = process.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(begin.elapsed() < DEADLINE);
    assert!(!ended.stderr.contains("listening on"), "{ended:?}");
    // Nothing is lost: the next start has the same to repair.
    assert!(torn.exists());
}

#[test]
fn other_commands_are_ended_by_signals() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::start(&["--record", text(folder.path())]);
    let addr = server.addr().to_string();
    let mut device = server.connect();
    device.write_all(MESSAGE).unwrap();
    let mut connections = 1;
    for signal in ["TERM", "INT", "HUP"] {
        for args in [
            &["read", "--follow", text(folder.path())][..],
            &["send", "--to", &addr],
            &[
                "send",
                "--to",
                "127.0.0.1:1",
                "--connect-timeout",
                "60",
                "x",
            ],
            &["server", "--port", "0"],
        ] {
            let mut process = Process::start(blocksd(args));
            // Waits until it is at work, as far as that is visible.
            match args {
                ["read", ..] => wait_until("the command prints", || process.printed() > 0),
                ["server", ..] => drop(process.line("Listening at")),
                [_, _, to, ..] if *to == addr => {
                    connections += 1;
                    server.wait_for("open", connections);
                }
                _ => std::thread::sleep(Duration::from_secs(1)),
            }
            assert!(process.runs(), "{args:?}");
            process.signal(signal);
            assert_eq!(process.end().code, None, "{args:?} {signal}");
        }
    }
    server.stop();
}
