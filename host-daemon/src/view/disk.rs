//! The recording as the view shows it: [`DiskRates`].

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::api::daemon::RecordingReport;
use blocksd_recording::{Retention, Stats, StatsSnapshot};

/// Seconds of which the rate of writing is a mean.
const RATE_S: usize = 600;

/// A recording of this daemon.
#[derive(Clone, Debug)]
pub struct RecordingSource {
    /// Its directory.
    pub directory: PathBuf,
    /// What it has written.
    pub stats: Arc<Stats>,
    /// Its limits.
    pub retention: Arc<Retention>,
    /// Longest time until a message is written and synced.
    pub sync_after: Duration,
}

/// What was written in the last minutes.
#[derive(Debug, Default)]
pub(super) struct DiskRates {
    /// Bytes on the disk at each of the last seconds.
    bytes: VecDeque<u64>,
    last: Option<StatsSnapshot>,
    sync_ms: Option<f64>,
}

impl DiskRates {
    /// Takes the counts of the recording. Call it once a second.
    pub(super) fn tick(&mut self, now: StatsSnapshot) {
        if self.bytes.len() == RATE_S {
            self.bytes.pop_front();
        }
        self.bytes.push_back(now.bytes_synced);
        if let Some(last) = &self.last {
            let count = |stats: &StatsSnapshot| stats.syncs.iter().sum::<u64>();
            let syncs = count(&now).saturating_sub(count(last));
            if syncs != 0 {
                let passed = now.sync_time.saturating_sub(last.sync_time);
                let mean_ms = passed.as_secs_f64() * 1e3 / syncs as f64;
                self.sync_ms = Some((mean_ms * 10.0).round() / 10.0);
            }
        }
        self.last = Some(now);
    }

    /// What is known of the recording.
    pub(super) fn report(&self, source: &RecordingSource) -> RecordingReport {
        let now = source.stats.read();
        let free = (now.bytes_free != 0).then_some(now.bytes_free);
        let (Some(first), Some(last)) = (self.bytes.front(), self.bytes.back()) else {
            return Self::of(source, &now, free, None, None);
        };
        let seconds = self.bytes.len().saturating_sub(1) as u64;
        let written = last.saturating_sub(*first);
        // A recording that deletes its oldest files never runs out of room.
        let is_endless = source.retention.max_bytes().is_some();
        let room_s = free
            .filter(|_| !is_endless && written != 0)
            .and_then(|free| {
                u64::try_from(u128::from(free) * u128::from(seconds) / u128::from(written)).ok()
            });
        Self::of(source, &now, free, room_s, self.sync_ms)
    }

    fn of(
        source: &RecordingSource,
        now: &StatsSnapshot,
        free_bytes: Option<u64>,
        room_s: Option<u64>,
        sync_ms: Option<f64>,
    ) -> RecordingReport {
        RecordingReport {
            directory: source.directory.display().to_string(),
            state: if now.retrying { "failing" } else { "ok" }.to_owned(),
            sync_ms,
            free_bytes,
            room_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(max_bytes: Option<u64>) -> RecordingSource {
        RecordingSource {
            directory: "recording".into(),
            stats: Arc::default(),
            retention: Retention::new(max_bytes),
            sync_after: Duration::ZERO,
        }
    }

    #[test]
    fn the_room_is_that_of_the_rate_of_the_last_minutes() {
        let source = source(None);
        let mut rates = DiskRates::default();
        let report = |rates: &DiskRates| rates.report(&source);
        assert_eq!(report(&rates).free_bytes, None);
        source.stats.space(Some(0), Some(1_000_000));
        // A burst that is forgotten after ten minutes.
        source.stats.synced(1, 1, 900_000, Duration::from_millis(4));
        rates.tick(source.stats.read());
        assert_eq!(
            (report(&rates).room_s, report(&rates).sync_ms),
            (None, None)
        );
        for _ in 0..RATE_S {
            source.stats.synced(1, 1, 100, Duration::from_millis(3));
            rates.tick(source.stats.read());
        }
        let shown = report(&rates);
        assert_eq!(
            (shown.room_s, shown.free_bytes),
            (Some(10_000), Some(1_000_000))
        );
        assert_eq!((shown.sync_ms, &*shown.state), (Some(3.0), "ok"));
        // Without a write, the last duration of a sync stays.
        rates.tick(source.stats.read());
        assert_eq!(report(&rates).sync_ms, Some(3.0));
        source.stats.retrying(true);
        assert_eq!(report(&rates).state, "failing");
    }

    #[test]
    fn a_recording_that_deletes_its_oldest_files_has_room() {
        let source = source(Some(1 << 30));
        let mut rates = DiskRates::default();
        source.stats.space(Some(0), Some(1_000_000));
        for _ in 0..3 {
            source.stats.synced(1, 1, 100, Duration::from_millis(3));
            rates.tick(source.stats.read());
        }
        let shown = rates.report(&source);
        assert_eq!((shown.room_s, shown.free_bytes), (None, Some(1_000_000)));
    }
}
