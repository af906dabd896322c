//! How many files and sockets the daemon may have open: as many as it can be given.

use tracing::{info, warn};

/// Descriptors that are no connection: listeners, the recording, the log, and what the runtime needs.
const OTHERS: u64 = 64;

/// Raises the limit to what the system allows this process, and says what it is, and whether that is too low for so
/// many connections.
pub fn raise(connections: usize) {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => {
            info!(limit, "open files and sockets");
            let need = (connections as u64).saturating_add(OTHERS);
            if limit < need {
                warn!(
                    limit,
                    need,
                    "too few descriptors for --max-connections {connections}: raise the hard limit (`ulimit -Hn`, LimitNOFILE=)"
                );
            }
        }
        Err(error) => warn!("the limit of descriptors cannot be raised: {error}"),
    }
}
