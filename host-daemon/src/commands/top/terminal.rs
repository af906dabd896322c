//! The terminal while `top` shows something: [`TopTerminal`] restores it when it is dropped, and a panic does, too.

use std::io::{self, Stdout};
use std::mem::ManuallyDrop;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use crate::commands::top::colours::SixteenColours;
use blocksd_engine::stdio::{self, Waiting};

/// Whether the terminal is to be restored.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// The terminal, in its alternate screen.
pub(super) struct TopTerminal {
    /// It is not dropped: its own end writes to the terminal, and panics if that is gone.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<SixteenColours<Waiting<Stdout>>>>>,
}

impl TopTerminal {
    /// Switches to the alternate screen.
    ///
    /// # Errors
    /// The error of the system.
    pub(super) fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(restore_at_panic);
        enable_raw_mode()?;
        IS_OPEN.store(true, Ordering::Relaxed);
        let out = SixteenColours::new(stdio::stdout());
        let opened = execute!(stdio::stdout(), EnterAlternateScreen, Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(out)));
        match opened {
            Ok(terminal) => Ok(Self {
                terminal: ManuallyDrop::new(terminal),
            }),
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }

    /// Draws a frame.
    ///
    /// # Errors
    /// The error of the system.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }
}

impl Drop for TopTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal once: to leave the alternate screen again would move the cursor into the text of a panic.
fn restore() {
    if !IS_OPEN.swap(false, Ordering::Relaxed) {
        return;
    }
    // Nothing can be done about an error: the terminal is gone.
    disable_raw_mode().ok();
    execute!(stdio::stdout(), LeaveAlternateScreen, Show).ok();
}

fn restore_at_panic() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        hook(panic);
    }));
}
