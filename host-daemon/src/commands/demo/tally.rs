//! Counts of sent and received messages, and the table that compares them: [`print`].

use std::io::{self, Write};

use framing_core::Fault;

use blocksd_engine::batch::Item;
use blocksd_engine::stdio;

/// Counts of what a device sent, or of what arrived from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    pub(super) too_long: u64,
    pub(super) cut: u64,
    pub(super) series: u64,
}

impl Tally {
    /// Counts a result.
    pub(super) const fn count(&mut self, item: &Item<'_>) {
        match item {
            Item::Message(bytes) => {
                self.blocks += 1;
                self.bytes += bytes.len() as u64;
            }
            Item::End => self.series += 1,
            Item::Fault(Fault::TooLong { .. }) => self.too_long += 1,
            Item::Fault(_) => self.cut += 1,
            Item::Piece { .. } | Item::Reset | Item::AfterEnd { .. } => {}
        }
    }

    const fn add(&mut self, other: &Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
        self.too_long += other.too_long;
        self.cut += other.cut;
        self.series += other.series;
    }

    /// The number of messages that were begun: whole, too long or cut off.
    const fn begun(&self) -> u64 {
        self.blocks + self.too_long + self.cut
    }
}

/// A row of the table: a device, what it sent, and what arrived from it.
pub(super) type Row = (&'static str, Tally, Tally);

/// Prints the table; returns whether everything that was sent is accounted for.
pub(super) fn print(rows: &[Row]) -> io::Result<bool> {
    let mut out = stdio::stdout();
    writeln!(out)?;
    writeln!(
        out,
        "device   sent  arrived   bytes  too long  cut off  series"
    )?;
    let mut total: Row = ("total", Tally::default(), Tally::default());
    for row in rows {
        print_row(&mut out, row)?;
        total.1.add(&row.1);
        total.2.add(&row.2);
    }
    print_row(&mut out, &total)?;
    let balanced = rows.iter().all(|(_, sent, arrived)| sent == arrived);
    let verdict = if balanced {
        "balanced, nothing was lost"
    } else {
        "NOT balanced"
    };
    let (
        begun,
        Tally {
            blocks,
            too_long,
            cut,
            ..
        },
    ) = (total.1.begun(), total.2);
    writeln!(
        out,
        "{begun} sent = {blocks} arrived + {too_long} too long + {cut} cut off: {verdict}"
    )?;
    out.flush()?;
    Ok(balanced)
}

fn print_row(out: &mut impl Write, (name, sent, arrived): &Row) -> io::Result<()> {
    let Tally {
        blocks,
        bytes,
        too_long,
        cut,
        series,
    } = arrived;
    let begun = sent.begun();
    writeln!(
        out,
        "{name:<7} {begun:>5} {blocks:>8} {bytes:>7} {too_long:>9} {cut:>8} {series:>7}"
    )
}
