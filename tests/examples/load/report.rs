//! Medians and spreads of the samples, as Markdown.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use blocksd_tests::measure::Spread;

/// The result of one run of one receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) messages_per_second: f64,
    pub(crate) processor_ns_per_message: f64,
    /// The part of the thread that records.
    pub(crate) recorder_ns_per_message: f64,
    pub(crate) memory_peak_mib: f64,
    /// Bytes on the disk per byte of the messages.
    pub(crate) disk_ratio: f64,
    /// Processor time of the sender during the run.
    pub(crate) sender_busy: f64,
    /// Number of messages that were sent and never written.
    pub(crate) lost_ratio: f64,
}

/// All samples of one message length: one row per receiver, one sample per round.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) message_len: usize,
    pub(crate) connections: usize,
    pub(crate) rows: Vec<(String, Vec<Sample>)>,
}

/// The table of one message length, with the ratios of each receiver's rate to these.
pub(crate) fn table(cell: &Cell, baselines: &[&str]) -> String {
    let mut text = String::new();
    let baselines = baselines.iter().filter_map(|name| {
        let row = cell.rows.iter().find(|(row, _)| row == name)?;
        Some((*name, &row.1))
    });
    let baselines: Vec<_> = baselines.collect();
    text.push_str("| receiver | messages/s (spread) | MiB/s |");
    for (name, _) in &baselines {
        write!(text, " × {name} (spread) |").expect("memory");
    }
    text.push_str(
        " processor ns/message | peak memory MiB | disk bytes/payload | cores: its own + sender's |\n|---|---:|---:|",
    );
    text.push_str(&"---:|".repeat(baselines.len() + 4));
    text.push('\n');
    for (name, samples) in &cell.rows {
        row(&mut text, cell.message_len, name, samples, &baselines);
    }
    text
}

/// The table of one message length and number of connections, by processor time, with the ratios to these.
pub(crate) fn processor_table(cell: &Cell, baselines: &[&str]) -> String {
    let rows = || cell.rows.iter();
    let mut text = String::from("| receiver | processor ns/message (spread) |");
    let baselines = baselines.iter();
    let baselines = baselines.filter_map(|name| rows().find(|(row, _)| row == name));
    let baselines: Vec<_> = baselines.collect();
    for (name, _) in &baselines {
        write!(text, " × {name} (spread) |").expect("memory");
    }
    text.push_str(" messages/s | cores: its own + sender's |\n|---|");
    text.push_str(&"---:|".repeat(baselines.len() + 3));
    text.push('\n');
    for (name, samples) in rows() {
        let of = |figure: fn(&Sample) -> f64| Spread::of(samples.iter().map(figure));
        let own = of(|sample| sample.processor_ns_per_message);
        let Spread {
            least,
            median,
            most,
        } = own;
        write!(text, "| {name} | {median:.0} ({least:.0}–{most:.0}) |").expect("memory");
        for (_, theirs) in &baselines {
            let ratio = processor_ratio(samples, theirs);
            write!(
                text,
                " {:.2} ({:.2}–{:.2}) |",
                ratio.median, ratio.least, ratio.most
            )
            .expect("memory");
        }
        writeln!(
            text,
            " {} | {:.2} + {:.2} |",
            short(of(|sample| sample.messages_per_second).median),
            of(|sample| sample.messages_per_second * sample.processor_ns_per_message / 1e9).median,
            of(|sample| sample.sender_busy).median,
        )
        .expect("memory");
    }
    text
}

fn row(
    text: &mut String,
    message_len: usize,
    name: &str,
    samples: &[Sample],
    baselines: &[(&str, &Vec<Sample>)],
) {
    let of = |figure: fn(&Sample) -> f64| Spread::of(samples.iter().map(figure));
    let rate = of(|sample| sample.messages_per_second);
    let lost = of(|sample| sample.lost_ratio);
    let note = if lost.most > 0.0 {
        format!(" (lost up to {:.1} %)", 100.0 * lost.most)
    } else {
        String::new()
    };
    write!(
        text,
        "| {name}{note} | {} ({}–{}) | {:.0} |",
        short(rate.median),
        short(rate.least),
        short(rate.most),
        rate.median * message_len as f64 / f64::from(1 << 20),
    )
    .expect("memory");
    for (baseline, theirs) in baselines {
        if *baseline == name {
            text.push_str(" 1 |");
            continue;
        }
        let ratio = ratio(samples, theirs);
        write!(
            text,
            " {:.2} ({:.2}–{:.2}) |",
            ratio.median, ratio.least, ratio.most
        )
        .expect("memory");
    }
    let disk = of(|sample| sample.disk_ratio).median;
    let disk = if disk == 0.0 {
        "–".to_owned()
    } else {
        format!("{disk:.2}")
    };
    writeln!(
        text,
        " {:.0} | {:.1} | {disk} | {:.2} + {:.2} |",
        of(|sample| sample.processor_ns_per_message).median,
        of(|sample| sample.memory_peak_mib).most,
        of(|sample| sample.messages_per_second * sample.processor_ns_per_message / 1e9).median,
        of(|sample| sample.sender_busy).median,
    )
    .expect("memory");
}

/// Compares the recordings with the best of the others, by the prefixes of their names.
pub(crate) fn bars(cells: &[Cell], ours: &str, theirs: &str) -> String {
    let mut text = String::from("| receiver |");
    for cell in cells {
        write!(text, " {} × best {theirs} |", length(cell.message_len)).expect("memory");
    }
    text.push_str(" highest peak memory MiB |\n|---|");
    text.push_str(&"---:|".repeat(cells.len() + 1));
    text.push('\n');
    let names = cells.first().map(|cell| cell.rows.as_slice());
    let names = names.unwrap_or_default().iter().map(|(name, _)| name);
    for name in names.filter(|name| name.starts_with(ours)) {
        write!(text, "| {name} |").expect("memory");
        let mut memory: f64 = 0.0;
        for cell in cells {
            let own = cell.rows.iter().find(|(row, _)| row == name);
            let own = own.map_or(&[][..], |(_, samples)| samples);
            let others = cell.rows.iter().filter(|(row, _)| row.starts_with(theirs));
            let least = others.map(|(_, theirs)| ratio(own, theirs).median);
            let least = least.fold(f64::INFINITY, f64::min);
            write!(text, " {least:.2} |").expect("memory");
            memory = own
                .iter()
                .map(|sample| sample.memory_peak_mib)
                .fold(memory, f64::max);
        }
        writeln!(text, " {memory:.1} |").expect("memory");
    }
    text
}

/// Compares this build of the daemon with other builds, which have the same name followed by the build in parentheses.
pub(crate) fn builds(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| messages | connections | receiver | other build | processor time a message (spread) | of the recorder's thread (spread) | recorder ns/message, the other's | rate (spread) |\n|---|---:|---|---|---:|---:|---:|---:|\n",
    );
    for cell in cells {
        for (other, theirs) in &cell.rows {
            let named = other
                .strip_suffix(')')
                .and_then(|name| name.rsplit_once(" ("));
            let Some((name, build)) = named else { continue };
            let Some((_, ours)) = cell.rows.iter().find(|(row, _)| row == name) else {
                continue;
            };
            let recorder = |it: &Sample| it.recorder_ns_per_message;
            let median = |samples: &[Sample]| Spread::of(samples.iter().map(recorder)).median;
            let recorders = match median(theirs) {
                0.0 => "– | –".to_owned(),
                theirs_ns => {
                    let ratio = ratio_of(ours, theirs, recorder);
                    format!("{ratio:.3} | {:.1}, {theirs_ns:.1}", median(ours))
                }
            };
            writeln!(
                text,
                "| {} | {} | {name} | {build} | {:.3} | {recorders} | {:.3} |",
                length(cell.message_len),
                cell.connections,
                processor_ratio(ours, theirs),
                ratio(ours, theirs),
            )
            .expect("memory");
        }
    }
    text
}

/// A message length in readable form.
pub(crate) fn length(bytes: usize) -> String {
    if bytes.is_multiple_of(1024) {
        format!("{} KiB", bytes / 1024)
    } else {
        format!("{bytes} B")
    }
}

/// Replaces the text between the two marks of a section in a document.
///
/// # Errors
/// If the document cannot be read or written, or does not have the marks.
pub(crate) fn update(document: &Path, section: &str, results: &str) -> io::Result<()> {
    let begin = format!("<!-- {section}: written by tests/load -->");
    let end = format!("<!-- {section}: end -->");
    let text = fs::read_to_string(document)?;
    let parts = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        let path = document.display();
        return Err(io::Error::other(format!(
            "{path} has no lines {begin} and {end}"
        )));
    };
    let results = results.trim_end();
    fs::write(
        document,
        format!("{before}{begin}\n\n{results}\n\n{end}{after}"),
    )
}

/// The ratios of the rates, round by round.
fn ratio(ours: &[Sample], theirs: &[Sample]) -> Spread {
    ratio_of(ours, theirs, |sample| sample.messages_per_second)
}

/// The ratios of the processor times, round by round.
fn processor_ratio(ours: &[Sample], theirs: &[Sample]) -> Spread {
    ratio_of(ours, theirs, |sample| sample.processor_ns_per_message)
}

/// The ratios of a figure, round by round.
fn ratio_of(ours: &[Sample], theirs: &[Sample], figure: fn(&Sample) -> f64) -> Spread {
    let pairs = ours.iter().zip(theirs);
    Spread::of(pairs.map(|(ours, theirs)| figure(ours) / figure(theirs)))
}

/// A rate with three significant figures: `1.23M`.
fn short(rate: f64) -> String {
    let (value, unit) = if rate >= 1e6 {
        (rate / 1e6, "M")
    } else {
        (rate / 1e3, "k")
    };
    let decimals = match value {
        10.0..100.0 => 1,
        0.0..10.0 => 2,
        _ => 0,
    };
    format!("{value:.decimals$}{unit}")
}
