//! The headers of `docs/send-from/c` are accepted as C99, C11, C++11 and C++17, by GCC and by Clang, without a warning.

use std::io::Write as _;
use std::process::{Command, Stdio};

use blocksd_tests::skip::skipped;

use super::compiled::{STRICT, root};

/// The compilers, the languages, and the standards.
const DIALECTS: [(&str, &str, [&str; 2]); 4] = [
    ("gcc", "c", ["c99", "c11"]),
    ("g++", "c++", ["c++11", "c++17"]),
    ("clang", "c", ["c99", "c11"]),
    ("clang++", "c++", ["c++11", "c++17"]),
];
/// Calls of the functions that `size.c` does not call.
const MORE: &str = r#"
/* As the C library for AVR does for C++. */
#include <stdint.h>
#undef UINT32_MAX
#undef UINT64_MAX
#include "blocks_session.h"
#include "blocks_socket.h"
#include "size.c"

uint32_t wait_ms(uint32_t random);
size_t put(void *out, size_t size, const void *payload, uint32_t len);
bool run(struct blocks_socket *s, void *ring, uint32_t len);

uint32_t wait_ms(uint32_t random) { return blocks_wait_ms(&session, random, blocks_random(&session, random, 1)); }
size_t put(void *out, size_t size, const void *payload, uint32_t len)
{
    size_t block = blocks_put_block(out, size, payload, len);
    return block + blocks_put_cobs_crc32(out, size, payload, len);
}
bool run(struct blocks_socket *s, void *ring, uint32_t len)
{
    bool is_valid = blocks_socket_init(s, "192.0.2.10", "1060", "boiler-01234", ring, len);
    blocks_socket_poll(s);
    blocks_socket_finish(s);
    return is_valid;
}
"#;

#[test]
fn the_headers_in_c_are_accepted_in_each_dialect() {
    for (compiler, language, standards) in DIALECTS {
        if Command::new(compiler).arg("--version").output().is_err() {
            let name = format!("the_headers_in_c_are_accepted_in_each_dialect ({compiler})");
            skipped(&name, format!("there is no compiler `{compiler}`"));
            continue;
        }
        for standard in standards {
            let mut command = Command::new(compiler);
            command.args(["-x", language, &format!("-std={standard}")]);
            // As a microcontroller: the warnings of the optimizer, too.
            command
                .args(STRICT)
                .args(["-Os", "-D_POSIX_C_SOURCE=200809L"]);
            command.arg("-I").arg(root("docs/send-from/c"));
            command.args(["-c", "-o", "/dev/null", "-"]);
            command.stdin(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect(compiler);
            let mut stdin = child.stdin.take().expect("a pipe");
            stdin.write_all(MORE.as_bytes()).expect("it reads");
            drop(stdin);
            let ended = child.wait_with_output().expect(compiler);
            let errors = String::from_utf8_lossy(&ended.stderr);
            let accepted = ended.status.success() && errors.is_empty();
            assert!(accepted, "{compiler} -std={standard}: {errors}");
        }
    }
}
