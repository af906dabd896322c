//! `blocksd read`, `recordings`, `verify` and `recover`, on synthetic recordings and on those of a daemon.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use blocksd_tests::process::{Ended, Process, Server, blocksd, run, wait_until};
use blocksd_tests::recording::{BEGIN, File, STEP, Sample, name, put};
use blocksd_tests::scrape;
use serde_json::{Value, json};

/// Runs a command on a path.
fn on(command: &str, path: &Path, more: &[&str]) -> Ended {
    let mut args = vec![command, path.to_str().unwrap()];
    args.extend(more);
    run(&args, b"")
}

fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The text of every block in JSON output.
fn texts(ended: &Ended) -> Vec<String> {
    let events = json_lines(&ended.stdout_text());
    let blocks = events.iter().filter(|event| event["event"] == "block");
    blocks
        .map(|block| block["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn read_prints_exactly_what_the_daemon_printed() {
    let folder = tempfile::tempdir().unwrap();
    for decode in ["raw", "json", "cbor"] {
        let folder = folder.path().join(decode);
        let args = [
            "--record",
            folder.to_str().unwrap(),
            "--decode",
            decode,
            "--after-end",
            "continue",
        ];
        let args = [&args[..], &["--max-block", "8", "--oversize", "pieces"]].concat();
        let mut server = Server::start(&args);
        let mut stream = server.connect();
        stream.write_all(b"\0\0\0\x02[]").unwrap();
        server.wait_for("block", 1);
        let wire =
            b"\0\0\0\x02{}\0\0\0\x01\xa0\0\0\0\x03ab\xff\0\0\0\0\0\0\0\x0ca long block\0\0\0\x09x";
        stream.write_all(wire).unwrap();
        drop(stream);
        server.wait_for("close", 1);
        let (_, stored) = server.stop();
        let ended = on("read", &folder, &["--output", "json"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let mut read = json_lines(&ended.stdout_text());
        // The start and the stop of the daemon are not in its output.
        let daemon = [read.remove(0), read.pop().unwrap()];
        assert_eq!(daemon.map(|it| it["event"].clone()), ["started", "stopped"]);
        assert_eq!(read, stored);
        let kinds: Vec<_> = stored
            .iter()
            .map(|it| it["event"].as_str().unwrap())
            .collect();
        for kind in ["open", "block", "end", "piece", "fault", "close"] {
            assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
        }
        let ended = on("verify", &folder, &[]);
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{ended:?}"
        );
    }
}

#[test]
fn a_recording_is_read_in_every_form_by_device_and_time() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    // Two sealed files, the second one later; with more than eight digits, files are ordered by number.
    let first = Sample {
        blocks: 1,
        chunks: 2,
        ..Sample::default()
    };
    put(directory, 2, "mcap", &first.sealed().0);
    let mut file = File::begin(Some(mcap::Compression::Zstd), false);
    let later = BEGIN + 3_600_000_000_000;
    file.block("d1", 2, later, b"later, \"quoted\"");
    file.end_chunk();
    file.block("d1", 3, later + STEP, b"\xff\0");
    file.end_chunk();
    let path = put(directory, 3, "mcap", &file.seal());
    fs::rename(&path, directory.join("100000000-20260101T010000Z.mcap")).unwrap();

    let ended = on("read", directory, &["--output", "raw", "--device", "d1"]);
    let want =
        b"d1 says 0, and says it again: 0d1 says 1, and says it again: 1later, \"quoted\"\xff\0";
    assert_eq!((ended.code, ended.stdout), (Some(0), want.to_vec()));

    let ended = on(
        "read",
        directory,
        &["--output", "csv", "--from", "2026-01-01T01:00:00Z"],
    );
    let want = "time,device,seq,len,text,base64,conn,part,session\n\
        2026-01-01T01:00:00.000000000Z,d1,2,15,\"later, \"\"quoted\"\"\",,,,\n\
        2026-01-01T01:00:00.010000000Z,d1,3,2,,/wA=,,,\n";
    assert_eq!((ended.code, ended.stdout_text().as_str()), (Some(0), want));

    // Time ranges that begin or end in the middle of a chunk.
    let times = |from, to| {
        let times = ["--from", from, "--to", to, "--output", "json"];
        texts(&on("read", directory, &times))
    };
    let (d1_opened, d1_said) = ("2026-01-01T00:00:00.02Z", "2026-01-01T00:00:00.03Z");
    assert_eq!(times(d1_opened, d1_said), [""; 0]);
    let stored = ["d1 says 0, and says it again: 0"];
    assert_eq!(times(d1_said, "2026-01-01T00:00:00.04Z"), stored);
    assert_eq!(times(d1_said, "2026-01-01T00:00:00.030000001Z"), stored);
    // All messages are older than this.
    let ended = on("read", directory, &["--from", "-10m"]);
    assert_eq!((ended.code, ended.stdout_text().as_str()), (Some(0), ""));

    let ended = on(
        "read",
        directory,
        &[
            "--output",
            "hex",
            "--device",
            "d1",
            "--from",
            "2026-01-01T01:00:00.01Z",
        ],
    );
    assert!(
        ended.stdout_text().contains("  00000000  ff 00 "),
        "{ended:?}"
    );
    let ended = on("read", directory, &["--device", "d0"]);
    assert_eq!(ended.stdout_text().lines().count(), 3, "{ended:?}");
    assert!(
        ended
            .stdout_text()
            .contains(" d0 #1 opened by 127.0.0.1:4000\n"),
        "{ended:?}"
    );
    // Decoded in another way than by the daemon.
    let ended = on(
        "read",
        directory,
        &[
            "--output",
            "json",
            "--decode",
            "json",
            "--to",
            "2026-01-01T00:00:00.02Z",
        ],
    );
    let events = json_lines(&ended.stdout_text());
    assert_eq!(events.last().unwrap()["fault"], "undecodable", "{ended:?}");
    on("read", directory, &["--from", "soon"]).assert_refused(2, "soon");
    on("read", &directory.join("none"), &[]).assert_refused(2, "none");
}

#[test]
fn losses_are_reported_and_the_rest_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let sample = Sample::default();
    let (mut bytes, stored) = sample.sealed();
    let at = bytes.windows(9).position(|it| it == b"d1 says 2").unwrap();
    bytes[at] ^= 1;
    let path = put(directory, 1, "mcap", &bytes);
    let ended = on("read", directory, &["--output", "json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let blocks = stored.iter().filter(|it| it.topic.ends_with("/blocks"));
    assert_eq!(
        texts(&ended).len(),
        blocks.count() - sample.blocks * sample.devices
    );
    assert!(ended.stderr.contains("CRC of the chunk"), "{ended:?}");
    assert!(
        ended.stderr.ends_with("bytes of the recording are lost\n"),
        "{ended:?}"
    );

    let ended = on("verify", &path, &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let printed = ended.stdout_text();
    assert!(printed.contains("CRC of the chunk"), "{printed}");
    assert!(
        printed.contains("/device/d1/blocks: sequence gap: expected 2, found 4"),
        "{printed}"
    );
    assert!(
        printed
            .lines()
            .all(|line| line.starts_with(path.to_str().unwrap())),
        "{printed}"
    );
    assert_eq!(ended.stderr, "blocksd: 1 of 1 files are not sound\n");

    // Into another folder, where it never overwrites a file.
    let ended = on("recover", &path, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout_text().contains("kept 12 blocks, 2 events"),
        "{ended:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);
    on("recover", &path, &[]).assert_refused(2, "recovered.mcap");
    let sound = put(directory, 2, "mcap", &sample.sealed().0);
    let ended = on("recover", &sound, &[]);
    assert!(
        ended.stdout_text().ends_with("sealed and sound already\n"),
        "{ended:?}"
    );
    let nothing = put(directory, 3, "mcap.part", b"nothing");
    let ended = on(
        "recover",
        &nothing,
        &["--output", directory.join("x").to_str().unwrap()],
    );
    assert_eq!(
        (ended.code, directory.join("x").exists()),
        (Some(1), false),
        "{ended:?}"
    );
    // The file has no complete chunk, so it is kept under another name.
    let ended = on("recover", directory, &[]);
    assert_eq!(
        (ended.code, nothing.exists()),
        (Some(1), false),
        "{ended:?}"
    );
}

#[test]
fn the_files_of_a_recording_are_listed() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for (number, compression) in [(1, None), (2, Some(mcap::Compression::Lz4))] {
        let sample = Sample {
            compression,
            ..Sample::default()
        };
        put(directory, number, "mcap", &sample.sealed().0);
    }
    let (torn, stored) = Sample::default().torn();
    put(directory, 3, "mcap.part", &torn[..torn.len() - 300]);
    let ended = on("recordings", directory, &["--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let rows = json_lines(&ended.stdout_text());
    let payload = stored.iter().filter(|it| it.topic.ends_with("/blocks"));
    let bytes: usize = payload.map(|it| it.data.len()).sum();
    let state = |row: &Value| row["state"].as_str().unwrap().to_owned();
    assert_eq!(
        rows.iter().map(state).collect::<Vec<_>>(),
        ["sealed", "sealed", "torn"]
    );
    for row in &rows[..2] {
        assert_eq!(row["blocks"], 16);
        assert_eq!(row["bytes"], bytes);
        assert_eq!(row["devices"], json!(["d0", "d1"]));
        assert_eq!(row["from"], "2026-01-01T00:00:00.000Z");
        assert_eq!(row["to"], "2026-01-01T00:00:00.170Z");
    }
    assert_eq!(rows[1]["compression"], "lz4");
    assert_eq!(rows[2]["blocks"], 12);
    assert_ne!(rows[2]["lost"], 0);
    let table = on("recordings", directory, &[]).stdout_text();
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("NAME"), "{table}");
    assert!(table.contains("  torn "), "{table}");
}

/// Events and the offsets of pieces are not payload.
#[test]
fn figures_are_bytes_of_payload() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("recording");
    let args = ["--max-block", "8", "--oversize", "pieces"];
    let args = [&args[..], &["--record", directory.to_str().unwrap()]].concat();
    let mut server = Server::start(&args);
    let mut stream = server.connect();
    let wire = b"\0\0\0\x02[]\0\0\0\x03abc\0\0\0\x0ca long block\0\0\0\0";
    stream.write_all(wire).unwrap();
    server.wait_for("close", 1);
    let payload = 2 + 3 + 12;
    let listed = |state: &str| {
        let ended = on("recordings", &directory, &["--json"]);
        let rows = json_lines(&ended.stdout_text());
        let [row] = &rows[..] else {
            panic!("{ended:?}");
        };
        assert_eq!(row["state"], state, "{row}");
        let path = directory.join(row["name"].as_str().unwrap());
        assert_eq!(row["size"], fs::metadata(&path).unwrap().len(), "{row}");
        assert_eq!(row["blocks"], 2, "{row}");
        (row["bytes"].as_u64().unwrap(), path)
    };
    // The file is written within 100 ms.
    wait_until("the payload is written", || {
        let ended = on("recordings", &directory, &["--json"]);
        json_lines(&ended.stdout_text())
            .iter()
            .any(|row| row["bytes"] == payload)
    });
    assert_eq!(listed("open").0, payload);
    server.stop();
    let (bytes, path) = listed("sealed");
    assert_eq!(bytes, payload);
    let table = on("recordings", &directory, &[]).stdout_text();
    assert!(table.contains("  17  "), "{table}");

    let mut part = path.clone().into_os_string();
    part.push(".part");
    let whole = fs::read(&path).unwrap();
    fs::write(&part, &whole[..whole.len() - 9]).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(listed("torn").0, payload);
    let ended = on("recover", &directory, &[]);
    assert!(
        ended.stdout_text().contains(", 17 bytes of payload; "),
        "{ended:?}"
    );
    assert_eq!(listed("sealed").0, payload);
    assert_eq!(on("verify", &directory, &[]).code, Some(0));
}

/// What a slow follower does not show, because it is deleted meanwhile, is reported with its number.
#[test]
fn a_follower_reports_what_was_deleted_before_it_was_read() {
    const LEN: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().to_str().unwrap();
    let mut args = vec!["--record", record, "--record-max-bytes", "16MiB"];
    args.extend(["--output", "none", "--metrics", "127.0.0.1:0"]);
    let server = Server::start(&args);
    let mut stream = server.connect();
    let send = |stream: &mut std::net::TcpStream, count: usize| {
        let block = [&(LEN as u32).to_be_bytes()[..], &[b'x'; LEN]].concat();
        for _ in 0..count {
            stream.write_all(&block).unwrap();
        }
    };
    send(&mut stream, 1);
    let mut command = blocksd(&["read", record, "--follow", "--output", "raw"]);
    command.stdout(std::process::Stdio::piped());
    let mut follower = Process::start_unread(command);
    let mut stdout = follower.take_stdout().unwrap();
    let mut shown = vec![0; LEN];
    stdout.read_exact(&mut shown).unwrap();
    // Nobody reads the output of the follower while 60 MB are recorded.
    send(&mut stream, 3_000);
    scrape::wait_for(&server, "blocksd_record_messages_synced_total", |it| {
        it >= 3_001.0
    });
    scrape::wait_for(&server, "blocksd_record_files_deleted_total", |it| {
        it >= 8.0
    });
    let reader = std::thread::spawn(move || {
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).unwrap();
        rest.len() / LEN
    });
    follower.wait_for_error("deleted before");
    send(&mut stream, 1);
    scrape::wait_for(&server, "blocksd_record_messages_synced_total", |it| {
        it >= 3_002.0
    });
    std::thread::sleep(Duration::from_secs(1));
    follower.signal("INT");
    let shown = 1 + reader.join().unwrap();
    let ended = follower.end();
    // blocksd: DIR: 9 files were deleted before they were read, with 1890 messages
    let missed: usize = ended
        .stderr
        .lines()
        .filter_map(|line| {
            line.split_once("with ")?
                .1
                .strip_suffix(" messages")?
                .parse::<usize>()
                .ok()
        })
        .sum();
    assert_eq!(shown + missed, 3_002, "{}", ended.stderr);
    assert!(1_000 < missed, "{}", ended.stderr);
    server.stop();
}

#[test]
fn an_open_recording_is_followed_through_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("kept");
    let record = folder.to_str().unwrap();
    let mut options = vec!["--record", record, "--record-compression", "none"];
    options.extend(["--record-rotate-size", "4096", "--record-sync", "5"]);
    let server = Server::start(&options);
    let mut stream = server.connect();
    let mut send = |text: &str| {
        let len = u32::try_from(text.len()).unwrap();
        let wire = [&len.to_be_bytes(), text.as_bytes()].concat();
        stream.write_all(&wire).unwrap();
    };
    send("first");
    let follower = Process::start(blocksd(&["read", record, "--follow", "--output", "raw"]));
    let wait = |len: usize| {
        let begin = std::time::Instant::now();
        while follower.printed() < len {
            assert!(
                begin.elapsed() < blocksd_tests::process::DEADLINE,
                "{} bytes",
                follower.printed()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait(5);
    // A file that is still being written must not be repaired, and its missing end is not an error.
    on("recover", &folder, &[]).assert_refused(75, "a daemon is recording");
    let ended = on("verify", &folder, &[]);
    assert!(
        ended.stdout_text().contains("open, being written"),
        "{ended:?}"
    );
    for number in 0..40 {
        send(&format!("{number:0100}"));
        // One by one, so that each is in its own chunk, and there are many files.
        wait(5 + 100 * (number + 1));
    }
    let sealed = fs::read_dir(&folder).unwrap();
    let sealed = sealed.filter(|it| it.as_ref().unwrap().path().extension().unwrap() == "mcap");
    assert!(sealed.count() > 1, "no rotation");
    drop(server);
    follower.signal("INT");
    let want: String = (0..40).map(|number| format!("{number:0100}")).collect();
    let ended = follower.end();
    assert_eq!(ended.stdout_text(), format!("first{want}"));
}

#[test]
fn the_recording_of_a_killed_daemon_can_be_recovered_by_hand() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (torn, stored) = Sample::default().torn();
    put(directory, 7, "mcap.part", &torn[..torn.len() - 1]);
    let ended = on("recover", directory, &["--output", "x"]);
    ended.assert_refused(2, "--output");
    let ended = on("recover", directory, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout_text().contains("kept 16 blocks, 2 events"),
        "{ended:?}"
    );
    assert!(!name(directory, 7, "mcap.part").exists());
    let ended = on("verify", directory, &[]);
    let printed = format!(
        "ok: 16 blocks of 2 devices, {} messages, 4 chunks\n",
        stored.len()
    );
    assert!(ended.stdout_text().ends_with(&printed), "{ended:?}");
}
