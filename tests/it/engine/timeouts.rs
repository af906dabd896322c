//! The timeout options over real sockets: each closes a connection with its own reason. Tests in simulated time show when a
//! timeout expires: `host-daemon/engine/tests/paused`.

use std::io::Write;

use blocksd_tests::process::{Server, run};
use tempfile::TempDir;

/// Options that set timeouts.
const OPTIONS: [&str; 5] = [
    "--first-byte-timeout",
    "--idle-timeout",
    "--header-timeout",
    "--block-timeout",
    "--reply-timeout",
];

#[test]
fn each_timeout_closes_a_connection_for_its_own_reason() {
    let folder = TempDir::new().unwrap();
    let reply = folder.path().join("reply");
    // Larger than the socket buffers.
    std::fs::File::create(&reply)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    for (option, wire, expected) in [
        (
            "--first-byte-timeout",
            &b""[..],
            &["open", "close first_byte_timeout blocks=0 bytes=0"][..],
        ),
        (
            "--idle-timeout",
            b"",
            &["open", "close idle blocks=0 bytes=0"],
        ),
        (
            "--header-timeout",
            b"\0\0",
            &[
                "open",
                "fault truncated header have=2 want=4",
                "close header_timeout blocks=0 bytes=0",
            ],
        ),
        (
            "--block-timeout",
            b"\0\0\0\x01a\0\0\0\x05he",
            &[
                "open",
                "block 0 len=1 \"a\"",
                "piece offset=0 len=2 first=true last=false truncated=true \"he\"",
                "fault truncated payload have=2 want=5",
                "close block_timeout blocks=1 bytes=1 series=\"open\"",
            ],
        ),
        (
            "--reply-timeout",
            b"\0\0\0\x01a\0\0\0\0",
            &[
                "open",
                "block 0 len=1 \"a\"",
                "end blocks=1",
                "close reply_timeout blocks=1 bytes=1",
            ],
        ),
    ] {
        let mut args = vec![option, "0.3"];
        if option == "--reply-timeout" {
            args.extend(["--reply", reply.to_str().unwrap()]);
        }
        let mut server = Server::start(&args);
        let mut device = server.connect();
        device.write_all(wire).unwrap();
        assert_eq!(server.story(1), expected, "{option}");
        drop(device);
        let (ended, _) = server.stop();
        let is_logged = ended.stderr.contains("within reply-timeout (0.3 s)");
        assert_eq!(is_logged, option == "--reply-timeout", "{ended:?}");
    }
}

#[test]
fn off_on_the_command_line_replaces_a_timeout_of_the_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("blocksd.toml");
    let config =
        "header-timeout = 0.2\nblock-timeout = 0.2\nfirst-byte-timeout = 0.2\nidle-timeout = 1";
    std::fs::write(&file, config).unwrap();
    let off = [
        "--header-timeout",
        "off",
        "--block-timeout",
        "off",
        "--first-byte-timeout",
        "off",
    ];
    let args = [&["--config", file.to_str().unwrap()], &off[..]].concat();
    let mut server = Server::start(&args);
    let mut device = server.connect();
    device.write_all(b"\0\0").unwrap();
    let story = server.story(1);
    assert_eq!(story.last().unwrap(), "close idle blocks=0 bytes=0");
}

#[test]
fn a_timeout_of_zero_is_refused() {
    for option in OPTIONS {
        run(&["serve", option, "0"], b"").assert_refused(2, "use `off` for no limit");
        run(&["serve", option, "soon"], b"").assert_refused(2, "or `off`");
        run(&["serve", option, "-1"], b"").assert_refused(2, "or `off`");
    }
}
