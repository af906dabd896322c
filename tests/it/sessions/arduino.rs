//! The library for Arduino, with the API of `tests/peers/arduino` in place of a core: [`sketch`] compiles a sketch.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::compiled::{compile, kept, root};

const LIBRARY: &str = "docs/send-from/arduino";
const HEADER: &str = "docs/send-from/c/blocks_session.h";
const SHIM: &str = "tests/peers/arduino";
/// The functions that the library may call: of the C library, and of the API.
const CALLED: [&str; 5] = ["memcpy", "memmove", "memset", "micros", "millis"];

/// Compiles a sketch with a copy of the library. Returns its path, or why that is not possible here.
///
/// # Panics
/// If the compiler refuses the source.
#[track_caller]
pub(super) fn sketch(source: &str, defines: &[&str]) -> Result<PathBuf, String> {
    let source_path = root(source);
    let name = source_path.file_stem().expect("a file").to_string_lossy();
    let folders = [SHIM, LIBRARY, HEADER, "tests/peers/lines.h"];
    kept(&name, defines, &folders, |part| {
        let place = TempDir::new().expect("a folder for temporary files");
        let library = place.path().join("Blocks");
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(root(LIBRARY)).arg(&library);
        assert!(copy.status().expect("`cp` runs").success());
        fs::copy(root(HEADER), library.join("src/blocks_session.h")).expect(HEADER);
        sketch_with(&library, &source_path, defines, part)
    })
}

/// Compiles a sketch with the library in a folder. Returns why that is not possible here.
///
/// # Panics
/// If the compiler refuses the source.
#[track_caller]
pub(super) fn sketch_with(
    library: &Path,
    source: &Path,
    defines: &[&str],
    part: &Path,
) -> Result<(), String> {
    let name = source.file_stem().expect("a file").to_string_lossy();
    let mut args: Vec<OsString> = defines.iter().map(OsString::from).collect();
    // The IDE adds the header to a sketch.
    args.extend(["-include", "Arduino.h"].map(OsString::from));
    for folder in [root(SHIM), library.join("src")] {
        args.extend(["-I".into(), folder.into_os_string()]);
    }
    args.extend([library.join("src/Blocks.cpp"), root(SHIM).join("shim.cpp")].map(Into::into));
    args.extend(["-x".into(), "c++".into(), source.into()]);
    compile(&name, ["c++", "-std=c++11"], part, &args)
}

#[test]
fn the_library_for_arduino_does_not_use_the_heap() {
    let name = "the_library_for_arduino_does_not_use_the_heap";
    let place = TempDir::new().expect("a folder for temporary files");
    let object = place.path().join("Blocks.o");
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++11", "-Os", "-fno-exceptions"]);
    // As on a microcontroller: no helpers of the system against overflows.
    compiler.args(["-fno-stack-protector", "-U_FORTIFY_SOURCE"]);
    for folder in [SHIM, "docs/send-from/c"] {
        compiler.arg("-I").arg(root(folder));
    }
    let source = root(LIBRARY).join("src/Blocks.cpp");
    compiler.arg("-c").arg(source).arg("-o").arg(&object);
    if !compiler.status().is_ok_and(|it| it.success()) {
        return skipped(name, "there is no compiler `c++`");
    }
    let mut nm = Command::new("nm");
    nm.args(["--undefined-only", "--format=just-symbols", "--demangle"]);
    let Ok(symbols) = nm.arg(&object).output() else {
        return skipped(name, "`nm` is missing");
    };
    let symbols = String::from_utf8(symbols.stdout).expect("names");
    let names: Vec<_> = symbols
        .lines()
        .map(|it| it.trim_end_matches("()"))
        .collect();
    assert!(names.contains(&"millis"), "{names:?}");
    let others = names.iter().filter(|it| !CALLED.contains(it));
    let others: Vec<_> = others
        .filter(|it| **it != "_GLOBAL_OFFSET_TABLE_")
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
