//! A stream that has lost messages, and is away then: no file of the recording is given up.

use std::sync::Mutex;

use super::*;
use crate::cursor::{Dated, Newest};
use crate::stream::{At, Extent, Last, Outgoing, PublishError, Writers};

/// A stream in memory.
#[derive(Debug, Default)]
pub(super) struct SimpleStream(Mutex<SimpleState>);

#[derive(Debug, Default)]
struct SimpleState {
    messages: Vec<(String, Outgoing)>,
    created: i128,
    disruptions: u64,
    is_away: bool,
    /// It is away after the next answer to a question for its extent.
    leaves: bool,
    /// The number of a message that somebody has removed.
    removed: Option<u64>,
    /// It takes no message.
    is_closed: bool,
    /// How often a subject was read.
    reads: u64,
}

impl SimpleStream {
    fn with<T>(&self, work: impl FnOnce(&mut SimpleState) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    fn here(&self) -> Result<(), StreamError> {
        match self.with(|it| it.is_away) {
            true => Err(StreamError::NoStream),
            false => Ok(()),
        }
    }
}

impl Stream for SimpleStream {
    async fn publish(&self, subject: &str, message: &Outgoing) -> Result<u64, PublishError> {
        self.here()?;
        if self.with(|it| it.is_closed) {
            return Err(StreamError::NoStream.into());
        }
        let message = (subject.to_owned(), message.clone());
        Ok(self.with(|it| {
            it.messages.push(message);
            it.messages.len() as u64
        }))
    }

    async fn last(&self, subject: &str) -> Result<Option<Last>, StreamError> {
        self.here()?;
        Ok(self.with(|it| {
            let index = it.messages.iter().rposition(|it| it.0 == subject)?;
            let head = it.messages[index].1.head.clone();
            let sequence = index as u64 + 1;
            Some(Last {
                sequence,
                head,
                expected: None,
                answer_len: 0,
            })
        }))
    }

    async fn at(&self, sequence: u64) -> Result<At, StreamError> {
        self.here()?;
        Ok(self.with(|it| {
            let found = it.messages.get(sequence as usize - 1);
            let found = found.filter(|_| it.removed != Some(sequence));
            found.map_or(At::Nothing, |(_, it)| At::Message(it.head.nonce))
        }))
    }

    async fn next(&self, subject: &str, from: u64) -> Result<Option<Last>, StreamError> {
        self.with(|it| it.reads += 1);
        let last = self.last(subject).await?;
        Ok(last.filter(|it| from <= it.sequence))
    }

    async fn message_at(&self, _: u64) -> Result<Option<Last>, StreamError> {
        Ok(None)
    }

    fn set_timeout(&self, _: Duration) {}

    fn settling(&self) -> Duration {
        Duration::ZERO
    }

    fn disruptions(&self) -> u64 {
        self.with(|it| it.disruptions)
    }

    async fn extent(&self) -> Result<Extent, StreamError> {
        self.here()?;
        Ok(self.with(|it| {
            it.is_away = std::mem::take(&mut it.leaves);
            Extent {
                created: it.created,
                first: 1,
                last: it.messages.len() as u64,
                body_max: 1000,
                writers: Writers::None,
            }
        }))
    }
}

/// Numbers of the files from which the recording is kept.
type Kept = Arc<Mutex<Vec<u64>>>;

fn forwarding(folder: &Path) -> Forwarding {
    Forwarding {
        folder: folder.to_owned(),
        durability: None,
        subjects: Subjects::new("main"),
        cursor: "cursor".to_owned(),
        linger: Duration::ZERO,
    }
}

/// Forwards a recording, while something else is done.
async fn forward(folder: &Path, stream: &Arc<SimpleStream>, kept: &Kept, work: impl AsyncFnOnce()) {
    let kept = Arc::clone(kept);
    let forwarder = Forwarder::new(Arc::clone(stream), forwarding(folder), Arc::default());
    let forwarder = forwarder.on_place(move |place| {
        let number = place.map_or(0, |it| it.number);
        kept.lock().unwrap().push(number);
    });
    tokio::select! {
        ended = forwarder.run() => panic!("ended: {ended:?}"),
        () = work() => {}
    }
}

/// Waits until files are kept from a number on.
async fn until(kept: &Kept, number: u64) {
    until_so(|| kept.lock().unwrap().last() == Some(&number)).await;
}

async fn until_so(is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(30));
        // The recording is read in another thread.
        thread::sleep(Duration::from_millis(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Records a message in a file of its own.
fn record(folder: &Path) {
    let mut log = Log::open(folder, LogOptions::default()).unwrap();
    let spec = || ChannelSpec {
        topic: "/device/imu/blocks".to_owned(),
        ..ChannelSpec::default()
    };
    let channel = log.channel(&mut Channel::default(), spec).unwrap();
    log.append(channel, 1, 0, b"message").unwrap();
    log.finish().unwrap();
}

/// Whether the file with the place says that the stream has gone back.
fn has_gone_back(folder: &Path) -> bool {
    let saved = std::fs::read_to_string(folder.join("cursor"));
    saved.unwrap_or_default().contains(" gone-back")
}

#[tokio::test(start_paused = true)]
async fn all_files_are_kept_from_the_moment_when_a_loss_is_known() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path());
    record(folder.path());
    let stream = Arc::<SimpleStream>::default();
    let kept = Kept::default();
    forward(folder.path(), &stream, &kept, async || {
        until(&kept, 2).await;
        stream.with(|it| {
            it.messages.clear();
            it.disruptions += 1;
            it.leaves = true;
        });
        // It is known, and the stream has nothing.
        until(&kept, 0).await;
        assert!(stream.with(|it| it.is_away && it.messages.is_empty()));
        assert!(has_gone_back(folder.path()));
        stream.with(|it| it.is_away = false);
        until(&kept, 2).await;
    })
    .await;
    // After a restart, it is another stream.
    stream.with(|it| {
        it.created += 1;
        it.messages.clear();
        it.leaves = true;
    });
    kept.lock().unwrap().clear();
    forward(folder.path(), &stream, &kept, async || {
        until(&kept, 0).await;
        stream.with(|it| it.is_away = false);
        until(&kept, 2).await;
    })
    .await;
    assert_eq!(kept.lock().unwrap().first(), Some(&0));
}

/// Its last message may name lost ones.
#[tokio::test(start_paused = true)]
async fn a_repair_that_a_crash_has_ended_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path());
    let (stream, kept) = (Arc::<SimpleStream>::default(), Kept::default());
    let run = async |number| {
        forward(folder.path(), &stream, &kept, async || {
            until(&kept, number).await;
        })
        .await;
        stream.with(|it| std::mem::take(&mut it.reads))
    };
    assert_eq!(run(1).await, 0);
    record(folder.path());
    assert_eq!(run(2).await, 0);
    // The loss was noticed, and the daemon was killed. What it had saved is still true.
    let mut file = CursorFile::new(folder.path(), "cursor", &Subjects::new("main"));
    file.keep(file.load().unwrap());
    assert_eq!(file.save_gone_back(false), None);
    assert_eq!(forwarding(folder.path()).saved(), None);
    record(folder.path());
    assert_ne!(run(3).await, 0);
    assert!(!has_gone_back(folder.path()));
    record(folder.path());
    assert_eq!(run(4).await, 0);
}

/// A full disk, or one without the right to write, for an instant.
#[tokio::test(start_paused = true)]
async fn a_loss_that_could_not_be_saved_is_saved_later() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path());
    let (stream, kept) = (Arc::<SimpleStream>::default(), Kept::default());
    let file = folder.path().join("cursor");
    forward(folder.path(), &stream, &kept, async || {
        until(&kept, 1).await;
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir_all(file.join("in the way")).unwrap();
        stream.with(|it| {
            it.messages.clear();
            it.disruptions += 1;
            it.is_closed = true;
        });
        until(&kept, 0).await;
        std::fs::remove_dir_all(&file).unwrap();
        until_so(|| has_gone_back(folder.path())).await;
    })
    .await;
}

/// Somebody may remove the message that shows that it is lost.
#[tokio::test(start_paused = true)]
async fn a_place_that_is_lost_is_not_saved_again() {
    for is_removed in [false, true] {
        assert_not_saved_again(is_removed).await;
    }
}

async fn assert_not_saved_again(is_removed: bool) {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path());
    let (stream, kept) = (Arc::<SimpleStream>::default(), Kept::default());
    forward(folder.path(), &stream, &kept, async || {
        until(&kept, 1).await;
    })
    .await;
    let mut file = CursorFile::new(folder.path(), "cursor", &Subjects::new("main"));
    let mut saved = file.load().unwrap();
    let mut cursor = saved.cursors[0].cursor.clone();
    let newest = cursor.newest;
    // Another message has its number, which may be removed.
    let lost = Newest {
        sequence: 2,
        nonce: 1,
    };
    cursor.newest = lost;
    saved.cursors.insert(0, Dated { cursor, at_s: 1 });
    stream.with(|it| {
        it.removed = is_removed.then_some(lost.sequence);
        let other = it.messages[0].clone();
        it.messages.push(other);
    });
    file.keep(saved);
    assert_eq!(file.save_gone_back(false), None);
    stream.with(|it| it.is_closed = true);
    record(folder.path());
    let saved = || -> Vec<_> {
        let saved = file.load().unwrap();
        saved.cursors.iter().map(|it| it.cursor.newest).collect()
    };
    assert_eq!(saved(), [lost, newest]);
    forward(folder.path(), &stream, &kept, async || {
        until_so(|| saved() == [newest]).await;
        assert!(has_gone_back(folder.path()));
    })
    .await;
}
