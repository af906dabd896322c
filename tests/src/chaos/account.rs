//! Compares the counts of all parties after an attack: clients, metrics, totals and recording must agree.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use framing_core::AnyFraming;
use mcap::read::Options;
use mcap::{Message, MessageStream};
use serde_json::Value;

use super::attack::Kind;
use super::honest::{Visits, message};
use super::{Plan, VISITOR};
use crate::recorded::{number, sealed};

/// Counts of the clients, and measurements during the attack.
pub(super) struct Clients {
    pub(super) framings: Vec<AnyFraming>,
    pub(super) attacks: Vec<(Kind, u64)>,
    /// Connections that the system has established, of all clients.
    pub(super) connected: u64,
    /// Messages of each honest device.
    pub(super) sent: Vec<u64>,
    pub(super) visits: Vec<Visits>,
    /// Resident memory: before, highest, and after.
    pub(super) resident_kb: [u64; 3],
    /// Memory in free buffers of the pool: before and after.
    pub(super) kept_kb: [u64; 2],
    pub(super) descriptors: [usize; 3],
}

/// Result of an attack in which everything was right.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    attacks: Vec<(Kind, u64)>,
    connected: u64,
    refused: u64,
    refused_full: u64,
    accepted: u64,
    honest_blocks: u64,
    visits: u64,
    visits_refused: u64,
    blocks: u64,
    events: u64,
    faults: u64,
    suppressed: BTreeMap<String, u64>,
    closed: Vec<(String, u64)>,
    files: usize,
    resident_kb: [u64; 3],
    kept_kb: [u64; 2],
    descriptors: [usize; 3],
    stopped_in: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            seed,
            time,
            attackers,
            tls,
        } = self.plan;
        let count: u64 = self.attacks.iter().map(|(_, count)| count).sum();
        writeln!(
            f,
            "seed {seed}, {attackers} attackers for {} s{}: {count} attacks",
            time.as_secs(),
            if tls { " on listeners with TLS" } else { "" }
        )?;
        for (kind, count) in &self.attacks {
            writeln!(f, "  {count:>8} {kind:?}")?;
        }
        let (connected, accepted, refused) = (self.connected, self.accepted, self.refused);
        writeln!(
            f,
            "connections: {connected} made = {accepted} accepted + {refused} refused ({} for want of a place); closed: {}",
            self.refused_full,
            self.closed
                .iter()
                .map(|(reason, count)| format!("{count} {reason}"))
                .collect::<Vec<_>>()
                .join(", ")
        )?;
        writeln!(
            f,
            "blocks: {} recorded, {} of honest devices, each once and in order; {} faults",
            self.blocks, self.honest_blocks, self.faults
        )?;
        writeln!(
            f,
            "recorded as counts only: {:?}; {} events recorded",
            self.suppressed, self.events
        )?;
        writeln!(
            f,
            "visits: {} with a receipt, all recorded; {} without",
            self.visits, self.visits_refused
        )?;
        let [before, most, after] = self.resident_kb;
        let [kept_before, kept_after] = self.kept_kb;
        writeln!(
            f,
            "resident: {before} kB before, {most} at most, {after} after; {kept_before} and {kept_after} of them in free buffers"
        )?;
        let [before, most, after] = self.descriptors;
        writeln!(
            f,
            "descriptors: {before} before, {most} at most, {after} after"
        )?;
        write!(
            f,
            "stopped in {:.2} s; {} files of the recording",
            self.stopped_in.as_secs_f64(),
            self.files
        )
    }
}

/// Compares the counts of all parties.
#[track_caller]
pub(super) fn settle(
    plan: Plan,
    samples: &BTreeMap<String, f64>,
    totals: &BTreeMap<String, u64>,
    clients: &Clients,
    recorded: &Recorded,
    stopped_in: Duration,
) -> Report {
    let sum = |name: &str| -> u64 {
        let of = samples.iter().filter(|(key, _)| key.starts_with(name));
        of.map(|(_, value)| *value as u64).sum()
    };
    let closed = samples.iter().filter_map(|(key, value)| {
        let reason = key.strip_prefix("blocksd_connections_closed_total{reason=\"")?;
        Some((reason.trim_end_matches("\"}").to_owned(), *value as u64))
    });
    let visits = &clients.visits;
    let report = Report {
        plan,
        attacks: clients.attacks.clone(),
        connected: clients.connected,
        refused: totals["refused"],
        refused_full: sum("blocksd_connections_refused_total{reason=\"connections_full"),
        accepted: totals["connection"],
        honest_blocks: clients.sent.iter().sum(),
        visits: visits.iter().map(|v| v.promised.len() as u64).sum(),
        visits_refused: visits.iter().map(|visits| visits.refused).sum(),
        blocks: totals["block"],
        faults: totals["fault"],
        events: recorded.events.values().sum(),
        suppressed: recorded.suppressed.clone(),
        closed: closed.filter(|(_, count)| *count != 0).collect(),
        files: recorded.files,
        resident_kb: clients.resident_kb,
        kept_kb: clients.kept_kb,
        descriptors: clients.descriptors,
        stopped_in,
    };
    let event = |name| recorded.events.get(name).copied().unwrap_or_default();
    let only_counted = |word| recorded.suppressed.get(word).copied().unwrap_or_default();
    let faults = [
        "too_long",
        "bad_length",
        "bad_ending",
        "bad_checksum",
        "truncated",
        "reset",
    ];
    let faults: u64 = faults.into_iter().map(only_counted).sum();
    let connections = only_counted("connections");
    let pairs = [
        (
            "closed",
            sum("blocksd_connections_closed_total"),
            report.accepted,
        ),
        ("made", report.connected, report.accepted + report.refused),
        (
            "opens recorded",
            event("open") + connections,
            report.accepted,
        ),
        (
            "closes recorded",
            event("close") + connections,
            report.accepted,
        ),
        (
            "series recorded",
            event("end") + only_counted("ends"),
            totals["serie"],
        ),
        ("faults recorded", event("fault") + faults, report.faults),
        (
            "blocks recorded",
            recorded.blocks + only_counted("empty"),
            report.blocks,
        ),
        // A visitor evicts an attacker, so it is always admitted.
        ("visits without a receipt", report.visits_refused, 0),
        (
            "blocks on the disk",
            sum("blocksd_record_messages_synced_total"),
            report.blocks,
        ),
    ];
    for (what, one, other) in pairs {
        assert_eq!(one, other, "{what}: {report}\n{recorded:?}\n{totals:?}");
    }
    report
}

/// The contents of the recording.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    files: usize,
    blocks: u64,
    events: BTreeMap<String, u64>,
    /// The sums over all `suppressed` events.
    suppressed: BTreeMap<String, u64>,
    /// Next expected message of each honest device, or next byte for a framing without messages.
    next: Vec<u64>,
    /// Numbers of the blocks of each visitor.
    visits: Vec<Vec<u64>>,
}

impl Recorded {
    /// Reads the recording, and asserts that it has the data of the honest devices: every byte, once, in order.
    #[track_caller]
    pub(super) fn read(folder: &Path, clients: &Clients) -> Self {
        let files = sealed(folder);
        let mut read = Self {
            files: files.len(),
            next: vec![0; clients.framings.len()],
            visits: vec![Vec::new(); clients.visits.len()],
            ..Self::default()
        };
        for file in files {
            let bytes = std::fs::read(&file).expect("a file");
            let options = Options::ValidateChunkCrcs.into();
            let messages = MessageStream::new_with_options(&bytes, options).expect("a recording");
            for found in messages {
                let found = found.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                read.take(&found, clients);
            }
        }
        read.compare(clients);
        read
    }

    fn take(&mut self, found: &Message<'_>, clients: &Clients) {
        let topic = found.channel.topic.as_str();
        if topic == "/blocksd/events" {
            let event: Value = serde_json::from_slice(&found.data).expect("JSON");
            let kind = event["event"].as_str().expect("an event").to_owned();
            if kind == "suppressed" {
                for (word, count) in event.as_object().expect("an object") {
                    let is_count = word != "conn" && word != "seq";
                    if let Some(count) = count.as_u64().filter(|_| is_count) {
                        *self.suppressed.entry(word.clone()).or_default() += count;
                    }
                }
            }
            *self.events.entry(kind).or_default() += 1;
            return;
        }
        self.blocks += u64::from(topic.ends_with("/blocks"));
        let address = topic.split('/').nth(2).expect("a device");
        let address: Ipv4Addr = address.parse().expect("an address");
        let [_, _, kind, host] = address.octets();
        let index = usize::from(host) - 1;
        match kind {
            1 => self.honest(index, clients.framings[index], &found.data),
            2 => self.visits[index].push(number_of(&found.data, VISITOR + index as u64)),
            _ => {}
        }
    }

    /// Checks the next message of an honest device, or the next piece for a framing without messages.
    fn honest(&mut self, device: usize, framing: AnyFraming, bytes: &[u8]) {
        let next = &mut self.next[device];
        if let AnyFraming::Stream(_) = framing {
            for byte in bytes {
                let wanted = message(framing, device as u64, *next / 16)[(*next % 16) as usize];
                assert_eq!(*byte, wanted, "device {device}, byte {next}");
                *next += 1;
            }
        } else {
            let wanted = message(framing, device as u64, *next);
            assert!(
                bytes == wanted,
                "device {device}: unexpected message {next}"
            );
            *next += 1;
        }
    }

    fn compare(&self, clients: &Clients) {
        for (device, sent) in clients.sent.iter().enumerate() {
            let unit = match clients.framings[device] {
                AnyFraming::Stream(_) => 16,
                _ => 1,
            };
            assert_eq!(
                self.next[device],
                sent * unit,
                "device {device}: the last messages are missing"
            );
        }
        for (numbers, visits) in self.visits.iter().zip(&clients.visits) {
            let is_ordered = numbers.is_sorted_by(|one, other| one < other);
            assert!(
                is_ordered,
                "a visitor's block is duplicated or out of order"
            );
            for promised in &visits.promised {
                let from = numbers.partition_point(|number| *number < promised.start);
                let kept = numbers[from..].iter();
                let kept = kept.take_while(|number| promised.contains(number));
                assert!(
                    kept.copied().eq(promised.clone()),
                    "missing although a receipt was sent: {promised:?}"
                );
            }
        }
    }
}

/// The number of a visitor's block.
#[track_caller]
fn number_of(bytes: &[u8], visitor: u64) -> u64 {
    let full = u64::from_be_bytes(*bytes.first_chunk().expect("a number"));
    let n = full & ((1 << 40) - 1);
    let whole = number(bytes).is_some() || bytes.len() == 200;
    assert!(
        full >> 40 == visitor && whole,
        "a forged block of visitor {visitor}"
    );
    n
}
