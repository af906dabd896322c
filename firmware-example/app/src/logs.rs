//! The log as a source of blocks: first the build id of the image, then one defmt frame a block.

use embassy_futures::select::select;

use crate::stop::Stop;
use crate::uplink::Source;

/// The frames of the logger. Create only one.
#[derive(Debug)]
pub struct Logs<'a> {
    stop: &'a Stop,
    frame: [u8; logger::FRAME_MAX],
    /// Length of the frame that is being sent, or 0.
    len: usize,
    /// Number of dropped frames in the last report.
    reported: u32,
}

impl<'a> Logs<'a> {
    /// Sends what is logged until `stop` is requested, and the frames that are still in the logger then.
    #[must_use]
    pub const fn new(stop: &'a Stop) -> Self {
        Self {
            stop,
            frame: [0; logger::FRAME_MAX],
            len: 0,
            reported: 0,
        }
    }

    /// Loads the next frame, unless one is loaded. Returns whether a frame is loaded.
    fn fill(&mut self) -> bool {
        if self.len == 0 {
            let lost = logger::lost();
            if lost != self.reported && logger::is_empty() {
                // Fits, since the ring is empty. Not filtered: `DEFMT_LOG` removes the levels, and not `println`. The
                // total, so that a report which gets lost is made up for by the next.
                defmt::println!("{=u32} log frames dropped since the start", lost);
                self.reported = lost;
            }
            self.len = logger::take(&mut self.frame).unwrap_or(0);
        }
        self.len != 0
    }
}

impl Source for Logs<'_> {
    const NAME: &'static str = "log";

    fn greeting(&self) -> &[u8] {
        logger::build_id()
    }

    async fn ready(&mut self) -> bool {
        while !self.fill() {
            if self.stop.is_requested() {
                return false;
            }
            select(logger::ready(), self.stop.requested()).await;
        }
        true
    }

    fn block(&self) -> &[u8] {
        self.frame.get(..self.len).unwrap_or_default()
    }

    fn sent(&mut self) {
        self.len = 0;
    }

    fn is_ended(&self) -> bool {
        self.len == 0
            && self.stop.is_requested()
            && logger::is_empty()
            && logger::lost() == self.reported
    }
}
