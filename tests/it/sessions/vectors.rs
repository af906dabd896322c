//! The senders in C and Python encode and decode the vectors of `docs/sessions.md`.

use std::fs;
use std::path::Path;
use std::process::Command;

use blocksd_tests::process::finish;
use blocksd_tests::programs::python;

use super::compiled::Compiled;

#[test]
fn the_sender_in_python_agrees_with_the_vectors() {
    check(python("session_vectors.py", &[]));
}

#[test]
fn the_sender_in_c_agrees_with_the_vectors() {
    let name = "the_sender_in_c_agrees_with_the_vectors";
    if let Some(program) = Compiled::new(name, "tests/peers/session_vectors.c") {
        check(program.command());
    }
}

/// Passes the frames of the host to a program, and compares its output.
#[track_caller]
fn check(mut command: Command) {
    let [hello, cont, frames @ ..] = vectors();
    command.args(frames);
    let ended = finish(command, b"");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let session = "9f3a5c7711d2e4b6";
    // END, CONT 3, the messages that are left, and END, because the ring was full.
    let cont_3 = cont.replace("0300000000000000", "0300000000000003");
    let gap = format!("00000000{cont_3}000000016400000001650000000166000000016700000000");
    let expected = format!(
        "HELLO {hello}\n\
         WELCOME 0 session={session} time=1795755600123456789 block_max=1048576 silence_ms=90000 next=1 held=1\n\
         OTHER 2 session=0 held=1\n\
         CONT {cont}\n\
         MESSAGES 000000016100000001620000000163\n\
         ACK 0 acked=3 held=0\n\
         ACK 0 time=1795755601123456789\n\
         CLOSING 1 code=5 retry_ms=60000 text=superseded\n\
         PUSHED 1 1 0 1 1 first=3 lost=3\n\
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
