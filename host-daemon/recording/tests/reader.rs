//! A reader reports what it cannot read.

use std::fs;
use std::path::{Path, PathBuf};

use blocksd_recording::catalog::list_directory;
use blocksd_recording::{
    Channel, ChannelSpec, Error, Log, LogOptions, LostRange, Message, Missed, Reader, Visitor,
    Wanted,
};
use tempfile::TempDir;

fn record(folder: &Path) {
    let mut log = Log::open(folder, LogOptions::default()).unwrap();
    let channel = log.channel(&mut Channel::default(), ChannelSpec::default);
    log.append(channel.unwrap(), 0, 1, b"reading").unwrap();
    log.finish().unwrap();
}

#[test]
fn a_reader_reports_a_file_that_is_deleted_meanwhile() {
    /// Deletes a file at the first message.
    struct Delete(PathBuf, u64);
    impl Visitor for Delete {
        type Error = Error;
        fn message(&mut self, _: &Message<'_>) -> Result<(), Error> {
            let _ = fs::remove_file(&self.0);
            Ok(())
        }
        fn lost(&mut self, _: &Path, _: &LostRange) -> Result<(), Error> {
            Ok(())
        }
        fn missed(&mut self, path: &Path, missed: &Missed) -> Result<(), Error> {
            assert_eq!(path, self.0);
            self.1 += missed.files;
            Ok(())
        }
        fn idle(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }
    let folder = TempDir::new().unwrap();
    record(folder.path());
    record(folder.path());
    let last = list_directory(folder.path()).unwrap().pop().unwrap().path;
    let mut visitor = Delete(last, 0);
    Reader::new(vec![folder.path().into()], Wanted::default())
        .visit(&mut visitor)
        .unwrap();
    assert_eq!(visitor.1, 1);
}
