//! The sender in C keeps its ring consistent with any calls and any frames of a host, and reads no memory beyond it.

use blocksd_tests::process::finish;

use super::compiled::Compiled;

#[test]
fn any_calls_and_frames_keep_the_ring_of_the_sender_in_c() {
    let name = "any_calls_and_frames_keep_the_ring_of_the_sender_in_c";
    let Some(program) = Compiled::new(name, "tests/peers/session_any.c") else {
        return;
    };
    let mut command = program.command();
    command.arg("5000");
    let ended = finish(command, b"");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    // Otherwise the frames would test little.
    let printed = ended.stdout_text();
    let counts = printed
        .split(' ')
        .filter_map(|word| word.parse::<u32>().ok());
    assert!(
        counts.clone().count() == 2 && counts.min() > Some(1000),
        "{printed}"
    );
}
