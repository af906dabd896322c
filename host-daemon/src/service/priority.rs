//! Work that gives way to everything else of the daemon: start with [`run_low`] and [`lower`].

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::sync::oneshot;
use tracing::debug;

/// The nice value of a thread that gives way.
const NICE: i32 = 15;

/// Lets this thread give way to all others of the daemon.
pub(crate) fn lower() {
    // Linux takes the number of a thread for that of a process.
    if let Err(error) = setpriority_process(Some(gettid()), NICE) {
        debug!("cannot lower the priority of a thread: {error}");
    }
}

/// Runs blocking work on a thread of its own that gives way. Returns `None` if there is no thread, or if the work panics.
///
/// Not cancel-safe: the work goes on if the future is dropped.
pub(crate) async fn run_low<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = oneshot::channel();
    let run = move || {
        lower();
        // The receiver may have been dropped.
        let _ = done.send(work());
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    if let Err(error) = thread {
        debug!("cannot start the thread {name}: {error}");
        return None;
    }
    result.await.ok()
}
