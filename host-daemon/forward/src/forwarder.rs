//! Follows a recording, and forwards it: a [`Forwarder`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use blocksd_recording::{
    Durability, Error, LostRange, Message, Missed, Tail, TailPosition, Visitor, Wanted,
};
use tokio::sync::mpsc;

use crate::confirm::Confirm;
use crate::cursor::{Cursor, CursorFile};
use crate::dispatch::{Dispatcher, End, Input};
use crate::gather::Gatherer;
use crate::linger::Linger;
use crate::place::{Instance, Place};
use crate::progress::Progress;
use crate::stream::{Stream, StreamError};
use crate::subject::Subjects;

/// Inputs between the thread that reads and the task that publishes.
const INPUTS: usize = 4;
/// Pause after a failure that concerns everything.
const PAUSE: Duration = Duration::from_secs(2);

/// What to forward.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// The folder of the recording.
    pub folder: PathBuf,
    /// What is durable in it; `None` for a recording that no log of this process writes.
    pub durability: Option<Arc<Durability>>,
    /// The identity of the recording ([`instance_of`](crate::instance_of)).
    pub instance: Instance,
    /// The subjects.
    pub subjects: Subjects,
    /// Name of the file with the place where everything was forwarded, in the folder.
    pub cursor: String,
    /// Longest body of a message, in bytes.
    pub body_max: usize,
    /// How long messages are gathered, so that a slow device makes fewer messages of the stream: not at all if this is zero.
    pub linger: Duration,
}

/// A function that takes a place.
type OnPlace = Box<dyn Fn(Place) + Send + Sync>;

/// Forwards a recording to a stream.
pub struct Forwarder<S> {
    stream: Arc<S>,
    forwarding: Forwarding,
    progress: Arc<Progress>,
    on_place: OnPlace,
    confirm: Option<Arc<dyn Confirm>>,
    finish: Arc<AtomicBool>,
}

impl<S: Stream> Forwarder<S> {
    /// Creates a forwarder. [`run`](Self::run) starts it.
    #[must_use]
    pub fn new(stream: Arc<S>, forwarding: Forwarding, progress: Arc<Progress>) -> Self {
        Self {
            stream,
            forwarding,
            progress,
            on_place: Box::new(drop),
            confirm: None,
            finish: Arc::default(),
        }
    }

    /// Calls a function with each place before which everything is certainly stored: files before it need not be kept. The place
    /// can go back, if the stream loses messages.
    #[must_use]
    pub fn on_place(self, on_place: impl Fn(Place) + Send + Sync + 'static) -> Self {
        Self {
            on_place: Box::new(on_place),
            ..self
        }
    }

    /// Confirms messages of sessions when the stream has them.
    #[must_use]
    pub fn confirming(self, confirm: Arc<dyn Confirm>) -> Self {
        Self {
            confirm: Some(confirm),
            ..self
        }
    }

    /// Ends [`run`](Self::run) when everything that is recorded by then is forwarded.
    pub fn finish(&self) {
        self.finish.store(true, Ordering::Relaxed);
    }

    /// Forwards until the future is dropped, or until it [finishes](Self::finish).
    ///
    /// # Cancellation
    /// Dropping the future loses nothing: the next one continues where the stream says.
    ///
    /// # Errors
    /// [`Error`], if the recording cannot be read.
    pub async fn run(&self) -> Result<(), Error> {
        let Forwarding {
            folder, instance, ..
        } = &self.forwarding;
        let file = CursorFile(folder.join(&self.forwarding.cursor));
        loop {
            let (created, cursor) = match self.begin(&file).await {
                Ok(begin) => {
                    self.progress.works();
                    begin
                }
                Err(error) => {
                    self.progress.failed(&error);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let from = cursor.as_ref().map(|it| it.place);
            let newest = cursor.as_ref().map(|it| it.newest);
            let (to, input) = mpsc::channel(INPUTS);
            let follower = Follower::start(&self.forwarding, from, to, &self.finish);
            let dispatcher = Dispatcher::new(
                Arc::clone(&self.stream),
                *instance,
                self.forwarding.body_max,
                Arc::clone(&self.progress),
                (created, newest),
            )
            .confirming(self.confirm.clone());
            let save = |cursor: Option<&Cursor>| match cursor {
                Some(cursor) => {
                    (self.on_place)(cursor.place);
                    if let Err(error) = file.save(cursor) {
                        tracing::warn!("forward: the place is not saved: {error}");
                    }
                }
                None => file.clear(),
            };
            match dispatcher.run(input, save).await {
                End::Finished => return follower.end(),
                End::Lost => {
                    tracing::warn!(
                        "forward: the stream has lost messages that it had acknowledged, or is another one; \
                         beginning again with what the recording has"
                    );
                    file.clear();
                }
            }
        }
    }

    /// Where to begin: when the stream was created, and the cursor if it is still true.
    async fn begin(&self, file: &CursorFile) -> Result<(i128, Option<Cursor>), StreamError> {
        let created = self.stream.extent().await?.created;
        let Some(cursor) = file.load() else {
            return Ok((created, None));
        };
        let is_true =
            cursor.created == created && cursor.newest.is_intact(&*self.stream, created).await?;
        Ok((created, is_true.then_some(cursor)))
    }
}

impl<S> fmt::Debug for Forwarder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder")
            .field("forwarding", &self.forwarding)
            .finish_non_exhaustive()
    }
}

/// A thread that reads the recording.
struct Follower {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl Follower {
    fn start(
        forwarding: &Forwarding,
        from: Option<Place>,
        to: mpsc::Sender<Input>,
        finish: &Arc<AtomicBool>,
    ) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut tail = Tail::new(forwarding.folder.clone(), Wanted::default());
        if let Some(durability) = &forwarding.durability {
            tail = tail.durable(Arc::clone(durability));
        }
        if let Some(place) = from {
            tail = tail.from_position(TailPosition {
                number: place.number,
                nonce: place.nonce,
                messages: place.messages,
            });
        }
        let events = forwarding.subjects.events(&forwarding.instance.to_string());
        let subjects = forwarding.subjects.clone();
        let mut reading = Reading {
            gatherer: Gatherer::new(subjects, events, forwarding.body_max),
            linger: Linger::new(forwarding.linger),
            reached: None,
            has_caught_up: false,
            to,
            stop: Arc::clone(&stop),
            finish: Arc::clone(finish),
        };
        let read = move || match tail.visit(&mut reading) {
            Err(Ended::Failed(error)) => Err(error),
            Ok(_) | Err(Ended::Stopped) => Ok(()),
        };
        let thread = thread::Builder::new().name("forward".to_owned());
        let thread = match thread.spawn(read) {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::error!("forward: no thread: {error}");
                None
            }
        };
        Self { stop, thread }
    }

    /// Waits until the thread has ended.
    fn end(mut self) -> Result<(), Error> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(thread::JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

/// Stops the thread soon: it notices that at its next message or pause.
impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads a recording into batches.
struct Reading {
    gatherer: Gatherer,
    linger: Linger,
    reached: Option<TailPosition>,
    has_caught_up: bool,
    to: mpsc::Sender<Input>,
    stop: Arc<AtomicBool>,
    finish: Arc<AtomicBool>,
}

/// Why a visit has ended.
enum Ended {
    Stopped,
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Reading {
    fn message_at(&mut self, now: Instant, message: &Message<'_>) -> Result<(), Ended> {
        // A file without the name of a file of a recording is not of the log.
        if let Some(after) = message.position() {
            let file = (after.number, after.nonce);
            self.gatherer.add(file, message.index, message);
            self.linger.gathered(now);
        }
        match self.gatherer.is_full() {
            true => self.hand_over(),
            false => Ok(()),
        }
    }

    /// Everything was read. What was gathered waits for more, except at the beginning and at the end.
    fn idle_at(&mut self, now: Instant) -> Result<(), Ended> {
        let finishes = self.finish.load(Ordering::Relaxed);
        if self.has_caught_up && !finishes && !self.linger.is_over(now) {
            return self.check();
        }
        self.hand_over()?;
        if !std::mem::replace(&mut self.has_caught_up, true) {
            self.send(Input::CaughtUp)?;
        }
        match finishes {
            true => Err(Ended::Stopped),
            false => Ok(()),
        }
    }

    /// Hands over what was gathered, and then the place that was reached.
    fn hand_over(&mut self) -> Result<(), Ended> {
        self.linger.handed_over();
        let batches = self.gatherer.take();
        if !batches.is_empty() {
            self.send(Input::Batches(batches))?;
        }
        if let Some(reached) = self.reached.take() {
            self.send(Input::Reached(Place {
                number: reached.number,
                nonce: reached.nonce,
                messages: reached.messages,
                bytes: 0,
            }))?;
        }
        self.check()
    }

    fn send(&self, input: Input) -> Result<(), Ended> {
        self.to.blocking_send(input).map_err(|_| Ended::Stopped)
    }

    fn check(&self) -> Result<(), Ended> {
        match self.stop.load(Ordering::Relaxed) || self.to.is_closed() {
            true => Err(Ended::Stopped),
            false => Ok(()),
        }
    }
}

impl Visitor for Reading {
    type Error = Ended;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Ended> {
        self.message_at(Instant::now(), message)
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), Ended> {
        tracing::warn!("forward: {}: {lost}", file.display());
        Ok(())
    }

    fn unreadable(&mut self, error: Error) -> Result<(), Ended> {
        tracing::warn!("forward: {error}");
        Ok(())
    }

    fn missed(&mut self, path: &Path, missed: &Missed) -> Result<(), Ended> {
        tracing::warn!("forward: {}: {missed:?}", path.display());
        Ok(())
    }

    fn reached(&mut self, position: &TailPosition) -> Result<(), Ended> {
        self.reached = Some(*position);
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Ended> {
        self.idle_at(Instant::now())
    }
}

#[cfg(test)]
mod tests;
