//! The text formats of the metrics page, and the choice between them: [`PageFormat`].

use std::collections::HashSet;
use std::fmt::Write;

use hyper::header::{ACCEPT, HeaderMap};

/// A text format that Prometheus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageFormat {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older format, which `promtool` and most other programs read.
    Text,
}

impl PageFormat {
    /// The format that a client prefers: [`Text`](Self::Text), unless the request accepts OpenMetrics.
    pub(super) fn requested(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter();
        let accepted = accepted.filter_map(|value| value.to_str().ok());
        let (mut open_metrics, mut text) = (0.0, 0.0);
        for range in accepted.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            let quality = quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            match &*kind {
                "application/openmetrics-text" => open_metrics = f64::max(open_metrics, quality),
                "text/plain" => text = f64::max(text, quality),
                _ => {}
            }
        }
        if 0.0 < open_metrics && text <= open_metrics {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// The content type.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts a page from OpenMetrics.
    pub(super) fn page(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Text => text(&open_metrics),
        }
    }
}

/// In the older format the name of a counter ends with `_total` in its description, too, and the page has no end mark.
fn text(open_metrics: &str) -> String {
    let types = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: HashSet<&str> = types
        .filter_map(|line| line.strip_suffix(" counter"))
        .collect();
    let mut page = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let described = ["# HELP ", "# TYPE "].iter().find_map(|prefix| {
            let (name, rest) = line.strip_prefix(prefix)?.split_once(' ')?;
            counters.contains(name).then_some((prefix, name, rest))
        });
        // Writing to a `String` cannot fail.
        let _ = match described {
            Some((prefix, name, rest)) => writeln!(page, "{prefix}{name}_total {rest}"),
            None if line == "# EOF" || line.starts_with("# UNIT ") => Ok(()),
            None => writeln!(page, "{line}"),
        };
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_open_metrics_only_if_it_accepts_that() {
        for (accept, format) in [
            ("", PageFormat::Text),
            ("*/*", PageFormat::Text),
            ("text/plain", PageFormat::Text),
            ("application/openmetrics-text", PageFormat::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                PageFormat::OpenMetrics,
            ),
            (
                "text/plain;q=0.9, application/openmetrics-text; q=0.5",
                PageFormat::Text,
            ),
            ("application/openmetrics-text;q=0", PageFormat::Text),
            ("application/openmetrics-text;q=x", PageFormat::Text),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(PageFormat::requested(&headers), format, "{accept}");
        }
        assert_eq!(PageFormat::requested(&HeaderMap::new()), PageFormat::Text);
    }

    #[test]
    fn counters_have_their_whole_name_in_the_older_format() {
        let page = "# HELP a_b Some text.\n# TYPE a_b counter\na_b_total 5\n# HELP a_b_c Text.\n# TYPE a_b_c gauge\n\
                    # UNIT a_b_c seconds\na_b_c{x=\"# EOF\"} 1\n# EOF\n";
        let wanted = "# HELP a_b_total Some text.\n# TYPE a_b_total counter\na_b_total 5\n# HELP a_b_c Text.\n\
                      # TYPE a_b_c gauge\na_b_c{x=\"# EOF\"} 1\n";
        assert_eq!(PageFormat::Text.page(page.to_owned()), wanted);
        assert_eq!(PageFormat::OpenMetrics.page(page.to_owned()), page);
    }
}
