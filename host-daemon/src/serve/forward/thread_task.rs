//! Runs a future on a thread of its own, which may give way to everything else of the daemon: a [`ThreadTask`].

use std::io;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::service::priority::lower;

/// A future that runs on a thread of its own, with a runtime of its own. If it gives way, so does what it spawns, and so do threads
/// that it starts. Dropping the task drops the future soon.
#[derive(Debug)]
pub(crate) struct ThreadTask {
    ended: oneshot::Receiver<()>,
    /// Dropped with the task.
    _alive: oneshot::Sender<()>,
}

impl ThreadTask {
    /// Starts a future.
    ///
    /// # Errors
    /// The error of the system, if there is no thread or no runtime.
    pub(crate) fn spawn(
        name: &str,
        gives_way: bool,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let (alive, dropped) = oneshot::channel::<()>();
        let run = move || {
            if gives_way {
                lower();
            }
            runtime.block_on(async {
                tokio::select! {
                    () = work => {}
                    _ = dropped => {}
                }
            });
            // What it has spawned may be in a call of the system that takes long.
            runtime.shutdown_background();
            // The task may have been dropped.
            let _ = end.send(());
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)?;
        Ok(Self {
            ended,
            _alive: alive,
        })
    }

    /// Waits until the future has ended.
    pub(crate) async fn join(self) {
        // If it has panicked, it has ended, too.
        let _ = self.ended.await;
    }
}

#[cfg(test)]
mod tests {
    use std::future;
    use std::sync::Arc;
    use std::time::Duration;

    use rustix::process::getpriority_process;
    use rustix::thread::gettid;
    use tokio::time::timeout;

    use super::*;

    fn nice() -> i32 {
        getpriority_process(Some(gettid())).unwrap()
    }

    #[tokio::test]
    async fn what_a_thread_task_starts_gives_way_too() {
        let own = nice();
        let (send, received) = oneshot::channel();
        let work = async move {
            let spawned = tokio::spawn(async { nice() }).await.unwrap();
            let blocking = tokio::task::spawn_blocking(nice).await.unwrap();
            let thread = std::thread::spawn(nice).join().unwrap();
            send.send([nice(), spawned, blocking, thread]).unwrap();
        };
        ThreadTask::spawn("task", true, work).unwrap().join().await;
        let [task, others @ ..] = received.await.unwrap();
        // The tests may have a low priority already.
        assert!(own < task || 15 <= own, "{own} {task}");
        assert_eq!(others, [task; 3]);
        assert_eq!(nice(), own);
    }

    #[tokio::test]
    async fn a_thread_task_that_is_dropped_drops_its_future() {
        let (begun, has_begun) = oneshot::channel();
        let guard = Arc::new(());
        let of_task = Arc::clone(&guard);
        let work = async move {
            begun.send(()).unwrap();
            future::pending::<()>().await;
            drop(of_task);
        };
        let task = ThreadTask::spawn("task", true, work).unwrap();
        has_begun.await.unwrap();
        assert_eq!(Arc::strong_count(&guard), 2);
        drop(task);
        let is_dropped = async {
            while Arc::strong_count(&guard) != 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(60), is_dropped).await.unwrap();
    }

    #[tokio::test]
    async fn a_thread_task_that_panics_has_ended() {
        let task = ThreadTask::spawn("task", true, async { panic!("on purpose") }).unwrap();
        timeout(Duration::from_secs(60), task.join()).await.unwrap();
    }
}
