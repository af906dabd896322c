//! The protocol of NATS, for messages that no client of ours sends: [`NatsWire`].

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// The recording of a [`forwarded_head`].
pub const INSTANCE: &str = "00000000000000a7";

/// A connection to a server.
#[derive(Debug)]
pub struct NatsWire(BufReader<TcpStream>);

/// The headers of a forwarded message, with these besides those that each needs, or in their place.
#[must_use]
pub fn forwarded_head<'a>(headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![
        ("Blocksd-Kind", "messages"),
        ("Blocksd-Instance", INSTANCE),
        ("Blocksd-Place", "1.00f3a5c7711d2e4b.2"),
        ("Blocksd-Count", "1"),
        ("Blocksd-First", "0"),
        ("Blocksd-Time", "1700000000000000000"),
        ("Blocksd-Conn", "7"),
    ];
    all.retain(|(name, _)| headers.iter().all(|(other, _)| name != other));
    all.extend(headers);
    all
}

impl NatsWire {
    /// Connects to the server of an address such as `nats://127.0.0.1:4222`.
    #[track_caller]
    pub fn connect(url: &str) -> Self {
        let stream = TcpStream::connect(url.trim_start_matches("nats://")).expect("a server");
        let timeout = Some(Duration::from_secs(20));
        stream.set_read_timeout(timeout).expect("a time-out");
        let mut wire = Self(BufReader::new(stream));
        assert!(wire.line().starts_with("INFO "));
        wire.send(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB reply 1\r\n");
        wire
    }

    /// Sends a request, and returns the answer.
    #[track_caller]
    pub fn request(&mut self, subject: &str, payload: &str) -> Value {
        let len = payload.len();
        self.send(format!("PUB {subject} reply {len}\r\n{payload}\r\n").as_bytes());
        self.answer()
    }

    /// Publishes a message with headers to a stream, and waits until it is stored. Returns its sequence number.
    #[track_caller]
    pub fn publish(&mut self, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> u64 {
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("NATS/1.0\r\n{}\r\n", lines.collect::<String>());
        self.publish_raw(subject, head.as_bytes(), payload)
    }

    /// As [`publish`](Self::publish), with all bytes of the headers.
    #[track_caller]
    pub fn publish_raw(&mut self, subject: &str, head: &[u8], payload: &[u8]) -> u64 {
        let (head_len, len) = (head.len(), head.len() + payload.len());
        self.send(format!("HPUB {subject} reply {head_len} {len}\r\n").as_bytes());
        self.send(head);
        self.send(payload);
        self.send(b"\r\n");
        let answer = self.answer();
        let sequence = answer["seq"].as_u64().filter(|it| *it != 0);
        sequence.unwrap_or_else(|| panic!("{answer}"))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("a server");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line of the server");
        line
    }

    fn answer(&mut self) -> Value {
        loop {
            let line = self.line();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("MSG") => {
                    let len: Option<usize> = words.next_back().and_then(|it| it.parse().ok());
                    let mut body = vec![0; len.expect("a length") + 2];
                    self.0.read_exact(&mut body).expect("a body");
                    return serde_json::from_slice(&body).expect("JSON");
                }
                Some("PING") => self.send(b"PONG\r\n"),
                Some("+OK" | "INFO") => {}
                _ => panic!("{line}"),
            }
        }
    }
}
