//! Health of the daemon, served at `/healthz` and `/readyz`. Start with [`Health`].

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio_util::sync::CancellationToken;

/// The state of one daemon, written by its start and its recording, read by the HTTP server.
pub struct Health {
    phase: AtomicU8,
    stop: CancellationToken,
    refusal: Box<dyn Fn() -> Option<String> + Send + Sync>,
    warnings: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// The phase of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Listeners are not open yet.
    Starting,
    /// Torn files of the recording are being repaired, before listeners are opened.
    Repairing,
    /// All listeners are open.
    Ready,
}

impl Health {
    /// The health of a daemon that is starting. When `stop` is cancelled, it is stopping. `refusal` returns the error
    /// of the disk while the recording cannot be written.
    #[must_use]
    pub fn new(
        stop: CancellationToken,
        refusal: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            stop,
            refusal: Box::new(refusal),
            warnings: Box::new(Vec::new),
        }
    }

    /// Sets where warnings come from. They do not make a daemon not ready.
    #[must_use]
    pub fn with_warnings(
        mut self,
        warnings: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.warnings = Box::new(warnings);
        self
    }

    /// What a person should know of a daemon, whether it is ready or not.
    pub(crate) fn warnings(&self) -> Vec<String> {
        (self.warnings)()
    }

    /// Sets the phase of the start.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The reason if the daemon is not healthy: it is stopping, or the disk refuses the recording.
    pub(crate) fn not_healthy(&self) -> Option<String> {
        if self.stop.is_cancelled() {
            return Some("stopping".to_owned());
        }
        let refusal = (self.refusal)();
        refusal.map(|refusal| format!("the disk refuses the recording: {refusal}"))
    }

    /// The reason if the daemon does not accept messages.
    pub(crate) fn not_ready(&self) -> Option<String> {
        let phase = self.phase.load(Ordering::Acquire);
        self.not_healthy().or_else(|| {
            let reason = match phase {
                phase if phase == Phase::Ready as u8 => return None,
                phase if phase == Phase::Repairing as u8 => "repairing the recording",
                _ => "starting",
            };
            Some(reason.to_owned())
        })
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_daemon_is_ready_from_the_repair_to_the_stop() {
        let stop = CancellationToken::new();
        let health = Health::new(stop.clone(), || None);
        assert_eq!(health.not_ready().as_deref(), Some("starting"));
        health.enter(Phase::Repairing);
        assert_eq!(health.not_healthy(), None);
        let reason = health.not_ready();
        assert_eq!(reason.as_deref(), Some("repairing the recording"));
        health.enter(Phase::Ready);
        assert_eq!(health.not_ready(), None);
        stop.cancel();
        assert_eq!(health.not_healthy().as_deref(), Some("stopping"));
        assert_eq!(health.not_ready(), health.not_healthy());
    }

    #[test]
    fn a_refusing_disk_is_a_reason_until_it_accepts_the_waiting_data() {
        let refusal = Arc::<Mutex<Option<String>>>::default();
        let disk = Arc::clone(&refusal);
        let health = Health::new(CancellationToken::new(), move || disk.lock().ok()?.clone());
        health.enter(Phase::Ready);
        assert_eq!(health.not_healthy(), None);
        *refusal.lock().unwrap() = Some("no storage space".to_owned());
        let reason = health.not_healthy().unwrap_or_default();
        assert!(reason.ends_with(": no storage space"), "{reason}");
        assert_eq!(health.not_ready(), Some(reason));
        *refusal.lock().unwrap() = None;
        assert_eq!(health.not_ready(), None);
    }
}
