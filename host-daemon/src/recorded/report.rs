//! Logs the reports of a recording with the names of the daemon's options: [`log`].

use tracing::{info, warn};

use blocksd_recording::{LogReport, SpaceLimit};

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
            messages,
            limit,
        } => {
            let reason = purpose(*limit);
            info!(
                file,
                bytes = len,
                messages,
                "recording: deleted to {reason}"
            );
        }
        LogReport::DeletionFailed { limit, error } => {
            let reason = purpose(*limit);
            warn!(
                "recording: cannot delete a file to {reason}: {error}; the recording continues, and retries every second"
            );
        }
        LogReport::NoRoom { limit, error } => {
            let reason = purpose(*limit);
            let remedy = match limit {
                SpaceLimit::MaxBytes(_) => "check whether the disk is slow or fails",
                SpaceLimit::MinFree(_) => "delete other files of the file system",
            };
            tracing::error!("recording: cannot {reason}: {error}; devices are held back; {remedy}");
        }
        report => report.log(),
    }
}

/// What a limit is for, with its option.
fn purpose(limit: SpaceLimit) -> String {
    match limit {
        SpaceLimit::MaxBytes(max) => format!("stay within --record-max-bytes ({max})"),
        SpaceLimit::MinFree(min) => format!("keep {min} bytes free (--record-min-free)"),
    }
}
