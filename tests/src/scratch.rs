//! The folder of a measurement: the option [`ScratchArgs`].

use std::path::PathBuf;
use std::{fs, io};

use clap::Args;
use tempfile::TempDir;

/// Where a measurement puts its files.
#[derive(Args, Clone, Debug)]
pub struct ScratchArgs {
    /// Folder for recordings and files, which are removed afterwards
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        default_value = "target/load"
    )]
    pub dir: PathBuf,
}

impl ScratchArgs {
    /// Makes a folder with this prefix in its name. It is removed when the value is dropped.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn make(&self, prefix: &str) -> io::Result<TempDir> {
        fs::create_dir_all(&self.dir)?;
        tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(fs::canonicalize(&self.dir)?)
    }
}
