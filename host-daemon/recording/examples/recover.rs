//! Seals the torn files of a log that no process is writing: `recover DIR`.

use std::error::Error;
use std::path::PathBuf;

use blocksd_recording::{Lock, repair_dir};

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: recover DIR";
    let folder: PathBuf = std::env::args_os().nth(1).ok_or(usage)?.into();
    let _lock = Lock::take(&folder)?;
    let mut failed = 0;
    for repaired in repair_dir(&folder)? {
        match repaired {
            Ok(repaired) => println!("{}: {}", repaired.from.display(), repaired.recovered),
            Err(unrepaired) => {
                failed += 1;
                let cause = unrepaired.error.source();
                let cause = cause.map(ToString::to_string).unwrap_or_default();
                let path = unrepaired.path.display();
                eprintln!("{path}: {}: {cause}", unrepaired.error);
            }
        }
    }
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} files could not be repaired").into()),
    }
}
