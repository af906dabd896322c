//! Begins again after a panic of what forwards to a cluster: [`supervise`]. The recording and the other clusters go on.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;

use blocksd_engine::error::panic_message;

use super::PANIC_PAUSE;

/// What runs once, with something that it borrows.
pub(super) type Supervised<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Runs something until it ends, again after each panic. Hands the message of the panic to a function before the pause.
pub(super) async fn supervise<T: Send>(
    mut it: T,
    run: impl for<'a> Fn(&'a mut T) -> Supervised<'a>,
    panicked: impl Fn(&mut T, &str),
) {
    while let Err(panic) = caught(run(&mut it)).await {
        panicked(&mut it, panic_message(&*panic));
        drop(panic);
        tokio::time::sleep(PANIC_PAUSE).await;
    }
}

/// Catches a panic of a future.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::serve::forward::state::ForwardState;
    use crate::serve::forward::thread_task::ThreadTask;

    /// Panics twice, and then works until it is told to end.
    struct Work {
        state: Arc<ForwardState>,
        runs: u32,
    }

    fn run(it: &mut Work) -> Supervised<'_> {
        Box::pin(async {
            it.runs += 1;
            it.state.begun();
            sleep(Duration::from_secs(1)).await;
            let runs = it.runs;
            assert!(3 <= runs, "run {runs} has panicked on purpose");
            it.state.begun();
            sleep(Duration::from_secs(1)).await;
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_shown_until_it_begins_again() {
        let state = ForwardState::new("nats://n1 stream=s".to_owned(), PathBuf::new());
        let state = Arc::new(state);
        let shown = Arc::clone(&state);
        let work = Work { state, runs: 0 };
        let work = supervise(work, run, |it, message| it.state.panicked(message));
        let task = tokio::spawn(work);
        sleep(Duration::from_millis(500)).await;
        assert_eq!(shown.problem(), None);
        for run in 1..=2 {
            sleep(Duration::from_secs(1)).await;
            let wanted = format!(
                "it has panicked: run {run} has panicked on purpose; beginning again within 10 s"
            );
            assert_eq!(shown.problem(), Some(wanted));
            sleep(PANIC_PAUSE).await;
            assert_eq!(shown.problem(), None);
        }
        task.await.unwrap();
        assert_eq!(shown.problem(), None);
    }

    #[tokio::test]
    async fn a_thread_whose_work_has_panicked_goes_on() {
        let work = supervise(
            (),
            |()| Box::pin(async { panic!("on purpose") }),
            |(), _| {},
        );
        let task = ThreadTask::spawn("task", false, work).unwrap();
        let joined = timeout(Duration::from_millis(500), task.join());
        assert!(joined.await.is_err());
    }
}
