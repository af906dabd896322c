//! Draws the pages of `top`: start with [`draw`]. Text from devices is escaped before it gets into a cell.

use std::time::SystemTime;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::{Sparkline, Widget as _};

use crate::api::daemon::{DaemonReport, RecordingReport};
use crate::api::devices::DevicesReport;
use crate::commands::top::app::{App, Page};
use crate::commands::top::layout::ListLayout;
use crate::commands::top::words::{age, count, cut, left, rate, right, shares, short, size, width};
use crate::commands::top::{device, forwards, help, table};
use crate::escape::printable;

/// States in the order of the header.
const STATES: [&str; 4] = ["silent", "faulty", "gone", "live"];

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    /// Whether colours are used, of the sixteen that every terminal has. They only repeat what words say.
    pub(super) has_colours: bool,
}

impl Theme {
    /// Without colours if `NO_COLOR` is set.
    pub(super) fn of_environment() -> Self {
        let is_set = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            has_colours: !is_set,
        }
    }

    /// The style of a state.
    pub(super) fn state(self, state: &str) -> Style {
        match state {
            "silent" => self.coloured(Color::Yellow),
            "faulty" => self.coloured(Color::Red),
            "live" => self.coloured(Color::Green),
            _ => Style::new(),
        }
    }

    /// A colour.
    pub(super) const fn coloured(self, colour: Color) -> Style {
        match self.has_colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// The names of columns and parts.
    pub(super) const fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What must not be overlooked.
    pub(super) const fn alert(self) -> Style {
        Style::new()
            .add_modifier(Modifier::REVERSED)
            .add_modifier(Modifier::BOLD)
    }
}

/// Draws the page, and the help over it.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    match &app.page {
        Page::Devices => list(app, theme, area, buffer),
        Page::Faults => faults(app, theme, area, buffer),
        Page::Device(page) => device::draw(app, page, theme, area, buffer),
    }
    if app.is_help {
        help::draw(&app.page, theme, area, buffer);
    }
    if let Some(typed) = &app.typed {
        let text = format!("filter: {}_   Enter apply  Esc cancel", printable(typed));
        footer(&text, theme, area, buffer);
    }
}

/// Writes a line of text into the first line of an area.
pub(super) fn put(text: &str, style: Style, area: Rect, buffer: &mut Buffer) {
    if area.height != 0 {
        let text = cut(text, area.width.into());
        buffer.set_stringn(area.x, area.y, text, area.width.into(), style);
    }
}

/// The line of an area with this number.
pub(super) fn line(area: Rect, number: usize) -> Rect {
    let number = u16::try_from(number).unwrap_or(u16::MAX).min(area.height);
    Rect {
        y: area.y + number,
        height: (area.height - number).min(1),
        ..area
    }
}

/// Writes the last line of a screen.
pub(super) fn footer(text: &str, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let last = line(area, usize::from(area.height.saturating_sub(1)));
    let text = left(text, area.width.into());
    put(&text, theme.title(), last, buffer);
}

/// Writes the end of lines below a title: the newest ones, the last of them at the bottom.
pub(super) fn newest(title: &str, lines: &[String], theme: Theme, area: Rect, buffer: &mut Buffer) {
    put(title, theme.title(), line(area, 0), buffer);
    let room = usize::from(area.height.saturating_sub(1));
    let from = lines.len().saturating_sub(room);
    for (number, text) in lines.iter().skip(from).enumerate() {
        put(text, Style::new(), line(area, number + 1), buffer);
    }
}

/// Writes the second line of a header: figures, or why there are none that are new.
pub(super) fn status(app: &App, figures: &str, theme: Theme, area: Rect, buffer: &mut Buffer) {
    if let Some(reason) = &app.lost {
        let text = format!("LOST, trying again: {reason}");
        put(&left(&text, area.width.into()), theme.alert(), area, buffer);
    } else if app.is_paused {
        let text = format!("PAUSED, space continues   {figures}");
        put(&left(&text, area.width.into()), theme.alert(), area, buffer);
    } else {
        put(figures, Style::new(), area, buffer);
    }
}

fn list(app: &App, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let layout = ListLayout::of(area, forwards::count(app.forwards(), area.width));
    header(app, theme, layout.header, buffer);
    forwards::draw(app.forwards(), theme, layout.forwards, buffer);
    let now = app
        .devices
        .as_ref()
        .map_or(SystemTime::UNIX_EPOCH, |(_, it)| it.time.0);
    if let Some((_, report)) = &app.devices {
        total_rate(report, theme, layout.rate, buffer);
        fault_kinds(report, now, theme, layout.faults, buffer);
    }
    table::draw(app, now, theme, layout.table, buffer);
    newest("MESSAGES", &app.messages, theme, layout.messages, buffer);
    let keys = format!(
        "? help  q quit  / filter  s sort:{}  Enter view  f faults  space pause",
        app.sort.as_str()
    );
    footer(&keys, theme, area, buffer);
}

fn header(app: &App, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let host = app.daemon.as_ref().map(|it| printable(&it.host));
    let mut text = format!("blocksd {}", host.unwrap_or_else(|| app.url.clone()));
    let Some((_, report)) = &app.devices else {
        put(&text, theme.title(), line(area, 0), buffer);
        status(app, "", theme, line(area, 1), buffer);
        return;
    };
    let mut rest = states(report);
    if !app.filter.is_empty() {
        let matched = count(report.matched);
        rest += &format!("  filter {}: {matched}", printable(&app.filter));
    }
    let time = app.text.time_of_day(report.time);
    // A narrow terminal has no room for all.
    let forms = [format!("{text}  {time}  {rest}"), format!("{text}  {rest}")];
    let fits = |form: &String| width(form) <= area.width.into();
    text = forms.into_iter().find(fits).unwrap_or(rest);
    put(&text, theme.title(), line(area, 0), buffer);
    let mut figures = format!(
        "{} messages/s  {}/s",
        rate(report.messages_per_s),
        size(report.bytes_per_s)
    );
    if let Some(daemon) = &app.daemon {
        figures += &format!("  {}", recording(daemon));
    }
    status(app, &figures, theme, line(area, 1), buffer);
}

/// The number of devices in each state.
fn states(report: &DevicesReport) -> String {
    let devices = if report.total == 1 {
        "device"
    } else {
        "devices"
    };
    let mut text = format!("{} {devices}:", count(report.total));
    let others = report.states.keys().map(String::as_str);
    let others = others.filter(|it| !STATES.contains(it));
    for state in STATES.into_iter().chain(others) {
        let number = report.states.get(state).copied().unwrap_or_default();
        if number != 0 || state == "live" {
            text += &format!(" {} {}", count(number), printable(state));
        }
    }
    text
}

/// Whether there is a recording, and how it does.
fn recording(daemon: &DaemonReport) -> String {
    let Some(RecordingReport {
        state,
        sync_ms,
        free_bytes,
        room_s,
        ..
    }) = &daemon.recording
    else {
        return "no recording".to_owned();
    };
    let mut text = format!("recording {}", printable(state));
    if let Some(sync_ms) = sync_ms {
        text += &format!(", sync {sync_ms:.1} ms");
    }
    if let Some(free_bytes) = free_bytes {
        text += &format!(", {} free", size(*free_bytes as f64));
    }
    if let Some(room_s) = room_s {
        text += &format!(" for {}", short(std::time::Duration::from_secs(*room_s)));
    }
    text
}

/// The rate of all devices over the last ten minutes.
fn total_rate(report: &DevicesReport, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let values: Vec<_> = report.history.iter().map(|it| (it * 1e3) as u64).collect();
    let max = report.history.iter().copied().fold(0.0, f64::max);
    let label = format!("10 min, max {}/s ", rate(max));
    put(&label, theme.title(), line(area, 0), buffer);
    let used = u16::try_from(label.len())
        .unwrap_or(u16::MAX)
        .min(area.width);
    let bars = Rect {
        x: area.x + used,
        width: area.width - used,
        ..area
    };
    // The newest is at the right.
    let shown = shares(&values, bars.width.into());
    let spaces = vec![0; usize::from(bars.width).saturating_sub(shown.len())];
    Sparkline::default()
        .data([spaces, shown].concat())
        .style(theme.coloured(Color::Cyan))
        .render(bars, buffer);
}

/// The kinds of faults, the newest first.
fn fault_kinds(
    report: &DevicesReport,
    now: SystemTime,
    theme: Theme,
    area: Rect,
    buffer: &mut Buffer,
) {
    let newest = |it: &crate::api::devices::FaultSummary| {
        let device = it.device.as_deref().map(printable).unwrap_or_default();
        let ago = it.time.map(|time| format!(", {} ago", age(now, time.0)));
        format!("{device}{}", ago.unwrap_or_default())
    };
    if report.faults.is_empty() {
        put("FAULTS  none", theme.title(), line(area, 0), buffer);
    } else if area.height < 2 {
        let kinds = report.faults.iter();
        let kinds = kinds.map(|it| {
            format!(
                "{} {} ({})",
                count(it.count),
                printable(&it.fault),
                newest(it)
            )
        });
        let text = format!("FAULTS  {}", kinds.collect::<Vec<_>>().join("  "));
        put(&text, theme.coloured(Color::Red), line(area, 0), buffer);
    } else {
        let title = format!("{:<12} {:>9}  NEWEST", "FAULTS", "COUNT");
        put(&title, theme.title(), line(area, 0), buffer);
        for (number, it) in report.faults.iter().enumerate() {
            let (kind, count) = (left(&printable(&it.fault), 12), right(&count(it.count), 9));
            let text = format!("{kind} {count}  {}", newest(it));
            put(
                &text,
                theme.coloured(Color::Red),
                line(area, number + 1),
                buffer,
            );
        }
    }
}

/// Faults by kind, and the newest ones.
fn faults(app: &App, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let layout = ListLayout::of(area, forwards::count(app.forwards(), area.width));
    header(app, theme, layout.header, buffer);
    forwards::draw(app.forwards(), theme, layout.forwards, buffer);
    let header = layout.header.height + layout.forwards.height;
    let below = usize::from(header);
    let mut kinds = 0;
    if let Some((_, report)) = &app.devices {
        kinds = report.faults.len().clamp(1, 6) + 1;
        let rows = Rect {
            y: area.y + header,
            height: (kinds as u16).min(area.height.saturating_sub(header + 1)),
            ..area
        };
        fault_kinds(report, report.time.0, theme, rows, buffer);
    }
    let top = u16::try_from(below + kinds)
        .unwrap_or(u16::MAX)
        .min(area.height);
    let rest = Rect {
        y: area.y + top,
        height: (area.height - top).saturating_sub(1),
        ..area
    };
    newest("NEWEST FAULTS", &app.faults, theme, rest, buffer);
    footer(
        "? help  q quit  Esc devices  space pause",
        theme,
        area,
        buffer,
    );
}
