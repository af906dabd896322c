//! `serve --record`: the recorded data, its files, and backpressure.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use blocksd::recorded::to_log::EventWriter;
use blocksd_recording::internals::filename;
use blocksd_recording::internals::storage::{Directory, Folder};
use blocksd_recording::{Compression, Log, LogContext, LogOptions, Retention};
use blocksd_tests::process::{Process, Server, run};
use blocksd_tests::recorded::{Sender, event, numbered, payload, prefixes, read_back, source};
use blocksd_tests::scrape;
use blocksd_tests::small_disk::SmallDisk;
use mcap::MessageStream;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const SETTINGS: LogOptions = LogOptions {
    compression: Compression::None,
    rotate_bytes: 1 << 30,
    rotate_after: Duration::from_secs(3600),
    sync_after: Duration::from_millis(20),
};

pub(crate) fn common(folder: impl Folder + 'static, max_bytes: Option<u64>) -> Arc<LogContext> {
    Arc::new(LogContext::new(
        Path::new(""),
        Arc::new(folder),
        Arc::default(),
        Retention::new(max_bytes),
    ))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of a test")
}

/// The file names in a folder, except that of the lock.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("text"));
    let names: BTreeSet<_> = names.filter(|name| name != filename::LOCK).collect();
    names.into_iter().collect()
}

#[test]
fn everything_is_recorded_with_its_device_and_events() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("made/by/the/daemon");
    let server = Server::start(&[
        "--record",
        text(&record),
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.1:0,framing=lines,decode=json",
        "--listen",
        "127.0.0.1:0,framing=stream",
    ]);
    let send = |framing: &str, bytes: &[u8]| {
        let mut stream = blocksd_tests::process::connect(server.addr_of(framing));
        stream.write_all(bytes).unwrap();
    };
    send("blocks", b"\0\0\0\x03abc\0\0\0\x01\xff\0\0\0\0");
    send("blocks", b"\0\0\0\x01x\0\0\0\x05cut");
    send("lines", b"{\"t\":1}\n[2]\n");
    send("stream", b"as it comes");
    let mut server = server;
    server.wait_for("close", 4);
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let names = files(&record);
    assert_eq!(names.len(), 1, "{names:?}");
    let bytes = fs::read(record.join(&names[0])).unwrap();
    let mut messages: Vec<_> = MessageStream::new(&bytes)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    messages.retain(|message| message.channel.topic != "/blocksd/events");
    let of = |encoding: &str| {
        let own = messages
            .iter()
            .filter(|message| message.channel.message_encoding == encoding);
        let rows = own.map(|message| {
            let metadata = &message.channel.metadata;
            assert_eq!(metadata["device"], "127.0.0.1");
            (
                message.channel.topic.as_str(),
                metadata["framing"].as_str(),
                message.sequence,
                message.data.to_vec(),
            )
        });
        rows.collect::<Vec<_>>()
    };
    let blocks = "/device/127.0.0.1/blocks";
    // Connections from one address are one device, whose sequence continues.
    let raw = of("raw");
    for (framing, payload) in [
        ("blocks", &b"abc"[..]),
        ("blocks", b"\xff"),
        ("blocks", b"x"),
    ] {
        assert!(
            raw.iter()
                .any(|(topic, of, _, data)| (*topic, *of, &data[..]) == (blocks, framing, payload)),
            "{raw:?}"
        );
    }
    let json: Vec<_> = of("json")
        .into_iter()
        .map(|(_, framing, _, data)| (framing, data))
        .collect();
    assert_eq!(
        json,
        [("lines", b"{\"t\":1}".to_vec()), ("lines", b"[2]".to_vec())]
    );
    let all = messages
        .iter()
        .filter(|message| message.channel.topic == blocks);
    assert!(all.map(|message| message.sequence).eq(0..5));
    let pieces: Vec<_> = raw
        .iter()
        .filter(|(topic, ..)| topic.ends_with("/pieces"))
        .collect();
    let joined = |framing: &str| -> Vec<u8> {
        let of = pieces.iter().filter(|(_, of, ..)| *of == framing);
        of.flat_map(|(.., data)| data.clone()).collect()
    };
    assert_eq!(joined("stream"), b"as it comes");
    assert_eq!(joined("blocks"), b"cut");

    let events = MessageStream::new(&bytes).unwrap().map(Result::unwrap);
    let events = events.filter(|message| message.channel.topic == "/blocksd/events");
    let events: Vec<Value> = events
        .map(|message| serde_json::from_slice(&message.data).unwrap())
        .collect();
    let count = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    assert_eq!(
        (count("open"), count("close"), count("end"), count("fault")),
        (4, 4, 1, 1),
        "{events:?}"
    );
    let fault = events
        .iter()
        .find(|event| event["event"] == "fault")
        .unwrap();
    assert_eq!(
        (&fault["have"], &fault["want"], &fault["device"]),
        (&3.into(), &5.into(), &"127.0.0.1".into())
    );
    assert!(count("piece") >= 1);
}

#[test]
fn a_second_daemon_is_refused_the_folder() {
    let folder = TempDir::new().unwrap();
    let first = Server::start(&["--record", text(folder.path())]);
    let second = run(
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--record",
            text(folder.path()),
        ],
        b"",
    );
    assert_eq!(second.code, Some(75), "{second:?}");
    assert!(
        second.stderr.contains("a daemon is recording to"),
        "{second:?}"
    );
    first.stop();
    Server::start(&["--record", text(folder.path())]).stop();
}

#[test]
fn a_folder_that_cannot_be_written_to_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let ended = run(
        &["serve", "--listen", "127.0.0.1:0", "--record", text(&file)],
        b"",
    );
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains(text(&file)), "{ended:?}");
    run(&["serve", "--record-sync", "5"], b"").assert_refused(2, "--record");
}

#[test]
fn a_stop_under_full_load_records_everything_received() {
    let folder = TempDir::new().unwrap();
    let args = ["--output", "none", "--metrics", "127.0.0.1:0"];
    let server = Server::start(&[&["--record", text(folder.path())], &args[..]].concat());
    let senders: Vec<_> = (0..8)
        .map(|sender| Sender::start(server.addr(), sender, 200, Duration::ZERO))
        .collect();
    scrape::wait_for(&server, "blocksd_blocks_total", |blocks| 20_000.0 <= blocks);
    let (ended, _) = server.stop();
    let sent: u64 = senders.into_iter().map(Sender::stop).sum();
    let received = ended.totals()["block"];
    let read = read_back(folder.path());
    assert!(0 < received && received <= sent, "{received} of {sent}");
    assert_eq!(read.len() as u64, received);
    prefixes(&read);
    assert!(
        files(folder.path())
            .iter()
            .all(|name| filename::is_sealed(name))
    );
}

#[test]
fn an_unread_output_does_not_delay_the_recording() {
    let folder = TempDir::new().unwrap();
    let args = ["--record", text(folder.path()), "--reply", "receipt"];
    let mut command = Server::command(&args);
    command.stdout(std::process::Stdio::piped());
    let mut server = Server::of(Process::start_unread(command), &args);
    let unread = server.process.take_stdout();
    let mut stream = server.connect();
    let count = 60_000;
    for n in 0..count {
        let payload = payload(numbered(0, n));
        stream
            .write_all(&u32::try_from(payload.len()).unwrap().to_be_bytes())
            .unwrap();
        stream.write_all(&payload).unwrap();
    }
    stream.write_all(&[0; 4]).unwrap();
    // The reply shows that everything is received, whether or not the output is read.
    std::io::Read::read_to_end(&mut stream, &mut Vec::new()).unwrap();
    drop(unread);
    let (ended, _) = server.stop();
    assert_eq!(ended.totals()["block"], count);
    assert_eq!(read_back(folder.path()).len() as u64, count);
}

#[test]
fn a_reader_that_goes_away_does_not_end_a_daemon_that_records() {
    let folder = TempDir::new().unwrap();
    let args = ["--record", text(folder.path()), "--reply", "receipt"];
    let mut command = Server::command(&args);
    command.stdout(std::process::Stdio::piped());
    let mut server = Server::of(Process::start_unread(command), &args);
    drop(server.process.take_stdout());
    for sender in 0..3 {
        let mut stream = server.connect();
        stream
            .write_all(&[&9_u32.to_be_bytes()[..], b"some text", &[0; 4]].concat())
            .unwrap();
        std::io::Read::read_to_end(&mut stream, &mut Vec::new()).unwrap();
        assert!(server.process.runs(), "{sender}");
    }
    let (ended, _) = server.stop();
    assert_eq!(
        (ended.code, ended.totals()["block"]),
        (Some(0), 3),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("the sink `output` failed; the others continue"),
        "{ended:?}"
    );
}

#[test]
fn a_stuck_output_is_given_up_at_the_end_and_everything_is_recorded() {
    let folder = TempDir::new().unwrap();
    let args = ["--record", text(folder.path()), "--reply", "receipt"];
    let mut command = Server::command(&args);
    command.stdout(std::process::Stdio::piped());
    let mut server = Server::of(Process::start_unread(command), &args);
    // Kept open, and never read.
    let _stdout = server.process.take_stdout();
    let mut stream = server.connect();
    let block = [&60_000_u32.to_be_bytes()[..], &[b'x'; 60_000]].concat();
    for _ in 0..20 {
        stream.write_all(&block).unwrap();
    }
    stream.write_all(&[0; 4]).unwrap();
    std::io::Read::read_to_end(&mut stream, &mut Vec::new()).unwrap();
    let (ended, _) = server.stop();
    assert_eq!(
        (ended.code, ended.totals()["block"]),
        (Some(0), 20),
        "{ended:?}"
    );
    let given_up = "the sink `output` failed; the others continue: standard output did not accept the last events";
    assert!(ended.stderr.contains(given_up), "{ended:?}");
    assert!(ended.stderr.contains("; not shown: "), "{ended:?}");
}

#[test]
fn a_full_disk_applies_backpressure_until_there_is_space() {
    let name = "a_full_disk_applies_backpressure_until_there_is_space";
    let Some(disk) = SmallDisk::mount(name) else {
        return;
    };
    disk.fill();
    let server = Server::start(&[
        "--record",
        text(disk.path()),
        "--output",
        "none",
        "--record-sync",
        "10",
    ]);
    let sender = Sender::start(server.addr(), 0, 50, Duration::from_millis(5));
    server.process.wait_for_error("devices are held back");
    // The disk is full and the daemon still runs: the data of the device waits.
    std::thread::sleep(Duration::from_millis(300));
    sender.stop();
    disk.make_room();
    server.process.wait_for_error("recording continues");
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let read = read_back(disk.path());
    assert_eq!(read.len() as u64, ended.totals()["block"]);
    prefixes(&read);
}

#[test]
fn a_stop_with_a_full_disk_reports_what_is_not_recorded() {
    let name = "a_stop_with_a_full_disk_reports_what_is_not_recorded";
    let Some(disk) = SmallDisk::mount(name) else {
        return;
    };
    let server = Server::start(&[
        "--record",
        text(disk.path()),
        "--output",
        "none",
        "--record-sync",
        "10",
    ]);
    let sender = Sender::start(server.addr(), 0, 500, Duration::from_millis(5));
    server.process.wait_for_error("devices are held back");
    let (ended, _) = server.stop();
    sender.stop();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("are not recorded"), "{ended:?}");
}

#[test]
fn a_file_size_limit_is_retried_and_does_not_end_the_daemon() {
    let folder = TempDir::new().unwrap();
    let args = ["--record", text(folder.path()), "--output", "none"];
    let daemon = Server::command(&args);
    let mut command = Command::new("sh");
    // In blocks of 512 or 1024 bytes, depending on the shell.
    command
        .args(["-c", "ulimit -f 64; exec \"$0\" \"$@\""])
        .arg(daemon.get_program())
        .args(daemon.get_args());
    let server = Server::of(Process::start(command), &args);
    let sender = Sender::start(server.addr(), 0, 500, Duration::from_millis(5));
    server.process.wait_for_error("devices are held back");
    let (ended, _) = server.stop();
    sender.stop();
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn files_are_rotated_by_length_and_sequences_continue() {
    let folder = TempDir::new().unwrap();
    let settings = LogOptions {
        rotate_bytes: 20_000,
        ..SETTINGS
    };
    let common = common(Directory::open(folder.path()).unwrap(), None);
    let mut writer = EventWriter::new(Log::new(settings, Arc::clone(&common), 41));
    let device = source(1);
    for n in 0..100 {
        writer
            .event(&event(&device, n * 10..n * 10 + 10, b""))
            .unwrap();
        writer.commit().unwrap();
    }
    writer.finish().unwrap();
    let names = files(folder.path());
    assert!(names.len() > 5, "{names:?}");
    assert!(names[0].starts_with("00000041-"), "{names:?}");
    assert_eq!(common.stats.read().files_sealed, names.len() as u64);
    assert!(read_back(folder.path()).into_iter().eq(0..1000));
    let mut sequence = 0;
    for name in names {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        for message in MessageStream::new(&bytes).unwrap() {
            assert_eq!(message.unwrap().sequence, sequence);
            sequence += 1;
        }
    }
}

#[test]
fn the_oldest_files_are_deleted_for_the_newest() {
    let folder = TempDir::new().unwrap();
    let settings = LogOptions {
        rotate_bytes: 20_000,
        ..SETTINGS
    };
    let max_bytes = 100_000;
    let common = common(Directory::open(folder.path()).unwrap(), Some(max_bytes));
    let mut writer = EventWriter::new(Log::new(settings, Arc::clone(&common), 1));
    let device = source(1);
    for n in 0..400 {
        writer
            .event(&event(&device, n * 10..n * 10 + 10, b""))
            .unwrap();
        writer.commit().unwrap();
    }
    writer.finish().unwrap();
    let read = read_back(folder.path());
    assert!(
        read.iter().copied().eq(read[0]..4000),
        "the newest, without a gap"
    );
    assert!(read.len() > 200 && read[0] > 0, "{}", read.len());
    let lens = files(folder.path())
        .into_iter()
        .map(|name| fs::metadata(folder.path().join(name)).unwrap().len());
    assert!(lens.sum::<u64>() <= max_bytes);
    let stats = common.stats.read();
    assert!(stats.files_deleted > 0 && stats.bytes_deleted > max_bytes);
}

#[test]
fn originals_of_repaired_files_count_and_are_deleted_with_the_oldest() {
    let folder = TempDir::new().unwrap();
    let begun = "20260101T000000Z";
    let originals = [1, 2].map(|n| format!("{n:08}-{begun}.mcap.lost"));
    for name in &originals {
        fs::write(folder.path().join(name), vec![0; 30_000]).unwrap();
    }
    fs::write(folder.path().join("notes.lost"), vec![0; 30_000]).unwrap();
    let settings = LogOptions {
        rotate_bytes: 20_000,
        ..SETTINGS
    };
    let common = common(Directory::open(folder.path()).unwrap(), Some(60_000));
    let mut writer = EventWriter::new(Log::new(settings, common, 3));
    let device = source(1);
    for n in 0..20 {
        writer
            .event(&event(&device, n * 10..n * 10 + 10, b""))
            .unwrap();
        writer.commit().unwrap();
    }
    writer.finish().unwrap();
    // More than 30,000 bytes were written, so one or both originals had to be deleted.
    let left = files(folder.path());
    assert!(!left.contains(&originals[0]), "{left:?}");
    assert!(left.contains(&"notes.lost".to_owned()), "{left:?}");
    let of_ours = left.iter().filter(|name| filename::number(name).is_some());
    let lens = of_ours.map(|name| fs::metadata(folder.path().join(name)).unwrap().len());
    assert!(lens.sum::<u64>() <= 60_000, "{left:?}");
    assert!(read_back(folder.path()).into_iter().eq(0..200));
}
