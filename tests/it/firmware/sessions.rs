//! Firmware in QEMU over an acknowledged session: outages of the link, and resets of the board, lose and repeat nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use blocksd_tests::board::{Board, image};
use blocksd_tests::controlled_host::ControlledHost;
use blocksd_tests::monitor::Monitor;
use blocksd_tests::process::wait_until;
use ciborium::Value;
use framing_core::session::Saved;
use object::{Object, ObjectSymbol};
use tempfile::TempDir;

/// A board with a session, its host, and the monitor of its emulator.
struct Bench {
    host: ControlledHost,
    board: Board,
    monitor: Monitor,
    /// Address of the memory of the session.
    memory: u64,
    _folder: TempDir,
}

impl Bench {
    /// Boots a board that makes this number of samples after each boot, one every period. The host syncs nothing yet.
    fn boot(image: &Path, samples: u64, period_ms: u64) -> Self {
        let host = ControlledHost::start();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let monitor = folder.path().join("monitor");
        let words = [
            "device=boiler-7".to_owned(),
            format!("telemetry={}", host.port()),
            format!("monitor={}", monitor.display()),
            format!("samples={samples}"),
            format!("period_ms={period_ms}"),
            "stop_ms=20000".to_owned(),
        ];
        let board = Board::start(image, &words);
        Self {
            host,
            board,
            monitor: Monitor::connect(&monitor),
            memory: session_memory(image),
            _folder: folder,
        }
    }

    /// Number of the next message of the session, from the state that the board has saved.
    fn next_number(&mut self) -> u64 {
        let bytes = self.monitor.memory(self.memory, 4 + 2 * Saved::LEN);
        let (newest, saved) = bytes.split_at(4);
        let saved = &saved[usize::from(newest[0] & 1) * Saved::LEN..];
        let word = |at: usize| u32::from_be_bytes(saved[at..at + 4].try_into().expect("four"));
        // The number of the oldest message, and the number of messages.
        (u64::from(word(0)) << 32 | u64::from(word(4))) + u64::from(word(28))
    }

    /// Stops the processor, and resets the board. Returns the number of the next message of its session.
    fn reset(&mut self) -> u64 {
        self.monitor.run("stop");
        let next = self.next_number();
        assert!(
            self.host.taken() <= next,
            "a number is sent before it is saved"
        );
        self.monitor.run("system_reset");
        self.monitor.run("cont");
        next
    }

    /// Waits for the end of the board. Returns the figures of its report.
    #[track_caller]
    fn end(self) -> (ControlledHost, BTreeMap<String, u64>) {
        let ended = self.board.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let printed = ended.stdout_text();
        let (_, report) = printed.split_once("SessionReport { ").expect("a report");
        let (report, _) = report.split_once(" }").expect("its end");
        let figures = report.split(", ").filter_map(|figure| {
            let (key, value) = figure.split_once(": ")?;
            Some((key.to_owned(), value.parse().ok()?))
        });
        (self.host, figures.collect())
    }
}

/// The address of the memory that outlives a reset.
fn session_memory(image: &Path) -> u64 {
    let elf = fs::read(image).expect("an image");
    let file = object::File::parse(&*elf).expect("an ELF file");
    let mut symbols = file.symbols();
    let memory = symbols.find(|it| it.name().is_ok_and(|name| name.contains("session6MEMORY")));
    memory.expect("the memory of the session").address()
}

/// A sample: its values by key.
fn sample(message: &[u8]) -> BTreeMap<String, f64> {
    let value: Value = ciborium::from_reader(message).expect("CBOR");
    let values = value.into_map().expect("a map").into_iter();
    let values = values.map(|(key, value)| {
        let number = match value {
            Value::Integer(number) => i128::from(number) as f64,
            Value::Float(number) => number,
            other => panic!("{other:?} is not a number"),
        };
        (key.into_text().expect("a text"), number)
    });
    values.collect()
}

/// Asserts that the host has these runs of samples, each from number 0 on, and no gap. Returns the samples.
#[track_caller]
fn assert_runs(host: &ControlledHost, runs: &[u64]) -> Vec<BTreeMap<String, f64>> {
    let (messages, gaps) = host.recorded();
    let samples: Vec<_> = messages.iter().map(|message| sample(message)).collect();
    let numbers: Vec<_> = samples.iter().map(|sample| sample["n"] as u64).collect();
    let wanted: Vec<_> = runs.iter().flat_map(|&run| 0..run).collect();
    assert_eq!((numbers, gaps), (wanted, 0), "runs of {runs:?}");
    samples
}

#[test]
fn a_session_acknowledges_every_sample_and_stamps_them_with_the_time_of_the_host() {
    let name = "a_session_acknowledges_every_sample_and_stamps_them_with_the_time_of_the_host";
    let Some(image) = image(name, "mps2-an386") else {
        return;
    };
    let begun_ms = now_ms();
    let bench = Bench::boot(&image, 50, 20);
    bench.host.set_syncs(true);
    let (host, report) = bench.end();
    assert_eq!(
        (report["acknowledged"], report["left"]),
        (50, 0),
        "{report:?}"
    );
    assert_eq!(
        (report["gaps"], report["connections"]),
        (0, 1),
        "{report:?}"
    );
    assert_eq!(host.device(), "boiler-7");
    let samples = assert_runs(&host, &[50]);
    let (ended_ms, mut before_ms) = (now_ms(), begun_ms);
    let known = samples
        .iter()
        .skip_while(|sample| !sample.contains_key("time"));
    for sample in known.clone() {
        let time_ms = sample["time"];
        assert!((before_ms..=ended_ms).contains(&time_ms), "{sample:?}");
        before_ms = time_ms;
    }
    assert!(10 < known.count(), "the time is known after the WELCOME");
}

#[test]
fn a_risc_v_core_sends_its_samples_over_a_session() {
    let name = "a_risc_v_core_sends_its_samples_over_a_session";
    let Some(image) = image(name, "rv32-virt") else {
        return;
    };
    let host = ControlledHost::start();
    host.set_syncs(true);
    let ended = Board::start(&image, &[format!("telemetry={}", host.port())]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let printed = ended.stdout_text();
    assert!(
        printed.contains("acknowledged: 20, given_up: 0,"),
        "{printed}"
    );
    assert_eq!(host.device(), "rv32-virt");
    assert_runs(&host, &[20]);
}

#[test]
fn resets_of_the_board_lose_and_repeat_nothing() {
    let name = "resets_of_the_board_lose_and_repeat_nothing";
    let Some(image) = image(name, "mps2-an386") else {
        return;
    };
    let mut bench = Bench::boot(&image, 1_000_000, 60);
    // Message numbers at which the runs end.
    let mut ends = vec![0];
    for cut in [false, true, false, true, true] {
        let begun = ends[ends.len() - 1];
        // Makes room in the ring: that of about 37 samples.
        bench.host.set_syncs(true);
        wait_until("samples arrive", || begun + 2 <= bench.host.taken());
        bench.host.set_syncs(false);
        // At the host, and not durable.
        wait_until("samples arrive", || begun + 4 <= bench.host.taken());
        let mut least = begun + 4;
        if cut {
            // In the ring, and not at the host.
            bench.monitor.run("set_link net off");
            least = bench.host.taken() + 5;
        }
        wait_until("samples are made", || least <= bench.next_number());
        let end = bench.reset();
        assert!(least <= end, "{end}");
        ends.push(end);
        bench.monitor.run("set_link net on");
    }
    let begun = ends[ends.len() - 1];
    wait_until("samples arrive", || begun < bench.host.taken());
    bench.host.set_syncs(true);
    wait_until("samples arrive", || begun + 50 < bench.host.taken());
    // Nothing is left to be sent, and the board is stopped so.
    bench.monitor.run("stop");
    let end = bench.next_number();
    bench.monitor.run("cont");
    wait_until("all of them arrive", || end <= bench.host.taken());
    let (messages, _) = bench.host.recorded();
    ends.push(messages.len() as u64);
    let runs: Vec<_> = ends.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_runs(&bench.host, &runs);
}

#[test]
fn messages_that_a_reset_left_are_acknowledged_in_the_next_run() {
    let name = "messages_that_a_reset_left_are_acknowledged_in_the_next_run";
    let Some(image) = image(name, "mps2-an386") else {
        return;
    };
    let mut bench = Bench::boot(&image, 20, 20);
    wait_until("samples arrive", || 5 <= bench.host.taken());
    let left = bench.reset();
    bench.host.set_syncs(true);
    let (host, report) = bench.end();
    assert_runs(&host, &[left, 20]);
    assert_eq!(report["restored"], left, "{report:?}");
    assert_eq!(report["acknowledged"], left + 20, "{report:?}");
    assert_eq!((report["given_up"], report["left"]), (0, 0), "{report:?}");
}

/// Cuts the link of a board until it has made ten samples. Returns its host and its report.
fn outage(image: &Path, samples: u64, period_ms: u64) -> (ControlledHost, BTreeMap<String, u64>) {
    let mut bench = Bench::boot(image, samples, period_ms);
    bench.host.set_syncs(true);
    wait_until("samples arrive", || 5 <= bench.host.taken());
    bench.monitor.run("set_link net off");
    let taken = bench.host.taken();
    wait_until("samples are made", || taken + 10 <= bench.next_number());
    bench.monitor.run("set_link net on");
    bench.end()
}

#[test]
fn an_outage_costs_nothing_that_the_ring_has_room_for_and_otherwise_is_a_gap() {
    let name = "an_outage_costs_nothing_that_the_ring_has_room_for_and_otherwise_is_a_gap";
    let Some(image) = image(name, "mps2-an386") else {
        return;
    };
    // Each sample takes about 110 bytes of the ring of 4 KiB, and TCP takes a second or two to notice that the link is back.
    let (host, report) = outage(&image, 30, 100);
    assert_runs(&host, &[30]);
    assert_eq!(
        (report["acknowledged"], report["given_up"], report["gaps"]),
        (30, 0, 0)
    );
    let (host, report) = outage(&image, 1_000, 2);
    let (messages, gaps) = host.recorded();
    let recorded = messages.len() as u64;
    // The host can have messages that were given up before it acknowledged them.
    assert!(1 <= report["gaps"] && 1 <= gaps, "{gaps}: {report:?}");
    let least = report["acknowledged"];
    assert!((least..1_000).contains(&recorded), "{recorded}: {report:?}");
    let accounted = least + report["given_up"] + report["refused"];
    assert_eq!((accounted, report["left"]), (1_000, 0), "{report:?}");
}

fn now_ms() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock after 1970").as_millis() as f64
}
