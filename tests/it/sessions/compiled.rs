//! Programs in C that tests compile, without a warning: [`c`], [`compile`] and [`Compiled`].

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

use blocksd_tests::skip::{ran, skipped};
use tempfile::TempDir;

/// Options with which a bad access and undefined behaviour end the program.
const SANITIZERS: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover"];
/// Options of the compiler: no warning is accepted.
pub(super) const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion"];

/// A program in C.
#[derive(Debug)]
pub(super) struct Compiled(PathBuf);

impl Compiled {
    /// Compiles a program. Reports that the test `name` is skipped for it if there is no compiler.
    ///
    /// # Panics
    /// If the compiler refuses the source.
    #[track_caller]
    pub(super) fn new(name: &str, source: &str) -> Option<Self> {
        let program = c(source, &[]);
        program
            .map_err(|reason| skipped(name, reason))
            .ok()
            .map(Self)
    }

    /// The command that runs the program.
    pub(super) fn command(&self) -> Command {
        Command::new(&self.0)
    }
}

/// Compiles a program in C. Returns its path, or why that is not possible here.
///
/// # Panics
/// If the compiler refuses the source.
#[track_caller]
pub(super) fn c(source: &str, last: &[&str]) -> Result<PathBuf, String> {
    let source_path = root(source);
    let name = source_path.file_stem().expect("a file").to_string_lossy();
    let folders = [source, "docs/send-from/c", "tests/peers/lines.h"];
    kept(&name, last, &folders, |part| {
        let last = last.iter().map(OsString::from);
        let args: Vec<_> = iter::once(source_path.clone().into()).chain(last).collect();
        compile(&name, ["cc", "-std=c99"], part, &args)
    })
}

/// Compiles with a compiler and a standard, without a warning.
///
/// # Panics
/// If the compiler refuses the source.
#[track_caller]
pub(super) fn compile(
    name: &str,
    [compiler, standard]: [&str; 2],
    part: &Path,
    args: &[OsString],
) -> Result<(), String> {
    let compile = |more: &[&str]| {
        let mut command = Command::new(compiler);
        command.args([standard, "-g"]).args(STRICT).args(more);
        command.arg("-o").arg(part).args(args);
        command.output()
    };
    let Ok(sanitized) = compile(&SANITIZERS) else {
        return Err(format!("there is no compiler `{compiler}`"));
    };
    if !sanitized.status.success() {
        // The libraries of the sanitizers can be missing.
        let plain = compile(&[]).expect("a compiler");
        let errors = String::from_utf8_lossy(&plain.stderr);
        assert!(plain.status.success(), "{errors}");
        ran(name, "the program without sanitizers");
    }
    Ok(())
}

/// A path in the repository.
pub(super) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The output of `build`, which writes it to the given path. It is kept until one of the files in the folders changes.
pub(super) fn kept(
    name: &str,
    arguments: &[&str],
    folders: &[&str],
    build: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let mut hasher = DefaultHasher::new();
    arguments.hash(&mut hasher);
    for folder in folders {
        hash_files(&root(folder), &mut hasher).expect(folder);
    }
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = kept.join(format!("{name}-{:016x}", hasher.finish()));
    if !path.exists() {
        // Another process can build it at the same time.
        let place = TempDir::new_in(kept).expect("a folder beside it");
        let part = place.path().join("program");
        build(&part)?;
        fs::rename(part, &path).expect("the program has its place");
    }
    Ok(path)
}

/// Hashes a file, or the files of a folder.
fn hash_files(path: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    if !path.is_dir() {
        path.hash(hasher);
        fs::read(path)?.hash(hasher);
        return Ok(());
    }
    let mut entries: Vec<_> = fs::read_dir(path)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    entries
        .iter()
        .try_for_each(|entry| hash_files(&entry.path(), hasher))
}
