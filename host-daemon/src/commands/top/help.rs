//! The help: keys, and what each column means. Start with [`draw`].

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::{Clear, Widget as _};

use crate::commands::top::app::Page;
use crate::commands::top::screen::{Theme, footer, line, put};

const DEVICES: &[&str] = &[
    "KEYS",
    "up down j k PgUp PgDn Home End  choose a device; Enter opens it",
    "/ filter by name, Esc clears it; s sort: worst, rate, faults, last, name",
    "f faults of all devices; space pause; q quit",
    "COLUMNS",
    "STATE   silent: connected, nothing for 3 of its intervals",
    "        faulty: a fault in the last minute; gone: not connected",
    "/S      messages a second, mostly of the last 5 s",
    "LAST 60 S  messages in each second, up to its own highest",
    "FAULTS  refused or undecodable messages since the daemon started",
    "LAST    time since it connected or sent",
    "NEWEST VALUES  first fields of its newest message",
    "worst: silent, faulty, gone, live; then most faults",
];

const DEVICE: &[&str] = &[
    "KEYS",
    "up down j k PgUp PgDn Home End  choose a field",
    "p or Enter  plot it, or plot it no more; at most two plots",
    "1 2 3  plot 1 minute, 10 minutes, 1 hour",
    "f faults or messages; Esc all devices; space pause; q quit",
    "COLUMNS",
    "LAST MIN MAX COUNT  of the values since somebody looks at it",
    "1 or 2 before a field: its plot",
    "PLOT    each column of dots shows its least and greatest value;",
    "        the right end is the daemon's time, also without values",
];

const FAULTS: &[&str] = &[
    "KEYS",
    "f or Esc  all devices; space pause; q quit",
    "COLUMNS",
    "FAULTS  the kind, as in the documentation of events",
    "COUNT   of all devices since the daemon started",
    "NEWEST  the device of the newest one",
];

/// Covers the page with its help.
pub(super) fn draw(page: &Page, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let lines = match page {
        Page::Devices => DEVICES,
        Page::Device(_) => DEVICE,
        Page::Faults => FAULTS,
    };
    Clear.render(area, buffer);
    for (number, text) in lines.iter().enumerate() {
        let style = match text.chars().all(char::is_uppercase) {
            true => theme.title(),
            false => Style::new(),
        };
        put(text, style, line(area, number), buffer);
    }
    footer("any key goes back", theme, area, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_fits_a_small_terminal() {
        for lines in [DEVICES, DEVICE, FAULTS] {
            assert!(lines.len() < 16, "{} lines", lines.len());
            for line in lines {
                assert!(line.len() <= 76, "{line}");
            }
        }
    }
}
