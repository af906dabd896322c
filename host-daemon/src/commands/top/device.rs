//! The view of one device: [`draw`].

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use crate::api::device::{DeviceView, FieldView};
use crate::commands::top::app::App;
use crate::commands::top::device_page::DevicePage;
use crate::commands::top::layout::DeviceLayout;
use crate::commands::top::screen::{Theme, footer, line, newest, put, status};
use crate::commands::top::words::{age, count, left, number, rate, right, size};
use crate::commands::top::{forwards, plot};
use crate::escape::printable;

/// Width of a number of a field.
const NUMBER: usize = 9;

/// Draws a device.
pub(super) fn draw(app: &App, page: &DevicePage, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let layout = DeviceLayout::of(area, forwards::count(app.forwards(), area.width));
    let name = printable(&page.name);
    let (title, figures) = match &page.view {
        Some(view) => (title(view), figures(view)),
        None => (name.clone(), String::new()),
    };
    put(&title, theme.title(), line(layout.header, 0), buffer);
    match page.is_unknown {
        true => {
            let text = "the daemon does not know this device any more; Esc shows all";
            put(text, theme.alert(), line(layout.header, 1), buffer);
        }
        false => status(app, &figures, theme, line(layout.header, 1), buffer),
    }
    forwards::draw(app.forwards(), theme, layout.forwards, buffer);
    fields(page, theme, layout.fields, buffer);
    plot::draw(page, &app.text, theme, layout.plots, buffer);
    match page.shows_faults {
        true => newest("FAULTS", &page.faults, theme, layout.lines, buffer),
        false => newest("MESSAGES", &page.messages, theme, layout.lines, buffer),
    }
    let keys = "? help  q quit  Esc devices  p plot  1 2 3 time  f faults  space pause";
    footer(keys, theme, area, buffer);
}

fn title(view: &DeviceView) -> String {
    let device = &view.device;
    let state = device.state.as_deref().unwrap_or("-");
    let mut text = format!("{}  {}", printable(&device.device), printable(state));
    text += &format!("  {}/s", rate(device.messages_per_s.unwrap_or_default()));
    let last = age(view.time.0, device.last_seen.0);
    let messages = count(device.messages);
    text += &format!(
        "  {messages} messages, {}, last {last} ago",
        size(device.bytes as f64)
    );
    text
}

fn figures(view: &DeviceView) -> String {
    let device = &view.device;
    let kinds = device.faults.iter().filter(|(_, count)| **count != 0);
    let kinds = kinds.map(|(kind, number)| format!("{} {}", count(*number), printable(kind)));
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let mut parts = vec![match kinds.is_empty() {
        true => "no faults".to_owned(),
        false => format!("faults: {kinds}"),
    }];
    if device.gap_messages != 0 {
        parts.push(format!("{} missing", count(device.gap_messages)));
    }
    if let Some(encoding) = &view.encoding {
        parts.push(printable(encoding));
    }
    if let Some(session) = &view.session {
        let (received, durable) = (count(session.received), count(session.durable));
        parts.push(format!("session: {received} received, {durable} durable"));
    }
    match (view.conn, &view.peer) {
        (Some(conn), Some(peer)) => parts.push(format!("#{conn} from {}", printable(peer))),
        (Some(conn), None) => parts.push(format!("#{conn}")),
        _ => {}
    }
    if let Some(reason) = &device.last_close {
        parts.push(format!("last close: {}", printable(reason)));
    }
    parts.join("  ")
}

fn fields(page: &DevicePage, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let all = usize::from(area.width);
    // A mark, a mark of a plot, the name, and four numbers with a space before each.
    let numbers = if all < 56 { 3 } else { 4 };
    let name = all.saturating_sub(4 + numbers * (NUMBER + 1)).min(32);
    let row = |mark: &str, field: &str, cells: [String; 4]| {
        let cells = cells.iter().take(numbers);
        let cells: String = cells
            .map(|cell| format!(" {}", right(cell, NUMBER)))
            .collect();
        format!("{mark}{}{cells}", left(field, name))
    };
    let names = ["LAST", "MIN", "MAX", "COUNT"].map(str::to_owned);
    put(
        &row("    ", "FIELD", names),
        theme.title(),
        line(area, 0),
        buffer,
    );
    let rows = usize::from(area.height.saturating_sub(1));
    let from = (page.selected + 1).saturating_sub(rows);
    let visible = page.fields().iter().enumerate().skip(from).take(rows);
    for (index, field) in visible {
        let is_selected = index == page.selected;
        let plot = page.plotted.iter().position(|it| *it == field.field);
        let mark = format!(
            "{} {} ",
            if is_selected { ">" } else { " " },
            plot.map_or_else(|| " ".to_owned(), |plot| (plot + 1).to_string())
        );
        let text = row(&mark, &printable(&field.field), cells(field));
        let style = match is_selected {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        put(
            &left(&text, all),
            style,
            line(area, index - from + 1),
            buffer,
        );
    }
    if page.fields().is_empty() && page.view.is_some() {
        put(
            "    no fields: its messages are not decoded, or none has arrived",
            Style::new(),
            line(area, 1),
            buffer,
        );
    }
}

fn cells(field: &FieldView) -> [String; 4] {
    let bound = |it: Option<f64>| it.map(number).unwrap_or_default();
    [
        printable(&field.last),
        bound(field.min),
        bound(field.max),
        count(field.count),
    ]
}
