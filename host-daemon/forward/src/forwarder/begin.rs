//! Where a forwarder begins, and that it saves a loss of the stream.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Forwarder, PAUSE};
use crate::cursor::{Cursor, CursorFile};
use crate::dispatch::End;
use crate::stream::{Extent, Stream, StreamError};

impl<S: Stream> Forwarder<S> {
    /// Where to begin: the extent of the stream, the newest cursor that is still true, and whether the stream has gone back to an older state,
    /// and is not repaired, which may be known already.
    pub(super) async fn begin(
        &self,
        file: &Mutex<CursorFile>,
        has_gone_back: bool,
    ) -> Result<(Extent, Option<Cursor>, bool), StreamError> {
        let extent = self.stream.extent().await?;
        let (mut all, note) = locked(file).load_all(extent.created);
        if let Some(note) = note {
            self.progress.note(note);
        }
        self.has_lost.fetch_or(all.has_lost, Ordering::Relaxed);
        all.has_gone_back |= has_gone_back;
        let is_repaired = !all.has_gone_back;
        let is_older = all.remove_lost(&*self.stream, &extent).await?;
        let cursor = all.cursors.first().map(|it| it.cursor.clone());
        locked(file).keep(all);
        if is_older {
            // Those that are lost are not saved again: they may look true later.
            self.gone_back(file, is_repaired);
        }
        Ok((extent, cursor, is_older || !is_repaired))
    }

    /// The stream has lost messages. That is saved: after a crash in the repair, the stream may say that it has what is still missing.
    pub(super) fn gone_back(&self, file: &Mutex<CursorFile>, is_news: bool) {
        if is_news {
            self.progress.note(
                "the stream has lost messages that it had acknowledged, or is another one; beginning again, to send the missing ones",
            );
        }
        let has_lost = self.has_lost.load(Ordering::Relaxed);
        if let Some(failure) = locked(file).save_gone_back(has_lost) {
            self.progress.note(failure);
        }
    }
}

/// The file, which one task uses.
pub(super) fn locked(file: &Mutex<CursorFile>) -> MutexGuard<'_, CursorFile> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes again and again what could not be written.
pub(super) async fn write_again(file: &Mutex<CursorFile>) -> End {
    loop {
        tokio::time::sleep(PAUSE).await;
        locked(file).write_again();
    }
}
