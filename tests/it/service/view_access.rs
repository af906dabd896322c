//! The live view: wrong queries, and who may ask.

use std::fs;

use blocksd_tests::process::wait_until;
use blocksd_tests::scrape;
use tempfile::TempDir;

use super::view::{start, wait_for_entries};

#[test]
fn wrong_queries_are_refused_with_a_reason() {
    let (server, viewer) = start(&[]);
    let _device = server.connect();
    wait_for_entries(&viewer, "events", 1);
    for (path, reason) in [
        ("devices?nonsense=1", "unknown parameter \"nonsense\""),
        ("devices?state=alive", "state must be"),
        ("devices?detail=true&limit=201", "limit must be"),
        ("devices?offset=x", "offset must be"),
        ("devices?sort=size", "sort must be"),
        ("daemon?x", "unknown parameter \"x\""),
        ("tail?limit=0", "limit must be"),
        ("tail?limit=1001", "limit must be"),
        ("tail?after=-1", "after must be"),
        ("tail?level=loud", "level must be"),
        ("tail?follow=1", "follow must be"),
        ("tail?hex=yes", "hex must be"),
        ("faults?level=warn", "unknown parameter \"level\""),
        ("events?contains=a&contains=b", "more than once"),
        ("device", "device=NAME is needed"),
        ("device?device=a&device=b", "more than once"),
        ("plot?device=127.0.0.1", "field=NAME is needed"),
        ("plot?device=127.0.0.1&field=a&last_s=0", "last_s must be"),
        (
            "plot?device=127.0.0.1&field=a&columns=2001",
            "columns must be",
        ),
        ("csv?device=127.0.0.1&last_s=3601", "last_s must be"),
        ("csv", "device=NAME is needed"),
        ("tail?%1b%5b31m=1", "unknown parameter"),
    ] {
        let answer = viewer.ask(path);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.body.contains(reason), "{path}: {}", answer.body);
        let line = answer.body.strip_suffix('\n').expect("a line");
        assert!(
            !line.contains(|it: char| it.is_control()),
            "{path}: {line:?}"
        );
        assert!(answer.header.contains("text/plain"), "{}", answer.header);
    }
    for path in [
        "device?device=nobody",
        "plot?device=nobody&field=a",
        "csv?device=nobody",
        "nothing",
        "",
    ] {
        assert_eq!(viewer.ask(path).status, 404, "{path}");
    }
    server.stop();
}

#[test]
fn every_path_of_the_api_needs_the_token_and_has_the_headers() {
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "correct-horse").unwrap();
    let (server, viewer) = start(&["--http-token", token.to_str().unwrap()]);
    let _device = server.connect();
    let right = "Authorization: Bearer correct-horse\r\n";
    wait_until("the device is known", || {
        viewer
            .request("GET", "/api/v1/device?device=127.0.0.1", right)
            .status
            == 200
    });
    let check = |method: &str, path: &str, header: &str, status: u16| {
        let answer = viewer.request(method, path, header);
        assert_eq!(answer.status, status, "{method} {path} {header}");
        let header = answer.header.to_lowercase();
        for line in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "referrer-policy: no-referrer",
        ] {
            assert!(header.contains(line), "{line}: {header}");
        }
        assert!(!header.contains("access-control"), "{header}");
    };
    for path in [
        "devices",
        "daemon",
        "tail",
        "tail?follow=true",
        "faults",
        "events",
        "device?device=127.0.0.1",
        "plot?device=127.0.0.1&field=a",
        "csv?device=127.0.0.1",
        "nothing",
    ] {
        let path = format!("/api/v1/{path}");
        check("GET", &path, "", 401);
        check("GET", &path, "Authorization: Bearer correct-hors\r\n", 401);
        check("POST", &path, &format!("{right}Content-Length: 0\r\n"), 405);
        check(
            "GET",
            &path,
            &format!("{right}Sec-Fetch-Site: cross-site\r\n"),
            403,
        );
        if !path.ends_with("follow=true") {
            let status = if path.ends_with("nothing") { 404 } else { 200 };
            check("GET", &path, right, status);
        }
        check(
            "HEAD",
            &path,
            right,
            if path.ends_with("nothing") { 404 } else { 200 },
        );
    }
    check("GET", "/", "", 200);
    check("GET", "/", "Sec-Fetch-Site: cross-site\r\n", 403);
    check("GET", "/page/nothing.js", "", 401);
    let foreign =
        format!("GET / HTTP/1.1\r\nHost: rebound.example\r\n{right}Connection: close\r\n\r\n");
    assert_eq!(scrape::request(viewer.addr, &foreign).status, 421);
    server.stop();
}
