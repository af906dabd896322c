//! Counts of sent and kept messages, and the table that compares them: [`print`].

use std::io::{self, Write};

use framing_core::Fault;

use blocksd_engine::batch::Item;
use blocksd_engine::stdio;

use crate::commands::demo::meter::METER;

/// Counts of the messages that a device sent, or of those that were received and kept.
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

/// A row of the table: a device, the counts that it sent, and the counts that were kept.
pub(super) type Row = (&'static str, Tally, Tally);

/// Prints the table, in which `twice` messages of the session are left out because they were kept before. Returns whether
/// everything that was sent is accounted for.
pub(super) fn print(rows: &[Row], twice: u64) -> io::Result<bool> {
    write(&mut stdio::stdout(), rows, twice)
}

fn write(out: &mut impl Write, rows: &[Row], twice: u64) -> io::Result<bool> {
    writeln!(out)?;
    writeln!(
        out,
        "device   sent     kept   bytes  too long  cut off  series"
    )?;
    let mut total: Row = ("total", Tally::default(), Tally::default());
    for row in rows {
        write_row(out, row)?;
        total.1.add(&row.1);
        total.2.add(&row.2);
    }
    write_row(out, &total)?;
    let balanced = twice == 0 && rows.iter().all(|(_, sent, kept)| sent == kept);
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
        "{begun} sent = {blocks} kept + {too_long} too long + {cut} cut off: {verdict}"
    )?;
    if let Some((name, sent, kept)) = rows.iter().find(|(name, ..)| *name == METER) {
        let (sent, kept) = (sent.blocks, kept.blocks);
        let twice = match twice {
            0 => "none".to_owned(),
            twice => twice.to_string(),
        };
        writeln!(
            out,
            "{name}: its recorder was killed once and its connection was cut once; {sent} sent, {kept} kept, {twice} twice"
        )?;
    }
    out.flush()?;
    Ok(balanced)
}

fn write_row(out: &mut impl Write, (name, sent, kept): &Row) -> io::Result<()> {
    let Tally {
        blocks,
        bytes,
        too_long,
        cut,
        series,
    } = kept;
    let begun = sent.begun();
    writeln!(
        out,
        "{name:<7} {begun:>5} {blocks:>8} {bytes:>7} {too_long:>9} {cut:>8} {series:>7}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_missing_or_kept_twice_is_not_balanced() {
        let of = |blocks| Tally {
            blocks,
            ..Tally::default()
        };
        for (kept, twice, verdict) in [
            (
                7,
                0,
                "nothing was lost\nmeter: its recorder was killed once and its connection was cut once; 7 sent, 7 kept, none twice\n",
            ),
            (
                6,
                0,
                "NOT balanced\nmeter: its recorder was killed once and its connection was cut once; 7 sent, 6 kept, none twice\n",
            ),
            (
                7,
                2,
                "NOT balanced\nmeter: its recorder was killed once and its connection was cut once; 7 sent, 7 kept, 2 twice\n",
            ),
        ] {
            let mut text = Vec::new();
            let rows = [("pump", of(3), of(3)), (METER, of(7), of(kept))];
            let balanced = write(&mut text, &rows, twice).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert_eq!(balanced, (kept, twice) == (7, 0));
            assert!(text.ends_with(verdict), "{text}");
        }
    }
}
