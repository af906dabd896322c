//! The clusters that the recording is forwarded to, with what keeps them from taking messages: [`draw`].

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use crate::api::daemon::ForwardReport;
use crate::commands::top::screen::{Theme, line, put};
use crate::commands::top::words::{rate, short, size, width};
use crate::escape::printable;

/// Most lines of the reason for which a cluster takes nothing.
const REASON_LINES: usize = 2;
/// What begins a line of a reason.
const INDENT: &str = "  ";

/// The lines of all clusters in a terminal of this width.
pub(super) fn count(clusters: &[ForwardReport], width: u16) -> usize {
    clusters.iter().map(|it| lines(it, width).len()).sum()
}

/// Draws the clusters, those first that take nothing. If there is no room for all, the last one that is shown says how many
/// are not.
pub(super) fn draw(clusters: &[ForwardReport], theme: Theme, area: Rect, buffer: &mut Buffer) {
    let mut sorted: Vec<_> = clusters.iter().collect();
    sorted.sort_by_key(|it| it.is_up());
    let room = usize::from(area.height);
    let mut shown: Vec<(bool, String)> = Vec::new();
    // The line of the last cluster, and the number of clusters.
    let (mut last, mut number) = (0, 0);
    for cluster in &sorted {
        if shown.len() < room {
            (last, number) = (shown.len(), number + 1);
            let lines = lines(cluster, area.width).into_iter();
            shown.extend(lines.map(|it| (cluster.is_up(), it)));
        }
    }
    let more = sorted.len() - number;
    if more != 0
        && let Some((_, text)) = shown.get_mut(last)
    {
        *text = format!("+{more} more: {text}");
    }
    // The last line is cut if there is more to say.
    let rest = shown.split_off(shown.len().min(room));
    if let Some((_, text)) = shown.last_mut() {
        for (_, more) in rest {
            text.push(' ');
            text.push_str(more.trim_start());
        }
    }
    for (number, (is_up, text)) in shown.into_iter().enumerate() {
        let style = match is_up {
            true => Style::new(),
            false => theme.coloured(Color::Red),
        };
        put(&text, style, line(area, number), buffer);
    }
}

/// How a cluster does, and where it is; then what keeps it from taking messages, if that does not fit beside it.
fn lines(cluster: &ForwardReport, columns: u16) -> Vec<String> {
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
        return vec![format!(
            "forward up  {rate} messages/s  {backlog}  {to} stream={stream}"
        )];
    }
    let problem = cluster.problem.as_deref().map(printable);
    let problem = problem.unwrap_or_default();
    let first = format!("forward DOWN  {backlog}  {to}");
    let whole = format!("{first}: {problem}");
    if width(&whole) <= columns.into() {
        return vec![whole];
    }
    let mut all = vec![first];
    all.extend(wrapped(&problem, usize::from(columns)));
    all
}

/// A reason in lines of at most so many cells. What does not fit into the last one is cut when it is drawn.
fn wrapped(text: &str, cells: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let lines = all.len();
        match all.last_mut() {
            Some(line) if lines == REASON_LINES || width(line) + 1 + width(word) <= cells => {
                line.push(' ');
                line.push_str(word);
            }
            _ => all.push(format!("{INDENT}{word}")),
        }
    }
    all
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
