//! Forwards the recording to clusters: [`Forwards`].

mod acknowledging;
mod collector;
mod kept_files;
mod login;
mod state;
mod supervised;
mod thread_task;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use blocksd_engine::session::Sessions;
use blocksd_forward::subject::Subjects;
use blocksd_forward::{
    CURSOR_FILES, Confirm, ConnectError, Forwarder, Forwarding, Nats, NatsOptions,
    ProgressSnapshot, Wish, instance_of,
};
use blocksd_recording::Durability;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use self::acknowledging::Acknowledging;
pub(crate) use self::collector::ForwardCollector;
use self::kept_files::Keep;
pub(crate) use self::kept_files::KeptFiles;
pub(crate) use self::login::{check, options};
use self::state::ForwardState;
use self::supervised::supervise;
use self::thread_task::ThreadTask;
use crate::config::{DEFAULT_STREAM, ForwardConfig, ForwardKeep};
use crate::error::{CommandError, ForwardError};
use crate::recorded::time::nanoseconds;
use crate::view::{Cluster, ForwardSource};

/// Pause between two attempts to begin.
const PAUSE: Duration = Duration::from_secs(2);
/// Pause after a panic: one that always comes again must not fill the log.
const PANIC_PAUSE: Duration = Duration::from_secs(10);
/// After this number of attempts, another server may answer.
const RECONNECT_EVERY: u64 = 3;
/// Longest time that a start waits for the first answer of the clusters: one whose stream cannot be used ends it.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// The clusters that a recording is forwarded to.
#[derive(Default)]
pub(crate) struct Forwards {
    all: Mutex<Vec<Running>>,
}

/// The forwarder of a cluster, while the stream can be used.
type SharedForwarder = Arc<Mutex<Option<Arc<Forwarder<Nats>>>>>;

/// One of them.
struct Running {
    to: String,
    stream: String,
    state: Arc<ForwardState>,
    forwarder: SharedForwarder,
    task: ThreadTask,
}

impl Running {
    /// What tells it apart from the others.
    fn label(&self) -> String {
        match &*self.stream {
            DEFAULT_STREAM => self.to.clone(),
            stream => format!("{},stream={stream}", self.to),
        }
    }
}

/// The recording that is forwarded.
pub(crate) struct ForwardedRecording {
    pub(crate) folder: PathBuf,
    pub(crate) durability: Arc<Durability>,
    pub(crate) sessions: Arc<Sessions>,
}

impl Forwards {
    /// Begins to forward to clusters. Waits a short time for their first answers. One that does not answer by then is tried again in
    /// the background.
    ///
    /// # Errors
    /// [`CommandError::Forward`], if a cluster has no stream that can be used, or a file cannot be read.
    pub(crate) async fn begin(
        &self,
        configs: &[ForwardConfig],
        recorded: &ForwardedRecording,
        kept: &Arc<KeptFiles>,
    ) -> Result<(), CommandError> {
        let until = Instant::now() + FIRST_ANSWER;
        let mut verdicts = Vec::new();
        for config in configs {
            let to = config.servers().join(",");
            match self.start(config, recorded, kept) {
                Ok(verdict) => verdicts.push((to, verdict)),
                Err(error) => return Err(CommandError::Forward { to, error }),
            }
        }
        for (to, mut verdict) in verdicts {
            let refused = match tokio::time::timeout_at(until, &mut verdict).await {
                Ok(answered) => answered.ok(),
                Err(_) => {
                    // From now on, it is a problem of a daemon that runs.
                    verdict.close();
                    verdict.try_recv().ok()
                }
            };
            if let Some(error) = refused {
                self.abort();
                return Err(CommandError::Forward { to, error });
            }
        }
        Ok(())
    }

    /// Starts the task of a cluster. Returns where it says why the cluster cannot be used.
    fn start(
        &self,
        config: &ForwardConfig,
        recorded: &ForwardedRecording,
        kept: &Arc<KeptFiles>,
    ) -> Result<oneshot::Receiver<ForwardError>, ForwardError> {
        let to = config.servers().join(",");
        let stream = config.stream().to_owned();
        let label = format!("{to} stream={stream}");
        let state = ForwardState::new(label.clone(), recorded.folder.clone());
        let state = Arc::new(state);
        let wish = Wish {
            stream: stream.clone(),
            subjects: Subjects::new(config.site()),
            durable: config.is_durable(),
            create: config.creates(),
        };
        instance_of(&recorded.folder).map_err(ForwardError::Instance)?;
        let forwarding = Forwarding {
            folder: recorded.folder.clone(),
            durability: Some(Arc::clone(&recorded.durability)),
            subjects: wish.subjects.clone(),
            cursor: format!(
                "{CURSOR_FILES}{:08x}",
                digest(&[&to, &stream, config.site()])
            ),
            linger: config.linger(),
        };
        state.progress.begins(forwarding.saved());
        kept.add(Arc::clone(&state.progress));
        let forwarder = SharedForwarder::default();
        let (verdict, receiver) = oneshot::channel();
        let beginning = Beginning {
            options: options(config)?,
            wish,
            state: Arc::clone(&state),
            verdict: Some(verdict),
            label,
            forwarding,
            keep: (config.keep() == ForwardKeep::Forwarded).then(|| Arc::new(kept.next())),
            confirm: config.acknowledges().then(|| {
                let sessions = Arc::clone(&recorded.sessions);
                Arc::new(Acknowledging(sessions)) as Arc<dyn Confirm>
            }),
            forwarder: Arc::clone(&forwarder),
        };
        let run = supervise(beginning, |it| Box::pin(it.run()), Beginning::panicked);
        // The recorder goes first, unless devices wait for the cluster.
        let gives_way = !config.acknowledges();
        let task = ThreadTask::spawn("forward", gives_way, run).map_err(ForwardError::Thread)?;
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Running {
            to,
            stream,
            state,
            forwarder,
            task,
        });
        Ok(receiver)
    }

    /// Ends all tasks.
    fn abort(&self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.clear();
    }

    /// Waits until everything that is recorded is forwarded, at most for this time. What is left is forwarded after the next
    /// start.
    pub(crate) async fn finish(&self, at_most: Duration) {
        let all = std::mem::take(&mut *self.all.lock().unwrap_or_else(PoisonError::into_inner));
        let mut tasks = Vec::new();
        for running in all {
            let forwarder = running.forwarder.lock();
            if let Some(forwarder) = &*forwarder.unwrap_or_else(PoisonError::into_inner) {
                forwarder.finish();
                tasks.push(running.task);
            }
        }
        let ended = async {
            for task in tasks {
                task.join().await;
            }
        };
        if tokio::time::timeout(at_most, ended).await.is_err() {
            info!("forward: the rest is forwarded after the next start");
        }
    }

    /// What keeps clusters from getting the recording.
    pub(crate) fn problems(&self) -> Vec<String> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let problems = all.iter().filter_map(|it| {
            let problem = it.state.problem()?;
            Some(format!("forward to {}: {problem}", it.label()))
        });
        problems.collect()
    }

    /// Whether messages wait for a cluster, as far as that is known without the disk.
    pub(crate) fn is_behind(&self) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|it| {
            let progress = it.state.progress.read();
            it.state.problem().is_some() || progress.queued_bytes != 0
        })
    }
}

impl fmt::Debug for Forwards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwards").finish_non_exhaustive()
    }
}

impl ForwardSource for Forwards {
    fn stored(&self) -> Vec<u64> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = all.iter().map(|it| it.state.progress.read().messages);
        stored.collect()
    }

    fn clusters(&self) -> Vec<Cluster> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let now = nanoseconds(SystemTime::now());
        let clusters = all.iter().map(|it| Cluster {
            to: it.to.clone(),
            stream: it.stream.clone(),
            problem: it.state.problem(),
            backlog_bytes: it.state.backlog_bytes(),
            backlog: age(&it.state.progress.read(), now),
        });
        clusters.collect()
    }
}

/// A cluster that is not forwarded to yet.
struct Beginning {
    options: NatsOptions,
    wish: Wish,
    state: Arc<ForwardState>,
    /// Where to say that the stream cannot be used, until the start has ended.
    verdict: Option<oneshot::Sender<ForwardError>>,
    /// Cluster and stream.
    label: String,
    forwarding: Forwarding,
    keep: Option<Arc<Keep>>,
    confirm: Option<Arc<dyn Confirm>>,
    /// Where to show the forwarder.
    forwarder: SharedForwarder,
}

impl Beginning {
    /// Forwards as soon as the stream can be used.
    async fn run(&mut self) {
        loop {
            let Some(nats) = self.connect().await else {
                return;
            };
            let nats = Arc::new(nats);
            let is_over = match self.check(&nats).await {
                true => self.forward(&nats).await,
                false => !nats.has_ended().await,
            };
            if is_over {
                return;
            }
            self.begin_again();
            let reason = "a server has sent what the client cannot parse, which has ended it";
            self.retry(format!("{reason}; is it a NATS server?")).await;
        }
    }

    /// Forwards everything. Returns false if the client has ended.
    async fn forward(&mut self, nats: &Arc<Nats>) -> bool {
        let Self {
            state,
            label,
            forwarding,
            keep,
            confirm,
            forwarder: shown,
            ..
        } = self;
        state.begun();
        let progress = Arc::clone(&state.progress);
        let forwarder = Forwarder::new(Arc::clone(nats), forwarding.clone(), progress);
        let forwarder = match keep.clone() {
            Some(keep) => forwarder.on_place(move |place| keep.keep_from(place)),
            None => forwarder,
        };
        let forwarder = Arc::new(match confirm.clone() {
            Some(confirm) => forwarder.confirming(confirm),
            None => forwarder,
        });
        *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&forwarder));
        let begins = match forwarder.has_saved_place().await {
            Ok(false) => {
                "; no place is saved for this stream: reading the recording from its beginning"
            }
            _ => "",
        };
        info!("forwarding to {label}{begins}");
        let forward = async {
            while let Err(error) = forwarder.run().await {
                warn!("forward to {label}: {error}; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = forward => true,
            () = state.watch(nats) => false,
        }
    }

    /// It runs again, from the last saved place.
    fn begin_again(&mut self) {
        let mut shown = self
            .forwarder
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *shown = None;
        // The start goes on.
        self.verdict = None;
        self.state.progress.begins(self.forwarding.saved());
    }

    fn panicked(&mut self, message: &str) {
        self.begin_again();
        self.state.panicked(message);
    }

    /// Connects to the cluster, however long that takes. Returns `None` if that has ended the start.
    async fn connect(&mut self) -> Option<Nats> {
        loop {
            let error = match Nats::connect(&self.options, &self.wish.stream).await {
                Ok(nats) => return Some(nats),
                Err(error) => error,
            };
            let reason = error.to_string();
            if matches!(error, ConnectError::Options(_)) && self.refuse(ForwardError::Client(error))
            {
                return None;
            }
            self.retry(reason).await;
        }
    }

    /// Checks the stream until it can be used. Returns false if the stream has ended the start.
    async fn check(&mut self, nats: &Nats) -> bool {
        for attempt in 1_u64.. {
            let Err(error) = nats.check(&self.wish).await else {
                self.verdict = None;
                return true;
            };
            let mut reason = error.to_string();
            let has_answered = error.is_final();
            if has_answered {
                if self.refuse(ForwardError::Stream(error)) {
                    return false;
                }
            } else if let Some(trouble) = nats.trouble().await {
                reason = trouble;
            } else if nats.has_ended().await {
                return false;
            }
            if !has_answered && attempt % RECONNECT_EVERY == 0 {
                nats.reconnect().await;
            }
            self.retry(reason).await;
        }
        false
    }

    /// Ends the start, unless it has ended. Returns whether that is so.
    fn refuse(&mut self, error: ForwardError) -> bool {
        let verdict = self.verdict.take();
        verdict.is_some_and(|verdict| verdict.send(error).is_ok())
    }

    async fn retry(&mut self, reason: String) {
        self.state.failed(reason);
        // The start goes on.
        self.verdict = None;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Age of the oldest message that is read and not stored, at a time in nanoseconds since 1970; `None` before the first is read.
fn age(progress: &ProgressSnapshot, now: u64) -> Option<Duration> {
    match progress.oldest_ns {
        0 => progress.place.map(|_| Duration::ZERO),
        oldest => Some(Duration::from_nanos(now.saturating_sub(oldest))),
    }
}

/// Tells clusters, streams and sites apart in the name of a file.
fn digest(parts: &[&str]) -> u32 {
    crc32fast::hash(parts.join(" ").as_bytes())
}
