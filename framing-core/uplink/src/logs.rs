//! The defmt log as a source of messages: first the build id of the image, then one frame a message. Start with [`Logs`].

use embassy_futures::select::select;

use crate::source::Source;
use crate::stop::Stop;

/// The frames of a defmt logger that keeps them: that of the crate `framing-defmt`, or your own.
///
/// Frames are not encoded (defmt's feature `encoding-raw`), since messages mark where they end.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait LogFrames {
    /// Takes the oldest frame; returns its length, or `None` if no frame waits.
    fn take(&self, frame: &mut [u8]) -> Option<usize>;

    /// Whether there is no complete frame.
    fn is_empty(&self) -> bool;

    /// Number of frames that were dropped since the start, because they did not fit.
    fn lost(&self) -> u32;

    /// Waits for a frame. Dropping the future changes nothing.
    async fn ready(&self);

    /// The content of the section `.note.gnu.build-id`, by which a decoder finds the texts of the image; empty without that
    /// section.
    fn build_id(&self) -> &[u8];
}

/// The frames of a logger, each of at most `M` bytes. Create only one.
///
/// Send them with [`run_series`](crate::run_series) on a connection of their own. A log line about this connection goes into
/// the log, too.
#[derive(Debug)]
pub struct Logs<'a, L, const M: usize> {
    frames: L,
    stop: &'a Stop,
    frame: [u8; M],
    /// Length of the frame that is being sent, or 0.
    len: usize,
    /// Number of dropped frames in the last report.
    reported: u32,
}

impl<'a, L: LogFrames, const M: usize> Logs<'a, L, M> {
    /// Sends what is logged until `stop` is requested, and the frames that are still in the logger then.
    #[must_use]
    pub const fn new(frames: L, stop: &'a Stop) -> Self {
        Self {
            frames,
            stop,
            frame: [0; M],
            len: 0,
            reported: 0,
        }
    }

    /// Loads the next frame, unless one is loaded. Returns whether a frame is loaded.
    fn fill(&mut self) -> bool {
        if self.len == 0 {
            let lost = self.frames.lost();
            if lost != self.reported && self.frames.is_empty() {
                // Fits, since the ring is empty. Not filtered: `DEFMT_LOG` removes the levels, and not `println`. The
                // total, so that a report which gets lost is made up for by the next.
                defmt::println!("{=u32} log frames dropped since the start", lost);
                self.reported = lost;
            }
            self.len = self.frames.take(&mut self.frame).unwrap_or(0);
        }
        self.len != 0
    }
}

impl<L: LogFrames, const M: usize> Source for Logs<'_, L, M> {
    const NAME: &'static str = "log";

    fn greeting(&self) -> &[u8] {
        self.frames.build_id()
    }

    async fn ready(&mut self) -> bool {
        while !self.fill() {
            if self.stop.is_requested() {
                return false;
            }
            select(self.frames.ready(), self.stop.requested()).await;
        }
        true
    }

    fn message(&self) -> &[u8] {
        self.frame.get(..self.len).unwrap_or_default()
    }

    fn sent(&mut self) {
        self.len = 0;
    }

    fn is_ended(&self) -> bool {
        self.len == 0
            && self.stop.is_requested()
            && self.frames.is_empty()
            && self.frames.lost() == self.reported
    }
}
