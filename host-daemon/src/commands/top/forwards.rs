//! The clusters that the recording is forwarded to, a line for each: [`draw`].

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use crate::api::daemon::ForwardReport;
use crate::commands::top::screen::{Theme, line, put};
use crate::commands::top::words::{rate, short, size};
use crate::escape::printable;

/// Draws the clusters, those first that take nothing. The last line says how many have no line.
pub(super) fn draw(clusters: &[ForwardReport], theme: Theme, area: Rect, buffer: &mut Buffer) {
    let mut sorted: Vec<_> = clusters.iter().collect();
    sorted.sort_by_key(|it| it.is_up());
    let lines = usize::from(area.height);
    let more = sorted.len().saturating_sub(lines);
    for (number, cluster) in sorted.into_iter().take(lines).enumerate() {
        let mut text = text(cluster);
        if number + 1 == lines && more != 0 {
            text = format!("+{more} more: {text}");
        }
        let style = match cluster.is_up() {
            true => Style::new(),
            false => theme.coloured(Color::Red),
        };
        put(&text, style, line(area, number), buffer);
    }
}

/// How a cluster does, and where it is.
fn text(cluster: &ForwardReport) -> String {
    let to = place(&cluster.to);
    let backlog = match (cluster.backlog_bytes, cluster.backlog_s) {
        (0, _) => "no backlog".to_owned(),
        (bytes, Some(age)) if age != 0.0 => {
            let age = Duration::try_from_secs_f64(age).unwrap_or_default();
            format!("backlog {}, {}", size(bytes as f64), short(age))
        }
        (bytes, _) => format!("backlog {}", size(bytes as f64)),
    };
    if cluster.is_up() {
        let rate = rate(cluster.messages_per_s);
        let stream = printable(&cluster.stream);
        return format!("forward up  {rate} messages/s  {backlog}  {to} stream={stream}");
    }
    let problem = cluster.problem.as_deref().map(printable);
    let problem = problem.unwrap_or_default();
    format!("forward DOWN  {backlog}  {to}: {problem}")
}

/// The first server without its scheme, and the number of the others.
fn place(to: &str) -> String {
    let mut servers = to.split(',');
    let first = servers.next().unwrap_or_default();
    let host = first.split_once("://").map_or(first, |(_, host)| host);
    match servers.count() {
        0 => printable(host),
        others => format!("{} +{others}", printable(host)),
    }
}
