//! The README is short, and its transcripts show the program's output.

use std::process::Command;

use blocksd_tests::code_blocks::{code_blocks, document};
use blocksd_tests::process::{Process, Server, blocksd, finish, run, wait_until};
use regex::Regex;
use tempfile::TempDir;

/// Highest number of words outside code blocks.
const WORDS_MAX: usize = 700;

#[test]
fn the_readme_is_short() {
    let text = document("README.md");
    let prose: String = text.split("```").step_by(2).collect();
    let words = prose.split_whitespace();
    let words = words.filter(|it| it.contains(char::is_alphanumeric));
    let count = words.count();
    assert!(count <= WORDS_MAX, "README.md has {count} words");
}

#[test]
fn the_demo_prints_what_the_readme_shows() {
    let block = block("console", "$ cargo run --release -- demo\n");
    let printed = run(&["demo", "--seconds", "2"], b"").stdout_text();
    let shape = |line: &str| shape(line, r"-?\d+(\.\d+)?(:\d+)*(\.\d+)?", "N");
    let printed: Vec<_> = printed.lines().map(shape).collect();
    for line in block.lines().filter(|line| line.trim() != "…") {
        let shape = shape(line);
        assert!(
            printed.contains(&shape),
            "{line}\nis not printed: no line has the shape {shape} in {printed:#?}"
        );
    }
}

#[test]
fn a_recording_survives_a_crash_as_the_readme_shows() {
    let shown = block("console", "$ blocksd serve ");
    let folder = TempDir::new().unwrap();
    let mut server = None;
    let mut printed = String::new();
    for line in shown.lines() {
        let Some(command) = line.strip_prefix("$ ") else {
            continue;
        };
        printed.push_str(line);
        printed.push('\n');
        let args: Vec<_> = command.split(' ').collect();
        match args[..] {
            ["blocksd", "serve", ref args @ .., "&"] => {
                let mut command = Server::command(args);
                command.current_dir(&folder);
                let started = Server::of(Process::start(command), args);
                server = Some(started);
                let server = server.as_ref().unwrap();
                printed.push_str(&server.process.error_text());
            }
            ["blocksd", "send", ref messages @ ..] => {
                let server = server.as_mut().unwrap();
                let addr = server.addr().to_string();
                let sent = run(&[&["send", "--to", &addr], messages].concat(), b"");
                assert_eq!(sent.code, Some(0), "{sent:?}");
                server.wait_for("close", 1);
            }
            ["sleep", "1;", "kill", "-9", "$!"] => {
                let server: Server = server.take().unwrap();
                let record = folder.path().join("telemetry");
                // Everything was printed, and is on the disk a moment later.
                let events = |text: String| text.lines().count();
                let record = record.to_str().unwrap();
                let on_disk =
                    || events(run(&["read", record, "--output", "json"], b"").stdout_text());
                wait_until("the events are on the disk", || on_disk() == 6);
                server.process.signal("KILL");
                let place = printed.rfind("$ sleep").unwrap();
                let events = server.process.end().stdout_text();
                printed.insert_str(place, &events);
            }
            ["blocksd", ref args @ ..] => {
                let mut command = blocksd(args);
                command.current_dir(&folder);
                let ended = finish(command, b"");
                assert_eq!(ended.code, Some(0), "{ended:?}");
                printed.push_str(&ended.stdout_text());
            }
            _ => panic!("unknown command in the README: `{command}`"),
        }
    }
    let (shown, normalised) = (transcript(&shown), transcript(&printed));
    for (shown, printed) in shown.lines().zip(normalised.lines()) {
        assert_eq!(shown, printed, "README.md shows the left line");
    }
    assert_eq!(shown, normalised, "{printed}");
}

#[test]
fn a_device_in_python_sends_as_the_readme_shows() {
    let mut server = Server::start(&[]);
    let script = block("python", "");
    let port = server.addr().port().to_string();
    let mut python = Command::new("python3");
    python.args(["-c", &script.replace("1060", &port)]);
    let ended = finish(python, b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    server.wait_for("close", 1);
    assert_eq!(server.events()[1]["text"], "temp=21.5");
}

/// The first code block in this language that begins with `begin`.
fn block(language: &str, begin: &str) -> String {
    let blocks = code_blocks("README.md");
    let mut blocks = blocks.into_iter().filter(|it| it.language == language);
    let found = blocks.find_map(|block| {
        let rest = block.code.strip_prefix(begin)?;
        Some(match begin.ends_with('\n') {
            true => rest.to_owned(),
            false => block.code,
        })
    });
    found.unwrap_or_else(|| panic!("README.md has no block of {language} that begins with {begin}"))
}

/// A transcript without times, ports and file names, which differ in each run.
fn transcript(text: &str) -> String {
    // A commit may come between the start and the first message.
    let text = shape(text, r"\d chunks?$", "N chunks");
    let text = shape(&text, r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME");
    let text = shape(&text, r"\d{8}T\d{6}Z-[0-9a-f]{16}", "NAME");
    shape(&text, r"127\.0\.0\.1:\d+", "ADDR")
}

fn shape(text: &str, pattern: &str, name: &str) -> String {
    let pattern = Regex::new(&format!("(?m){pattern}")).unwrap();
    let text = pattern.replace_all(text, name);
    // The width of columns depends on their figures.
    let lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}
