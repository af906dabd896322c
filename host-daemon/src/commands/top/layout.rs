//! Where the parts of a screen are: [`ListLayout`] and [`DeviceLayout`], and how much fits ([`list_sizes`]).

use ratatui::layout::{Constraint, Layout, Rect};

/// The size of a terminal, in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: u16,
    pub(super) height: u16,
}

/// The parts of the first screen.
#[derive(Debug)]
pub(super) struct ListLayout {
    pub(super) header: Rect,
    pub(super) forwards: Rect,
    pub(super) rate: Rect,
    pub(super) table: Rect,
    pub(super) faults: Rect,
    pub(super) messages: Rect,
}

/// How many lines of the first screen are visible.
#[derive(Debug)]
pub(super) struct ListSizes {
    /// Devices.
    pub(super) rows: usize,
    /// Messages.
    pub(super) messages: usize,
}

/// The parts of the view of a device.
#[derive(Debug)]
pub(super) struct DeviceLayout {
    pub(super) header: Rect,
    pub(super) forwards: Rect,
    pub(super) fields: Rect,
    pub(super) plots: Rect,
    pub(super) lines: Rect,
}

/// Least width for fields and plots beside each other.
const WIDE: u16 = 110;
/// Width of the fields beside plots.
const FIELDS: u16 = 50;

/// What fits on the first screen, with this number of lines of clusters.
pub(super) fn list_sizes(size: Size, clusters: usize) -> ListSizes {
    let area = Rect::new(0, 0, size.width, size.height);
    let layout = ListLayout::of(area, clusters);
    // Each has a line with names.
    let lines = |area: Rect| usize::from(area.height.saturating_sub(1));
    ListSizes {
        rows: lines(layout.table),
        messages: lines(layout.messages),
    }
}

/// The lines of clusters in a terminal of this height: those that there are, at most six.
fn forwards(height: u16, lines: usize) -> u16 {
    let most = match height {
        0..10 => 1,
        10..20 => 2,
        20..36 => 4,
        _ => 6,
    };
    lines.min(most) as u16
}

impl ListLayout {
    pub(super) fn of(area: Rect, clusters: usize) -> Self {
        let (rate, faults, messages) = match area.height {
            0..10 => (0, 0, 0),
            10..20 => (1, 1, 4),
            20..36 => (2, 3, 7),
            _ => (3, 5, 12),
        };
        let forwards = forwards(area.height, clusters);
        let parts = [
            Constraint::Length(2),
            Constraint::Length(forwards),
            Constraint::Length(rate),
            Constraint::Min(0),
            Constraint::Length(faults),
            Constraint::Length(messages),
            Constraint::Length(1),
        ];
        let [header, forwards, rate, table, faults, messages, _footer] =
            Layout::vertical(parts).areas(area);
        Self {
            header,
            forwards,
            rate,
            table,
            faults,
            messages,
        }
    }
}

impl DeviceLayout {
    pub(super) fn of(area: Rect, clusters: usize) -> Self {
        let lines = match area.height {
            0..12 => 0,
            12..20 => 3,
            20..36 => 7,
            _ => 12,
        };
        let parts = [
            Constraint::Length(2),
            Constraint::Length(forwards(area.height, clusters)),
            Constraint::Min(0),
            Constraint::Length(lines),
            Constraint::Length(1),
        ];
        let [header, forwards, middle, lines, _footer] = Layout::vertical(parts).areas(area);
        let (fields, plots) = match area.width < WIDE {
            true => {
                let fields = (middle.height / 3).clamp(3, 8);
                let parts = [Constraint::Length(fields), Constraint::Min(0)];
                let [fields, plots] = Layout::vertical(parts).areas(middle);
                (fields, plots)
            }
            false => {
                let parts = [Constraint::Length(FIELDS), Constraint::Min(0)];
                let [fields, plots] = Layout::horizontal(parts).spacing(2).areas(middle);
                (fields, plots)
            }
        };
        Self {
            header,
            forwards,
            fields,
            plots,
            lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_rows_in_a_small_terminal() {
        let sizes = |width, height| {
            let sizes = list_sizes(Size { width, height }, 0);
            (sizes.rows, sizes.messages)
        };
        assert_eq!(sizes(60, 16), (6, 3));
        assert_eq!(sizes(80, 24), (8, 6));
        assert_eq!(sizes(200, 60), (36, 11));
        // Each line of a cluster is one of the table's.
        let rows = |clusters| {
            [16, 24, 60].map(|height| list_sizes(Size { width: 80, height }, clusters).rows)
        };
        assert_eq!((rows(1), rows(9)), ([5, 7, 35], [4, 4, 30]));
        // Nothing overflows.
        for height in 0..30 {
            for width in (0..100).step_by(9) {
                list_sizes(Size { width, height }, height.into());
                DeviceLayout::of(Rect::new(0, 0, width, height), height.into());
            }
        }
        let small = DeviceLayout::of(Rect::new(0, 0, 60, 16), 0);
        assert_eq!(
            (small.fields.height, small.plots.height, small.lines.height),
            (3, 7, 3)
        );
    }
}
