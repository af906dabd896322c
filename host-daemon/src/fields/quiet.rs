//! A first pass over a recording that reports nothing: [`Quiet`]. The second pass reports the same.

use std::path::Path;

use crate::error::CommandError;
use blocksd_recording::{Error, LostRange, Message, Missed, Visitor};

/// Passes messages on, and keeps reports of losses back.
pub(crate) struct Quiet<'a>(pub(crate) &'a mut dyn Visitor<Error = CommandError>);

impl Visitor for Quiet<'_> {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        self.0.message(message)
    }

    fn lost(&mut self, _: &Path, _: &LostRange) -> Result<(), CommandError> {
        self.0.gap()
    }

    fn gap(&mut self) -> Result<(), CommandError> {
        self.0.gap()
    }

    fn unreadable(&mut self, _: Error) -> Result<(), CommandError> {
        Ok(())
    }

    fn missed(&mut self, _: &Path, _: &Missed) -> Result<(), CommandError> {
        self.0.gap()
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        self.0.idle()
    }
}
