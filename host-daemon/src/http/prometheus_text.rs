//! The text format of Prometheus, version 0.0.4, from OpenMetrics: [`from_open_metrics`]. The samples are the same; the
//! two formats differ in the lines about a metric.

/// Converts a page of OpenMetrics, as `prometheus-client` writes it.
pub(super) fn from_open_metrics(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    // The line of the help comes before that of the type, on which the name in both depends.
    let mut help = None;
    for line in page.lines() {
        let Some(about) = line.strip_prefix("# ") else {
            text.extend([line, "\n"]);
            continue;
        };
        let mut words = about.splitn(3, ' ');
        let (keyword, name) = (words.next(), words.next().unwrap_or_default());
        let value = words.next().unwrap_or_default();
        match keyword {
            Some("HELP") => help = Some(value),
            Some("TYPE") => {
                let (suffix, kind) = match value {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "stateset" => ("", "gauge"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                if let Some(help) = help.take() {
                    text.extend(["# HELP ", name, suffix, " ", help, "\n"]);
                }
                text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            }
            // The unit, and the end of the page.
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_are_named_as_their_samples() {
        let page = "# HELP a Alpha, counted.\n# TYPE a counter\n# UNIT a bytes\na_total{x=\"1 # y\"} 2\n\
            # HELP b Beta.\n# TYPE b histogram\nb_sum 0.5\nb_count 1\nb_bucket{le=\"+Inf\"} 1\n\
            # HELP c Gamma.\n# TYPE c info\nc_info{version=\"1\"} 1\n# TYPE d unknown\nd NaN\n# EOF\n";
        let want = "# HELP a_total Alpha, counted.\n# TYPE a_total counter\na_total{x=\"1 # y\"} 2\n\
            # HELP b Beta.\n# TYPE b histogram\nb_sum 0.5\nb_count 1\nb_bucket{le=\"+Inf\"} 1\n\
            # HELP c_info Gamma.\n# TYPE c_info gauge\nc_info{version=\"1\"} 1\n# TYPE d untyped\nd NaN\n";
        assert_eq!(from_open_metrics(page), want);
    }
}
