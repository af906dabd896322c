//! Logs the reports of a recording with the names of the daemon's options: [`log`].

use tracing::{info, warn};

use blocksd_recording::LogReport;

/// Logs a report, with the option of a limit or the effect on devices.
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
                "recording: deleted to stay within --record-max-bytes ({max_bytes})"
            );
        }
        LogReport::DeletionFailed { max_bytes, error } => {
            warn!(
                "recording: cannot delete a file to stay within --record-max-bytes ({max_bytes}): {error}; the recording continues, and retries every second"
            );
        }
        report => report.log(),
    }
}
