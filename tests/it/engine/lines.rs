//! Serial lines that carry many series, and serial lines that echo. Pseudo-terminals stand for them.

use std::fs;

use blocksd_tests::process::{Server, wait_until};
use blocksd_tests::scrape;
use tempfile::TempDir;

use super::listeners::Plug;

/// A series of one block, `hello`, and the same with `bye`.
const HELLO: &str = "0000000568656c6c6f00000000";
const BYE: &str = "0000000362796500000000";
/// The end mark and the beginning of a block; and the rest.
const SPLIT: [&str; 3] = ["0000000568656c6c6f0000", "00000000000362", "796500000000"];
const RECEIPT: &[u8] = b"\0\0\0\x16{\"blocks\":1,\"bytes\":5}\0\0\0\0";
const RECEIPT_OF_BYE: &[u8] = b"\0\0\0\x16{\"blocks\":1,\"bytes\":3}\0\0\0\0";
const OF_FILE: &[u8] = b"\0\0\0\x04file\0\0\0\0";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A daemon on a serial line, with these options.
struct OnLine {
    folder: TempDir,
    plug: Plug,
    server: Server,
}

impl OnLine {
    /// `FILE` stands for a file that is a reply.
    fn start(settings: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("reply");
        fs::write(&file, "file").unwrap();
        let file = file.to_str().unwrap();
        let link = folder.path().join("ttyUSB0");
        let mut plug = Plug::new(&link);
        plug.order("plug");
        let listen = format!("serial:{}{settings}", link.display());
        let options = options
            .iter()
            .map(|it| if *it == "FILE" { file } else { it });
        let mut args = vec!["--listen", &listen, "--metrics", "127.0.0.1:0"];
        args.extend(options);
        let mut server = Server::start(&args);
        server.wait_for("open", 1);
        Self {
            folder,
            plug,
            server,
        }
    }

    /// Stops the daemon. Asserts that it had no fault.
    fn stop(self, blocks: u64, series: u64) -> String {
        let Self {
            folder: _folder,
            plug: _plug,
            server,
        } = self;
        let (ended, events) = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let count = |kind| events.iter().filter(|event| event["event"] == kind).count() as u64;
        assert_eq!(
            (count("block"), count("end"), count("fault")),
            (blocks, series, 0),
            "{}",
            ended.stderr
        );
        ended.stderr
    }
}

#[test]
fn every_series_in_one_write_is_answered_and_none_is_dropped() {
    let hello = hex(b"\0\0\0\x05hello\0\0\0\0");
    assert_eq!(hello, HELLO);
    for (reply, answers) in [
        ("receipt", [RECEIPT, RECEIPT_OF_BYE]),
        (
            "echo",
            [b"\0\0\0\x05hello\0\0\0\0", b"\0\0\0\x03bye\0\0\0\0"],
        ),
        ("FILE", [OF_FILE, OF_FILE]),
    ] {
        let mut on = OnLine::start("", &["--reply", reply]);
        let [first, second] = answers.map(hex);
        let each = (first.len() + second.len()) / 2;
        on.plug.order(&format!("send {HELLO}{BYE}"));
        assert_eq!(on.plug.read(each), format!("{first}{second}"), "{reply}");
        // The end mark is split from what follows.
        for part in SPLIT {
            on.plug.order(&format!("send {part}"));
        }
        assert_eq!(on.plug.read(each), format!("{first}{second}"), "{reply}");
        on.plug
            .order(&format!("send {}", format!("{HELLO}{BYE}").repeat(60)));
        let all = format!("{first}{second}").repeat(60);
        assert_eq!(on.plug.read(60 * each), all, "{reply}");
        // The same series, more often than an echo would be answered.
        on.plug.order(&format!("send {}", HELLO.repeat(100)));
        assert_eq!(on.plug.read(50 * first.len()), first.repeat(100), "{reply}");
        let log = on.stop(2 * 62 + 100, 2 * 62 + 100);
        assert!(!log.contains("came back"), "{log}");
    }
}

#[test]
fn a_line_whose_series_close_the_connection_drops_nothing() {
    let mut on = OnLine::start(",after-end=close", &[]);
    on.plug.order(&format!("send {}", HELLO.repeat(200)));
    on.plug.order(&format!("send {}", BYE.repeat(3)));
    on.server.wait_for("close", 203);
    let opened = on.server.wait_for("open", 204).to_vec();
    assert!(opened.iter().any(|event| event["conn"] == 204));
    on.stop(203, 203);
}

#[test]
fn series_that_have_arrived_are_received_when_the_daemon_stops() {
    let on = {
        let mut on = OnLine::start(",after-end=close", &[]);
        on.plug.order(&format!("send {}", HELLO.repeat(150)));
        on
    };
    on.stop(150, 150);
}

#[test]
fn a_line_that_echoes_is_noticed_and_its_echoes_are_not_answered() {
    // Only an echo of the device's own messages can be a series of the device.
    for (reply, most) in [("receipt", 0), ("FILE", 0), ("echo", 40)] {
        let mut on = OnLine::start("", &["--reply", reply]);
        on.plug.order("echo");
        on.plug.order(&format!("send {HELLO}"));
        on.server
            .process
            .wait_for_error("a reply of the daemon came back");
        let echoes = |on: &OnLine| scrape::sample(&on.server, "blocksd_reply_echoes_total");
        wait_until("the echo is counted", || 1.0 <= echoes(&on));
        let before = on.server.events().len();
        assert!(before <= 3 * (most + 4) + 1, "{before} events");
        // The device is still answered.
        on.plug.order(&format!("send {BYE}"));
        wait_until("the next echo is counted", || 2.0 <= echoes(&on));
        let series = |on: &mut OnLine| {
            let ends = on.server.events().iter();
            ends.filter(|event| event["event"] == "end").count()
        };
        let after = series(&mut on);
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(series(&mut on), after, "{reply}: still answering");
        assert!(after <= 2 * (most + 2), "{reply}: {after} series");
        let (ended, _) = on.server.stop();
        assert_eq!(ended.stderr.matches("came back").count(), 1, "{reply}");
    }
}
