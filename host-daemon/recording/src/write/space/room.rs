//! Makes room within the limits of a recording: deletes the oldest files, or says why it cannot.

use std::io;
use std::time::{Duration, Instant};

use super::{Deletable, Need, Shortage, Space, SpaceContext, State};
use crate::format::filename;
use crate::write::report::{LogReport, SpaceLimit};

/// How long a measurement of the free space is used.
const FREE_VALID: Duration = Duration::from_secs(1);
/// How long deleted files may take to appear as free space, before more are deleted.
const FREE_SETTLES: Duration = Duration::from_secs(10);

/// How long it is remembered that nothing but files that are kept is left to delete, unless other files are kept.
const KEPT: Duration = Duration::from_secs(1);
/// Most bytes that are deleted ahead of need.
const AHEAD_MAX: u64 = 256 << 20;

impl Need {
    /// Bytes ahead of need whose lack is a reason to delete files.
    const fn of(self, ahead: u64) -> u64 {
        match self {
            Self::Now => 0,
            Self::Later => ahead,
        }
    }
}

impl Space {
    /// Deletes the oldest files until `len` more bytes fit. `need` says whether to delete ahead of that; a lack of room for
    /// what comes later is no shortage.
    pub(super) fn make_room(
        &self,
        state: &mut State,
        context: &SpaceContext<'_>,
        len: u64,
        need: Need,
        deletable: Deletable,
    ) -> Option<Shortage> {
        let by_size = match self.retention.max_bytes() {
            Some(max) => {
                let shortage = self.within(state, context, max, (len, need), deletable);
                let over = state.used().saturating_sub(max);
                context
                    .stats
                    .over_limit(if state.is_over { over } else { 0 });
                shortage
            }
            None => {
                state.is_over = false;
                context.stats.over_limit(0);
                None
            }
        };
        by_size.or_else(|| {
            let min = self.retention.min_free()?;
            self.keep_free(state, context, min, (len, need), deletable)
        })
    }

    /// Makes room within the limit on all files.
    fn within(
        &self,
        state: &mut State,
        context: &SpaceContext<'_>,
        max: u64,
        (len, need): (u64, Need),
        deletable: Deletable,
    ) -> Option<Shortage> {
        let unsealed: u64 = state.unsealed.values().sum();
        if len != 0 && state.has_queue() && max / 2 < unsealed + len {
            // Do not delete files that are on the disk for files that are not.
            return Some(Shortage::Unsealed);
        }
        if state.total.is_none() {
            self.list(state, context);
        }
        let fits = |state: &State, len: u64| state.used().saturating_add(len) <= max;
        let ahead = ahead(max);
        state.is_over &= !fits(state, len + ahead);
        if fits(state, len + need.of(ahead)) || state.is_failing() {
            return None;
        }
        let kept_from = self.retention.kept_from();
        let is_known =
            |(from, at): (Option<u64>, Instant)| from == kept_from && at.elapsed() < KEPT;
        if !state.kept.is_some_and(is_known) {
            let limit = SpaceLimit::MaxBytes(max);
            let is_kept = self.delete(state, context, limit, deletable, |state| {
                fits(state, len + ahead)
            });
            state.kept = is_kept.then(|| (kept_from, Instant::now()));
        }
        if state.kept.is_some() {
            // A file that waits to be sealed is kept, too.
            let is_over = !fits(state, len) && deletable == Deletable::All;
            if is_over && !std::mem::replace(&mut state.is_over, true) {
                context.reporter.report(&LogReport::OverLimit {
                    max,
                    bytes: state.used().saturating_add(len) - max,
                    kept_from: kept_from.unwrap_or_default(),
                });
            }
            return None;
        }
        let is_short = !fits(state, len) && !state.is_failing() && state.has_queue();
        is_short.then_some(Shortage::Unsealed)
    }

    /// Keeps a minimum of free space in the file system.
    fn keep_free(
        &self,
        state: &mut State,
        context: &SpaceContext<'_>,
        min: u64,
        (len, need): (u64, Need),
        deletable: Deletable,
    ) -> Option<Shortage> {
        let ahead = ahead(min);
        let wanted = len + need.of(ahead);
        let has = |state: &State, len: u64| {
            let (free, _) = state.free?;
            Some(min.saturating_add(len) <= free)
        };
        let is_valid = |(_, at): (u64, Instant)| at.elapsed() < FREE_VALID;
        if !state.free.is_some_and(is_valid) || has(state, wanted) == Some(false) {
            self.measure(state, context);
        }
        // Without a measurement, the limit cannot be applied.
        if has(state, wanted)? || state.is_failing() {
            return None;
        }
        let settles = |at: Instant| at.elapsed() < FREE_SETTLES;
        if state.unsettled.is_some_and(settles) {
            return self.shortage_of_free(state, min, len, false);
        }
        let (before, _) = state.free?;
        let limit = SpaceLimit::MinFree(min);
        let mut deleted = 0;
        let begin = state.total;
        let is_kept = self.delete(state, context, limit, deletable, |state| {
            deleted = begin
                .unwrap_or_default()
                .saturating_sub(state.total.unwrap_or_default());
            // The lengths of deleted files count, in case that the file system frees them later.
            before.saturating_add(deleted) >= min.saturating_add(len + ahead)
        });
        self.measure(state, context);
        let (free, _) = state.free?;
        if deleted != 0 && free.saturating_sub(before) < deleted / 2 {
            // Another program holds the files open or fills the disk, or a snapshot keeps them.
            state.unsettled = Some(Instant::now());
        }
        self.shortage_of_free(state, min, len, is_kept)
    }

    /// Whether `len` more bytes leave less than the minimum of free space.
    fn shortage_of_free(
        &self,
        state: &State,
        min: u64,
        len: u64,
        is_kept: bool,
    ) -> Option<Shortage> {
        let (free, _) = state.free?;
        if min.saturating_add(len) <= free || state.is_failing() {
            return None;
        }
        Some(match state.has_queue() {
            true => Shortage::Unsealed,
            false => Shortage::Free {
                free,
                min,
                len,
                is_kept,
            },
        })
    }

    /// Deletes the oldest files until there is room. Returns whether files were left because they are kept.
    fn delete(
        &self,
        state: &mut State,
        context: &SpaceContext<'_>,
        limit: SpaceLimit,
        deletable: Deletable,
        mut has_room: impl FnMut(&State) -> bool,
    ) -> bool {
        let Some(files) = self.list(state, context) else {
            return false;
        };
        let mut files: Vec<_> = files
            .into_iter()
            .filter(|(name, _)| state.may_be_deleted(name, deletable))
            .collect();
        // Of two files with the same number, delete the original first: its whole chunks are in the repaired file.
        files.sort_by_key(|(name, _)| (filename::number(name), filename::is_sealed(name)));
        if matches!(limit, SpaceLimit::MinFree(_)) {
            // Other programs may fill the disk. Then the newest messages are worth more than the free space.
            files.pop();
        }
        let (mut refused, mut is_kept) = (None, false);
        for (name, len) in files {
            if has_room(state) {
                break;
            }
            let number = filename::number(&name);
            if self.retention.delete(number, || ()).is_none() {
                is_kept = true;
                break;
            }
            let messages = (context.count)(&name);
            let Some(removed) = self.retention.delete(number, || context.remove(&name)) else {
                is_kept = true;
                break;
            };
            match removed {
                Ok(()) => {
                    context.reporter.report(&LogReport::Deleted {
                        file: &name,
                        len,
                        messages,
                        limit,
                    });
                    context.stats.deleted(1, len, messages.unwrap_or_default());
                }
                // Another program has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    refused = Some(error);
                    continue;
                }
            }
            if let Some(total) = &mut state.total {
                *total = total.saturating_sub(len);
            }
        }
        let _ = has_room(state);
        context.stats.space(state.total, None);
        state.failed(context, limit, refused);
        is_kept
    }
}

/// Bytes that are deleted ahead of need, for a limit.
fn ahead(limit: u64) -> u64 {
    (limit / 64).min(AHEAD_MAX)
}
