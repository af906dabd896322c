//! The limit on open file descriptors: [`raise`].

use tracing::{info, warn};

/// Descriptors for other things than connections: listeners, the recording, the log, and the runtime.
const OTHERS: u64 = 64;

/// Raises the limit to the maximum that the system allows this process, and logs it; warns if it is too low for this
/// number of connections, and `opening` of which the handshake is not done.
pub fn raise(connections: usize, opening: usize) {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => {
            info!(limit, "limit on open files and sockets");
            let need = (connections as u64).saturating_add(opening as u64 + OTHERS);
            if limit < need {
                warn!(
                    limit,
                    need,
                    "too few descriptors for --max-connections {connections}: raise the hard limit (`ulimit -Hn`, LimitNOFILE=)"
                );
            }
        }
        Err(error) => warn!("cannot raise the limit on open file descriptors: {error}"),
    }
}
