//! Prints the messages of a log, and continues with new ones: `tail DIR`.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use blocksd_recording::{LostRange, Message, Tail, Visitor, Wanted};

struct Print;

impl Visitor for Print {
    type Error = Box<dyn std::error::Error>;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Self::Error> {
        let topic = &message.channel.record.topic;
        let text = String::from_utf8_lossy(message.data);
        writeln!(stdout(), "{topic} {} {text:?}", message.sequence)?;
        Ok(())
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), Self::Error> {
        eprintln!("{}: {lost}", file.display());
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Self::Error> {
        Ok(stdout().flush()?)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path: PathBuf = std::env::args_os().nth(1).ok_or("usage: tail DIR")?.into();
    Tail::new(path, Wanted::default()).visit(&mut Print)?;
    Ok(())
}
