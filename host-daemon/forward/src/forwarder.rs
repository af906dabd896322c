//! Follows a recording, and forwards it: a [`Forwarder`].

mod begin;
mod follower;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use blocksd_recording::{Durability, Error, LostRange, Message, Missed, TailPosition, Visitor};
use tokio::sync::mpsc::{self, error::TrySendError};

use self::begin::{locked, write_again};
use self::follower::Follower;
use crate::confirm::{Confirm, Unsettled};
use crate::cursor::{Cursor, CursorFile};
use crate::dispatch::{Asked, Dispatcher, End, Input, Reached, Start};
use crate::files::{self, KnownFiles};
use crate::gather::Gatherer;
use crate::identity::{instance_of, renew_instance};
use crate::linger::Linger;
use crate::place::{Instance, Place};
use crate::progress::{Progress, Unread};
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
    /// The subjects.
    pub subjects: Subjects,
    /// Name of the file with the place where everything was forwarded, in the folder: one with [`CURSOR_FILES`](crate::CURSOR_FILES) at
    /// the beginning. Without it, the place is found in another such file, if that one is of the same stream.
    pub cursor: String,
    /// How long messages are gathered, so that a slow device makes fewer messages of the stream: not at all if this is zero.
    pub linger: Duration,
}

impl Forwarding {
    /// The place before which everything was stored when it was saved last. None if the stream has lost messages since.
    #[must_use]
    pub fn saved(&self) -> Option<Place> {
        let saved = self.file().load()?;
        saved.place().filter(|_| !saved.has_gone_back)
    }

    fn file(&self) -> CursorFile {
        CursorFile::new(&self.folder, &self.cursor, &self.subjects)
    }
}

/// A function that takes a place, or none.
type OnPlace = Box<dyn Fn(Option<Place>) + Send + Sync>;

/// Forwards a recording to a stream.
pub struct Forwarder<S> {
    stream: Arc<S>,
    forwarding: Forwarding,
    progress: Arc<Progress>,
    on_place: OnPlace,
    confirm: Option<Arc<dyn Confirm>>,
    /// A part of the recording could not be read, in this run or in an earlier one.
    has_lost: Arc<AtomicBool>,
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
            has_lost: Arc::default(),
            finish: Arc::default(),
        }
    }

    /// Calls a function with each place before which everything is certainly stored, so that files before it need not be kept: none
    /// when the stream has lost messages, until it has everything again.
    #[must_use]
    pub fn on_place(self, on_place: impl Fn(Option<Place>) + Send + Sync + 'static) -> Self {
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
    /// A recording whose identity another one has, too, because it is a copy of it or was restored from a backup, takes a new one. In the subjects
    /// that show it, what was recorded after the last saved place is sent under it, and may be in the stream twice then.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing: the next one continues where the stream says.
    ///
    /// # Errors
    /// [`Error`], if the recording or its identity ([`instance_of`]) cannot be read.
    pub async fn run(&self) -> Result<(), Error> {
        let folder = &self.forwarding.folder;
        let file = Mutex::new(self.forwarding.file());
        let mut reached = Reached::default();
        let mut has_gone_back = false;
        loop {
            let instance = instance_of(folder).map_err(|error| failed(folder, error))?;
            let (extent, cursor) = match self.begin(&file, has_gone_back).await {
                Ok((extent, cursor, is_in_repair)) => {
                    self.progress.works();
                    has_gone_back = is_in_repair;
                    (extent, cursor)
                }
                Err(error) => {
                    self.progress.failed(&error);
                    tokio::time::sleep(PAUSE).await;
                    locked(&file).write_again();
                    continue;
                }
            };
            let from = cursor.as_ref().map(|it| it.place);
            let newest = cursor.as_ref().map(|it| it.newest);
            if from.is_none() {
                (self.on_place)(None);
            }
            let (to, input) = mpsc::channel(INPUTS);
            let start = Start {
                instance,
                files: KnownFiles::of(folder.clone()),
                extent,
                newest,
                reached: std::mem::take(&mut reached),
                since: has_gone_back.then(|| newest.map_or(0, |it| it.sequence)),
            };
            let mut reading = self.reading(instance, extent.body_max, to);
            let here = files::list(folder).unwrap_or_default();
            if let Some(missing) = files::missing(&here, from.map(|place| place.number)) {
                let (first, last) = missing.into_inner();
                reading.note(format_args!(
                    "the files {first} to {last} of the recording were deleted or moved away; messages that only they had cannot be sent, or sent again"
                ));
            }
            self.progress.begins(from);
            let follower = Follower::start(&self.forwarding, from, reading)?;
            let (stream, progress) = (Arc::clone(&self.stream), Arc::clone(&self.progress));
            let dispatcher =
                Dispatcher::new(stream, progress, start).confirming(self.confirm.clone());
            let save = |cursor: &Cursor| {
                // Files are deleted only after that is saved: after a crash, they would be missed. A full disk needs the room.
                let has_lost = self.has_lost.load(Ordering::Relaxed);
                if let Some(failure) = locked(&file).save(cursor, has_lost) {
                    self.progress.note(failure);
                }
                has_gone_back = false;
                (self.on_place)(Some(cursor.place));
            };
            let end = tokio::select! {
                end = dispatcher.run(input, save) => end,
                end = write_again(&file) => end,
            };
            match end {
                End::Finished => return follower.end(),
                End::Lost => {
                    (self.on_place)(None);
                    self.progress.begins(None);
                    has_gone_back = true;
                    self.gone_back(&file, true);
                }
                End::Copied(known) => {
                    reached = known;
                    let renewed = renew_instance(folder).map_err(|error| failed(folder, error))?;
                    self.progress.note(format_args!(
                        "another recording has forwarded as {instance}, the identity of this one: one of the two is a copy, or was \
                         restored; going on as {renewed}, from the last saved place; messages after it may be there twice"
                    ));
                    tokio::time::sleep(PAUSE).await;
                }
                End::Again(known, again) => {
                    reached = known;
                    self.progress.note(format_args!(
                        "reading again from the last saved place: {again}"
                    ));
                }
            }
        }
    }

    fn reading(&self, instance: Instance, body_max: usize, to: mpsc::Sender<Input>) -> Reading {
        let subjects = &self.forwarding.subjects;
        let events = subjects.events(&instance.to_string());
        Reading {
            gatherer: Gatherer::new(subjects.clone(), events, body_max)
                .confirming(self.confirm.clone()),
            linger: Linger::new(self.forwarding.linger),
            reached: None,
            unread: Unread::default(),
            lingering: Unread::default(),
            is_all: false,
            has_caught_up: false,
            is_damaged: false,
            confirm: self.confirm.clone(),
            unsettled: None,
            asked: Vec::new(),
            has_lost: Arc::clone(&self.has_lost),
            progress: Arc::clone(&self.progress),
            to,
            stop: Arc::default(),
            finish: Arc::clone(&self.finish),
        }
    }

    /// Whether a place is saved for the stream, if the cluster answers.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn has_saved_place(&self) -> Result<bool, StreamError> {
        let created = self.stream.extent().await?.created;
        let (saved, _) = self.forwarding.file().load_all(created);
        Ok(!saved.cursors.is_empty())
    }
}

/// A folder cannot be read or written.
fn failed(folder: &Path, source: io::Error) -> Error {
    Error::Read {
        path: folder.to_owned(),
        source,
    }
}

impl<S> fmt::Debug for Forwarder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder")
            .field("forwarding", &self.forwarding)
            .finish_non_exhaustive()
    }
}

/// Reads a recording into batches.
struct Reading {
    gatherer: Gatherer,
    linger: Linger,
    reached: Option<TailPosition>,
    /// Where the chunk of the last message begins.
    unread: Unread,
    /// Where the chunk of the first message begins that is gathered.
    lingering: Unread,
    /// Everything that was read was handed over.
    is_all: bool,
    has_caught_up: bool,
    /// A part of the recording could not be read.
    is_damaged: bool,
    confirm: Option<Arc<dyn Confirm>>,
    /// The sessions that were not settled when everything was read last. `None` before.
    unsettled: Option<Vec<Unsettled>>,
    /// Those of which everything is read.
    asked: Vec<Asked>,
    /// A part of the recording could not be read, now or at an earlier reading.
    has_lost: Arc<AtomicBool>,
    progress: Arc<Progress>,
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
            if self.unread.number != after.number {
                self.progress.reads(after.number);
            }
            self.unread = Unread {
                number: after.number,
                offset: message.offset,
            };
            self.gatherer.add(file, message.index, message);
            if self.linger.gathered(now) {
                self.lingering = self.unread;
            }
        }
        match self.gatherer.is_full() {
            true => self.hand_over(Some(self.unread)),
            false => Ok(()),
        }
    }

    /// Everything was read. What was gathered waits for more, except at the beginning and at the end.
    fn idle_at(&mut self, now: Instant) -> Result<(), Ended> {
        let finishes = self.finish.load(Ordering::Relaxed);
        self.ask();
        if self.has_caught_up && !finishes && !self.linger.is_over(now) {
            return self.show_lingering();
        }
        self.hand_over(None)?;
        if !std::mem::replace(&mut self.has_caught_up, true) {
            let is_damaged = self.is_damaged;
            self.send(Input::CaughtUp { is_damaged })?;
        }
        if !self.asked.is_empty() {
            let asked = std::mem::take(&mut self.asked);
            self.send(Input::Unsettled(asked))?;
        }
        match finishes {
            true => Err(Ended::Stopped),
            false => Ok(()),
        }
    }

    /// Takes the sessions that are not settled. What was durable of them when everything was read before is read now.
    fn ask(&mut self) {
        let Some(confirm) = &self.confirm else {
            return;
        };
        let unsettled = confirm.unsettled(self.unsettled.is_none());
        let read = self.unsettled.replace(unsettled).unwrap_or_default();
        let is_whole = !self.has_lost.load(Ordering::Relaxed);
        let read = read.into_iter().map(|it| self.gatherer.asked(it, is_whole));
        self.asked.extend(read);
    }

    /// Hands over the gathered batches with the beginning of the unread part, and then the place that was reached.
    fn hand_over(&mut self, unread: Option<Unread>) -> Result<(), Ended> {
        self.linger.handed_over();
        let batches = self.gatherer.take();
        let was_all = std::mem::replace(&mut self.is_all, unread.is_none());
        if !batches.is_empty() || was_all != self.is_all {
            self.send(Input::Batches(batches, unread))?;
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

    /// Says once that what lingers is not handed over.
    fn show_lingering(&mut self) -> Result<(), Ended> {
        if std::mem::replace(&mut self.is_all, false) {
            self.send(Input::Batches(Vec::new(), Some(self.lingering)))?;
        }
        self.check()
    }

    /// Logs that a part of the recording cannot be read.
    fn note(&mut self, damage: impl fmt::Display) {
        self.progress.note(damage);
        self.lose();
    }

    fn lose(&mut self) {
        self.is_damaged = true;
        self.has_lost.store(true, Ordering::Relaxed);
    }

    fn send(&self, input: Input) -> Result<(), Ended> {
        let sent = match self.to.try_send(input) {
            Err(TrySendError::Full(input)) => {
                self.progress.held(Some(self.lingering));
                let sent = self.to.blocking_send(input);
                self.progress.held(None);
                sent.is_ok()
            }
            sent => sent.is_ok(),
        };
        sent.then_some(()).ok_or(Ended::Stopped)
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
        self.note(format_args!("{}: {lost}", file.display()));
        Ok(())
    }

    fn gap(&mut self) -> Result<(), Ended> {
        self.lose();
        Ok(())
    }

    fn unreadable(&mut self, error: Error) -> Result<(), Ended> {
        self.note(&error);
        Ok(())
    }

    fn missed(&mut self, path: &Path, missed: &Missed) -> Result<(), Ended> {
        let path = path.display();
        match self.progress.missed(missed) {
            None => self.lose(),
            Some(0) => self.note(format_args!("{path}: {missed}")),
            Some(named) => self.note(format_args!(
                "{path}: {missed}, of which the log has named {named} before"
            )),
        }
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
