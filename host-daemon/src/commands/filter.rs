//! Leaves messages of a recording out on their way to a visitor: a [`Filtered`] passes everything else on.

use std::path::Path;

use crate::error::CommandError;
use blocksd_recording::{Error, LostRange, Message, Missed, TailPosition, Visitor};

/// Decides which messages a visitor receives.
pub(super) trait MessageFilter {
    /// Returns whether a message is passed on.
    fn passes(&mut self, message: &Message<'_>) -> bool;

    /// Called when no more messages are available now, after the visitor was called.
    fn idle(&mut self) {}
}

/// Passes the messages that a filter selects on to a visitor, and all other reports.
pub(super) struct Filtered<'a, F> {
    pub(super) filter: F,
    visitor: &'a mut dyn Visitor<Error = CommandError>,
}

impl<'a, F: MessageFilter> Filtered<'a, F> {
    pub(super) fn new(filter: F, visitor: &'a mut dyn Visitor<Error = CommandError>) -> Self {
        Self { filter, visitor }
    }
}

impl<F: MessageFilter> Visitor for Filtered<'_, F> {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        match self.filter.passes(message) {
            true => self.visitor.message(message),
            false => Ok(()),
        }
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), CommandError> {
        self.visitor.lost(file, lost)
    }

    fn gap(&mut self) -> Result<(), CommandError> {
        self.visitor.gap()
    }

    fn unreadable(&mut self, error: Error) -> Result<(), CommandError> {
        self.visitor.unreadable(error)
    }

    fn missed(&mut self, path: &Path, missed: &Missed) -> Result<(), CommandError> {
        self.visitor.missed(path, missed)
    }

    fn missing(&mut self, directory: &Path) -> Result<(), CommandError> {
        self.visitor.missing(directory)
    }

    fn reached(&mut self, position: &TailPosition) -> Result<(), CommandError> {
        self.visitor.reached(position)
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        self.visitor.idle()?;
        self.filter.idle();
        Ok(())
    }
}
