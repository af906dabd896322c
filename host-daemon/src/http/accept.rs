//! The format of the metrics that a request asks for in its header `Accept` (RFC 9110, section 12.5.1). Start with
//! [`MetricsFormat::asked_for`].

use hyper::HeaderMap;
use hyper::header::ACCEPT;
use mediatype::{MediaTypeList, Name, ReadParams};

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricsFormat {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl MetricsFormat {
    /// The formats, the preferred one first.
    const ALL: [Self; 2] = [Self::Prometheus, Self::OpenMetrics];

    /// The format with the highest quality. Without the header, or if neither format is acceptable, that of Prometheus,
    /// which every scraper reads.
    pub(super) fn asked_for(headers: &HeaderMap) -> Self {
        let ranges = headers.get_all(ACCEPT).iter();
        let ranges: Vec<_> = ranges
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| MediaTypeList::new(value).flatten())
            .collect();
        let mut best = (Self::Prometheus, 0);
        for format in Self::ALL {
            // Of the ranges that match, the most specific one counts.
            let ranks = ranges.iter().filter_map(|range| {
                let specificity = format.specificity(range)?;
                Some((specificity, quality(range)))
            });
            let quality = ranks.max().map_or(0, |(_, quality)| quality);
            if best.1 < quality {
                best = (format, quality);
            }
        }
        best.0
    }

    /// The value of the header `Content-Type`.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Type, subtype and version.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Prometheus => ("text", "plain", "0.0.4"),
            Self::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
        }
    }

    /// How precisely a range names the format; `None` if it does not.
    fn specificity(self, range: &mediatype::MediaType<'_>) -> Option<u8> {
        let (ty, subtype, version) = self.names();
        let is = |name: Name<'_>, want: &str| name.as_str().eq_ignore_ascii_case(want);
        let subtype_is = |want: &str| range.suffix.is_none() && is(range.subty, want);
        if is(range.ty, "*") && subtype_is("*") {
            return Some(0);
        }
        if !is(range.ty, ty) {
            return None;
        }
        if subtype_is("*") {
            return Some(1);
        }
        match parameter(range, "version") {
            _ if !subtype_is(subtype) => None,
            None => Some(2),
            Some(asked) => (asked == version).then_some(3),
        }
    }
}

/// The quality of a range in thousandths: 1000 if it has none, 0 if it is invalid.
fn quality(range: &mediatype::MediaType<'_>) -> u32 {
    let Some(text) = parameter(range, "q") else {
        return 1000;
    };
    let quality = text.parse::<f32>().ok();
    let quality = quality.filter(|quality| (0.0..=1.0).contains(quality));
    quality.map_or(0, |quality| (quality * 1000.0) as u32)
}

fn parameter(range: &mediatype::MediaType<'_>, name: &str) -> Option<String> {
    let mut all = range.params();
    let (_, value) = all.find(|(key, _)| key.as_str().eq_ignore_ascii_case(name))?;
    Some(value.unquoted_str().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_for(values: &[&str]) -> MetricsFormat {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, value.parse().expect("a header"));
        }
        MetricsFormat::asked_for(&headers)
    }

    #[test]
    fn the_format_is_what_was_asked_for() {
        use MetricsFormat::{OpenMetrics, Prometheus};
        let scraper = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (values, want) in [
            (&[][..], Prometheus),
            (&[""], Prometheus),
            (&["*/*"], Prometheus),
            (&["text/plain"], Prometheus),
            (&["text/plain;version=0.0.4"], Prometheus),
            (
                &["Text/Plain; Version=\"0.0.4\"; charset=utf-8"],
                Prometheus,
            ),
            (&["text/*"], Prometheus),
            (&["application/openmetrics-text"], OpenMetrics),
            (
                &["application/openmetrics-text; version=1.0.0; charset=utf-8"],
                OpenMetrics,
            ),
            (&["application/*"], OpenMetrics),
            (&[scraper], OpenMetrics),
            (
                &["application/openmetrics-text;version=2.0.0, text/plain;q=0.1"],
                Prometheus,
            ),
            (
                &["application/openmetrics-text;q=0.5, text/plain;q=0.6"],
                Prometheus,
            ),
            (
                &["application/openmetrics-text;q=0.5, text/plain;q=0.4"],
                OpenMetrics,
            ),
            (
                &["application/openmetrics-text;q=0.5, text/plain;q=0.5"],
                Prometheus,
            ),
            (
                &["text/plain;q=0.1", "application/openmetrics-text"],
                OpenMetrics,
            ),
            (&["text/plain;q=0, */*"], OpenMetrics),
            (&["application/openmetrics-text;q=0, */*"], Prometheus),
            (&["text/plain;q=0.5, */*;q=0.9"], OpenMetrics),
            (&["text/html, application/xhtml+xml, */*;q=0.8"], Prometheus),
            (
                &["application/openmetrics-text;q=x, text/plain;q=0.1"],
                Prometheus,
            ),
            (&["image/png"], Prometheus),
            (&["not a header, application/openmetrics-text"], OpenMetrics),
        ] {
            assert_eq!(asked_for(values), want, "{values:?}");
        }
    }
}
