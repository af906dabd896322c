//! `blocksd top` in a real terminal, driven by keys. Without `tmux`, these tests are skipped.

use std::fs;
use std::io::Write;
use std::process::Command;

use blocksd_tests::fake_daemon::{FakeAnswer, FakeDaemon};
use blocksd_tests::process::{Server, blocksd, run, wait_until};
use blocksd_tests::scrape;
use blocksd_tests::tmux::Tmux;
use serde_json::{Value, json};

const TIME: &str = "2020-01-02T12:00:05.000000000Z";
/// The same time, in milliseconds since 1970.
const TIME_MS: i64 = 1_577_966_405_000;
const NAMES: [&str; 12] = [
    "boiler",
    "pump-1",
    "pump-2",
    "pump-3",
    "pump-4",
    "pump-5",
    "pump-6",
    "pump-7",
    "pump-8",
    "pump-9",
    "valve \u{1b}[2Jx",
    "wind",
];

/// Runs `top` in a shell that shows how it was left.
fn top(name: &str, size: (u16, u16), before: &str, daemon: &FakeDaemon) -> Option<Tmux> {
    top_of(name, size, before, &daemon.url())
}

fn top_of(name: &str, size: (u16, u16), before: &str, url: &str) -> Option<Tmux> {
    let program = blocksd(&[]);
    let program = program.get_program().to_str().unwrap();
    let line = format!(
        "echo before; modes=$(stty -g); {before} {program} top --url {url}; echo ended=$?; \
         [ \"$(stty -g)\" = \"$modes\" ] && echo restored; cat"
    );
    Tmux::start(name, size, &line)
}

/// The process of `top`.
fn id_of_top(tmux: &Tmux) -> u32 {
    let shell = tmux.shell_id();
    let path = format!("/proc/{shell}/task/{shell}/children");
    let mut id = None;
    wait_until("the shell has a child", || {
        let children = fs::read_to_string(&path).unwrap_or_default();
        id = children
            .split_whitespace()
            .next()
            .and_then(|it| it.parse().ok());
        id.is_some()
    });
    id.unwrap()
}

fn kill(signal: &str, id: u32) {
    let killed = Command::new("kill")
        .args([signal, &id.to_string()])
        .status();
    assert!(killed.unwrap().success());
}

#[test]
fn keys_choose_what_top_shows() {
    let daemon = FakeDaemon::start(answer);
    let Some(tmux) = top("keys_choose_what_top_shows", (100, 30), "", &daemon) else {
        return;
    };
    // The worst is first; what is hostile is escaped.
    tmux.wait_for_all(&[
        "blocksd plant-7  12:00:05  12 devices: 1 silent 1 faulty 0 live",
        "1,234 messages/s  55 KiB/s  recording ok",
        "> silent pump-1 ",
        r"valve \u{1b}[2Jx ",
        "too_long            12  pump-2, 5.0s ago",
        " boiler #1: temp=24.1",
    ]);

    tmux.press(&["s"]);
    tmux.wait_for("s sort:rate");
    wait_until("it asks for the order", || asked(&daemon, "&sort=rate&"));

    tmux.press(&["/", "p", "u", "m"]);
    tmux.wait_for("filter: pum_");
    tmux.press(&["Enter"]);
    tmux.wait_that("the matching devices", |shown| {
        shown.contains("filter pum: 9") && !shown.contains("wind")
    });
    tmux.press(&["Escape"]);
    tmux.wait_for(" wind ");

    tmux.press(&["?"]);
    tmux.wait_for("STATE   silent: connected, nothing for 3 of its intervals");
    tmux.press(&["Escape"]);
    tmux.wait_for("STATE  DEVICE");

    tmux.press(&["f"]);
    tmux.wait_for("NEWEST FAULTS");
    tmux.wait_for("fault: message of 6000 bytes is over the limit of 4096");
    tmux.press(&["f", "Down", "k", "Enter"]);
    let shown = tmux.wait_for_all(&[
        "pump-1  silent",
        "> 1 temp",
        "temp over 1 min, 20 to 26",
        "space pause",
    ]);
    let is_braille = |it: char| ('\u{2801}'..='\u{28ff}').contains(&it);
    assert!(shown.contains(is_braille), "{shown}");
    tmux.press(&["2"]);
    wait_until("it asks for ten minutes", || {
        asked(
            &daemon,
            "/api/v1/plot?device=pump-1&field=temp&field=rpm&last_s=600&columns=200\n",
        )
    });
    tmux.press(&["p"]);
    tmux.wait_that("one plot", |shown| !shown.contains("temp over"));
    tmux.press(&["Escape"]);
    tmux.wait_for("STATE  DEVICE");

    tmux.resize(60, 16);
    tmux.wait_that("a small screen", |shown| {
        shown.lines().count() == 16 && shown.contains("> ") && !shown.contains("LAST 60 S")
    });

    tmux.press(&["Space"]);
    tmux.wait_for("PAUSED");
    let paused = daemon.requests().len();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    // One round may have been under way.
    assert!(
        daemon.requests().len() <= paused + 6,
        "{:?}",
        daemon.requests()
    );
    tmux.press(&["q"]);
    let shown = tmux.wait_for("restored");
    assert!(shown.contains("before\nended=0\nrestored"), "{shown}");
}

#[test]
fn a_lost_daemon_is_stated_and_found_again() {
    let daemon = FakeDaemon::start(answer);
    let name = "a_lost_daemon_is_stated_and_found_again";
    let Some(tmux) = top(name, (80, 24), "", &daemon) else {
        return;
    };
    tmux.wait_for("> silent");
    daemon.set_down(true);
    tmux.wait_for_all(&["LOST, trying again: http://127.0.0.1:", "> silent"]);
    daemon.set_down(false);
    tmux.wait_for("1,234 messages/s");
    tmux.press(&["C-c"]);
    let shown = tmux.wait_for("restored");
    assert!(shown.contains("before\nended=0\nrestored"), "{shown}");
}

#[test]
fn signals_restore_the_terminal() {
    for (signal, code) in [("-TERM", 143), ("-INT", 130), ("-HUP", 129)] {
        let daemon = FakeDaemon::start(answer);
        let Some(tmux) = top("signals_restore_the_terminal", (80, 24), "", &daemon) else {
            return;
        };
        tmux.wait_for("> silent");
        kill(signal, id_of_top(&tmux));
        let shown = tmux.wait_for("restored");
        assert!(
            shown.contains(&format!("before\nended={code}\nrestored")),
            "{shown}"
        );
    }
}

#[test]
fn colours_are_those_of_every_terminal_and_can_be_turned_off() {
    let is_coloured = |text: &str| text.contains("\u{1b}[31m") || text.contains("\u{1b}[33m");
    for (before, has_colours) in [("", true), ("NO_COLOR=1", false), ("TERM=vt100", true)] {
        let daemon = FakeDaemon::start(answer);
        let name = "colours_are_those_of_every_terminal_and_can_be_turned_off";
        let Some(tmux) = top(name, (80, 24), before, &daemon) else {
            return;
        };
        tmux.wait_for_all(&["> silent", "space pause"]);
        let shown = tmux.styled_text();
        assert_eq!(is_coloured(&shown), has_colours, "{before}: {shown:?}");
        assert!(
            !shown.contains("[38;5;") && !shown.contains("[38;2;"),
            "{shown:?}"
        );
    }
}

#[test]
fn a_start_that_cannot_work_is_an_error() {
    let daemon = FakeDaemon::start(|_| FakeAnswer::Refusal(401, "no token\n".to_owned()));
    run(&["top", "--url", &daemon.url()], b"").assert_refused(2, "`top` needs a terminal");
    let name = "a_start_that_cannot_work_is_an_error";
    let Some(tmux) = top(name, (200, 24), "", &daemon) else {
        return;
    };
    let shown = tmux.wait_for("restored");
    assert!(shown.contains("401"), "{shown}");
    assert!(
        shown.contains("add --token FILE\nended=1\nrestored"),
        "{shown}"
    );
}

#[test]
fn top_shows_the_values_of_a_daemon() {
    let server = Server::start(&[
        "--http",
        "127.0.0.1:0",
        "--framing",
        "lines",
        "--decode",
        "json",
        "--device-by",
        "peer",
        "--output",
        "none",
    ]);
    let mut sender = server.connect();
    let mut number = 0;
    let mut send = || {
        number += 1;
        writeln!(sender, "{{\"temp\":{},\"on\":true}}", 20 + number % 10).unwrap();
    };
    send();
    let url = format!("http://{}", scrape::http_addr(&server));
    let Some(tmux) = top_of("top_shows_the_values_of_a_daemon", (90, 30), "", &url) else {
        return;
    };
    // The only device is opened at once, and its number is plotted.
    let is_plotted = |shown: &str| {
        shown.contains("> 1 temp ")
            && shown.contains("temp over 1 min, 2")
            && shown.contains(": temp=2")
    };
    let mut shown = String::new();
    wait_until("there is a plot", || {
        send();
        shown = tmux.text();
        is_plotted(&shown)
    });
    assert!(shown.contains(" messages, "), "{shown}");
    // With two devices, there is a table.
    let mut other = server.connect();
    other.write_all(b"{\"rpm\":7}\n").unwrap();
    tmux.press(&["Escape"]);
    tmux.wait_for_all(&["2 devices: ", "> "]);
    wait_until("the values are listed", || {
        other.write_all(b"{\"rpm\":7}\n").unwrap();
        tmux.text().contains(" rpm=7")
    });
    assert_eq!(server.stop().0.code, Some(0));
    tmux.wait_for("LOST, trying again: cannot connect to 127.0.0.1:");
    tmux.press(&["q"]);
    tmux.wait_for("restored");
}

/// Whether it has asked for a path with this part.
fn asked(daemon: &FakeDaemon, part: &str) -> bool {
    daemon.requests().iter().any(|it| it.contains(part))
}

/// The answer of a daemon with the devices [`NAMES`].
fn answer(target: &str) -> FakeAnswer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|it| it.split_once('='));
        pairs.find(|it| it.0 == name).map(|it| it.1)
    };
    let number = |name| value(name).and_then(|it| it.parse::<usize>().ok());
    let json = match path {
        "/api/v1/devices" => {
            let filter = value("filter").unwrap_or_default();
            let all: Vec<_> = NAMES.iter().filter(|it| it.contains(filter)).collect();
            let matched = all.len();
            let mut all: Vec<_> = all.into_iter().map(|name| device(name)).collect();
            all.sort_by_key(|it| it["state"] != "silent");
            let page = all.into_iter().skip(number("offset").unwrap_or(0));
            let page: Vec<_> = page.take(number("limit").unwrap_or(50)).collect();
            json!({
                "time": TIME, "devices": page, "gone_dropped": 0, "matched": matched, "total": NAMES.len(),
                "states": {"live": 0, "silent": 1, "faulty": 1, "gone": 0},
                "messages_per_s": 1234.4, "bytes_per_s": 56_000.0, "history": [1.0, 5.0, 9.0],
                "faults": [{"fault": "too_long", "count": 12, "device": "pump-2", "time": "2020-01-02T12:00:00Z"}],
            })
        }
        "/api/v1/daemon" => json!({
            "time": TIME, "version": "0.1.0", "host": "plant-7", "started": TIME,
            "recording": {"directory": "/r", "state": "ok", "sync_ms": 0.8, "free_bytes": 1_000_000, "room_s": 60},
            "view": {"memory_bytes": 0, "memory_max_bytes": 1, "not_shown": 0},
        }),
        "/api/v1/device" => json!({
            "time": TIME, "device": device(value("device").unwrap()), "encoding": "json", "peer": null, "conn": 12,
            "session": null, "since": TIME,
            "fields": [field("temp"), field("rpm"), field("n")], "fields_more": 0, "history": "none",
        }),
        "/api/v1/plot" => {
            let fields = query.split('&').filter_map(|it| it.strip_prefix("field="));
            let points: Vec<_> = (0..60)
                .map(|at| json!([TIME_MS - 60_000 + at * 1000, 20 + at % 7]))
                .collect();
            let series = fields.map(|it| json!({"field": it, "points": points, "error": null}));
            json!({
                "time": TIME, "from_ms": TIME_MS - 60_000, "to_ms": TIME_MS, "step_ms": 1000, "history": "none",
                "series": series.collect::<Vec<_>>(),
            })
        }
        "/api/v1/tail" | "/api/v1/faults" => {
            let mut entry = json!({
                "id": 1, "event": "block", "conn": 1, "device": value("device").unwrap_or("boiler"), "time": TIME,
                "seq": 1, "len": 13,
            });
            if path.ends_with("tail") {
                entry["value"] = json!({"temp": 24.1});
            } else {
                entry["event"] = json!("fault");
                entry["fault"] = json!("too_long");
                entry["declared"] = json!(6000);
                entry["limit"] = json!(4096);
                entry["lost"] = json!(false);
            }
            json!({"time": TIME, "next": 2, "lost": 0, "not_shown": 0, "entries": [entry]})
        }
        _ => return FakeAnswer::Refusal(404, format!("no such path: {path}\n")),
    };
    FakeAnswer::Json(json.to_string())
}

fn device(name: &str) -> Value {
    let state = match name {
        "pump-1" => "silent",
        "pump-2" => "faulty",
        _ => "live",
    };
    json!({
        "device": name, "state": state, "connections": 1, "connections_total": 1, "reconnects": 0, "messages": 7,
        "bytes": 70, "messages_per_s": 1.5, "faults": {"too_long": u64::from(state == "faulty") * 12}, "gaps": 0,
        "gap_messages": 0, "interval_us": 100_000, "first_seen": TIME, "last_seen": TIME, "last_close": null,
        "latest": {"time": TIME, "seq": 1, "len": 13, "text": "{\"temp\":24.1}"}, "values": [["temp", "24.1"]],
        "spark": vec![1; 60],
    })
}

fn field(name: &str) -> Value {
    json!({
        "field": name, "numeric": true, "last": "24.1", "min": 20.0, "max": 26.0, "count": 60, "plotted": true,
    })
}
