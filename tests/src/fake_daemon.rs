//! A stand-in for a daemon that answers requests of the HTTP API as a test wants: [`FakeDaemon`].

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// An HTTP server on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct FakeDaemon {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    is_down: Arc<AtomicBool>,
}

/// An answer.
#[derive(Debug)]
pub enum FakeAnswer {
    /// One JSON value.
    Json(String),
    /// A refusal with this status, and a line of text.
    Refusal(u16, String),
    /// Lines that are sent as they come, until the channel is closed.
    Lines(Receiver<String>),
}

impl FakeDaemon {
    /// Starts it. `answer` gets the path and query of each request.
    ///
    /// # Panics
    /// If the system refuses a port.
    pub fn start(answer: impl Fn(&str) -> FakeAnswer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let daemon = Self {
            addr: listener.local_addr().expect("bound"),
            requests: Arc::default(),
            is_down: Arc::default(),
        };
        let (answer, requests) = (Arc::new(answer), Arc::clone(&daemon.requests));
        let is_down = Arc::clone(&daemon.is_down);
        // The threads end with the process of the test.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, requests) = (Arc::clone(&answer), Arc::clone(&requests));
                let is_down = Arc::clone(&is_down);
                thread::spawn(move || {
                    // An error is a client that has closed its connection.
                    let _ = serve(&stream, |target, header| {
                        if is_down.load(Ordering::Relaxed) {
                            return None;
                        }
                        let mut all = requests.lock().unwrap_or_else(PoisonError::into_inner);
                        all.push(format!("{target}\n{header}"));
                        drop(all);
                        Some(answer(target))
                    });
                });
            }
        });
        daemon
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Path and query of the requests so far, and the lines of their headers.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cuts all connections at their next request, or answers again.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }
}

/// Answers the requests of a connection, until `answer` has none.
fn serve(
    stream: &TcpStream,
    answer: impl Fn(&str, &str) -> Option<FakeAnswer>,
) -> std::io::Result<()> {
    let mut to = stream;
    let mut lines = BufReader::new(stream).lines();
    while let Some(first) = lines.next() {
        let first = first?;
        let mut header = String::new();
        for line in lines.by_ref() {
            match line? {
                line if line.is_empty() => break,
                line => header += &format!("{line}\n"),
            }
        }
        let target = first.split(' ').nth(1).unwrap_or_default();
        match answer(target, &header) {
            None => return Ok(()),
            Some(FakeAnswer::Json(json)) => {
                let len = json.len();
                write!(to, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{json}")?;
            }
            Some(FakeAnswer::Refusal(status, text)) => {
                let len = text.len();
                write!(
                    to,
                    "HTTP/1.1 {status} No\r\nContent-Length: {len}\r\n\r\n{text}"
                )?;
            }
            Some(FakeAnswer::Lines(lines)) => {
                write!(to, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for line in lines {
                    write!(to, "{:x}\r\n{line}\r\n", line.len())?;
                }
                write!(to, "0\r\n\r\n")?;
            }
        }
    }
    Ok(())
}
