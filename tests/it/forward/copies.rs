//! Recordings that were copied, restored or emptied keep nothing back: they take an identity of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use blocksd_tests::folder::copy_folder;
use blocksd_tests::nats::{make_stream, read_stream};
use blocksd_tests::process::{Server, wait_until};

use super::stream::{OneServer, by_recording, send_lines, serve};

/// Sends the lines of a name.
#[track_caller]
fn send(server: &Server, name: &str) {
    let lines: String = (0..20).map(|it| format!("{name} {it}\n")).collect();
    send_lines(server, &lines);
}

/// How often each line is in the stream.
#[track_caller]
fn lines(url: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for messages in by_recording(&read_stream(url, "blocksd")).values() {
        for (_, _, payload) in messages.values().flatten() {
            let line = String::from_utf8_lossy(payload).into_owned();
            *lines.entry(line).or_default() += 1;
        }
    }
    lines
}

/// Waits until the stream has the lines of these names, and checks that it has each once.
#[track_caller]
fn assert_lines(url: &str, names: &[&str]) {
    let lines_of = |name| (0..20).map(move |it| (format!("{name} {it}"), 1));
    let wanted: BTreeMap<_, _> = names.iter().flat_map(lines_of).collect();
    wait_until("the stream has all lines", || {
        wanted.len() <= lines(url).len()
    });
    assert_eq!(lines(url), wanted);
}

fn instance(record: &Path) -> String {
    fs::read_to_string(record.join("blocksd.instance")).expect("an identity")
}

#[test]
fn a_copy_of_a_recording_and_the_original_are_forwarded_completely() {
    let name = "a_copy_of_a_recording_and_the_original_are_forwarded_completely";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let [original, copied] = ["original", "copied"].map(|it| one.folder(it));
    let (url, forward) = (one.url(), one.forward());
    let server = serve(&original, &forward, &[]);
    send(&server, "both");
    assert_lines(&url, &["both"]);
    server.stop();
    copy_folder(&original, &copied);
    // Both go on with the same number of the next file.
    let server = serve(&original, &forward, &[]);
    send(&server, "original");
    assert_lines(&url, &["both", "original"]);
    let other = serve(&copied, &forward, &[]);
    send(&other, "copied");
    other
        .process
        .wait_for_error("one of the two is a copy, or was restored");
    assert_lines(&url, &["both", "original", "copied"]);
    assert_ne!(instance(&original), instance(&copied));
    send(&server, "original again");
    send(&other, "copied again");
    let all = [
        "both",
        "original",
        "copied",
        "original again",
        "copied again",
    ];
    assert_lines(&url, &all);
    // A restart sends nothing again.
    for server in [server, other] {
        server.stop();
    }
    let [server, other] = [&original, &copied].map(|it| serve(it, &forward, &[]));
    send(&server, "third");
    send(&other, "fourth");
    assert_lines(&url, &[&all[..], &["third", "fourth"]].concat());
}

#[test]
fn a_backup_without_the_newest_file_goes_on_after_the_others() {
    let name = "a_backup_without_the_newest_file_goes_on_after_the_others";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let [original, restored] = ["original", "restored"].map(|it| one.folder(it));
    let (url, forward) = (one.url(), one.forward());
    for names in [&["first"][..], &["first", "second"]] {
        let server = serve(&original, &forward, &[]);
        send(&server, names[names.len() - 1]);
        assert_lines(&url, names);
        server.stop();
    }
    copy_folder(&original, &restored);
    let files = restored.read_dir().expect("a folder").flatten();
    let names = files.map(|it| it.path());
    let newest = names
        .filter(|it| it.extension().is_some_and(|it| it == "mcap"))
        .max();
    fs::remove_file(newest.expect("a file")).expect("it is removed");
    let server = serve(&original, &forward, &[]);
    send(&server, "original");
    let other = serve(&restored, &forward, &[]);
    send(&other, "restored");
    other
        .process
        .wait_for_error("one of the two is a copy, or was restored");
    assert_lines(&url, &["first", "second", "original", "restored"]);
    assert_ne!(instance(&original), instance(&restored));
}

#[test]
fn a_recording_whose_files_were_removed_is_forwarded_from_then_on() {
    let name = "a_recording_whose_files_were_removed_is_forwarded_from_then_on";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let (url, record) = (one.url(), one.record());
    let server = one.serve();
    send(&server, "before");
    assert_lines(&url, &["before"]);
    server.stop();
    for file in record.read_dir().expect("a folder").flatten() {
        if file.file_name() != "blocksd.instance" {
            fs::remove_file(file.path()).expect("a file");
        }
    }
    let server = one.serve();
    send(&server, "after");
    assert_lines(&url, &["before", "after"]);
}

#[test]
fn another_site_gets_everything() {
    let name = "another_site_gets_everything";
    let Some(one) = OneServer::start(name) else {
        return;
    };
    let url = one.url();
    make_stream(&url, "blocksd", 1, 120);
    let server = one.serve();
    send(&server, "before");
    assert_lines(&url, &["before"]);
    server.stop();
    let forward = format!("{},site=other", one.forward());
    let server = serve(&one.record(), &forward, &[]);
    send(&server, "after");
    let of_site = |site: &str| {
        let counts = one.counts_in(&format!("blocksd.{site}.dev."));
        counts.iter().sum::<usize>()
    };
    wait_until("the other site has all lines", || 40 <= of_site("other"));
    server.stop();
    assert_eq!((of_site("main"), of_site("other")), (20, 40));
}
