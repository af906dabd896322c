//! The identity of a recording: a file in its folder.

use std::io;
use std::path::Path;

use crate::files;
use crate::place::Instance;

/// Name of the file, in the folder of the recording.
const INSTANCE_FILE: &str = "blocksd.instance";

/// The identity of the recording in a folder, as its file says. A missing file is made.
///
/// # Errors
/// If the file cannot be read, made, or understood.
pub fn instance_of(folder: &Path) -> io::Result<Instance> {
    let path = folder.join(INSTANCE_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim_end().parse().map_err(|()| {
            let reason = format!(
                "{}: not an instance of 16 hexadecimal digits; restore the file, or remove it: the recording gets a new identity \
                 then, and goes on from its saved place (`blocksd.forward-…`), or is forwarded again if there is none",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, reason)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => renew_instance(folder),
        Err(error) => Err(error),
    }
}

/// Gives the recording in a folder a new identity.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn renew_instance(folder: &Path) -> io::Result<Instance> {
    let instance = Instance::random();
    files::replace(
        &folder.join(INSTANCE_FILE),
        format!("{instance}\n").as_bytes(),
    )?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_identity_is_an_error_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = instance_of(folder.path()).expect("it is made");
        assert_eq!(instance_of(folder.path()).expect("it is read"), made);
        for text in ["", "\n", "0123", "x123456789abcdef"] {
            std::fs::write(folder.path().join(INSTANCE_FILE), text).expect("a file");
            let error = instance_of(folder.path()).expect_err(text).to_string();
            for words in ["or remove it", "a new identity", "saved place"] {
                assert!(error.contains(words), "{error}");
            }
        }
    }
}
