//! The senders in C, Python, MicroPython and Go encode and decode the vectors of `docs/sessions.md`.

use std::fs;
use std::path::Path;
use std::process::Command;

use blocksd_tests::process::finish;
use blocksd_tests::programs::{Program, python};
use tempfile::TempDir;

use super::compiled::{Compiled, root};

/// What a full ring takes while 7 of the 10 bytes of two messages are written, and later; and END, if it refused a message.
const IN_PART: [&str; 2] = ["1 1 0 1 1", "00000000"];
/// What it takes in a sender that writes each message from a copy.
const WHOLE: [&str; 2] = ["1 1 1 1", ""];

#[test]
fn the_sender_in_python_agrees_with_the_vectors() {
    check(python("session_vectors.py", &[]), IN_PART);
}

#[test]
fn the_sender_in_micropython_agrees_with_the_vectors() {
    check(python("session_vectors_micropython.py", &[]), IN_PART);
}

#[test]
fn the_sender_in_c_agrees_with_the_vectors() {
    let name = "the_sender_in_c_agrees_with_the_vectors";
    if let Some(program) = Compiled::new(name, "tests/peers/session_vectors.c") {
        check(program.command(), IN_PART);
    }
}

#[test]
fn the_sender_in_go_agrees_with_the_vectors() {
    let Some(go) = Program::find("the_sender_in_go_agrees_with_the_vectors", "go") else {
        return;
    };
    let place = TempDir::new().expect("a folder");
    for (from, to) in [
        ("docs/send-from/go/go.mod", "go.mod"),
        ("docs/send-from/go/blocks_session.go", "blocks_session.go"),
        ("tests/peers/session_vectors.go", "session_vectors.go"),
    ] {
        let source = fs::read_to_string(root(from)).expect(from);
        // A reader who copies the file changes its package, too.
        let source = source.replacen("\npackage blocks\n", "\npackage main\n", 1);
        fs::write(place.path().join(to), source).expect(to);
    }
    let mut build = go.command(&["build", "-o", "program", "."]);
    let built = build.current_dir(place.path()).output().expect("Go runs");
    assert!(built.status.success(), "{built:?}");
    check(Command::new(place.path().join("program")), WHOLE);
}

/// Passes the frames of the host to a program, and compares its output.
#[track_caller]
fn check(mut command: Command, [pushed, end]: [&str; 2]) {
    let [hello, cont, frames @ ..] = vectors();
    command.args(frames);
    let ended = finish(command, b"");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let session = "9f3a5c7711d2e4b6";
    // END, CONT 3, and the messages that are left.
    let cont_3 = cont.replace("0300000000000000", "0300000000000003");
    let gap = format!("00000000{cont_3}0000000164000000016500000001660000000167{end}");
    let expected = format!(
        "HELLO {hello}\n\
         WELCOME 0 session={session} time=1795755600123456789 block_max=1048576 silence_ms=90000 next=1 held=1\n\
         OTHER 2 session=0 held=1\n\
         CONT {cont}\n\
         MESSAGES 000000016100000001620000000163\n\
         ACK 0 acked=3 held=0\n\
         ACK 0 time=1795755601123456789\n\
         CLOSING 1 code=5 retry_ms=60000 text=superseded\n\
         PUSHED {pushed} first=3 lost=3\n\
         GAP {gap}\n\
         ACK 0 first=3 lost=0\n"
    );
    assert_eq!(ended.stdout_text(), expected);
}

/// The vectors, in hexadecimal: HELLO, CONT, WELCOME, ACK, ACK with the time, CLOSING.
pub(super) fn vectors() -> [String; 6] {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sessions.md");
    let page = fs::read_to_string(page).expect("a page");
    let section = page.split("\n## 7. Vectors\n").nth(1).expect("a section");
    let block = section.split("```").nth(1).expect("a block");
    let lines = block.lines().filter_map(|line| line.strip_prefix("  "));
    let vectors: Vec<_> = lines.map(|line| line.replace(' ', "")).collect();
    vectors.try_into().expect("six vectors")
}
