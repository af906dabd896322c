//! Runs the commands of `docs/first-device.md` in an empty directory, with free ports in place of those of the page.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;

use blocksd_tests::code_blocks::{CodeBlock, code_blocks, document, replace};
use blocksd_tests::process::{Process, blocksd, connect, finish, wait_until};
use blocksd_tests::reserved_port::ReservedPort;
use blocksd_tests::scrape;
use blocksd_tests::tmux::Tmux;
use blocksd_tests::workplace::Workplace;
use regex::{Captures, Regex};

const PAGE: &str = "docs/first-device.md";
/// The ports of the page: of lines, of `blocks`, and of HTTP.
const PORTS: [&str; 3] = ["1060", "1061", "9107"];
/// The name of the device on the page.
const DEVICE: &str = "127.0.0.1";

/// A reader of the page, who has gone so far.
struct Reader {
    place: Workplace,
    blocks: std::vec::IntoIter<CodeBlock>,
    ports: HashMap<&'static str, ReservedPort>,
}

impl Reader {
    fn new(name: &str) -> Self {
        Self {
            place: Workplace::new(name, &[]).unwrap(),
            blocks: code_blocks(PAGE).into_iter(),
            ports: PORTS.map(|port| (port, ReservedPort::take())).into(),
        }
    }

    /// The next block, which must be in this language and begin with `begin`, with free ports.
    #[track_caller]
    fn block(&mut self, language: &str, begin: &str) -> String {
        let block = self.blocks.next().expect("a block");
        assert!(
            block.language == language && block.code.starts_with(begin),
            "the next block is not of {language} and does not begin with {begin}: {block:#?}"
        );
        self.on_free_ports(block.code.trim_end())
    }

    /// The next command of the shell.
    #[track_caller]
    fn command(&mut self, begin: &str) -> String {
        self.block("sh", begin)
    }

    fn on_free_ports(&self, text: &str) -> String {
        let port = Regex::new(&format!(r"\b({})\b", PORTS.join("|"))).unwrap();
        let free = |found: &Captures<'_>| self.address(&found[0]).port().to_string();
        port.replace_all(text, free).into_owned()
    }

    fn address(&self, port: &str) -> SocketAddr {
        self.ports[port].address()
    }

    /// Starts the daemon, and waits until it listens.
    #[track_caller]
    fn start(&self, serve: &str) -> Process {
        let daemon = self.place.start(serve);
        daemon.wait_for_errors("listening on ", serve.matches("--listen").count());
        daemon
    }

    /// The values of `temp` that the page plots, or `None` if it does not know the device or its past yet.
    fn plotted(&self) -> Option<Vec<f64>> {
        let page = self.address("9107");
        let devices = scrape::api(page, "devices");
        let mut devices = devices["devices"].as_array()?.iter();
        devices.find(|device| device["device"] == DEVICE)?;
        let device = scrape::api(page, &format!("device?device={DEVICE}"));
        if device["history"] != "complete" {
            return None;
        }
        let plot = scrape::api(page, &format!("plot?device={DEVICE}&field=temp&last_s=600"));
        let points = plot["series"][0]["points"].as_array()?.iter();
        Some(points.filter_map(|point| point[1].as_f64()).collect())
    }
}

#[test]
fn the_commands_of_the_page_lead_to_a_plot_of_the_value() {
    let name = "the_commands_of_the_page_lead_to_a_plot_of_the_value";
    let mut reader = Reader::new(name);
    let install = reader.command("cargo install ");
    assert!(document("README.md").contains(&format!("$ {install}\n")));

    let serve = reader.command("blocksd serve ");
    let daemon = reader.start(&serve);
    for line in reader.block("text", "page on ").lines() {
        daemon.wait_for_error(line);
    }
    let page = reader.address("9107");
    let link = reader.on_free_ports("http://127.0.0.1:9107/");
    assert_eq!(link, format!("http://{page}/"));
    let get = format!("GET / HTTP/1.1\r\nHost: {page}\r\nConnection: close\r\n\r\n");
    assert_eq!(scrape::request(page, &get).status, 200);

    let send = reader.command("blocksd send ");
    reader.place.run("sh", &send);
    let shown = reader.block("text", "");
    wait_until("the daemon shows the value", || {
        let printed = shape(&daemon.printed_text());
        shape(&shown).lines().all(|line| printed.contains(line))
    });
    let netcat = reader.command("printf ");
    if let Some(place) = Workplace::new(name, &["nc"]) {
        place.run("sh", &netcat);
        daemon_shows(&daemon, "temp=21.7");
    }
    let sender = reader.block("python", "import ");
    fs::write(reader.place.path().join("sender.py"), sender).unwrap();
    let sender = reader.command("python3 sender.py");
    let sender = reader.place.start(&sender);
    wait_until("the page plots the value", || {
        let values = reader.plotted().unwrap_or_default();
        values.first() == Some(&21.5) && values.iter().any(|value| 22.0 < *value)
    });

    let top = reader.command("blocksd top ");
    let program = blocksd(&[]);
    let program = program.get_program().to_str().unwrap();
    let top = replace(&top, "blocksd", program);
    if let Some(terminal) = Tmux::start(name, (90, 30), &format!("{top}; echo ended=$?; cat")) {
        terminal.wait_for("temp over 1 min");
        terminal.press(&["q"]);
        terminal.wait_for("ended=0");
    }

    let devices = reader.command("blocksd devices ");
    let devices = reader.place.run("sh", &devices).stdout_text();
    assert_eq!(columns(&devices), columns(&reader.block("text", "STATE")));
    let row = devices.lines().nth(1).unwrap();
    assert!(row.starts_with("live ") && row.contains(DEVICE), "{row}");
    let read = reader.command("blocksd read ");
    let table = reader.place.run("sh", &read).stdout_text();
    let shown = reader.block("text", "time,");
    assert_eq!(table.lines().next(), shown.lines().next());
    let first = |table: &str| Some(table.lines().nth(1)?.split_once("Z,")?.1.to_owned());
    assert_eq!(first(&table), first(&shown));
    // The sender has numbered its values.
    assert!(!table.trim_end().ends_with(','), "{table}");
    daemon.signal("INT");
    assert_eq!(daemon.end().code, Some(0));
    drop(sender);

    let serve = reader.command("blocksd serve ");
    let daemon = reader.start(&serve);
    let send = reader.command("blocksd send ");
    reader.place.run("sh", &send);
    wait_until("the page plots the time before the restart", || {
        let values = reader.plotted().unwrap_or_default();
        values.first() == Some(&21.5) && values.iter().any(|value| 22.0 < *value)
    });
    let device = scrape::api(page, &format!("device?device={DEVICE}"));
    assert_eq!(device["fields"][0]["last"], "22.5", "{device}");
    assert_eq!(reader.blocks.next(), None);
    daemon.signal("INT");
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn each_mistake_shows_what_the_page_says() {
    let mut reader = Reader::new("each_mistake_shows_what_the_page_says");
    let serve = reader.blocks.rfind(|block| block.code.contains(" serve "));
    let serve = reader.on_free_ports(serve.unwrap().code.trim_end());
    let [lines, blocks] = ["1060", "1061"].map(|port| reader.address(port));
    let send = |to: SocketAddr, more: &str| {
        let script = format!("blocksd send --to {to} {more}");
        finish(reader.place.command("sh", &["-c", &script]), b"")
    };
    let refused = send(lines, "temp=21.5").stderr;
    let daemon = reader.start(&serve);
    let text = document(PAGE);
    let table = text.split_once("| it shows |").unwrap().1;
    for row in table.lines().filter(|row| row.starts_with("| ")) {
        let shows = row.split('|').nth(1).unwrap().trim();
        let says = shows.trim_end_matches('`').rsplit('`').next().unwrap();
        match shows {
            "nothing, and `send` says `Connection refused`" => {
                assert!(refused.contains(says), "{refused}");
            }
            // A network that drops packets cannot be had here.
            "nothing, and the device has a timeout or no route" => {}
            "`Address already in use`" => {
                let second = finish(reader.place.command("sh", &["-c", &serve]), b"");
                assert_eq!(second.code, Some(75), "{second:?}");
                assert!(second.stderr.contains(says), "{second:?}");
            }
            "`opened by`, but the message is missing" => {
                let mut device = connect(lines);
                device.write_all(b"temp=24.5").unwrap();
                daemon_shows(&daemon, "opened by");
                assert!(!daemon.printed_text().contains("temp=24.5"));
                device.write_all(b"\n").unwrap();
                daemon_shows(&daemon, "temp=24.5");
            }
            "`message of 1952804208 bytes is over the limit of 1048576`" => {
                send(blocks, "--framing lines temp=21.5");
                daemon_shows(&daemon, says);
            }
            "`stream closed 17 bytes into a 18-byte message`" => {
                send(lines, "temp=21.5");
                daemon_shows(&daemon, says);
            }
            "`message 0 is not valid kv`" => {
                send(lines, "--framing lines 'warm today'");
                daemon.wait_for_error(says);
            }
            _ => panic!("the test has no row {shows}"),
        }
    }
    daemon.signal("INT");
    assert_eq!(daemon.end().code, Some(0));
    let raw = reader
        .place
        .run("sh", "blocksd read telemetry --output raw");
    assert!(raw.stdout_text().contains("warm today"), "{raw:?}");
}

/// Waits until standard output contains `text`.
#[track_caller]
fn daemon_shows(daemon: &Process, text: &str) {
    wait_until(text, || daemon.printed_text().contains(text));
}

/// The text without the times and ports of a run.
fn shape(text: &str) -> String {
    let run = Regex::new(r"\d\d:\d\d:\d\d\.\d{3}|127\.0\.0\.1:\d+").unwrap();
    run.replace_all(text, "…").into_owned()
}

/// The headings of a table.
fn columns(table: &str) -> Vec<String> {
    let header = table.lines().next().unwrap_or_default();
    let columns = header.split("  ").map(str::trim);
    let columns = columns.filter(|column| !column.is_empty());
    columns.map(str::to_owned).collect()
}
