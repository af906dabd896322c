//! Health of the daemon, served at `/healthz` and `/readyz`. Start with [`Health`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio_util::sync::CancellationToken;

use blocksd_recording::Stats;

/// The state of one daemon, written by its start and its recording, read by the HTTP server.
#[derive(Debug)]
pub struct Health {
    phase: AtomicU8,
    stop: CancellationToken,
    /// Of a daemon that records.
    recording: Option<Arc<Stats>>,
}

/// How far the start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Listeners are not open yet.
    Starting,
    /// What a crash has left in the recording is repaired, before listeners are opened.
    Repairing,
    /// All listeners are open.
    Ready,
}

impl Health {
    /// Of a daemon that starts, and may record.
    #[must_use]
    pub const fn new(stop: CancellationToken, recording: Option<Arc<Stats>>) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            stop,
            recording,
        }
    }

    /// The start has come so far.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Why the daemon cannot do its work, if so: it is stopping, or the disk refuses the recording.
    pub(crate) fn ill(&self) -> Option<String> {
        if self.stop.is_cancelled() {
            return Some("stopping".to_owned());
        }
        let refusal = self.recording.as_ref().and_then(|stats| stats.refusal());
        refusal.map(|refusal| format!("the disk refuses the recording: {refusal}"))
    }

    /// Why the daemon takes no messages, if so.
    pub(crate) fn not_ready(&self) -> Option<String> {
        let phase = self.phase.load(Ordering::Acquire);
        self.ill().or_else(|| {
            let reason = match phase {
                phase if phase == Phase::Ready as u8 => return None,
                phase if phase == Phase::Repairing as u8 => "repairing the recording",
                _ => "starting",
            };
            Some(reason.to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn ready_is_after_the_repair_and_until_the_stop() {
        let stop = CancellationToken::new();
        let health = Health::new(stop.clone(), None);
        assert_eq!(health.not_ready().as_deref(), Some("starting"));
        health.enter(Phase::Repairing);
        assert_eq!(health.ill(), None);
        let reason = health.not_ready();
        assert_eq!(reason.as_deref(), Some("repairing the recording"));
        health.enter(Phase::Ready);
        assert_eq!(health.not_ready(), None);
        stop.cancel();
        assert_eq!(health.ill().as_deref(), Some("stopping"));
        assert_eq!(health.not_ready(), health.ill());
    }

    #[test]
    fn a_disk_that_refuses_is_a_reason_until_it_takes_what_waits() {
        let stats = Arc::<Stats>::default();
        let health = Health::new(CancellationToken::new(), Some(Arc::clone(&stats)));
        health.enter(Phase::Ready);
        assert_eq!(health.ill(), None);
        stats.refused("write", &io::ErrorKind::StorageFull.into());
        let reason = health.ill().unwrap_or_default();
        assert!(
            reason.contains("cannot write: no storage space"),
            "{reason}"
        );
        assert_eq!(health.not_ready(), Some(reason));
        stats.retrying(false);
        assert_eq!(health.not_ready(), None);
    }
}
