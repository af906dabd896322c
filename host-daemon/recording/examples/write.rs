//! Writes each line of standard input to a log: `printf 'one\ntwo\n' | write DIR`. All lines are durable when the
//! program ends.

use std::error::Error;
use std::io::BufRead;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions, repair_dir};

fn main() -> Result<(), Box<dyn Error>> {
    let folder: PathBuf = std::env::args_os().nth(1).ok_or("usage: write DIR")?.into();
    let mut log = Log::open(&folder, LogOptions::default())?;
    // The log holds the lock of the folder, so that no other process repairs or writes there.
    for repaired in repair_dir(&folder)? {
        match repaired {
            Ok(repaired) => eprintln!("{}: {}", repaired.from.display(), repaired.recovered),
            Err(unrepaired) => eprintln!("{}: {}", unrepaired.path.display(), unrepaired.error),
        }
    }
    let mut channel = Channel::default();
    for (sequence, line) in (0..).zip(std::io::stdin().lock().lines()) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        // After a rotation, the channel must be registered again. In the same file this is a comparison.
        let lines = log.channel(&mut channel, || ChannelSpec {
            topic: "/lines".to_owned(),
            is_counted: true,
            ..ChannelSpec::default()
        })?;
        let time_ns = u64::try_from(now.as_nanos())?;
        log.append(lines, sequence, time_ns, line?.as_bytes())?;
        // A program that also waits for other things calls this at the time of `due`.
        log.tick()?;
    }
    log.finish()?;
    Ok(())
}
