//! Logs the reports of a recording with the names of the daemon's options: [`log`].

use tracing::{info, warn};

use blocksd_recording::{LogReport, Retention, SpaceLimit};

/// Why files are kept, and what to do.
const KEPT: &str = "files that are not forwarded yet are kept (`keep=forwarded`): the cluster takes messages more slowly than they are \
                    recorded, the checks of what it has stored take long, or it takes nothing, for which /readyz has the reason; \
                    with `keep=any`, files are deleted that the cluster does not have";

/// Logs a report, with the option of a limit or the effect on devices. `retention` says whether files are kept for a
/// cluster.
pub fn log(report: &LogReport<'_>, retention: &Retention) {
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
            let remedy = remedy(*limit, retention.kept_from().is_some());
            tracing::error!("recording: cannot {reason}: {error}; devices are held back; {remedy}");
        }
        LogReport::OverLimit { max, bytes, .. } => {
            warn!(
                "recording: the files exceed --record-max-bytes ({max}) by {bytes}, and the recording continues: {KEPT}"
            );
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

/// What to do if there is no room within a limit.
fn remedy(limit: SpaceLimit, keeps_files: bool) -> String {
    match limit {
        SpaceLimit::MaxBytes(_) => "check whether the disk is slow or fails".to_owned(),
        SpaceLimit::MinFree(_) if keeps_files => {
            format!("delete other files of the file system; {KEPT}")
        }
        SpaceLimit::MinFree(_) => "delete other files of the file system".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_is_named_if_files_are_kept_for_it() {
        let of = |keeps_files| remedy(SpaceLimit::MinFree(1), keeps_files);
        assert_eq!(of(false), "delete other files of the file system");
        assert!(of(true).contains("not forwarded yet"), "{}", of(true));
        assert!(of(true).contains("`keep=any`"), "{}", of(true));
    }
}
