//! `blocksd devices`: lists the devices of a recording, or of a running daemon. Start with [`of_recordings`] and
//! [`of_daemon`].

mod recorded;

use std::cmp::Reverse;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hyper::Uri;
use tokio::runtime::Runtime;

use crate::api::devices::{DeviceReport, DevicesReport, urgency};
use crate::cli::TlsOptions;
use crate::commands::client::{DaemonClient, RequestTarget};
use crate::commands::content::report_empty;
use crate::commands::read::check_losses;
use crate::commands::table::{name, time_ms, write_table};
use crate::error::CommandError;
use crate::escape::json::write_json;
use crate::output::counted;
use crate::recorded::time::nanoseconds;
use crate::service::log::print_status;
use blocksd_engine::stdio;

/// Lists the devices of recordings.
///
/// # Errors
/// [`CommandError::Recording`]; [`CommandError::NotWhole`] if data is lost.
pub fn of_recordings(paths: &[PathBuf], as_json: bool) -> Result<(), CommandError> {
    report_empty(paths)?;
    let recorded::Recorded {
        devices,
        of_several,
        losses,
    } = recorded::read(paths)?;
    let written = match as_json {
        true => write_lines(&devices),
        false => write_recorded(devices),
    };
    written.map_err(CommandError::stdout)?;
    if of_several != 0 {
        let connections = counted(of_several, "connection");
        print_status(format_args!(
            "blocksd: {connections} without payload were recorded as counts of several devices, and are not listed"
        ));
    }
    check_losses(losses)
}

/// Lists the devices of the daemon at this address.
///
/// # Errors
/// [`CommandError::Connect`], [`CommandError::Request`], [`CommandError::File`], [`CommandError::ClientTls`].
pub fn of_daemon(
    url: &Uri,
    token: Option<&Path>,
    tls: &TlsOptions,
    as_json: bool,
    runtime: &Runtime,
) -> Result<(), CommandError> {
    let mut client = DaemonClient::new(url, token, tls)?;
    let target = RequestTarget::new("/api/v1/devices");
    let report: DevicesReport = runtime.block_on(client.get(&target))?;
    let written = match as_json {
        true => write_lines(&report.devices),
        false => write_live(report.devices),
    };
    written.map_err(CommandError::stdout)?;
    if report.gone_dropped != 0 {
        let devices = counted(report.gone_dropped, "device");
        print_status(format_args!(
            "blocksd: the daemon has forgotten {devices} more that were gone; see its --max-gone-devices"
        ));
    }
    Ok(())
}

fn write_lines(devices: &[DeviceReport]) -> io::Result<()> {
    let mut out = stdio::stdout();
    devices.iter().try_for_each(|device| {
        write_json(&mut out, device)?;
        writeln!(out)
    })
}

fn write_live(mut devices: Vec<DeviceReport>) -> io::Result<()> {
    devices.sort_by_cached_key(|device| {
        let urgency = device.state.as_deref().map(urgency);
        (urgency, Reverse(device.all_faults()), device.device.clone())
    });
    let names = [
        "STATE",
        "CONNECTIONS",
        "RECONNECTS",
        "MESSAGES",
        "PER SECOND",
        "BYTES",
        "MISSING",
        "DEVICE",
        "LAST SEEN",
        "CLOSED",
        "FAULTS",
    ];
    let rows = devices.iter().map(|device| {
        [
            name(device.state.as_deref().unwrap_or("-")),
            device.connections.unwrap_or_default().to_string(),
            device.reconnects.unwrap_or_default().to_string(),
            device.messages.to_string(),
            per_second(device.messages_per_s.unwrap_or_default()),
            device.bytes.to_string(),
            device.gap_messages.to_string(),
            name(&device.device),
            time_ms(nanoseconds(device.last_seen.0)),
            name(device.last_close.as_deref().unwrap_or("-")),
            faults(device),
        ]
    });
    write_table(&mut stdio::stdout(), names, rows, 1..7)
}

fn write_recorded(mut devices: Vec<DeviceReport>) -> io::Result<()> {
    devices.sort_by_cached_key(|device| (Reverse(device.all_faults()), device.device.clone()));
    let names = [
        "ALL CONNECTIONS",
        "MESSAGES",
        "BYTES",
        "MISSING",
        "DEVICE",
        "FIRST SEEN",
        "LAST SEEN",
        "CLOSED",
        "FAULTS",
    ];
    let rows = devices.iter().map(|device| {
        [
            device.connections_total.to_string(),
            device.messages.to_string(),
            device.bytes.to_string(),
            device.gap_messages.to_string(),
            name(&device.device),
            time_ms(nanoseconds(device.first_seen.0)),
            time_ms(nanoseconds(device.last_seen.0)),
            name(device.last_close.as_deref().unwrap_or("-")),
            faults(device),
        ]
    });
    write_table(&mut stdio::stdout(), names, rows, 0..4)
}

/// A rate. One of a daemon that is not ours can have any value.
fn per_second(rate: f64) -> String {
    match rate < 1e12 {
        true => format!("{rate:.1}"),
        false => format!("{rate:.1e}"),
    }
}

/// The faults by kind, most first.
fn faults(device: &DeviceReport) -> String {
    let mut counts: Vec<_> = device.faults.iter().filter(|(_, it)| **it != 0).collect();
    counts.sort_by_key(|(_, count)| Reverse(**count));
    let counts: Vec<_> = counts
        .iter()
        .map(|(kind, count)| format!("{count} {}", name(kind)))
        .collect();
    match counts.is_empty() {
        true => "-".to_owned(),
        false => counts.join(", "),
    }
}
