//! An HTTP client for the metrics of a daemon: [`sample`] reads one value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Read, Write};
use std::net::SocketAddr;

use serde_json::Value;

use crate::process::{Server, connect, wait_until};

/// An HTTP response.
#[derive(Debug)]
pub struct Answer {
    /// Status line.
    pub status: u16,
    /// Header, as received.
    pub header: String,
    /// Body.
    pub body: String,
}

/// The metrics address of a daemon that was started with `--metrics`.
#[track_caller]
pub fn addr(server: &Server) -> SocketAddr {
    addr_of(server, "metrics on ")
}

/// The address of the API of a daemon that was started with `--http`.
#[track_caller]
pub fn http_addr(server: &Server) -> SocketAddr {
    addr_of(server, "page on http://")
}

/// The address of the API of a daemon that was started with `--http` and a certificate for it.
#[track_caller]
pub fn https_addr(server: &Server) -> SocketAddr {
    addr_of(server, "page on https://")
}

#[track_caller]
fn addr_of(server: &Server, begin: &str) -> SocketAddr {
    let log_text = server.process.error_text();
    let addr = log_text.lines().find_map(|line| line.strip_prefix(begin));
    let addr = addr.unwrap_or_else(|| panic!("no {begin}in {log_text}"));
    addr.trim_end_matches('/').parse().expect("an address")
}

/// Requests a page.
#[track_caller]
pub fn get(addr: SocketAddr, path: &str) -> Answer {
    get_as(addr, path, "")
}

/// Requests a page with more lines in the header of the request.
#[track_caller]
pub fn get_as(addr: SocketAddr, path: &str, header: &str) -> Answer {
    request(
        addr,
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n"),
    )
}

/// Asks the API for `/api/v1/PATH`. The answer must be JSON.
#[track_caller]
pub fn api(addr: SocketAddr, path: &str) -> Value {
    let line = format!("GET /api/v1/{path} HTTP/1.1");
    let answer = request(
        addr,
        &format!("{line}\r\nHost: {addr}\r\nConnection: close\r\n\r\n"),
    );
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{path}: {answer:?}"))
}

/// Sends these bytes as the request.
#[track_caller]
pub fn request(addr: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(addr);
    stream
        .write_all(request.as_bytes())
        .expect("the server reads");
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("the server responds");
    let (header, body) = text.split_once("\r\n\r\n").expect("a header");
    let status = header.split(' ').nth(1).and_then(|word| word.parse().ok());
    Answer {
        status: status.expect("a status"),
        header: header.to_owned(),
        body: body.to_owned(),
    }
}

/// The value of a sample of a daemon that was started with `--metrics`, by name and labels.
#[track_caller]
pub fn sample(server: &Server, name: &str) -> f64 {
    samples(&get(addr(server), "/metrics").body)[name]
}

/// Waits until a sample satisfies `is_so`.
#[track_caller]
pub fn wait_for(server: &Server, name: &str, is_so: impl Fn(f64) -> bool) {
    wait_until(name, || is_so(sample(server, name)));
}

/// All samples of a page, by name and labels.
pub fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect(line);
            (name.to_owned(), value.parse().expect(line))
        })
        .collect()
}

/// A metric with the values of its label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metric {
    /// Name of its samples, as used in an alert rule.
    pub name: String,
    /// Its type, such as `counter`.
    pub kind: String,
    /// Its label, if it has one.
    pub label: Option<String>,
    /// All values of the label, without those that change with each version, device or cluster.
    pub values: BTreeSet<String>,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)?;
        if let Some(label) = &self.label {
            write!(f, " {label}")?;
        }
        for (index, value) in self.values.iter().enumerate() {
            write!(f, "{}{value}", if index == 0 { " = " } else { ", " })?;
        }
        Ok(())
    }
}

/// All metrics of a page.
pub fn metrics(page: &str) -> BTreeSet<Metric> {
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let named = kinds.map(|line| {
        let (name, kind) = line.split_once(' ').expect(line);
        let metric = Metric {
            name: name.to_owned(),
            kind: kind.to_owned(),
            label: None,
            values: BTreeSet::new(),
        };
        (metric.name.clone(), metric)
    });
    let mut found: BTreeMap<_, _> = named.collect();
    for sample in samples(page).into_keys() {
        let Some((name, labels)) = sample.split_once('{') else {
            continue;
        };
        let labels = labels.trim_end_matches('}').split_inclusive("\",");
        let pairs: Vec<_> = labels
            .map(|pair| {
                pair.trim_end_matches(',')
                    .split_once('=')
                    .expect("a label has a value")
            })
            .collect();
        let label = pairs.iter().map(|(label, _)| *label);
        let label = label.collect::<Vec<_>>().join(",");
        let Some(metric) = found.get_mut(name) else {
            assert_eq!(
                label, "le",
                "only the buckets of a histogram may have other names: {sample}"
            );
            continue;
        };
        metric.label = Some(label);
        let is_free = |label: &str| ["version", "device", "to"].contains(&label);
        let values = pairs.iter().filter(|(label, _)| !is_free(label));
        let values = values.map(|(_, value)| value.trim_matches('"').to_owned());
        metric.values.extend(values);
    }
    found.into_values().collect()
}
