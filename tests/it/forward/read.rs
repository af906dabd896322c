//! `blocksd read` and `export` of a stream against those of the recording that it was forwarded from.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use blocksd_tests::link::{Condition, Link};
use blocksd_tests::nats::NatsServer;
use blocksd_tests::nats_wire::NatsWire;
use blocksd_tests::process::{
    Ended, Process, Server, blocksd, connect, run, wait_at_most, wait_until,
};
use blocksd_tests::skip::skipped;
use serde_json::Value;
use tempfile::TempDir;

use super::stream::wait_until_forwarded;

/// Time after which a test gives up reading over a slow way.
const SLOW_LIMIT: Duration = Duration::from_secs(90);

/// A recording, and the stream that it was forwarded to.
struct Forwarded {
    nats: NatsServer,
    folder: TempDir,
}

impl Forwarded {
    /// Records messages of all kinds in several files, and forwards them. Returns why that is not possible here.
    fn new() -> Result<Self, String> {
        let (nats, folder) = (NatsServer::start()?, TempDir::new().unwrap());
        let forwarded = Self { nats, folder };
        let server = forwarded.serve();
        forwarded.send(&server);
        wait_until_forwarded(&server, &forwarded.nats.url(), &forwarded.record());
        server.stop();
        // The last events: the connections of the stop.
        let last = forwarded.serve();
        wait_until_forwarded(&last, &forwarded.nats.url(), &forwarded.record());
        last.stop();
        Ok(forwarded)
    }

    fn record(&self) -> std::path::PathBuf {
        self.folder.path().join("kept")
    }

    fn serve(&self) -> Server {
        let forward = format!("{},durable=no,create=true", self.nats.url());
        Server::start(&[
            "--listen",
            "127.0.0.1:0,after-end=continue",
            "--listen",
            "127.0.0.1:0,framing=lines,max-block=64,oversize=pieces",
            "--record",
            self.record().to_str().unwrap(),
            "--record-rotate-size",
            "65536",
            "--metrics",
            "127.0.0.1:0",
            "--forward",
            &forward,
        ])
    }

    fn send(&self, server: &Server) {
        let to = server.addr().to_string();
        let long = "x".repeat(700_000);
        for (device, count) in [("dev.1", 700), ("dev.2", 30), ("dev.1", 50)] {
            let lines: String = (0..count)
                .map(|it| format!("{{\"t\":{it},\"name\":\"\u{1F980}\"}}\n"))
                .collect();
            let more = if device == "dev.2" { &*long } else { "" };
            let args = ["send", "--to", &to, "--session", "--device", device];
            let sent = run(&args, format!("{lines}{more}\n").trim_end().as_bytes());
            assert_eq!(sent.code, Some(0), "{sent:?}");
        }
        // Series, an empty message, bytes that are not text, and an end within a message.
        let mut stream = connect(server.addr());
        let wire = b"\0\0\0\x02{}\0\0\0\x03ab\xff\0\0\0\0\0\0\0\x01c\0\0\0\x01d\0\0\0\0\0\0\0\x09e";
        stream.write_all(wire).unwrap();
        drop(stream);
        // Pieces, in two connections.
        let lines = server.addr_of("lines");
        let mut streams = [connect(lines), connect(lines)];
        for round in 0..3 {
            for (index, stream) in streams.iter_mut().enumerate() {
                let text = format!("short {round}\n{}\n", "y".repeat(100 + 90 * index));
                stream.write_all(text.as_bytes()).unwrap();
            }
        }
        drop(streams);
    }

    /// Runs a command on the recording, and on the stream.
    fn both(&self, command: &str, more: &[&str]) -> [Ended; 2] {
        let record = self.record();
        [record.to_str().unwrap(), &self.nats.url()]
            .map(|of| run(&[&[command, of], more].concat(), b""))
    }

    /// Asserts that `read` prints the same bytes.
    #[track_caller]
    fn assert_same(&self, options: &[&str]) -> Ended {
        let [of_recording, of_stream] = self.both("read", options);
        assert_eq!(
            of_stream.code, of_recording.code,
            "{options:?} {of_stream:?}"
        );
        assert_eq!(of_stream.stderr, of_recording.stderr, "{options:?}");
        assert!(!of_stream.stdout.is_empty(), "{options:?}");
        let lines = |ended: &Ended| {
            let lines = ended.stdout.split(|byte| *byte == b'\n');
            lines.map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let (found, wanted) = (lines(&of_stream), lines(&of_recording));
        let differs = found
            .iter()
            .zip(&wanted)
            .position(|(one, other)| one != other);
        let shown = |lines: &[Vec<u8>], at: usize| -> String {
            let lines = lines.iter().skip(at.saturating_sub(3)).take(9);
            let lines = lines.map(|it| String::from_utf8_lossy(it).chars().take(200).collect());
            lines.collect::<Vec<String>>().join("\n")
        };
        if let Some(at) = differs {
            panic!(
                "{options:?} line {at}, with those around it:\n{}\nnot\n{}",
                shown(&found, at),
                shown(&wanted, at)
            );
        }
        assert_eq!(found.len(), wanted.len(), "{options:?}");
        of_stream
    }
}

#[test]
fn each_format_prints_the_same_of_the_stream_as_of_the_recording() {
    let name = "each_format_prints_the_same_of_the_stream_as_of_the_recording";
    let forwarded = match Forwarded::new() {
        Ok(forwarded) => forwarded,
        Err(reason) => return skipped(name, &reason),
    };
    assert!(2 < files(&forwarded.record()), "several files");
    for output in ["text", "json", "hex", "csv", "raw"] {
        for device in ["dev.1", "dev.2", "127.0.0.1"] {
            let options = ["--output", output, "--device", device];
            forwarded.assert_same(&options);
            forwarded.assert_same(&[&options[..], &["--last", "7"]].concat());
            forwarded.assert_same(&[&options[..], &["--last", "1h", "--unique"]].concat());
        }
    }
    // Whatever the order of the devices.
    let [of_recording, of_stream] = forwarded.both("read", &["--output", "json"]);
    assert_eq!(sorted(&of_stream), sorted(&of_recording));
    for decoded in ["csv", "parquet"] {
        let options = ["--device", "dev.1", "--output", decoded, "--decode", "json"];
        forwarded.assert_same(&options);
    }
    forwarded.assert_same(&[
        "--device", "dev.1", "--output", "csv", "--fields", "t", "--where", "t>690",
    ]);
}

#[test]
fn a_range_of_time_is_that_of_reception() {
    let name = "a_range_of_time_is_that_of_reception";
    let forwarded = match Forwarded::new() {
        Ok(forwarded) => forwarded,
        Err(reason) => return skipped(name, &reason),
    };
    let [of_recording, _] = forwarded.both("read", &["--output", "json", "--device", "dev.1"]);
    let times: Vec<String> = of_recording
        .stdout_text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "block")
        .map(|event| event["time"].as_str().unwrap().to_owned())
        .collect();
    // Some messages came in a later connection.
    let (first, middle) = (&times[0], &times[times.len() - 1]);
    assert_ne!(first, middle);
    for range in [
        &["--from", middle][..],
        &["--until", middle],
        &["--from", first, "--until", middle],
        &["--last", "5", "--until", middle],
        &["--last", "1ms", "--until", middle],
    ] {
        for output in ["json", "raw"] {
            let options = ["--output", output, "--device", "dev.1"];
            forwarded.assert_same(&[&options[..], range].concat());
        }
    }
    let [_, nothing] = forwarded.both("read", &["--until", "2020-01-01", "--device", "dev.1"]);
    assert_eq!((nothing.code, &*nothing.stdout), (Some(0), &b""[..]));
    let text = "no message was received before 2020-01-01 00:00:00";
    assert!(nothing.stderr.contains(text), "{nothing:?}");
    assert!(
        nothing
            .stderr
            .contains("the stream blocksd (site main) has messages from")
    );
}

#[test]
fn exports_of_the_stream_are_those_of_the_recording() {
    let name = "exports_of_the_stream_are_those_of_the_recording";
    let forwarded = match Forwarded::new() {
        Ok(forwarded) => forwarded,
        Err(reason) => return skipped(name, &reason),
    };
    for format in ["foxglove", "plotjuggler", "csv", "parquet"] {
        let out = forwarded.folder.path().join(format!("out.{format}"));
        let file = if format == "csv" {
            out.with_extension("d")
        } else {
            out
        };
        let options = [
            "--to", format, "--decode", "json", "--device", "dev.1", "--force",
        ];
        let exported = ["recording", "stream"].map(|source| {
            let of = match source {
                "recording" => forwarded.record().to_str().unwrap().to_owned(),
                _ => forwarded.nats.url(),
            };
            let out = ["--out", file.to_str().unwrap()];
            let ended = run(&[&["export", &of], &options[..], &out].concat(), b"");
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let content = match format {
                // The messages: files that are written in parts may have them in other chunks.
                "foxglove" | "plotjuggler" => messages_of(&file),
                _ => content(&file),
            };
            (content, ended.stdout_text())
        });
        assert_eq!(exported[0].1, exported[1].1);
        assert!(exported[0].0 == exported[1].0, "{format} differs");
    }
}

#[test]
fn reading_changes_nothing() {
    let name = "reading_changes_nothing";
    let forwarded = match Forwarded::new() {
        Ok(forwarded) => forwarded,
        Err(reason) => return skipped(name, &reason),
    };
    let mut wire = NatsWire::connect(&forwarded.nats.url());
    let mut state = || {
        let consumers = wire.request("$JS.API.CONSUMER.LIST.blocksd", "")["consumers"].to_string();
        // Those of the other clients of these tests may still be there.
        assert!(!consumers.contains("blocksd read"), "{consumers}");
        let info = wire.request("$JS.API.STREAM.INFO.blocksd", "");
        ["messages", "bytes", "first_seq", "last_seq"].map(|it| info["state"][it].clone())
    };
    let before = state();
    forwarded.assert_same(&["--device", "dev.1", "--last", "3"]);
    forwarded.assert_same(&["--device", "dev.1", "--output", "csv", "--decode", "json"]);
    assert_eq!(state(), before);
}

/// A part of a long message needs more than five seconds, and so does the answer with the last one.
#[test]
fn a_stream_is_read_over_a_slow_way() {
    let name = "a_stream_is_read_over_a_slow_way";
    let forwarded = match Forwarded::new() {
        Ok(forwarded) => forwarded,
        Err(reason) => return skipped(name, &reason),
    };
    let url = forwarded.nats.url();
    let (scheme, address) = url.split_once("//").unwrap();
    let link = Link::to(address.parse().unwrap());
    link.set(Condition::Slow(45_000));
    let (record, url) = (forwarded.record(), format!("{scheme}//{}", link.address()));
    let read = |of: &str| {
        let mut read = Process::start(blocksd(&["read", of, "--device", "dev.2"]));
        wait_at_most(SLOW_LIMIT, "all is read", || !read.runs());
        let read = read.end();
        assert_eq!((read.code, &*read.stderr), (Some(0), ""));
        read.stdout
    };
    assert!(read(&url) == read(record.to_str().unwrap()));
}

#[test]
fn a_stream_is_followed_over_a_restart_of_its_server() {
    let name = "a_stream_is_followed_over_a_restart_of_its_server";
    let mut forwarded = match Forwarded::new() {
        Ok(forwarded) => forwarded,
        Err(reason) => return skipped(name, &reason),
    };
    let url = forwarded.nats.url();
    let followed = ["json", "csv"].map(|output| {
        let options = ["--follow", "--device", "dev.1", "--output", output];
        Process::start(blocksd(&[&["read", &url], &options[..]].concat()))
    });
    let printed = |count: usize| {
        wait_until("everything is printed", || {
            followed.iter().all(|it| {
                it.printed_text()
                    .lines()
                    .filter(|line| line.contains("\u{1F980}"))
                    .count()
                    == count
            })
        });
    };
    printed(750);
    forwarded.nats.restart();
    let server = forwarded.serve();
    let to = server.addr().to_string();
    let lines = "\u{1F980} once more\n".repeat(20);
    let sent = run(
        &["send", "--to", &to, "--session", "--device", "dev.1"],
        lines.as_bytes(),
    );
    assert_eq!(sent.code, Some(0), "{sent:?}");
    printed(770);
    wait_until_forwarded(&server, &url, &forwarded.record());
    server.stop();
    let [of_recording, _] = forwarded.both("read", &["--device", "dev.1", "--output", "csv"]);
    let [_, csv] = followed;
    wait_until("the end is printed", || {
        csv.printed_text() == of_recording.stdout_text()
    });
    // Nothing is reported.
    assert_eq!(csv.error_text(), "");
}

#[test]
fn a_device_that_moves_is_in_the_order_of_the_stream() {
    let name = "a_device_that_moves_is_in_the_order_of_the_stream";
    let nats = match NatsServer::start() {
        Ok(nats) => nats,
        Err(reason) => return skipped(name, &reason),
    };
    let folder = TempDir::new().unwrap();
    let forward = format!("{},durable=no,create=true", nats.url());
    let daemons = ["one", "other"].map(|name| {
        let record = folder.path().join(name);
        let record = record.to_str().unwrap().to_owned();
        let args = [
            "--record",
            &record,
            "--metrics",
            "127.0.0.1:0",
            "--forward",
            &forward,
        ];
        Server::start(&args)
    });
    let mut wanted = Vec::new();
    for round in 0..6 {
        let text = format!("message of round {round}");
        let to = daemons[round % 2].addr().to_string();
        let sent = run(&["send", "--to", &to, &text], b"");
        assert_eq!(sent.code, Some(0), "{sent:?}");
        wanted.push(text);
        let read = || run(&["read", &nats.url(), "--output", "json"], b"");
        wait_until("it is in the stream", || {
            texts(&read()).len() == wanted.len()
        });
        // With the events of both daemons around them.
        wait_until("the events are in the stream", || {
            read().stdout_text().matches("\"event\":\"close\"").count() == wanted.len()
        });
        assert_eq!(texts(&read()), wanted);
    }
    let read = run(
        &[
            "read",
            &nats.url(),
            "--device",
            "127.0.0.1",
            "--output",
            "json",
        ],
        b"",
    );
    let kinds: Vec<String> = read
        .stdout_text()
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["event"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let story: Vec<_> = kinds.iter().filter(|kind| *kind != "end").collect();
    assert_eq!(story, ["open", "block", "close"].repeat(6));
}

/// The texts of the messages.
fn texts(ended: &Ended) -> Vec<String> {
    let events = ended.stdout_text();
    let events = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let blocks = events.filter(|event| event["event"] == "block");
    blocks
        .map(|it| it["text"].as_str().unwrap().to_owned())
        .collect()
}

fn sorted(ended: &Ended) -> Vec<String> {
    let mut lines: Vec<_> = ended.stdout_text().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Number of files of a recording.
fn files(record: &Path) -> usize {
    let names = fs::read_dir(record).unwrap().flatten();
    names
        .filter(|file| file.path().extension().is_some_and(|it| it == "mcap"))
        .count()
}

/// The content of a file, or of all files of a folder.
/// The messages of an MCAP file, each with its topic and times, in a fixed order.
fn messages_of(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let messages = mcap::MessageStream::new(&bytes).unwrap();
    let text = |it: mcap::Message<'_>| {
        let (topic, data) = (&it.channel.topic, &it.data);
        format!(
            "{topic} {} {} {} {data:?}",
            it.sequence, it.log_time, it.publish_time
        )
    };
    let mut messages: Vec<_> = messages.map(|it| text(it.unwrap()).into_bytes()).collect();
    messages.sort();
    messages
}

fn content(path: &Path) -> Vec<Vec<u8>> {
    match path.is_dir() {
        false => vec![fs::read(path).unwrap()],
        true => {
            let mut files: Vec<_> = fs::read_dir(path)
                .unwrap()
                .flatten()
                .map(|it| it.path())
                .collect();
            files.sort();
            files.iter().map(|file| fs::read(file).unwrap()).collect()
        }
    }
}
