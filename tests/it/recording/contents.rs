//! What is in a recording: the connection and number of each message as the daemon printed them, and keys of later
//! versions.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;

use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions, MessageOrigin};
use blocksd_tests::process::{Server, run};
use blocksd_tests::recorded::sealed;
use serde_json::{Value, json};
use tempfile::TempDir;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn events(folder: &Path, more: &[&str]) -> Vec<Value> {
    let args = [&["read", text(folder), "--output", "json"], more].concat();
    let read = run(&args, b"");
    assert_eq!(read.code, Some(0), "{read:?}");
    let output = read.stdout_text();
    let events = output.lines().map(serde_json::from_str::<Value>);
    let events = events.map(Result::unwrap);
    // The output of `serve` has no events of the daemon itself.
    events
        .filter(|it| !["started", "stopped"].contains(&it["event"].as_str().unwrap()))
        .collect()
}

/// A message in the framing `lines`, longer than a piece.
fn long(name: &str) -> String {
    format!("{}\n", name.repeat(40))
}

#[test]
fn two_connections_of_one_device_are_read_as_they_were_served() {
    for more in [
        &["--framing", "lines", "--oversize", "pieces"][..],
        &["--framing", "stream"],
    ] {
        let folder = TempDir::new().unwrap();
        let record = folder.path().join("kept");
        let mut options = vec!["--record", text(&record), "--max-block", "64"];
        options.extend(["--record-sync", "1", "--record-rotate-size", "4096"]);
        // Without compression, so that the files are long enough.
        options.extend(["--record-compression", "none"]);
        options.extend(more);
        let mut server = Server::start(&options);
        let mut streams = [server.connect(), server.connect()];
        let mut count = 0;
        let is_stream = more.contains(&"stream");
        let mut send = |server: &mut Server, stream: &mut TcpStream, wire: &str| {
            stream.write_all(wire.as_bytes()).unwrap();
            // The daemon has received it, so no other message comes before it.
            count += 1;
            server.wait_for(if is_stream { "piece" } else { "block" }, count);
        };
        for n in 0..30 {
            for (at, stream) in streams.iter_mut().enumerate() {
                for part in 0..=n % 3 {
                    send(&mut server, stream, &format!("{at} says {n} {part}\n"));
                }
            }
        }
        if !is_stream {
            // Pieces of both connections in turn.
            let [first, second] = &mut streams;
            let (a, b) = (long("first"), long("second"));
            let is_piece = |event: &&Value| event["event"] == "piece";
            for at in [0, 70, 140] {
                let end = |text: &str| if at == 140 { text.len() } else { at + 70 };
                for (stream, text) in [(&mut *first, &a), (&mut *second, &b)] {
                    let before = server.wait_for("piece", 0).iter().filter(is_piece).count();
                    stream.write_all(&text.as_bytes()[at..end(text)]).unwrap();
                    // It is longer than the longest piece, so it makes one at least.
                    server.wait_for("piece", before + 1);
                }
            }
            let [first, second] = &mut streams;
            send(&mut server, first, "last of the first\n");
            send(&mut server, second, "\n");
        }
        // In turn, since the order of two closes at once may differ between output and recording.
        for (closed, stream) in (1..).zip(streams) {
            drop(stream);
            server.wait_for("close", closed);
        }
        let (ended, served) = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let messages: Vec<_> = served
            .iter()
            .filter(|it| ["block", "piece"].contains(&it["event"].as_str().unwrap()))
            .collect();
        let conns = |conn: u64| messages.iter().filter(|it| it["conn"] == conn).count();
        assert!(60 <= conns(1) && 60 <= conns(2), "{served:?}");
        assert!(1 < sealed(&record).len());
        assert_eq!(events(&record, &[]), served);
        assert_eq!(events(&record, &["--device", "127.0.0.1"]), served);

        // From the middle of one connection's messages.
        let from = messages[messages.len() / 2]["time"].as_str().unwrap();
        let later = served
            .iter()
            .filter(|it| from <= it["time"].as_str().unwrap());
        let later: Vec<_> = later.cloned().collect();
        assert_eq!(events(&record, &["--from", from]), later);

        // The CSV output has the same connections and numbers.
        let csv = run(&["read", text(&record), "--output", "csv"], b"");
        let mut rows = csv::Reader::from_reader(csv.stdout.as_slice());
        let names = [
            "time", "device", "seq", "len", "text", "base64", "conn", "part", "session",
        ];
        assert_eq!(rows.headers().unwrap(), names.as_slice());
        let numbers = messages
            .iter()
            .map(|it| ["seq", "len", "conn"].map(|key| it[key].to_string()));
        let of_rows = rows.records().map(|row| {
            let row = row.unwrap();
            [2, 3, 6].map(|at| row[at].to_owned())
        });
        assert!(of_rows.eq(numbers), "{csv:?}");

        // The repair of a file without its end, as a kill leaves it, keeps all of them.
        for file in sealed(&record) {
            let bytes = fs::read(&file).unwrap();
            let torn = file.with_extension("mcap.part");
            fs::write(torn, &bytes[..bytes.len() - 8]).unwrap();
            fs::remove_file(file).unwrap();
        }
        let recovered = run(&["recover", text(&record)], b"");
        assert_eq!(recovered.code, Some(0), "{recovered:?}");
        assert_eq!(events(&record, &[]), served);
        let verified = run(&["verify", text(&record)], b"");
        assert_eq!(verified.code, Some(0), "{verified:?}");
    }
}

/// Writes a message of a device, and its events.
fn write(folder: &Path, metadata: &[(&str, &str)], members: &str) {
    let mut log = Log::open(folder, LogOptions::default()).unwrap();
    let note = |event: &str, rest: &str| {
        format!(
            r#"{{"event":"{event}","conn":7,"device":"imu","time":"2026-11-27T12:00:00.000000000Z"{rest}{members}}}"#
        )
    };
    let notes = [
        note("open", r#","peer":"10.0.0.1:4000""#),
        note("close", r#","blocks":1,"bytes":5,"reason":"eof""#),
    ];
    let mut events = Channel::default();
    let mut event = |log: &mut Log, sequence: u32| {
        let spec = || ChannelSpec {
            topic: "/blocksd/events".to_owned(),
            encoding: "json".to_owned(),
            ..ChannelSpec::default()
        };
        let channel = log.channel(&mut events, spec).unwrap();
        let json = notes[sequence as usize].as_bytes();
        log.append(channel, sequence, 1_000, json).unwrap();
    };
    event(&mut log, 0);
    let own = [("device", "imu"), ("framing", "lines"), ("decode", "raw")];
    let metadata = own.iter().chain(metadata);
    let metadata = metadata.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let spec = || ChannelSpec {
        topic: "/device/imu/blocks".to_owned(),
        metadata: BTreeMap::from_iter(metadata),
        ..ChannelSpec::default()
    };
    let channel = log.channel(&mut Channel::default(), spec).unwrap();
    let message = std::iter::once(&b"hello"[..]);
    log.append_all(channel, MessageOrigin::new(7, 0), 0, 1_000, message)
        .unwrap();
    event(&mut log, 1);
    log.finish().unwrap();
}

#[test]
fn unknown_keys_of_channels_and_unknown_members_of_events_are_ignored() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let reserved = [
        ("session", "00000000000000000000000000000001"),
        ("identity", "certificate"),
        ("issuer", "CN=ca"),
        ("fingerprint", "sha256:00"),
        ("of a later version", "\u{1b}[31m"),
    ];
    write(folders[0].path(), &[], "");
    write(
        folders[1].path(),
        &reserved,
        r#","session":"1","nested":{"a":[1,null]}"#,
    );
    let [plain, extended] = folders.each_ref().map(|folder| {
        let path = text(folder.path());
        let verified = run(&["verify", path], b"");
        assert_eq!(verified.code, Some(0), "{verified:?}");
        let listed = run(&["recordings", path, "--json"], b"").stdout_text();
        let listed: Value = serde_json::from_str(listed.trim()).unwrap();
        assert_eq!(listed["devices"], json!(["imu"]));
        let outputs = ["json", "text", "csv", "hex"];
        outputs.map(|output| run(&["read", path, "--output", output], b"").stdout_text())
    });
    assert_eq!(plain, extended);
    assert!(
        plain[0].contains(r#""conn":7,"device":"imu","seq":0"#),
        "{plain:?}"
    );
    assert_eq!(plain[0].lines().count(), 3);
}
