//! A tail on a thread of its own, that notes each message with its place.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blocksd_recording::{
    Durability, Error, LostRange, Message, Missed, Reader, Tail, TailPosition, Visitor, Wanted,
};

use crate::disk::PATIENCE;

/// A message that was delivered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delivered {
    pub(crate) topic: String,
    pub(crate) sequence: u32,
    pub(crate) text: String,
    pub(crate) position: TailPosition,
}

/// What a visitor saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) messages: Vec<Delivered>,
    pub(crate) reached: Option<TailPosition>,
    pub(crate) files_missed: u64,
    pub(crate) idle: u64,
}

type Check = dyn Fn(&Delivered) + Send + Sync;

#[derive(Clone, Default)]
struct Note {
    seen: Arc<Mutex<Seen>>,
    is_stopped: Arc<AtomicBool>,
    check: Option<Arc<Check>>,
}

/// The end of a visit.
#[derive(Debug)]
pub(crate) struct Stopped(Option<Error>);

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self(Some(error))
    }
}

impl Visitor for Note {
    type Error = Stopped;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Stopped> {
        let position = message.position().unwrap();
        assert_eq!(message.index + 1, position.messages);
        let delivered = Delivered {
            topic: message.channel.record.topic.clone(),
            sequence: message.sequence,
            text: String::from_utf8(message.data.to_vec()).unwrap(),
            position,
        };
        if let Some(check) = &self.check {
            check(&delivered);
        }
        self.seen.lock().unwrap().messages.push(delivered);
        Ok(())
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), Stopped> {
        panic!("{}: {lost}", file.display());
    }

    fn missed(&mut self, _: &Path, missed: &Missed) -> Result<(), Stopped> {
        self.seen.lock().unwrap().files_missed += missed.files;
        Ok(())
    }

    fn reached(&mut self, position: &TailPosition) -> Result<(), Stopped> {
        let mut seen = self.seen.lock().unwrap();
        assert!(seen.reached.is_none_or(|before| before < *position));
        // It is never before a message that was delivered.
        let last = seen.messages.last().map(|it| it.position);
        assert!(
            last.is_none_or(|last| last <= *position),
            "{last:?} {position:?}"
        );
        seen.reached = Some(*position);
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Stopped> {
        self.seen.lock().unwrap().idle += 1;
        match self.is_stopped.load(Ordering::Relaxed) {
            true => Err(Stopped(None)),
            false => Ok(()),
        }
    }
}

/// A tail that runs.
pub(crate) struct Following {
    note: Note,
    thread: JoinHandle<Result<(), Stopped>>,
}

impl Following {
    pub(crate) fn start(
        folder: &Path,
        durability: &Arc<Durability>,
        from: Option<TailPosition>,
        check: impl Fn(&Delivered) + Send + Sync + 'static,
    ) -> Self {
        let tail = tail(folder, from).durable(Arc::clone(durability));
        let note = Note {
            check: Some(Arc::new(check)),
            ..Note::default()
        };
        let mut visitor = note.clone();
        let thread = std::thread::spawn(move || tail.visit(&mut visitor).map(|_| ()));
        Self { note, thread }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.note.seen.lock().unwrap().clone()
    }

    /// Waits until this many messages were delivered.
    #[track_caller]
    pub(crate) fn wait(&self, count: usize) -> Seen {
        let begun = Instant::now();
        loop {
            let seen = self.seen();
            if count <= seen.messages.len() {
                return seen;
            }
            assert!(begun.elapsed() < PATIENCE, "{seen:?}");
            assert!(!self.thread.is_finished(), "the tail has ended: {seen:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it has looked for more, and returns what it delivered.
    #[track_caller]
    pub(crate) fn settled(&self) -> Seen {
        let before = self.seen().idle;
        let begun = Instant::now();
        // A look that had begun before does not count.
        while self.seen().idle < before + 2 {
            assert!(begun.elapsed() < PATIENCE);
            assert!(!self.thread.is_finished(), "the tail has ended");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.seen()
    }

    pub(crate) fn stop(self) -> Seen {
        self.note.is_stopped.store(true, Ordering::Relaxed);
        let ended = self.thread.join().unwrap();
        assert!(matches!(ended, Err(Stopped(None))), "{ended:?}");
        self.note.seen.lock().unwrap().clone()
    }
}

fn tail(folder: &Path, from: Option<TailPosition>) -> Tail {
    let tail = Tail::new(folder.into(), Wanted::default());
    match from {
        Some(position) => tail.from_position(position),
        None => tail,
    }
}

/// What a tail of a folder that nobody writes delivers after a position.
pub(crate) fn rest(folder: &Path, from: Option<TailPosition>) -> Seen {
    let mut note = Note::default();
    note.is_stopped.store(true, Ordering::Relaxed);
    let ended = tail(folder, from).visit(&mut note);
    assert!(matches!(ended, Err(Stopped(None))), "{ended:?}");
    note.seen.lock().unwrap().clone()
}

/// All messages of a folder.
pub(crate) fn read(folder: &Path) -> Vec<Delivered> {
    let mut note = Note::default();
    let reader = Reader::new(vec![folder.into()], Wanted::default());
    reader.visit(&mut note).unwrap();
    note.seen.lock().unwrap().messages.clone()
}
