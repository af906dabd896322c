//! The page of the demo's daemon: it shows the devices by name while they send, and stays after the totals with `--keep`.

use std::net::SocketAddr;

use blocksd_tests::process::{Process, wait_until};
use blocksd_tests::scrape;
use serde_json::Value;
use tempfile::TempDir;

use crate::commands::demo::{assert_nothing_remains, demo_with};

/// The devices of the page, and the fields of each.
const DEVICES: [(&str, &[&str]); 3] = [
    ("boiler", &["temp", "setpoint", "n"]),
    ("pump", &["rpm", "bar", "n"]),
    ("rover", &["lat", "lon", "n"]),
];

/// The address of the page that a demo has printed.
#[track_caller]
fn page(demo: &Process) -> SocketAddr {
    let line = demo.line("page on http://");
    let rest = line.trim_start_matches("page on http://");
    let address = rest.split('/').next().unwrap();
    address
        .parse()
        .unwrap_or_else(|_| panic!("no address in {line}"))
}

fn state_counts(page: SocketAddr) -> Value {
    scrape::api(page, "devices")["states"].clone()
}

/// Waits until the page shows all fields of all devices. Returns the last number of each device.
#[track_caller]
fn wait_for_fields(page: SocketAddr) -> Vec<f64> {
    let shown = |(name, fields): (&str, &[&str])| {
        let answer = scrape::api(page, "devices");
        let mut devices = answer["devices"].as_array().unwrap().iter();
        devices.find(|device| device["device"] == name)?;
        let device = scrape::api(page, &format!("device?device={name}"));
        let found = device["fields"].as_array().unwrap();
        let is_numeric = found.iter().all(|field| field["numeric"] == true);
        let names = found.iter().map(|field| field["field"].as_str().unwrap());
        let is_whole = is_numeric && names.eq(fields.iter().copied());
        is_whole.then(|| found[2]["last"].as_str().unwrap().parse().unwrap())
    };
    let mut numbers: Option<Vec<f64>> = None;
    wait_until("the page shows all fields", || {
        numbers = DEVICES.into_iter().map(shown).collect();
        numbers.is_some()
    });
    numbers.unwrap()
}

#[test]
fn the_page_of_the_demo_shows_its_devices_by_name_while_they_send() {
    let folder = TempDir::new().unwrap();
    let demo = Process::start(demo_with(&folder, &["--seconds", "600"]));
    let page = page(&demo);
    let first = wait_for_fields(page);
    wait_until("each device sends more", || {
        let pairs = wait_for_fields(page);
        pairs.iter().zip(&first).all(|(now, first)| first < now)
    });
    let answer = scrape::api(page, "devices");
    let devices = answer["devices"].as_array().unwrap();
    let names = devices
        .iter()
        .map(|device| device["device"].as_str().unwrap());
    assert!(names.eq(DEVICES.map(|(name, _)| name)), "{answer}");
    assert_eq!(answer["states"]["gone"], 0, "{answer}");
    let daemon = scrape::api(page, "daemon");
    let folder_text = folder.path().to_str().unwrap();
    let directory = daemon["recording"]["directory"].as_str().unwrap();
    assert!(directory.starts_with(folder_text), "{daemon}");
    demo.signal("INT");
    assert_eq!(demo.end().code, Some(130));
    assert_nothing_remains(&folder);
}

#[test]
fn the_page_stays_after_the_totals_until_a_signal() {
    let folder = TempDir::new().unwrap();
    let demo = Process::start(demo_with(&folder, &["--seconds", "1", "--keep"]));
    let page = page(&demo);
    let stays = demo.line("the page stays on ");
    assert_eq!(
        stays,
        format!("the page stays on http://{page}/ until Ctrl-C")
    );
    assert_eq!(state_counts(page)["gone"], 3);
    // The recording has what nobody has watched.
    for (name, fields) in DEVICES {
        let path = format!("device?device={name}");
        wait_until("the past is read", || {
            scrape::api(page, &path)["history"] == "complete"
        });
        let plot = format!("plot?device={name}&field={}&last_s=600", fields[0]);
        let plot = scrape::api(page, &plot);
        let points = plot["series"][0]["points"].as_array().unwrap();
        assert!(1 < points.len(), "{plot}");
    }
    demo.signal("INT");
    let ended = demo.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let text = ended.stdout_text();
    let table = text.rsplit_once("\n\n").unwrap().1;
    assert!(table.contains(": balanced, nothing was lost\n"), "{text}");
    assert!(table.ends_with(&format!("none twice\n{stays}\n")), "{text}");
    assert_nothing_remains(&folder);
}
