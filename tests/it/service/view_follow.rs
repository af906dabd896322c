//! The live view: answers that do not end.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use blocksd_tests::process::{DEADLINE, wait_until};
use blocksd_tests::viewer::Follower;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::Read;

use super::view::{start, wait_for_entries, wait_for_messages};
use crate::engine::admission::from;

/// Number of connections that the server keeps, which docs/http-api.md names.
const CONNECTIONS: usize = 64;

#[track_caller]
fn numbers(follower: &mut Follower, count: usize) -> Vec<u64> {
    let lines = (0..count).map(|_| follower.line());
    let numbers = lines.map(|line| line["value"]["n"].as_u64());
    numbers.map(|it| it.expect("a message")).collect()
}

#[test]
fn lines_come_as_they_are_received() {
    let (server, viewer) = start(&[]);
    let mut device = server.connect();
    let mut other = from("127.0.0.2", &server);
    wait_for_entries(&viewer, "events", 2);
    viewer.get("tail");
    device
        .write_all(b"{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n")
        .unwrap();
    wait_for_entries(&viewer, "tail", 3);
    let mut all = viewer.follow("tail?follow=true");
    let mut two = viewer.follow("tail?follow=true&limit=2");
    let mut new = viewer.follow("tail?follow=true&limit=0");
    let mut some = viewer.follow("tail?follow=true&limit=0&device=127.0.0.2&contains=YES");
    let first = viewer.get("tail")["entries"][0]["id"].as_u64().unwrap();
    let mut after = viewer.follow(&format!("tail?follow=true&limit=0&after={first}"));
    assert_eq!(numbers(&mut all, 3), [1, 2, 3]);
    assert_eq!(numbers(&mut two, 2), [2, 3]);
    assert_eq!(numbers(&mut after, 2), [2, 3]);
    let mut faults = viewer.follow("faults?follow=true&limit=0");
    let mut events = viewer.follow("events?follow=true");
    assert_eq!(events.line()["event"], "open");
    // Those that get only new lines have begun.
    for number in 4..100 {
        device
            .write_all(format!("{{\"n\":{number}}}\n").as_bytes())
            .unwrap();
        other
            .write_all(format!("{{\"n\":{number},\"t\":\"no\"}}\n").as_bytes())
            .unwrap();
        let yes = format!("{{\"n\":{},\"t\":\"yes\"}}\n", 1000 + number);
        other.write_all(yes.as_bytes()).unwrap();
    }
    let own = |follower: &mut Follower| loop {
        let line = follower.line();
        if line["device"] == "127.0.0.1" {
            return line["value"]["n"].as_u64().unwrap();
        }
    };
    let read: Vec<_> = (4..100).map(|_| own(&mut all)).collect();
    assert_eq!(read, (4..100).collect::<Vec<_>>());
    assert_eq!(own(&mut two), 4);
    let start = own(&mut new);
    assert!((4..100).contains(&start), "{start}");
    let start = numbers(&mut some, 1)[0];
    assert!((1004..1100).contains(&start), "{start}");
    let next = numbers(&mut some, 1)[0];
    assert_eq!(next, start + 1);
    device.write_all(b"no json\n").unwrap();
    assert_eq!(faults.line()["fault"], "undecodable");
    drop(device);
    let close = loop {
        let line = events.line();
        if line["event"] == "close" {
            break line;
        }
    };
    assert!(close["id"].is_u64(), "{close}");
    server.stop();
}

#[test]
fn a_follower_gets_the_first_message_of_a_device_that_connects_later() {
    let (server, viewer) = start(&[]);
    let mut follower = viewer.follow("tail?follow=true");
    // The daemon has answered the header, so it has begun to watch.
    for number in 0..20 {
        let mut device = from(&format!("127.0.1.{}", 1 + number), &server);
        device
            .write_all(format!("{{\"n\":{number}}}\n").as_bytes())
            .unwrap();
    }
    let mut read = numbers(&mut follower, 20);
    read.sort_unstable();
    assert_eq!(read, (0..20).collect::<Vec<_>>());
    server.stop();
}

#[test]
fn a_follower_is_told_how_many_messages_it_does_not_get() {
    const SENT: u64 = 60_000;
    let (server, viewer) = start(&[]);
    let mut device = server.connect();
    wait_for_entries(&viewer, "events", 1);
    let mut follower = viewer.follow("tail?follow=true");
    device.write_all(b"{\"n\":0}\n").unwrap();
    assert_eq!(numbers(&mut follower, 1), [0]);
    // It reads nothing, and holds the device up no more than nobody would.
    let stalled = viewer.follow("tail?follow=true&hex=true");
    let lines = "{\"n\":1,\"pad\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}\n".repeat(100);
    let flood = thread::spawn(move || {
        for _ in 0..SENT / 100 {
            device.write_all(lines.as_bytes()).unwrap();
        }
        device
    });
    let (mut shown, mut missing) = (0, 0);
    while shown + missing < SENT {
        let line = follower.line();
        match line["event"].as_str() {
            Some("lost") => {
                assert_eq!(line["events"], 0);
                missing += line["blocks"].as_u64().unwrap();
            }
            Some("block") => shown += 1,
            _ => panic!("{line}"),
        }
    }
    assert_eq!(shown + missing, SENT);
    assert!(0 < missing && 0 < shown, "{shown} {missing}");
    wait_for_messages(&viewer, SENT + 1);
    drop((stalled, flood.join().unwrap()));
    server.stop();
}

#[test]
fn followers_do_not_lock_out_another_address() {
    let (server, viewer) = start(&[]);
    let mut device = server.connect();
    wait_for_entries(&viewer, "events", 1);
    let followers: Vec<_> = (0..CONNECTIONS)
        .map(|_| viewer.follow("tail?follow=true"))
        .collect();
    let own = SocketAddr::from(([127, 0, 0, 2], 0));
    for path in ["/readyz", "/api/v1/devices"] {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&own.into()).unwrap();
        socket
            .connect_timeout(&viewer.addr.into(), DEADLINE)
            .unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let host = viewer.addr;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // The oldest has given way, and the others go on.
    device.write_all(b"{\"n\":7}\n").unwrap();
    for mut follower in followers.into_iter().skip(2) {
        assert_eq!(numbers(&mut follower, 1), [7]);
    }
    wait_until("it answers", || viewer.ask("daemon").status == 200);
    let daemon: Value = viewer.get("daemon");
    assert_eq!(daemon["view"]["not_shown"], 0);
    server.stop();
}
