//! The server of the API: who may use it, and that it is bounded.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use blocksd_tests::process::{DEADLINE, Server, connect, run, wait_until};
use blocksd_tests::scrape::{self, Answer};
use tempfile::TempDir;

/// Number of connections that the server keeps, which docs/http-api.md names.
const CONNECTIONS: usize = 64;

fn start(more: &[&str]) -> (Server, SocketAddr) {
    let args = [&["--http", "127.0.0.1:0", "--output", "none"], more].concat();
    let server = Server::start(&args);
    let addr = scrape::http_addr(&server);
    wait_until("it is ready", || {
        ask(addr, "GET", "/readyz", "").status == 200
    });
    (server, addr)
}

/// Sends a request with these lines in its header, and the right host.
#[track_caller]
fn ask(addr: SocketAddr, method: &str, path: &str, header: &str) -> Answer {
    ask_host(addr, method, path, &format!("Host: {addr}\r\n{header}"))
}

/// The same, without a host.
#[track_caller]
fn ask_host(addr: SocketAddr, method: &str, path: &str, header: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\n{header}Connection: close\r\n\r\n");
    scrape::request(addr, &request)
}

#[track_caller]
fn assert_headers(answer: &Answer) {
    let header = answer.header.to_lowercase();
    for line in ["x-content-type-options: nosniff", "cache-control: no-store"] {
        assert!(header.contains(line), "{line}: {answer:?}");
    }
    assert!(!header.contains("access-control"), "{answer:?}");
}

#[test]
fn a_request_must_be_of_this_host_and_of_no_other_site() {
    let (server, addr) = start(&["--http-host", "box.example,box2"]);
    let port = addr.port();
    for (host, want) in [
        (&*format!("127.0.0.1:{port}"), 200),
        ("localhost", 200),
        ("BOX.example:443", 200),
        ("box2", 200),
        ("rebound.example", 421),
        (&*format!("127.0.0.2:{port}"), 421),
        ("localhost.rebound.example", 421),
        ("localhost:x@rebound.example", 421),
    ] {
        for path in ["/api/v1/devices", "/metrics", "/healthz", "/readyz", "/"] {
            let answer = ask_host(addr, "GET", path, &format!("Host: {host}\r\n"));
            assert_eq!(answer.status, want, "{host} {path}");
            assert_headers(&answer);
        }
    }
    assert_eq!(ask_host(addr, "GET", "/api/v1/devices", "").status, 400);
    let two = "Host: localhost\r\nHost: rebound.example\r\n";
    assert_eq!(ask_host(addr, "GET", "/api/v1/devices", two).status, 400);
    let absolute = "http://rebound.example/api/v1/devices";
    assert_eq!(ask(addr, "GET", absolute, "").status, 421);
    for (site, want) in [
        ("cross-site", 403),
        ("same-origin", 200),
        ("same-site", 200),
        ("none", 200),
    ] {
        let header = format!("Sec-Fetch-Site: {site}\r\n");
        let answer = ask(addr, "GET", "/api/v1/devices", &header);
        assert_eq!(answer.status, want, "{site}");
        assert_headers(&answer);
    }
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn only_get_and_head_are_allowed() {
    let (server, addr) = start(&[]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "X"] {
        for path in ["/api/v1/devices", "/metrics", "/healthz"] {
            let answer = ask(addr, method, path, "Content-Length: 0\r\n");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.header.contains("allow: GET, HEAD"), "{answer:?}");
            assert_headers(&answer);
        }
    }
    let head = ask(addr, "HEAD", "/api/v1/devices", "");
    assert_eq!((head.status, &*head.body), (200, ""));
    let unknown = ask(addr, "GET", "/api/v1/devices/", "");
    assert_eq!(unknown.status, 404);
    assert_headers(&unknown);
    let kind = ask(addr, "GET", "/api/v1/devices", "").header;
    assert!(kind.contains("content-type: application/json"), "{kind}");
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn everything_but_health_needs_the_token() {
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    let wrong = folder.path().join("wrong");
    fs::write(&token, "correct-horse\n").unwrap();
    fs::write(&wrong, "correct-horsf").unwrap();
    let (token, wrong) = (token.to_str().unwrap(), wrong.to_str().unwrap());
    let (server, addr) = start(&["--http-token", token]);
    for path in [
        "/api/v1/devices",
        "/metrics",
        "/page/",
        "/healthz/../metrics",
    ] {
        for authorization in [
            "",
            "Authorization: Bearer wrong-horse12\r\n",
            "Authorization: Bearer correct-hors\r\n",
            "Authorization: Bearer correct-horse1\r\n",
            "Authorization: Bearer \r\n",
            "Authorization: Basic correct-horse\r\n",
            "Authorization: correct-horse\r\n",
            "Authorization: Bearer correct-horse\r\nAuthorization: Bearer x\r\n",
        ] {
            let answer = ask(addr, "GET", path, authorization);
            assert_eq!(answer.status, 401, "{path} {authorization}");
            let header = answer.header.to_lowercase();
            assert!(header.contains("www-authenticate: bearer"), "{answer:?}");
            assert_headers(&answer);
        }
    }
    let right = "Authorization: Bearer correct-horse\r\n";
    assert_eq!(ask(addr, "GET", "/api/v1/devices", right).status, 200);
    assert_eq!(ask(addr, "GET", "/metrics", right).status, 200);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(addr, "GET", path, "").status, 200, "{path}");
    }
    let url = format!("http://{addr}");
    let ask = |more: &[&str]| run(&[&["devices", "--url", &url], more].concat(), b"");
    assert_eq!(ask(&["--token", token]).code, Some(0));
    for (more, hint) in [
        (&[][..], "; add --token FILE"),
        (
            &["--token", wrong],
            "; the token of --token FILE is another one",
        ),
    ] {
        let refused = ask(more);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("401 Unauthorized"), "{refused:?}");
        assert!(refused.stderr.contains(hint), "{refused:?}");
    }
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn other_hosts_need_a_token() {
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    let token = token.to_str().unwrap();
    let serve = |more: &[&str]| {
        let args = ["serve", "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"];
        run(&[&args[..], more].concat(), b"")
    };
    serve(&[]).assert_refused(2, "cannot listen on 0.0.0.0:0: other hosts can reach it");
    serve(&["--http-token", token]).assert_refused(2, token);
    fs::write(token, "\n").unwrap();
    serve(&["--http-token", token]).assert_refused(2, "the token is empty");
    fs::write(token, "correct horse").unwrap();
    serve(&["--http-token", token]).assert_refused(2, "visible ASCII");
    fs::write(token, "correct-horse").unwrap();
    let server = Server::start(&["--http", "0.0.0.0:0", "--http-token", token]);
    let port = scrape::http_addr(&server).port();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let right = "Authorization: Bearer correct-horse\r\n";
    assert_eq!(ask(addr, "GET", "/api/v1/devices", right).status, 200);
    // The address that stands for all is not the name of this host.
    let host = format!("Host: 0.0.0.0\r\n{right}");
    assert_eq!(ask_host(addr, "GET", "/api/v1/devices", &host).status, 421);
    assert_eq!(server.stop().0.code, Some(0));
    for key in ["--http-token", "--http-host"] {
        let args = ["serve", "--listen", "127.0.0.1:0", key, token];
        run(&args, b"").assert_refused(2, "");
    }
}

#[test]
fn a_connection_serves_many_requests_and_ends_when_it_is_idle() {
    let (server, addr) = start(&[]);
    let mut stream = connect(addr);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\nok\n") {
            let mut bytes = [0; 1024];
            let len = stream.read(&mut bytes).unwrap();
            assert_ne!(len, 0, "closed after {answer}");
            answer += std::str::from_utf8(&bytes[..len]).unwrap();
        }
    }
    // The timeout is 10 s, and that of the test 20 s.
    let begin = Instant::now();
    assert_eq!(stream.read(&mut [0; 1024]).unwrap_or(0), 0);
    assert!(Duration::from_secs(5) < begin.elapsed(), "closed early");
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn slow_and_many_connections_do_not_lock_out_others() {
    let (server, addr) = start(&[]);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    // Slow headers, connections without any, and clients that do not read their answers.
    let mut held: Vec<TcpStream> = Vec::new();
    for number in 0..4 * CONNECTIONS {
        let mut stream = connect(addr);
        let bytes = match number % 3 {
            0 => b"GET /api/v1/devices HTTP/1.1\r\nX: ".to_vec(),
            1 => Vec::new(),
            _ => request.repeat(100).into_bytes(),
        };
        stream.write_all(&bytes).ok();
        held.push(stream);
        assert_eq!(ask(addr, "GET", "/healthz", "").status, 200);
    }
    let is_open = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let peeked = (&*stream).read(&mut [0; 1 << 16]);
        !matches!(peeked, Ok(0))
            && !matches!(peeked, Err(error) if error.kind() != std::io::ErrorKind::WouldBlock)
    };
    wait_until("few connections are left", || {
        held.retain(is_open);
        held.len() <= CONNECTIONS
    });
    // The slow ones are closed after a while.
    let until = Instant::now() + DEADLINE;
    while !held.is_empty() {
        assert!(Instant::now() < until, "{} are open", held.len());
        held.retain(is_open);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn a_client_that_shuts_down_its_sending_side_is_answered() {
    let (server, addr) = start(&["--metrics", "127.0.0.1:0"]);
    for (addr, path) in [
        (addr, "/api/v1/devices"),
        (addr, "/metrics"),
        (scrape::addr(&server), "/metrics"),
    ] {
        for number in 0..30 {
            let mut stream = connect(addr);
            let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\n"),
                "{path} {number}: {answer}"
            );
        }
    }
    assert_eq!(server.stop().0.code, Some(0));
}

#[test]
fn the_server_of_metrics_has_no_api() {
    let server = Server::start(&["--metrics", "127.0.0.1:0"]);
    let addr = scrape::addr(&server);
    assert_eq!(scrape::get(addr, "/api/v1/devices").status, 404);
    let refused = run(&["devices", "--url", &format!("http://{addr}")], b"");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("that of --http"), "{refused:?}");
    server.stop();
}
