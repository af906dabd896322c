//! Plots of fields over time: [`draw`]. The time axis ends at the time of the daemon's answer, also when no values arrive.

use std::time::{Duration, UNIX_EPOCH};

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget as _};

use crate::api::plot::{Plot, PlotSeries};
use crate::commands::entry_text::EntryText;
use crate::commands::top::device_page::DevicePage;
use crate::commands::top::screen::{Theme, line, put};
use crate::commands::top::words::number;
use crate::escape::printable;
use crate::recorded::time::Time;

/// Least lines of a plot: its title, two of values, and its times.
const HEIGHT_MIN: u16 = 5;

/// Draws the plotted fields, one below the other.
pub(super) fn draw(
    page: &DevicePage,
    text: &EntryText,
    theme: Theme,
    area: Rect,
    buffer: &mut Buffer,
) {
    let most = usize::from(area.height / HEIGHT_MIN).max(1);
    let shown = page.shown_plots(most);
    if shown.is_empty() {
        if !page.fields().is_empty() {
            put(
                "no plot: choose a field with numbers, and press p",
                Style::new(),
                line(area, 0),
                buffer,
            );
        }
        return;
    }
    let parts = Layout::vertical(shown.iter().map(|_| Constraint::Fill(1))).split(area);
    for (field, part) in shown.iter().zip(parts.iter()) {
        let series = page.plot.as_ref().and_then(|plot| {
            let series = plot.series.iter().find(|it| it.field == *field);
            series.map(|series| (plot, series))
        });
        let span = match page.last_s {
            60 => "1 min",
            600 => "10 min",
            _ => "1 h",
        };
        let title = format!("{} over {span}", printable(field));
        match series {
            Some((plot, series)) => {
                let about = about(plot, series);
                put(
                    &format!("{title}{about}"),
                    theme.title(),
                    line(*part, 0),
                    buffer,
                );
                let chart = Rect {
                    y: part.y + 1,
                    height: part.height.saturating_sub(1),
                    ..*part
                };
                draw_series(plot, series, text, theme, chart, buffer);
            }
            None => put(&title, theme.title(), line(*part, 0), buffer),
        }
    }
}

/// What a title says of the values.
fn about(plot: &Plot, series: &PlotSeries) -> String {
    let history = match &*plot.history {
        "loading" => ", older values are being read",
        "partial" => ", older values are incomplete",
        _ => "",
    };
    match (&series.error, bounds(series)) {
        (Some(error), _) => format!(": {}", printable(error)),
        (None, None) => format!(": no values{history}"),
        (None, Some((least, most))) => {
            format!(", {} to {}{history}", number(least), number(most))
        }
    }
}

fn bounds(series: &PlotSeries) -> Option<(f64, f64)> {
    let values = series.points.iter().filter_map(|(_, value)| *value);
    values.fold(None, |bounds, value| {
        let (least, most) = bounds.unwrap_or((value, value));
        Some((value.min(least), value.max(most)))
    })
}

fn draw_series(
    plot: &Plot,
    series: &PlotSeries,
    text: &EntryText,
    theme: Theme,
    area: Rect,
    buffer: &mut Buffer,
) {
    let Some((least, most)) = bounds(series) else {
        return;
    };
    // Times are relative to the end, so that they are exact.
    let seconds = |time_ms: i64| (time_ms - plot.to_ms) as f64 / 1e3;
    let parts = series.points.split(|(_, value)| value.is_none());
    let parts: Vec<Vec<_>> = parts
        .map(|part| {
            part.iter()
                .filter_map(|(time, value)| Some((seconds(*time), (*value)?)))
        })
        .map(Iterator::collect)
        .collect();
    let datasets = parts.iter().filter(|part| !part.is_empty()).map(|part| {
        // A line of one point has no length.
        let graph = match part.len() {
            1 => GraphType::Scatter,
            _ => GraphType::Line,
        };
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(graph)
            .style(theme.coloured(Color::Cyan))
            .data(part)
    });
    let margin = match least < most {
        true => 0.0,
        // A constant value is in the middle.
        false => least.abs().max(1.0) / 2.0,
    };
    let (least, most) = (least - margin, most + margin);
    let clock = |time_ms: i64| {
        let since = Duration::from_millis(u64::try_from(time_ms).unwrap_or_default());
        text.time_of_day(Time(UNIX_EPOCH + since))
    };
    let x_axis = Axis::default()
        .bounds([seconds(plot.from_ms), 0.0])
        .labels([clock(plot.from_ms), clock(plot.to_ms)]);
    let y_axis = Axis::default()
        .bounds([least, most])
        .labels([number(least), number(most)]);
    Chart::new(datasets.collect())
        .x_axis(x_axis)
        .y_axis(y_axis)
        .legend_position(None)
        .render(area, buffer);
}
