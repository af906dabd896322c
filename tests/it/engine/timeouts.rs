//! Devices that do not go on: each has its time, from the first byte of what it began.

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use blocksd_tests::process::{Server, run};

/// Longer than every time-out here.
const LONG: Duration = Duration::from_millis(2500);

#[test]
fn a_half_header_does_not_live_for_ever() {
    let mut server = Server::start(&["--header-timeout", "0.5"]);
    let mut device = server.connect();
    device.write_all(b"\0\0").unwrap();
    let cut = "fault truncated header have=2 want=4";
    let closed = "close header_timeout blocks=0 bytes=0";
    assert_eq!(server.story(1), ["open", cut, closed]);
    assert_eq!(server.stop().0.totals()["fault"], 1);
}

#[test]
fn a_half_block_does_not_live_for_ever() {
    let mut server = Server::start(&["--block-timeout", "0.5", "--header-timeout", "0.2"]);
    let mut device = server.connect();
    device.write_all(b"\0\0\0\x01a\0\0\0\x05he").unwrap();
    let cut = "fault truncated payload have=2 want=5";
    let closed = "close block_timeout blocks=1 bytes=1";
    assert_eq!(
        server.story(1),
        ["open", "block 0 len=1 \"a\"", cut, closed]
    );
}

#[test]
fn who_sends_a_byte_now_and_then_has_no_more_time() {
    for (option, framing, wire, reason) in [
        (
            "--header-timeout",
            "netstring",
            &b"123456789"[..],
            "header_timeout",
        ),
        ("--block-timeout", "lines", &[b'x'; 9], "block_timeout"),
    ] {
        let mut server = Server::start(&[option, "1", "--framing", framing]);
        let mut device = server.connect();
        // A second after the first byte, and not after the last: that one is sent two seconds later.
        let is_open = wire.iter().all(|byte| {
            sleep(Duration::from_millis(400));
            device.write_all(&[*byte]).is_ok()
        });
        let story = server.story(1);
        assert!(story.last().unwrap().contains(reason), "{story:?}");
        assert!(!is_open, "{story:?}");
    }
}

#[test]
fn a_message_that_never_stops_coming_has_no_more_time() {
    let mut server = Server::start(&["--block-timeout", "0.5", "--oversize", "pieces"]);
    let mut device = server.connect();
    device.write_all(&[0xff; 4]).unwrap();
    // Ends when the daemon has closed.
    while device.write_all(&[b'x'; 1000]).is_ok() {
        sleep(Duration::from_millis(5));
    }
    let story = server.story(1);
    assert!(story.last().unwrap().contains("block_timeout"), "{story:?}");
    assert!(
        story
            .iter()
            .any(|event| event.starts_with("fault truncated payload"))
    );
}

#[test]
fn each_message_has_time_of_its_own_and_waiting_between_them_has_no_limit() {
    let mut server = Server::start(&["--header-timeout", "2", "--block-timeout", "2"]);
    let mut device = server.connect();
    // Each write ends one block and begins another; all of it takes longer than the time of one.
    device.write_all(b"\0\0\0\x02a").unwrap();
    for _ in 0..6 {
        sleep(Duration::from_millis(500));
        device.write_all(b"b\0\0\0\x02a").unwrap();
    }
    device.write_all(b"b").unwrap();
    sleep(LONG);
    device.write_all(b"\0\0\0\0").unwrap();
    let story = server.story(1);
    assert_eq!(story.last().unwrap(), "close end blocks=7 bytes=14");
}

#[test]
fn a_message_behind_one_that_was_skipped_has_time_of_its_own() {
    let mut server = Server::start(&["--block-timeout", "3", "--max-block", "4"]);
    let mut device = server.connect();
    device.write_all(b"\0\0\0\x07too l").unwrap();
    sleep(Duration::from_millis(1700));
    // One byte of the next is there, whose time is not over when that of the first would be.
    device.write_all(b"ng\0").unwrap();
    sleep(Duration::from_millis(1700));
    device.write_all(b"\0\0\x01a\0\0\0\0").unwrap();
    let story = server.story(1);
    assert_eq!(story.last().unwrap(), "close end blocks=1 bytes=1");
}

#[test]
fn a_stream_is_whole_as_it_comes() {
    let args = [
        "--framing",
        "stream",
        "--block-timeout",
        "0.3",
        "--header-timeout",
        "0.3",
    ];
    let mut server = Server::start(&args);
    let mut device = server.connect();
    device.write_all(b"one").unwrap();
    sleep(LONG);
    device.write_all(b"two").unwrap();
    drop(device);
    let story = server.story(1);
    assert_eq!(story.last().unwrap(), "close eof blocks=0 bytes=6");
}

#[test]
fn a_device_that_the_daemon_holds_back_is_not_late() {
    // Nobody reads the output: the daemon reads no more, and the message stays unfinished.
    let args = ["--block-timeout", "2"];
    let mut process = blocksd_tests::process::Process::start_unread({
        let mut command = Server::command(&args);
        command.stdout(std::process::Stdio::piped());
        command
    });
    let stdout = process.take_stdout().unwrap();
    let server = Server::of(process, &args);
    let mut device = server.connect();
    let writer = std::thread::spawn(move || {
        // Of several reads each, so that one is not whole while the daemon waits.
        let block = [&900_000_u32.to_be_bytes()[..], &[b'x'; 900_000]].concat();
        for _ in 0..60 {
            device.write_all(&block)?;
        }
        device.write_all(&[0; 4])
    });
    sleep(Duration::from_secs(5));
    let reader = std::thread::spawn(move || {
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
        let close = lines.find(|line| line.as_ref().unwrap().contains(r#""event":"close""#));
        // With the pipe, so that the daemon can say the rest.
        (close.unwrap().unwrap(), lines)
    });
    writer.join().unwrap().unwrap();
    let (last, _lines) = reader.join().unwrap();
    assert!(
        last.contains(r#""reason":"end""#) && last.contains(r#""blocks":60"#),
        "{last}"
    );
}

#[test]
fn no_time_at_all_is_refused_and_off_is_none() {
    for option in ["--idle-timeout", "--header-timeout", "--block-timeout"] {
        run(&["serve", option, "0"], b"").assert_refused(2, "use `off` for no limit");
        run(&["serve", option, "soon"], b"").assert_refused(2, "or `off`");
        run(&["serve", option, "-1"], b"").assert_refused(2, "or `off`");
    }
    let mut server = Server::start(&["--header-timeout", "off", "--block-timeout", "off"]);
    let mut device = server.connect();
    device.write_all(b"\0\0").unwrap();
    sleep(LONG);
    device.write_all(b"\0\x01a\0\0\0\0").unwrap();
    assert_eq!(
        server.story(1).last().unwrap(),
        "close end blocks=1 bytes=1"
    );
}
