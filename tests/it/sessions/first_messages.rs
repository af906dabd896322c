//! Runs the commands of the pages in `docs/send-from` that lead to the first message, with a free port in place of that of the page.

use std::fs;
use std::path::Path;

use blocksd_tests::code_blocks::{code_blocks, replace};
use blocksd_tests::process::wait_until;
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::workplace::Workplace;
use regex::Regex;

use super::compiled::root;

/// Lines of commands and code from nothing to the first message, at most.
pub(super) const LINES_MAX: usize = 20;
/// The port of the pages.
pub(super) const PORT: &str = "1060";

/// The computer of the daemon in pages for boards.
const HOST: &str = "192.168.1.10";

/// A page with the section `The first message`.
struct Page {
    folder: &'static str,
    /// The program that runs its commands.
    program: &'static str,
    /// The files that a reader copies, separated by spaces.
    copied: &'static str,
    /// The language of its code, and the file that a reader saves it as; empty without code.
    code: [&'static str; 2],
}

const PAGES: [Page; 5] = [
    Page {
        folder: "docs/send-from/node",
        program: "node",
        copied: "blocks_session.cjs",
        code: ["js", "first.cjs"],
    },
    Page {
        folder: "docs/send-from/go",
        program: "go",
        copied: "go.mod blocks_session.go cmd/send/main.go",
        code: ["go", "first/main.go"],
    },
    Page {
        folder: "docs/send-from/python",
        program: "python3",
        copied: "blocks_session.py",
        code: ["python", "first.py"],
    },
    Page {
        folder: "docs/send-from/micropython",
        program: "python3",
        copied: "blocks_session.py",
        code: ["python", "first.py"],
    },
    Page {
        folder: "docs/send-from/c",
        program: "cc",
        copied: "blocks_session.h send.c",
        code: ["", ""],
    },
];

#[test]
fn the_commands_of_each_page_lead_to_the_first_message() {
    let name = "the_commands_of_each_page_lead_to_the_first_message";
    for page in PAGES {
        let Some(place) = Workplace::new(name, &[page.program]) else {
            continue;
        };
        for file in page.copied.split(' ') {
            let content = fs::read(root(page.folder).join(file)).expect(file);
            write(&place.path().join(file), &content);
        }
        if page.program == "go" {
            // Without a limit, so that the commands of the page find most of it compiled.
            let mut build = place.command("go", &["build", "-o", "/dev/null", "./cmd/send"]);
            let built = build.output().expect("Go runs");
            assert!(built.status.success(), "{built:?}");
        }
        // In place of the command that copies files to a board, and runs them there.
        place.link(&root("tests/peers/mpremote"));
        let port = ReservedPort::take();
        let port = port.address().port().to_string();
        let (mut daemon, mut lines) = (None, 0);
        for block in code_blocks(&format!("{}/README.md", page.folder)) {
            if block.section != "The first message" {
                continue;
            }
            let code = block.code.trim_end();
            if block.language != "text" {
                lines += code.lines().filter(|line| !line.is_empty()).count();
            }
            match &*block.language {
                "sh" if code.starts_with("blocksd serve ") => {
                    let started = place.start(&replace(code, PORT, &port));
                    started.wait_for_error("listening on ");
                    daemon = Some(started);
                }
                "sh" => {
                    place.run("sh", &code.replace(PORT, &port));
                }
                "text" => {
                    let daemon = daemon.as_ref().expect("it was started before");
                    wait_until("the daemon prints the lines of the page", || {
                        let printed = shape(&daemon.printed_text());
                        shape(code).lines().all(|line| printed.contains(line))
                    });
                }
                language => {
                    assert_eq!([language, page.code[1]], page.code, "{}", page.folder);
                    let saved = place.path().join(page.code[1]);
                    let code = code.replace(HOST, "127.0.0.1");
                    write(&saved, replace(&code, PORT, &port).as_bytes());
                }
            }
        }
        assert!((3..=LINES_MAX).contains(&lines), "{}: {lines}", page.folder);
    }
}

/// Writes a file, in a folder that may be missing.
fn write(path: &Path, content: &[u8]) {
    let folder = path.parent().expect("a file has a folder");
    fs::create_dir_all(folder).expect("a folder");
    fs::write(path, content).expect("a file");
}

/// Lines without the times, ports and sessions of a run.
pub(super) fn shape(printed: &str) -> String {
    let changing = r"\d\d:\d\d:\d\d\.\d{3}|127\.0\.0\.1:\d+|session [0-9a-f]{16}";
    let changing = Regex::new(changing).expect("a pattern");
    changing.replace_all(printed, "_").into_owned()
}
