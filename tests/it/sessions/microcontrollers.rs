//! The pages for Arduino, ESP-IDF and Zephyr: their commands run, their projects and sketches are compiled on this computer, with headers of
//! `tests/peers` in place of the frameworks, and send their first message to the daemon.

use std::fs;
use std::path::Path;
use std::process::Command;

use blocksd_tests::code_blocks::{CodeBlock, code_blocks, replace};
use blocksd_tests::process::{Process, wait_until};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::skip::skipped;
use blocksd_tests::workplace::Workplace;

use super::arduino::sketch_with;
use super::compiled::{compile, root};
use super::first_messages::{LINES_MAX, PORT, shape};

/// The address of the daemon in the pages.
const HOST: &str = "192.168.1.10";
/// The serial line of the page for Arduino.
const LINE: &str = "/dev/ttyACM0";

/// A project in C.
struct Project {
    folder: &'static str,
    /// Its file with `main`, which the page shows.
    main: &'static str,
    /// The standard that its framework compiles with.
    standard: &'static str,
    /// The headers in place of those of the framework.
    headers: &'static str,
}

const PROJECTS: [Project; 2] = [
    Project {
        folder: "docs/send-from/esp-idf",
        main: "main/main.c",
        standard: "-std=gnu17",
        headers: "tests/peers/esp_idf",
    },
    Project {
        folder: "docs/send-from/zephyr",
        main: "src/main.c",
        standard: "-std=gnu17",
        headers: "tests/peers/zephyr",
    },
];

/// The copies of a page, made by its commands, and the programs that run.
struct Visit {
    place: Workplace,
    port: ReservedPort,
    daemon: Option<Process>,
    program: Option<Process>,
    lines: usize,
}

impl Visit {
    /// Begins in a folder with the documents, which is also the home.
    fn new(name: &str, programs: &[&str]) -> Option<Self> {
        let place = Workplace::new(name, programs)?;
        std::os::unix::fs::symlink(root("docs"), place.path().join("docs")).expect("a link");
        Some(Self {
            place,
            port: ReservedPort::take(),
            daemon: None,
            program: None,
            lines: 0,
        })
    }

    /// Follows a section: runs its commands, passes its code to `code`, which starts a program, and waits for the output that it shows.
    #[track_caller]
    fn follow(
        &mut self,
        page: &str,
        section: &str,
        mut code: impl FnMut(&Self, &CodeBlock) -> Option<Process>,
    ) {
        let port = self.port.address().port().to_string();
        let line = self.place.path().join("tty");
        let mut outputs = 0;
        for block in code_blocks(page) {
            if block.section != section {
                continue;
            }
            let text = block.code.trim_end();
            if ["sh", "c", "cpp"].contains(&&*block.language) {
                self.lines += text.lines().filter(|it| !it.is_empty()).count();
            }
            match &*block.language {
                "sh" if text.starts_with("blocksd serve ") => {
                    let line = line.to_str().expect("UTF-8");
                    let command = text.replace(PORT, &port).replace(LINE, line);
                    let daemon = self.place.start(&command);
                    daemon.wait_for_error(if text.contains(LINE) {
                        "serial"
                    } else {
                        "listening on "
                    });
                    self.daemon = Some(daemon);
                }
                "sh" => {
                    let home = format!("HOME={}\n{text}", self.place.path().display());
                    self.place.run("sh", &home);
                }
                "text" => {
                    let daemon = self.daemon.as_ref().expect("it was started before");
                    let expected = text.replace(LINE, line.to_str().expect("UTF-8"));
                    wait_until("the daemon prints the lines of the page", || {
                        let printed = shape(&daemon.printed_text());
                        shape(&expected).lines().all(|line| printed.contains(line))
                    });
                    outputs += 1;
                }
                "console" => (),
                _ => self.program = code(self, &block),
            }
        }
        assert_eq!(outputs, 1, "{page}: {section}");
    }

    /// Writes a file of a page with the address of the daemon in place of that of the page.
    fn address(&self, path: &Path, text: &str) {
        let port = self.port.address().port().to_string();
        let text = replace(text, HOST, self.port.address().ip());
        fs::write(path, replace(&text, PORT, port)).expect("a file");
    }
}

#[test]
fn the_projects_in_c_send_their_first_message() {
    let name = "the_projects_in_c_send_their_first_message";
    for project in PROJECTS {
        let Some(mut visit) = Visit::new(name, &["cc"]) else {
            return;
        };
        let page = format!("{}/README.md", project.folder);
        visit.follow(&page, "The first message", |visit, block| {
            let main = visit.place.path().join("boiler").join(project.main);
            let copied = fs::read_to_string(&main).expect("the commands copy it");
            assert_eq!(copied, block.code, "{page} shows {}", project.main);
            visit.address(&main, &copied);
            let program = visit.place.path().join("program");
            // Its own folder has the headers that the commands copy.
            let args = ["-I".into(), root(project.headers).into(), main.into()];
            let compiled = compile(name, ["cc", project.standard], &program, &args);
            compiled.expect("a compiler");
            Some(Process::start(Command::new(program)))
        });
        let code = fs::read_to_string(root(project.folder).join(project.main)).expect(&page);
        let lines = code.lines().filter(|it| !it.is_empty()).count();
        assert!(lines <= LINES_MAX, "{page}: {lines} lines of code");
        assert!(visit.lines <= LINES_MAX + 4, "{page}: {}", visit.lines);
    }
}

#[test]
fn the_sketches_for_arduino_send_their_first_message() {
    let name = "the_sketches_for_arduino_send_their_first_message";
    let page = "docs/send-from/arduino/README.md";
    let Some(mut visit) = Visit::new(name, &["c++", "socat"]) else {
        return;
    };
    visit.follow(page, "The first message", |visit, block| {
        let program = compile_sketch(visit, "WiFiSession", block)?;
        Some(Process::start(Command::new(program)))
    });
    assert!(visit.lines <= LINES_MAX, "{}", visit.lines);
    (visit.program, visit.daemon) = (None, None);
    visit.follow(
        page,
        "The first message over a serial line",
        |visit, block| {
            let program = compile_sketch(visit, "SerialFrames", block)?;
            let line = visit.place.path().join("tty");
            let line = format!("PTY,rawer,wait-slave,link={}", line.display());
            let program = format!("EXEC:{}", program.display());
            Some(Process::start(
                visit.place.command("socat", &[&line, &program]),
            ))
        },
    );
    assert!(visit.lines <= 2 * LINES_MAX, "{}", visit.lines);
}

/// Compiles the sketch of a page, which is an example of the library.
fn compile_sketch(visit: &Visit, sketch: &str, block: &CodeBlock) -> Option<std::path::PathBuf> {
    let library = visit.place.path().join("Arduino/libraries/Blocks");
    let source = library.join(format!("examples/{sketch}/{sketch}.ino"));
    let copied = fs::read_to_string(&source).expect("the commands copy it");
    assert_eq!(copied, block.code, "the page shows {sketch}");
    if copied.contains(HOST) {
        visit.address(&source, &copied);
    }
    let program = visit.place.path().join(sketch);
    if let Err(reason) = sketch_with(&library, &source, &[], &program) {
        skipped(sketch, reason);
        return None;
    }
    Some(program)
}
