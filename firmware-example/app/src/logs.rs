//! The log as a source of blocks: one defmt frame each, after a first one that says which build they come from.

use embassy_futures::select::select;

use crate::log::warning;
use crate::stop::Stop;
use crate::uplink::Source;

/// The frames of the logger. There must be one of these only.
#[derive(Debug)]
pub struct Logs<'a> {
    stop: &'a Stop,
    frame: [u8; logger::FRAME_MAX],
    /// Length of the frame that is being sent; 0 if none is.
    len: usize,
    /// How many frames were lost when that was last said.
    lost: u32,
}

impl<'a> Logs<'a> {
    /// What is logged until the stop, and is in the logger then.
    #[must_use]
    pub const fn new(stop: &'a Stop) -> Self {
        Self {
            stop,
            frame: [0; logger::FRAME_MAX],
            len: 0,
            lost: 0,
        }
    }

    /// Has a frame at hand, if there is one.
    fn fill(&mut self) -> bool {
        if self.len == 0 {
            let lost = logger::lost();
            if lost != self.lost && logger::is_empty() {
                // Fits, since nothing else is there.
                warning!("{=u32} log frames had no room", lost - self.lost);
                self.lost = lost;
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
        self.len == 0 && self.stop.is_requested() && logger::is_empty()
    }
}
