//! The programs of `docs/send-from` frame messages as `framing_core` does, and the daemon receives them.

use std::io::Write as _;

use blocksd_tests::disk::Chance;
use blocksd_tests::process::{Server, finish};
use framing_core::{AnyFraming, Encode as _, Framing as _, encode};
use framing_core_testing::sizes::wire_len;

use super::languages::SenderProgram;

/// The framings without a session.
const FRAMINGS: [&str; 2] = ["blocks", "cobs-crc32"];

#[test]
fn each_program_frames_messages_as_the_core_does_and_the_daemon_receives_them() {
    let name = "each_program_frames_messages_as_the_core_does_and_the_daemon_receives_them";
    for spec in FRAMINGS {
        let lines = lines();
        let expected = framed(spec.parse().expect("a framing"), &lines);
        let mut server = Server::start(&["--framing", spec, "--output", "json"]);
        let programs = SenderProgram::all_with_frames(name, spec);
        let count = programs.len();
        for (program, command) in programs {
            let input = [&lines.join(&b"\n"[..])[..], b"\r\n\n\n"].concat();
            let framed = finish(command, &input);
            let ended = (framed.code, &*framed.stderr);
            assert_eq!(ended, (Some(0), ""), "{}", program.name);
            let is_equal = framed.stdout == expected;
            assert!(is_equal, "{}: {spec} differs", program.name);
            server.connect().write_all(&framed.stdout).expect(spec);
        }
        server.wait_for("close", count);
        let (ended, events) = server.stop();
        assert_eq!(ended.totals()["fault"], 0, "{ended:?}");
        let blocks = events.iter().filter(|it| it["event"] == "block");
        assert_eq!(blocks.count(), count * lines.len(), "{spec}");
    }
}

/// The frames of the core, with the end of the series.
fn framed(framing: AnyFraming, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut encoder = framing.encoder();
    let mut wire = Vec::new();
    for message in messages {
        let mut out = vec![0; wire_len(framing, message.len())];
        let len = encode(&mut encoder, message.as_slice(), &mut out)
            .expect("a buffer of the right length");
        wire.extend(&out[..len]);
    }
    let mut end = [0; 16];
    let len = encoder.end(&mut end).expect("a stage");
    wire.extend(&end[..len]);
    wire
}

/// Messages of any bytes but the line feed, of lengths around those of the groups of COBS, in lines.
fn lines() -> Vec<Vec<u8>> {
    let mut chance = Chance(19);
    let lens = (1..=300).chain(505..=512).chain([762, 1016, 4096]);
    let mut lines = vec![b"123456789".to_vec()];
    for (at, len) in lens.enumerate() {
        let line = (0..len).map(|_| match at % 3 {
            // Without a zero, the groups are the longest ones.
            0 => 1,
            1 => chance.of(0..=1) as u8,
            _ => match chance.of(0..=255) as u8 {
                b'\n' | b'\r' => 0,
                byte => byte,
            },
        });
        lines.push(line.collect());
    }
    // A zero after groups of the longest length.
    for len in [253, 254, 255, 508] {
        lines.push([&vec![1; len][..], &[0, 2]].concat());
    }
    lines
}
