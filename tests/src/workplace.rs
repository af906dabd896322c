//! A directory in which the scripts of a document run: a [`Workplace`].

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Ended, Process, finish};
use crate::programs::{Program, blocksd};

/// An empty directory, and the programs that its scripts find besides `blocksd`.
#[derive(Debug)]
pub struct Workplace {
    folder: TempDir,
    bin: TempDir,
    programs: Vec<Program>,
}

impl Workplace {
    /// Makes the directory. Reports that the test `name` is skipped if one of the programs is missing.
    #[track_caller]
    pub fn new(name: &str, programs: &[&str]) -> Option<Self> {
        let found = programs.iter().map(|it| Program::find(name, it));
        let programs = found.collect::<Option<Vec<_>>>()?;
        let [folder, bin] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        symlink(blocksd(&[]).get_program(), bin.path().join("blocksd")).expect("a link");
        Some(Self {
            folder,
            bin,
            programs,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a script one of the programs, under its own name.
    pub fn link(&self, script: &Path) {
        let name = script.file_name().expect("a file");
        symlink(script, self.bin.path().join(name)).expect("a link");
    }

    /// A command in the directory, that finds the programs.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").expect("a PATH");
        let own = self.programs.iter().filter_map(|program| {
            let command = program.command(&[]);
            let path = PathBuf::from(command.get_program());
            path.parent().map(Path::to_owned)
        });
        let bin = std::iter::once(self.bin.path().to_owned());
        let folders = bin.chain(own).chain(std::env::split_paths(&path));
        let folders = std::env::join_paths(folders).expect("folders without a colon");
        command
            .args(args)
            .current_dir(self.path())
            .env("PATH", folders)
            .env_remove("RUST_LOG");
        // The libraries of unpacked programs.
        for program in &self.programs {
            for (name, value) in program.command(&[]).get_envs() {
                if let Some(value) = value {
                    command.env(name, value);
                }
            }
        }
        command
    }

    /// Runs a script. It must succeed, and print nothing to standard error.
    #[track_caller]
    pub fn run(&self, shell: &str, script: &str) -> Ended {
        let ended = finish(self.command(shell, &["-c", script]), b"");
        assert_eq!(
            (ended.code, &*ended.stderr),
            (Some(0), ""),
            "{script}: {ended:?}"
        );
        ended
    }

    /// Starts a script of one command, which gets the signals.
    pub fn start(&self, script: &str) -> Process {
        Process::start(self.command("sh", &["-c", &format!("exec {script}")]))
    }
}
