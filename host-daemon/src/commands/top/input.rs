//! Keys: [`Key`], as [`read`] reads them from the terminal.

use std::io;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc::{Receiver, channel};

/// Keys that are kept while a frame is drawn.
const QUEUE_LEN: usize = 64;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Esc,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// Ctrl-C.
    Interrupt,
}

/// What the terminal reports.
#[derive(Debug)]
pub(super) enum TerminalInput {
    Key(Key),
    /// It has another size.
    Resized,
    /// It cannot be read any more.
    Failed(io::Error),
}

/// Reads the terminal in a thread of its own, which ends with the process.
///
/// # Errors
/// If the system cannot start a thread.
pub(super) fn read() -> io::Result<Receiver<TerminalInput>> {
    let (to, inputs) = channel(QUEUE_LEN);
    let reader = move || {
        loop {
            let input = match event::read() {
                Ok(Event::Key(key)) => match of(key) {
                    Some(key) => TerminalInput::Key(key),
                    None => continue,
                },
                Ok(Event::Resize(..)) => TerminalInput::Resized,
                Ok(_) => continue,
                Err(error) => TerminalInput::Failed(error),
            };
            let is_last = matches!(input, TerminalInput::Failed(_));
            if to.blocking_send(input).is_err() || is_last {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(reader)?;
    Ok(inputs)
}

fn of(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Key::Interrupt);
    }
    Some(match key.code {
        KeyCode::Char(character) => Key::Char(character),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}
