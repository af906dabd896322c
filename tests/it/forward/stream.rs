//! The oracle: what is in a stream against what is in a recording.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blocksd_tests::nats::{NatsServer, read_stream};
use blocksd_tests::process::{Server, run, wait_until};
use blocksd_tests::scrape;
use blocksd_tests::skip::skipped;
use serde_json::Value;
use tempfile::TempDir;

/// A message: session, number, and payload.
type Recorded = (String, u64, Vec<u8>);

/// The messages of each device, in order.
pub(super) type Messages = BTreeMap<String, Vec<Recorded>>;

/// The messages of a recording.
#[track_caller]
pub(super) fn recorded(folder: &Path) -> Messages {
    let path = folder.to_str().expect("UTF-8");
    let read = run(&["read", path, "--output", "json"], b"");
    assert_eq!(read.code, Some(0), "{read:?}");
    let mut messages = Messages::new();
    for line in read.stdout_text().lines() {
        let event: Value = serde_json::from_str(line).expect("an event");
        if event["event"] != "block" {
            continue;
        }
        let payload = match event["base64"].as_str() {
            Some(text) => STANDARD.decode(text).expect("base64"),
            None => event["text"].as_str().expect("a text").into(),
        };
        let device = event["device"].as_str().expect("a device").to_owned();
        let number = event["seq"].as_u64().expect("a number");
        let session = event["session"].as_str().unwrap_or_default().to_owned();
        let of = messages.entry(device).or_default();
        of.push((session, number, payload));
    }
    messages
}

/// The messages of a stream, of all recordings.
#[track_caller]
pub(super) fn forwarded(url: &str, stream: &str) -> Messages {
    let messages = read_stream(url, stream);
    let (messages, is_whole) = joined(&messages);
    assert!(is_whole, "a message is not complete");
    by_device(messages)
}

/// As [`forwarded`]; of the last message, some parts may be missing.
#[track_caller]
fn forwarded_so_far(url: &str, stream: &str) -> Messages {
    by_device(joined(&read_stream(url, stream)).0)
}

fn by_device(messages: Vec<(String, String, Recorded)>) -> Messages {
    let mut devices = Messages::new();
    for (_, device, message) in messages {
        devices.entry(device).or_default().push(message);
    }
    devices
}

/// The messages of a stream by their recording.
#[track_caller]
pub(super) fn by_recording(stream: &[Value]) -> BTreeMap<String, Messages> {
    let mut recordings = BTreeMap::<String, Messages>::new();
    let (messages, is_whole) = joined(stream);
    assert!(is_whole, "a message is not complete");
    for (recording, device, message) in messages {
        let messages = recordings.entry(recording).or_default();
        messages.entry(device).or_default().push(message);
    }
    recordings
}

/// The messages of a stream in its order, each with its recording and device, and whether it ends with a whole one. Parts of long
/// messages are joined.
#[track_caller]
fn joined(stream: &[Value]) -> (Vec<(String, String, Recorded)>, bool) {
    let mut messages = Vec::new();
    let mut joined: BTreeMap<(String, String), Vec<u8>> = BTreeMap::new();
    for message in stream {
        let header = |name: &str| message["headers"][name].as_str();
        if header("Blocksd-Kind") == Some("events") {
            continue;
        }
        let subject = message["subject"].as_str().expect("a subject");
        let token = subject.rsplit('.').next().expect("a token");
        let device = decoded(token);
        let instance = header("Blocksd-Instance").expect("a recording").to_owned();
        let key = (instance.clone(), device.clone());
        let first: u64 = header("Blocksd-First")
            .expect("a number")
            .parse()
            .expect("a number");
        let session = header("Blocksd-Session").unwrap_or_default().to_owned();
        let payloads = message["payloads"].as_array().expect("a list");
        for (payload, number) in payloads.iter().zip(first..) {
            let payload = STANDARD
                .decode(payload.as_str().expect("a text"))
                .expect("base64");
            let mut whole = joined.remove(&key).unwrap_or_default();
            whole.extend_from_slice(&payload);
            let (offset, len) = header("Blocksd-Part")
                .and_then(|it| it.split_once('/'))
                .map_or((0, whole.len()), |(offset, len)| {
                    (
                        offset.parse().expect("a number"),
                        len.parse().expect("a number"),
                    )
                });
            assert_eq!(whole.len(), offset + payload.len(), "{subject}");
            if whole.len() < len {
                joined.insert(key.clone(), whole);
                continue;
            }
            let message = (session.clone(), number, whole);
            messages.push((instance.clone(), device.clone(), message));
        }
    }
    (messages, joined.is_empty())
}

/// A server, and a folder for the recording of a daemon that forwards to it.
pub(super) struct OneServer {
    pub(super) nats: NatsServer,
    folder: TempDir,
}

impl OneServer {
    /// Starts a server for this test, which is skipped if that is not possible.
    pub(super) fn start(test: &str) -> Option<Self> {
        match NatsServer::start() {
            Ok(nats) => Some(Self {
                nats,
                folder: TempDir::new().expect("a folder for temporary files"),
            }),
            Err(reason) => {
                skipped(test, &reason);
                None
            }
        }
    }

    /// The folder of a recording.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The recording of [`serve`](Self::serve).
    pub(super) fn record(&self) -> PathBuf {
        self.folder("kept")
    }

    pub(super) fn url(&self) -> String {
        self.nats.url()
    }

    /// The value of `--forward` to it.
    pub(super) fn forward(&self) -> String {
        format!("{},durable=no,create=true", self.url())
    }

    /// Starts a daemon that forwards to it.
    #[track_caller]
    pub(super) fn serve(&self) -> Server {
        serve(&self.record(), &self.forward(), &[])
    }

    /// Waits until everything that is recorded is in the stream.
    #[track_caller]
    pub(super) fn wait_until_forwarded(&self, server: &Server) {
        wait_until_forwarded(server, &self.url(), &self.record());
    }

    /// Number of messages of devices in the messages of the stream.
    #[track_caller]
    pub(super) fn counts(&self) -> Vec<usize> {
        self.counts_in(".dev.")
    }

    /// The same of the subjects that contain a text.
    #[track_caller]
    pub(super) fn counts_in(&self, subjects: &str) -> Vec<usize> {
        let stream = read_stream(&self.url(), "blocksd");
        let devices = stream.iter().filter(|it| {
            let subject = it["subject"].as_str().unwrap_or_default();
            subject.contains(subjects)
        });
        let counts = devices.map(|it| it["payloads"].as_array().map_or(0, Vec::len));
        counts.collect()
    }

    /// Checks that the stream has each recorded message once, and no other.
    #[track_caller]
    pub(super) fn assert_same(&self) {
        assert_same(
            &forwarded(&self.url(), "blocksd"),
            &recorded(&self.record()),
        );
    }
}

/// Starts a daemon that forwards its recording, with further options.
#[track_caller]
pub(super) fn serve(record: &Path, forward: &str, options: &[&str]) -> Server {
    let record = record.to_str().expect("UTF-8");
    let args = [
        "--record",
        record,
        "--metrics",
        "127.0.0.1:0",
        "--forward",
        forward,
    ];
    Server::start(&[&args, options].concat())
}

/// Sends lines over a connection without a session.
#[track_caller]
pub(super) fn send_lines(server: &Server, lines: &str) {
    let to = server.addr().to_string();
    let sent = run(&["send", "--to", &to], lines.as_bytes());
    assert_eq!(sent.code, Some(0), "{sent:?}");
}

/// Number of outages of a test: 200 in the long form.
pub(super) fn rounds() -> u64 {
    let rounds = std::env::var("BLOCKSD_TEST_ROUNDS");
    rounds.ok().and_then(|it| it.parse().ok()).unwrap_or(10)
}

/// Waits until the cluster of `--forward` has a message.
#[track_caller]
pub(super) fn wait_until_stored(server: &Server, forward: &str) {
    let servers = forward.split(',').filter(|it| !it.contains('='));
    let to = servers.collect::<Vec<_>>().join(",");
    let name = format!("blocksd_forward_messages_total{{to=\"{to}\"}}");
    scrape::wait_for(server, &name, |count| 0.0 < count);
}

/// Waits until everything that is recorded is in the stream.
#[track_caller]
pub(super) fn wait_until_forwarded(server: &Server, url: &str, record: &Path) {
    wait_until("nothing waits", || {
        let backlog = format!("blocksd_forward_backlog_bytes{{to=\"{url}\"}}");
        scrape::sample(server, &backlog) == 0.0
    });
    let wanted = recorded(record);
    wait_until("everything is forwarded", || {
        let counts = |of: &Messages| of.values().map(Vec::len).sum::<usize>();
        counts(&wanted) <= counts(&forwarded_so_far(url, "blocksd"))
    });
}

/// A name, from its token in a subject.
fn decoded(token: &str) -> String {
    let mut parts = token.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (byte, rest) = part.split_at(2);
        let byte = u8::from_str_radix(byte, 16).expect("two digits");
        name.push(byte.into());
        name.push_str(rest);
    }
    name
}

/// Compares both, and says where they differ first.
#[track_caller]
pub(super) fn assert_same(forwarded: &Messages, recorded: &Messages) {
    let names = |of: &Messages| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(forwarded), names(recorded));
    for (device, wanted) in recorded {
        let found = &forwarded[device];
        let differs = found
            .iter()
            .zip(wanted)
            .position(|(one, other)| one != other);
        assert_eq!(
            (found.len(), differs),
            (wanted.len(), None),
            "{device}: {:?}",
            differs.map(|at| (&found[at], &wanted[at]))
        );
    }
}
