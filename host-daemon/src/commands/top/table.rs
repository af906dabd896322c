//! The table of devices: [`draw`].

use std::time::SystemTime;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use crate::api::devices::DeviceReport;
use crate::commands::top::app::App;
use crate::commands::top::screen::{Theme, line, put};
use crate::commands::top::words::{age, count, left, rate, right, spark, width};
use crate::escape::printable;

const STATE: usize = 6;
const RATE: usize = 7;
const FAULTS: usize = 6;
const LAST: usize = 5;
/// Least width of the names of devices.
const DEVICE_MIN: usize = 12;

/// The widths that depend on the screen.
struct Widths {
    device: usize,
    spark: usize,
    values: usize,
}

/// Draws the visible devices below the names of the columns.
pub(super) fn draw(app: &App, now: SystemTime, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let widths = Widths::of(app, area.width.into());
    let names = [
        "STATE",
        "DEVICE",
        "/S",
        "LAST 60 S",
        "FAULTS",
        "LAST",
        "NEWEST VALUES",
    ];
    let title = format!("  {}", widths.row(names.map(str::to_owned)));
    put(&title, theme.title(), line(area, 0), buffer);
    if app.devices.is_some() && app.matched() == 0 {
        let text = match app.filter.is_empty() {
            true => "  no device has connected yet",
            false => "  no device has this text in its name; Esc shows all",
        };
        put(text, Style::new(), line(area, 1), buffer);
    }
    for (row, device) in app.visible() {
        let place = line(area, 1 + row - app.offset);
        let is_selected = row == app.selected;
        let mark = if is_selected { "> " } else { "  " };
        let text = format!("{mark}{}", widths.row(cells(device, now, &widths)));
        let style = match is_selected {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        put(&left(&text, area.width.into()), style, place, buffer);
        let state = device.state.as_deref().unwrap_or_default();
        let style = style.patch(theme.state(state));
        buffer.set_style(column(place, 2, STATE), style);
        if device.all_faults() != 0 {
            let at = 2 + STATE + 1 + widths.device + 1 + RATE + 1 + widths.spark_with_space();
            let faults = column(place, at, FAULTS);
            buffer.set_style(faults, theme.coloured(Color::Red));
        }
    }
}

fn cells(device: &DeviceReport, now: SystemTime, widths: &Widths) -> [String; 7] {
    [
        printable(device.state.as_deref().unwrap_or("-")),
        printable(&device.device),
        device.messages_per_s.map_or_else(String::new, rate),
        spark(&device.spark, widths.spark),
        count(device.all_faults()),
        age(now, device.last_seen.0),
        values(device),
    ]
}

/// The first fields of the newest message, or its text.
pub(super) fn values(device: &DeviceReport) -> String {
    let fields = device.values.iter();
    let fields = fields.map(|(name, value)| format!("{}={}", printable(name), printable(value)));
    match (&device.latest, device.values.is_empty()) {
        (Some(latest), true) => printable(&latest.text),
        _ => fields.collect::<Vec<_>>().join(" "),
    }
}

impl Widths {
    fn of(app: &App, all: usize) -> Self {
        let spark = match all {
            0..70 => 0,
            70..100 => 10,
            _ => 20,
        };
        let names = app
            .visible()
            .map(|(_, device)| width(&printable(&device.device)));
        let most = (all / 4).max(DEVICE_MIN);
        let device = names.max().unwrap_or_default().clamp(DEVICE_MIN, most);
        let mut widths = Self {
            device,
            spark,
            values: 0,
        };
        let others = 2 + STATE + 1 + device + 1 + RATE + 1 + FAULTS + 1 + LAST + 2;
        widths.values = all.saturating_sub(others + widths.spark_with_space());
        widths
    }

    const fn spark_with_space(&self) -> usize {
        if self.spark == 0 { 0 } else { self.spark + 1 }
    }

    fn row(&self, cells: [String; 7]) -> String {
        let [state, device, rate, spark, faults, last, values] = &cells;
        let spark = match self.spark {
            0 => String::new(),
            cells => left(spark, cells) + " ",
        };
        format!(
            "{} {} {} {spark}{} {}  {}",
            left(state, STATE),
            left(device, self.device),
            right(rate, RATE),
            right(faults, FAULTS),
            right(last, LAST),
            left(values, self.values),
        )
    }
}

fn column(place: Rect, at: usize, cells: usize) -> Rect {
    let short = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    let column = Rect {
        x: place.x.saturating_add(short(at)),
        width: short(cells),
        ..place
    };
    column.intersection(place)
}
