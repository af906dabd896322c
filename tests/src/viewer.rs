//! A client of the live view of a daemon: a [`Viewer`] asks, and a [`Follower`] reads lines as they come.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::process::{Server, connect};
use crate::scrape::{self, Answer};

/// Asks a daemon that was started with `--http`.
#[derive(Clone, Copy, Debug)]
pub struct Viewer {
    /// The address of the API.
    pub addr: SocketAddr,
}

/// An answer that does not end.
#[derive(Debug)]
pub struct Follower {
    reader: BufReader<TcpStream>,
    /// What follows the lines that were read.
    rest: Vec<u8>,
}

impl Viewer {
    /// A viewer of this daemon.
    #[track_caller]
    pub fn of(server: &Server) -> Self {
        let addr = scrape::http_addr(server);
        Self { addr }
    }

    /// Asks for a path below `/api/v1/`.
    #[track_caller]
    pub fn ask(&self, path: &str) -> Answer {
        self.request("GET", &format!("/api/v1/{path}"), "")
    }

    /// Sends a request, with these lines in its header.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, header: &str) -> Answer {
        let addr = self.addr;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {addr}\r\n{header}Connection: close\r\n\r\n"
        );
        scrape::request(addr, &request)
    }

    /// Asks for JSON, which must be one line.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        json_line(&answer.body)
    }

    /// Asks for lines that come over time.
    #[track_caller]
    pub fn follow(&self, path: &str) -> Follower {
        let mut stream = connect(self.addr);
        let host = self.addr;
        let request = format!("GET /api/v1/{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is read");
        let mut reader = BufReader::new(stream);
        let mut header = String::new();
        while !header.ends_with("\r\n\r\n") {
            let len = reader.read_line(&mut header).expect("a header");
            assert_ne!(len, 0, "{header}");
        }
        assert!(header.starts_with("HTTP/1.1 200 "), "{header}");
        let header = header.to_lowercase();
        for line in ["application/x-ndjson", "transfer-encoding: chunked"] {
            assert!(header.contains(line), "{header}");
        }
        Follower {
            reader,
            rest: Vec::new(),
        }
    }
}

impl Follower {
    /// The next line that is not empty.
    ///
    /// # Panics
    /// If the answer ends, or nothing comes.
    #[track_caller]
    pub fn line(&mut self) -> Value {
        loop {
            if let Some(len) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.rest.drain(..=len).collect();
                if len != 0 {
                    return json_line(std::str::from_utf8(&line).expect("UTF-8"));
                }
                continue;
            }
            let mut size = String::new();
            self.reader.read_line(&mut size).expect("a chunk");
            let size = usize::from_str_radix(size.trim_end(), 16).expect("a size");
            assert_ne!(size, 0, "the answer has ended");
            let mut chunk = vec![0; size + 2];
            self.reader.read_exact(&mut chunk).expect("a chunk");
            assert_eq!(chunk.split_off(size), b"\r\n");
            self.rest.extend(chunk);
        }
    }
}

/// Reads one line of JSON. It has no character that a terminal or an editor acts on.
#[track_caller]
pub fn json_line(text: &str) -> Value {
    let line = text.strip_suffix('\n').expect("a line");
    let acts = |it: char| it.is_control() || "\u{202e}\u{2066}\u{2028}\u{2029}".contains(it);
    assert!(!line.contains(acts), "{line:?}");
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

/// Encodes a value for a query.
pub fn encode(value: &str) -> String {
    value.bytes().fold(String::new(), |mut all, byte| {
        // A write to a string does not fail.
        let _ = write!(all, "%{byte:02x}");
        all
    })
}
