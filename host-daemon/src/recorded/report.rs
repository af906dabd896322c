//! Logs the reports of a recording in the words of the daemon: [`log`].

use tracing::{info, warn};

use blocksd_recording::LogReport;

/// Logs a report. Names the option of a limit, and the effect on devices.
pub fn log(report: &LogReport<'_>) {
    match report {
        LogReport::Refused { step, error } => {
            tracing::error!(
                "recording: cannot {step}: {error}; devices are held back until it succeeds"
            );
        }
        LogReport::Deleted {
            file,
            len,
            max_bytes,
        } => {
            info!(
                file,
                bytes = len,
                "recording: deleted, to keep to --record-max-bytes ({max_bytes})"
            );
        }
        LogReport::DeletionFailed { max_bytes, error } => {
            warn!(
                "recording: cannot delete what exceeds --record-max-bytes ({max_bytes}): {error}; the recording continues, and retries every second"
            );
        }
        report => report.log(),
    }
}
