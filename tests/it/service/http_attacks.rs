//! Clients that misuse the HTTP server: they cannot lock out others, and their connections are bounded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Server, connect, wait_until};
use blocksd_tests::scrape;

/// Number of connections that the server keeps, which docs/metrics.md names.
const CONNECTIONS: usize = 64;

fn start() -> (Server, SocketAddr) {
    let server = Server::start(&["--metrics", "127.0.0.1:0", "--output", "none"]);
    let addr = scrape::addr(&server);
    wait_until("it is ready", || scrape::get(addr, "/readyz").status == 200);
    (server, addr)
}

/// Calls `attack` again and again, on a thread of its own, until the returned guard is dropped.
struct Attack(Arc<AtomicBool>, Option<thread::JoinHandle<()>>);

impl Attack {
    fn start(every: Duration, mut attack: impl FnMut() + Send + 'static) -> Self {
        let over = Arc::<AtomicBool>::default();
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                attack();
                thread::sleep(every);
            }
        });
        Self(over, Some(thread))
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().map(thread::JoinHandle::join);
    }
}

/// Requests every page for several times as long as the server keeps a slow connection.
#[track_caller]
fn assert_all_pages_answer(addr: SocketAddr) {
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(scrape::get(addr, path).status, 200, "{path}");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Number of these connections that the server has not closed.
fn open(connections: &mut Vec<TcpStream>) -> usize {
    connections.retain_mut(|stream| {
        stream.set_nonblocking(true).unwrap();
        !matches!(stream.read(&mut [0; 1024]), Ok(0))
            && stream.take_error().is_ok_and(|error| error.is_none())
            && !matches!(stream.peek(&mut [0]), Err(error) if error.kind() != std::io::ErrorKind::WouldBlock)
    });
    connections.len()
}

#[test]
fn slow_requests_do_not_lock_out_others() {
    let (server, addr) = start();
    let mut slow = Vec::new();
    // 100 requests a second that never end.
    let attack = Attack::start(Duration::from_millis(10), move || {
        let mut stream = connect(addr);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").ok();
        slow.push(stream);
    });
    assert_all_pages_answer(addr);
    drop(attack);
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn clients_that_do_not_read_their_answers_do_not_lock_out_others() {
    let (server, addr) = start();
    let mut unread = Vec::new();
    let attack = Attack::start(Duration::from_millis(10), move || {
        let mut stream = connect(addr);
        stream
            .write_all(&b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50))
            .ok();
        unread.push(stream);
    });
    assert_all_pages_answer(addr);
    drop(attack);
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn connections_are_bounded_and_a_request_ends_within_seconds() {
    let (server, addr) = start();
    let begin = Instant::now();
    let mut silent: Vec<_> = (0..3 * CONNECTIONS).map(|_| connect(addr)).collect();
    // A client that finds all places taken is served.
    assert_eq!(scrape::get(addr, "/healthz").status, 200);
    let until = Instant::now() + DEADLINE;
    while CONNECTIONS < open(&mut silent) {
        assert!(Instant::now() < until, "{} are open", silent.len());
        thread::sleep(Duration::from_millis(10));
    }
    // All are closed by the timeout, and none before it for another reason.
    while 0 < open(&mut silent) {
        assert!(Instant::now() < until, "{} are open", silent.len());
        thread::sleep(Duration::from_millis(10));
    }
    assert!(Duration::from_secs(1) < begin.elapsed());
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn a_connection_serves_one_request() {
    let (server, addr) = start();
    for request in [
        "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let begin = Instant::now();
        let mut stream = connect(addr);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset follows the answer if the server has not read all of the request.
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{request}: {answer}");
        assert!(answer.ends_with("\r\n\r\nok\n"), "{request}: {answer}");
        assert!(begin.elapsed() < DEADLINE, "{request}");
    }
    // More headers, and longer ones, than the server reads.
    for headers in [
        "X: y\r\n".repeat(1_000),
        format!("X: {}\r\n", "y".repeat(100_000)),
    ] {
        let mut stream = connect(addr);
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        stream.write_all(headers.as_bytes()).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert_eq!(scrape::get(addr, "/healthz").status, 200);
    assert_eq!(server.stop().0.code, Some(0));
}
