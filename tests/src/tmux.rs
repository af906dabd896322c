//! A terminal of its own for a program that needs one: [`Tmux`].

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::DEADLINE;
use crate::programs::Program;

/// A terminal in a server of `tmux`, which is killed when it is dropped.
#[derive(Debug)]
pub struct Tmux {
    tmux: Program,
    folder: TempDir,
}

impl Tmux {
    /// Runs a line of shell in a terminal of this size. If `tmux` is missing, reports that the test `name` is skipped.
    #[track_caller]
    pub fn start(name: &str, size: (u16, u16), line: &str) -> Option<Self> {
        let terminal = Self {
            tmux: Program::find(name, "tmux")?,
            folder: TempDir::new().expect("a folder"),
        };
        let (width, height) = (size.0.to_string(), size.1.to_string());
        terminal.run(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            line,
        ]);
        Some(terminal)
    }

    /// Presses keys, by their names in `tmux`.
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// Gives the terminal another size.
    #[track_caller]
    pub fn resize(&self, width: u16, height: u16) {
        let (width, height) = (width.to_string(), height.to_string());
        self.run(&["resize-window", "-x", &width, "-y", &height]);
    }

    /// What it shows.
    #[track_caller]
    pub fn text(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// What it shows, with the escape sequences of its styles.
    #[track_caller]
    pub fn styled_text(&self) -> String {
        self.run(&["capture-pane", "-e", "-p"])
    }

    /// The process that runs the line of shell.
    #[track_caller]
    pub fn shell_id(&self) -> u32 {
        let id = self.run(&["list-panes", "-F", "#{pane_pid}"]);
        id.trim().parse().expect("a process")
    }

    /// Waits until it shows this text; returns all that it shows.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_that(text, |shown| shown.contains(text))
    }

    /// Waits until it shows all these texts: a frame may come in parts. Returns all that it shows.
    #[track_caller]
    pub fn wait_for_all(&self, texts: &[&str]) -> String {
        self.wait_that(&texts.join("; "), |shown| {
            texts.iter().all(|text| shown.contains(text))
        })
    }

    /// Waits until what it shows is as wanted; returns it.
    #[track_caller]
    pub fn wait_that(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let shown = self.text();
            if is_it(&shown) {
                return shown;
            }
            assert!(
                Instant::now() < until,
                "{what:?} does not appear in:\n{shown}"
            );
            sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let ended = self.command(args).output().expect("tmux runs");
        assert!(ended.status.success(), "{args:?}: {ended:?}");
        String::from_utf8_lossy(&ended.stdout).into_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.tmux.command(&["-u", "-S"]);
        command.arg(self.folder.path().join("socket")).args(args);
        command
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .env_remove("RUST_LOG")
            .envs([
                ("LC_ALL", "C.UTF-8"),
                ("TZ", "UTC"),
                ("TERM", "xterm-256color"),
            ]);
        command
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // Fails if its shell has ended.
        self.command(&["kill-server"]).output().ok();
    }
}
