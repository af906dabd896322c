//! Asks the daemon for what the screen shows: [`poll`] asks each second, and at once when [`Wanted`] changes.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::api::daemon::DaemonReport;
use crate::api::device::DeviceView;
use crate::api::devices::DevicesReport;
use crate::api::plot::Plot;
use crate::api::tail::Tail;
use crate::commands::client::{DaemonClient, RequestTarget};
use crate::error::CommandError;

/// Time between two rounds of requests.
const INTERVAL: Duration = Duration::from_secs(1);
/// Least time between two rounds, when keys are pressed.
const LEAST_INTERVAL: Duration = Duration::from_millis(250);

/// What the screen shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The devices, or one of them.
    pub(super) subject: PageSubject,
    /// Messages and faults.
    pub(super) feeds: Vec<FeedRequest>,
    /// Only a change is asked for.
    pub(super) is_paused: bool,
}

/// The subject of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PageSubject {
    /// The visible rows of the table.
    Devices {
        filter: String,
        sort: &'static str,
        offset: usize,
        limit: usize,
    },
    /// One device.
    Device {
        device: String,
        fields: Vec<String>,
        last_s: u32,
        columns: usize,
    },
}

/// The newest messages or faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FeedRequest {
    pub(super) kind: FeedKind,
    /// Of this device; `None`: of all.
    pub(super) device: Option<String>,
    pub(super) limit: usize,
}

/// The path of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeedKind {
    Messages,
    Faults,
}

/// The answers of a round.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The number of the device of the first row, and the rows.
    pub(super) devices: Option<(usize, DevicesReport)>,
    pub(super) daemon: Option<DaemonReport>,
    /// A device by its name; without a view, if the daemon does not know it.
    pub(super) device: Option<(String, Option<DeviceView>)>,
    pub(super) plot: Option<(String, Plot)>,
    pub(super) feeds: Vec<(FeedRequest, Tail)>,
}

/// A round, or why it failed.
pub(super) type Polled = Result<Round, CommandError>;

/// Asks until nobody waits for the answers.
pub(super) async fn poll(
    mut client: DaemonClient,
    mut wanted: watch::Receiver<Wanted>,
    rounds: mpsc::Sender<Polled>,
) {
    loop {
        let began = Instant::now();
        let now = wanted.borrow_and_update().clone();
        let is_paused = now.is_paused;
        if rounds.send(ask(&mut client, &now).await).await.is_err() {
            return;
        }
        sleep_until(began + LEAST_INTERVAL).await;
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
            () = sleep_until(began + INTERVAL), if !is_paused => {}
        }
    }
}

/// Asks once.
///
/// # Errors
/// As [`DaemonClient::get`].
pub(super) async fn ask(client: &mut DaemonClient, wanted: &Wanted) -> Polled {
    let mut round = Round::default();
    match &wanted.subject {
        PageSubject::Devices {
            filter,
            sort,
            offset,
            limit,
        } => {
            let mut target = RequestTarget::new("/api/v1/devices")
                .with("detail", true)
                .with("sort", sort)
                .with("offset", offset)
                .with("limit", limit);
            if !filter.is_empty() {
                target = target.with("filter", filter);
            }
            round.devices = Some((*offset, client.get(&target).await?));
        }
        PageSubject::Device {
            device,
            fields,
            last_s,
            columns,
        } => {
            let target = RequestTarget::new("/api/v1/device").with("device", device);
            let view: Option<DeviceView> = client.find(&target).await?;
            if view.is_some() && !fields.is_empty() {
                let mut target = RequestTarget::new("/api/v1/plot").with("device", device);
                for field in fields {
                    target = target.with("field", field);
                }
                let target = target.with("last_s", last_s).with("columns", columns);
                let plot: Option<Plot> = client.find(&target).await?;
                round.plot = plot.map(|plot| (device.clone(), plot));
            }
            round.device = Some((device.clone(), view));
        }
    }
    round.daemon = Some(client.get(&RequestTarget::new("/api/v1/daemon")).await?);
    for feed in &wanted.feeds {
        let path = match feed.kind {
            FeedKind::Messages => "/api/v1/tail",
            FeedKind::Faults => "/api/v1/faults",
        };
        let mut target = RequestTarget::new(path).with("limit", feed.limit);
        if let Some(device) = &feed.device {
            target = target.with("device", device);
        }
        round.feeds.push((feed.clone(), client.get(&target).await?));
    }
    Ok(round)
}
