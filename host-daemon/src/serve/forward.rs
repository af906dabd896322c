//! Forwards the recording to clusters: [`Forwards`].

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use blocksd_engine::metrics::Page;
use blocksd_engine::session::Sessions;
use blocksd_forward::place::Place;
use blocksd_forward::subject::Subjects;
use blocksd_forward::{
    CheckError, Confirm, Credentials, Forwarder, Forwarding, Nats, NatsOptions, Progress,
    ProgressSnapshot, REASONS, Wish, instance_of,
};
use blocksd_recording::catalog::{list_directory, number};
use blocksd_recording::{Durability, Retention};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::config::{DEFAULT_STREAM, ForwardConfig, ForwardKeep, ForwardLogin};
use crate::error::{CommandError, ForwardError};
use crate::recorded::time::nanoseconds;
use crate::view::{Cluster, ForwardSource};

/// Pause between two attempts to begin.
const PAUSE: Duration = Duration::from_secs(2);

/// The clusters that a recording is forwarded to.
#[derive(Default)]
pub(crate) struct Forwards {
    all: Mutex<Vec<Running>>,
}

/// One of them.
struct Running {
    to: String,
    stream: String,
    state: Arc<ForwardState>,
    forwarder: Arc<Mutex<Option<Arc<Forwarder<Nats>>>>>,
    task: JoinHandle<()>,
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

/// What is known of one.
#[derive(Debug)]
struct ForwardState {
    progress: Arc<Progress>,
    /// Why it has not begun.
    refusal: Mutex<Option<String>>,
    folder: PathBuf,
}

/// The recording that is forwarded.
pub(crate) struct ForwardedRecording {
    pub(crate) folder: PathBuf,
    pub(crate) durability: Arc<Durability>,
    pub(crate) sessions: Arc<Sessions>,
}

impl Forwards {
    /// Begins to forward to a cluster. One that cannot be reached yet is tried again.
    ///
    /// # Errors
    /// [`CommandError::Forward`], if the cluster has no stream that can be used, or a file cannot be read.
    pub(crate) async fn begin(
        &self,
        config: &ForwardConfig,
        recorded: &ForwardedRecording,
        kept: &Arc<KeptFiles>,
    ) -> Result<(), CommandError> {
        let to = config.servers().join(",");
        let refused = |error: ForwardError| CommandError::Forward {
            to: to.clone(),
            error,
        };
        let wish = Wish {
            stream: config.stream().to_owned(),
            subjects: Subjects::new(config.site()),
            durable: config.is_durable(),
            create: config.creates(),
        };
        let options = options(config).map_err(&refused)?;
        let nats = Nats::connect(&options, &wish.stream).await;
        let nats = nats.map_err(|error| refused(ForwardError::Client(error)))?;
        let mut refusal = None;
        let checked = match nats.check(&wish).await {
            Ok(body_max) => Some(body_max),
            Err(error @ CheckError::NoAnswer(_)) => {
                warn!("forward to {to}: {error}; trying again");
                refusal = Some(error.to_string());
                None
            }
            Err(error) => return Err(refused(ForwardError::Stream(error))),
        };
        let instance = instance_of(&recorded.folder);
        let instance = instance.map_err(|error| refused(ForwardError::Instance(error)))?;
        let state = Arc::new(ForwardState {
            progress: Arc::new(Progress::to(to.clone())),
            refusal: Mutex::new(refusal),
            folder: recorded.folder.clone(),
        });
        let mut forwarding = Forwarding {
            folder: recorded.folder.clone(),
            durability: Some(Arc::clone(&recorded.durability)),
            instance,
            subjects: wish.subjects.clone(),
            cursor: format!("blocksd.forward-{:08x}", digest(&to, &wish.stream)),
            body_max: 0,
            linger: Duration::ZERO,
        };
        let keep = (config.keep() == ForwardKeep::Forwarded).then(|| kept.next());
        let forwarder = Arc::<Mutex<Option<_>>>::default();
        let confirm = config.acknowledges().then(|| {
            let sessions = Arc::clone(&recorded.sessions);
            Arc::new(Acknowledging(sessions)) as Arc<dyn Confirm>
        });
        let (running, shown) = (Arc::clone(&forwarder), Arc::clone(&state));
        let (name, mut checked) = (to.clone(), checked);
        let stream = wish.stream.clone();
        let task = tokio::spawn(async move {
            let body_max = loop {
                match checked.take() {
                    Some(body_max) => break body_max,
                    None => checked = shown.check(&nats, &wish, &name).await,
                }
            };
            info!("forwarding to {name} stream={}", wish.stream);
            forwarding.body_max = body_max;
            let progress = Arc::clone(&shown.progress);
            let forwarder = Forwarder::new(Arc::new(nats), forwarding, progress);
            let forwarder = match keep {
                Some(keep) => forwarder.on_place(move |place| keep.keep_from(place)),
                None => forwarder,
            };
            let forwarder = Arc::new(match confirm {
                Some(confirm) => forwarder.confirming(confirm),
                None => forwarder,
            });
            *running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&forwarder));
            while let Err(error) = forwarder.run().await {
                warn!("forward to {name}: {error}; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        });
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Running {
            to,
            stream,
            state,
            forwarder,
            task,
        });
        Ok(())
    }

    /// Waits until everything that is recorded is forwarded, at most for this time. What is left is forwarded after the next
    /// start.
    pub(crate) async fn finish(&self, at_most: Duration) {
        let all = std::mem::take(&mut *self.all.lock().unwrap_or_else(PoisonError::into_inner));
        for running in &all {
            let forwarder = running.forwarder.lock();
            if let Some(forwarder) = &*forwarder.unwrap_or_else(PoisonError::into_inner) {
                forwarder.finish();
            }
        }
        let ended = async {
            for running in all {
                // It does not panic; if it did, the recording still has everything.
                let _ = running.task.await;
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
            Some(format!("forward to {}: {problem}", it.to))
        });
        problems.collect()
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

impl ForwardState {
    /// Checks the stream. Returns the longest body of a message, after a pause `None` if the stream cannot be used.
    async fn check(&self, nats: &Nats, wish: &Wish, name: &str) -> Option<usize> {
        let checked = nats.check(wish).await;
        let refusal = checked.as_ref().err().map(ToString::to_string);
        if self.is_new(refusal.as_ref())
            && let Some(refusal) = &refusal
        {
            warn!("forward to {name}: {refusal}; trying again");
        }
        match checked {
            Ok(body_max) => Some(body_max),
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    /// Notes why it has not begun. Returns whether that is new.
    fn is_new(&self, refusal: Option<&String>) -> bool {
        let mut shown = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = shown.as_ref() != refusal;
        *shown = refusal.cloned();
        is_new
    }

    fn problem(&self) -> Option<String> {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        refusal.clone().or_else(|| self.progress.read().problem)
    }

    /// Bytes that are not stored in the cluster: those that are read, and the files that are not.
    fn backlog_bytes(&self) -> u64 {
        let progress = self.progress.read();
        let place = progress.place.map_or(0, |place| place.number);
        let files = list_directory(&self.folder).unwrap_or_default();
        let later = files.iter().filter(|file| place < number(&file.path));
        let later = later.filter_map(|file| fs::metadata(&file.path).ok());
        progress.queued_bytes + later.map(|file| file.len()).sum::<u64>()
    }
}

/// Acknowledges messages of sessions when a cluster has them.
struct Acknowledging(Arc<Sessions>);

impl Confirm for Acknowledging {
    fn stored(&self, device: &str, session: &str, next: u64) {
        if let Some(session) = numbered(session) {
            self.0.confirm(device, session, next);
        }
    }

    fn caught_up(&self, waiting: &HashSet<(&str, &str)>) {
        let sessions = waiting.iter().filter_map(|(device, session)| {
            let session = numbered(session)?;
            Some((*device, session))
        });
        let waiting: HashSet<_> = sessions.collect();
        self.0
            .confirm_recovered(|device, session| waiting.contains(&(device, session)));
    }
}

/// The number of a session, from its text.
fn numbered(session: &str) -> Option<u64> {
    u64::from_str_radix(session, 16).ok()
}

/// The files of a recording that clusters still need.
pub(crate) struct KeptFiles {
    retention: Arc<Retention>,
    /// The first file that each cluster needs.
    numbers: Mutex<Vec<u64>>,
    /// How many clusters have begun.
    begun: AtomicUsize,
}

/// The files that one cluster still needs.
struct Keep {
    kept: Arc<KeptFiles>,
    index: usize,
}

impl KeptFiles {
    /// Keeps all files for these clusters, until it is known what each of them has.
    pub(crate) fn new(retention: Arc<Retention>, clusters: &[ForwardConfig]) -> Arc<Self> {
        let keeping = clusters
            .iter()
            .filter(|it| it.keep() == ForwardKeep::Forwarded);
        let numbers = vec![0; keeping.count()];
        if !numbers.is_empty() {
            retention.keep_from(Some(0));
        }
        Arc::new(Self {
            retention,
            numbers: Mutex::new(numbers),
            begun: AtomicUsize::new(0),
        })
    }

    /// The files of the next cluster.
    fn next(self: &Arc<Self>) -> Keep {
        Keep {
            kept: Arc::clone(self),
            index: self.begun.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Keep {
    fn keep_from(&self, place: Place) {
        let numbers = &self.kept.numbers;
        let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = numbers.get_mut(self.index) {
            *number = place.number;
        }
        self.kept.retention.keep_from(numbers.iter().min().copied());
    }
}

/// The metrics of all clusters.
#[derive(Clone, Debug)]
pub(crate) struct ForwardCollector(pub(crate) Arc<Forwards>);

impl Collector for ForwardCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return Ok(());
        }
        let read: Vec<_> = all
            .iter()
            .map(|it| (it.label(), it.state.progress.read(), &it.state))
            .collect();
        let mut page = Page::from(encoder);
        let counts = |of: fn(&ProgressSnapshot) -> u64| {
            let counts = read.iter().map(|(to, progress, _)| (&**to, of(progress)));
            counts.collect::<Vec<_>>()
        };
        page.counters(
            "blocksd_forward_messages",
            "Messages, pieces and events that a cluster has stored",
            "to",
            counts(|it| it.messages),
        )?;
        page.counters(
            "blocksd_forward_bytes",
            "Bytes of them, with the headers of their framing",
            "to",
            counts(|it| it.bytes),
        )?;
        page.counters(
            "blocksd_forward_published",
            "Messages of the stream that hold them",
            "to",
            counts(|it| it.published),
        )?;
        let failures = REASONS.iter().enumerate().map(|(index, reason)| {
            let all = read.iter().filter_map(|(_, it, _)| it.failures.get(index));
            (*reason, all.sum::<u64>())
        });
        page.counters(
            "blocksd_forward_failures",
            "Requests that failed, or were refused because another daemon had written to the subject",
            "reason",
            failures,
        )?;
        let now = nanoseconds(SystemTime::now());
        page.gauges(
            "blocksd_forward_backlog_seconds",
            "Age of the oldest message that is read and not stored",
            "to",
            read.iter().map(|(to, it, _)| {
                let age = age(it, now).unwrap_or_default();
                (&**to, age.as_secs_f64())
            }),
        )?;
        page.gauges(
            "blocksd_forward_backlog_bytes",
            "Bytes that wait: those that are read, and the files after them",
            "to",
            read.iter()
                .map(|(to, _, state)| (&**to, state.backlog_bytes())),
        )?;
        page.gauges(
            "blocksd_forward_up",
            "Whether the cluster takes messages",
            "to",
            read.iter()
                .map(|(to, _, state)| (&**to, u64::from(state.problem().is_none()))),
        )
    }
}

/// Age of the oldest message that is read and not stored, at a time in nanoseconds since 1970; `None` before the first is read.
fn age(progress: &ProgressSnapshot, now: u64) -> Option<Duration> {
    match progress.oldest_ns {
        0 => progress.place.map(|_| Duration::ZERO),
        oldest => Some(Duration::from_nanos(now.saturating_sub(oldest))),
    }
}

/// How to connect to a cluster. Reads the files with secrets.
pub(crate) fn options(config: &ForwardConfig) -> Result<NatsOptions, ForwardError> {
    let secret = |path: &Path| {
        let text = fs::read_to_string(path).map_err(|error| ForwardError::File {
            path: path.to_owned(),
            error,
        })?;
        Ok(text.trim_end().to_owned())
    };
    Ok(NatsOptions {
        servers: config.servers().to_vec(),
        name: "blocksd".to_owned(),
        credentials: match config.login() {
            ForwardLogin::None => Credentials::None,
            ForwardLogin::User(user, password) => Credentials::User(user, secret(&password)?),
            ForwardLogin::Token(token) => Credentials::Token(secret(&token)?),
            ForwardLogin::Nkey(seed) => Credentials::Nkey(secret(&seed)?),
            ForwardLogin::Credentials(file) => Credentials::Jwt(secret(&file)?),
        },
        ca: config.ca(),
        identity: config.identity(),
    })
}

/// Tells clusters and streams apart in the name of a file.
fn digest(to: &str, stream: &str) -> u32 {
    crc32fast::hash(format!("{to} {stream}").as_bytes())
}
