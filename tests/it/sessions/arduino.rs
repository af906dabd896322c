//! The library for Arduino, with the API of `tests/peers/arduino` in place of a core: [`sketch`] compiles a sketch. One sketch also runs
//! with the core for AVR, on an emulated board.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blocksd_tests::process::{Process, Server};
use blocksd_tests::skip::skipped;
use tempfile::TempDir;

use super::compiled::{compile, kept, root};

const LIBRARY: &str = "docs/send-from/arduino";
const HEADER: &str = "docs/send-from/c/blocks_session.h";
const SHIM: &str = "tests/peers/arduino";
/// The functions that the library may call: of the C library, and of the API.
const CALLED: [&str; 5] = ["memcpy", "memmove", "memset", "micros", "millis"];

/// The core for AVR.
const CORE: &str = "/usr/share/arduino/hardware/arduino/avr";
/// Options as the IDE's, for an Arduino Mega 2560.
const AVR: [&str; 9] = [
    "-Os",
    "-fno-exceptions",
    "-ffunction-sections",
    "-fdata-sections",
    "-mmcu=atmega2560",
    "-DF_CPU=16000000L",
    "-DARDUINO=10819",
    "-DARDUINO_ARCH_AVR",
    // Debian's C library for AVR does not have it.
    "-DDECIMAL_DIG=9",
];

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

#[test]
fn the_library_for_arduino_runs_with_the_core_for_avr() {
    let name = "the_library_for_arduino_runs_with_the_core_for_avr";
    if !Path::new(CORE).exists() {
        return skipped(name, "the core is missing (`arduino-core-avr`)");
    }
    for program in ["avr-g++", "qemu-system-avr"] {
        if Command::new(program).arg("--version").output().is_err() {
            return skipped(name, format!("`{program}` is missing"));
        }
    }
    let frames = root(LIBRARY).join("examples/SerialFrames/SerialFrames.ino");
    assert_eq!(avr_sends(&frames, "cobs-crc32", 1), ["temp=21.5"]);
    let session = root(SHIM).join("avr_session.ino");
    let expected = ["temp=21.5", "acknowledged"];
    assert_eq!(avr_sends(&session, "blocks", 2), expected);
}

/// Runs a sketch on an emulated board, whose serial line is a connection to the daemon. Returns the first messages.
#[track_caller]
fn avr_sends(sketch: &Path, framing: &str, count: usize) -> Vec<String> {
    let folders = [LIBRARY, HEADER, SHIM];
    let stem = sketch.file_stem().expect("a file").to_string_lossy();
    let image = kept(&stem, &AVR, &folders, |part| avr(sketch, part));
    let folder = TempDir::new().expect("a folder for temporary files");
    let recording = folder.path().to_str().expect("UTF-8");
    let output = ["--output", "json", "--record", recording];
    let mut server = Server::start(&[&["--framing", framing][..], &output].concat());
    let (host, port) = (server.addr().ip(), server.addr().port());
    let mut qemu = Command::new("qemu-system-avr");
    qemu.args(["-machine", "mega2560", "-nographic", "-monitor", "none"]);
    qemu.arg("-bios").arg(image.expect("an image"));
    let line = format!("socket,id=line,host={host},port={port}");
    qemu.args(["-chardev", &line, "-serial", "chardev:line"]);
    let _board = Process::start(qemu);
    let events = server.wait_for("block", count);
    let blocks = events.iter().filter(|it| it["event"] == "block");
    let texts = blocks.map(|it| it["text"].as_str().expect("a text").to_owned());
    texts.collect()
}

/// Compiles a sketch with the library and the core, as the IDE does. No warning of the library is accepted.
fn avr(sketch: &Path, part: &Path) -> Result<(), String> {
    let core = Path::new(CORE).join("cores/arduino");
    let folder = tempfile::tempdir().expect("a folder");
    let includes = [
        core.clone(),
        Path::new(CORE).join("variants/mega"),
        root(LIBRARY).join("src"),
        root("docs/send-from/c"),
    ];
    let compiler = |program: &str| {
        let mut command = Command::new(program);
        command.args(AVR).current_dir(folder.path());
        for include in &includes {
            command.arg("-I").arg(include);
        }
        command
    };
    let files = |extension: &str| {
        let files = fs::read_dir(&core).expect("the core");
        let files = files.map(|entry| entry.expect("an entry").path());
        let files = files.filter(|it| it.extension().is_some_and(|it| it == extension));
        files.collect::<Vec<_>>()
    };
    let mut library = compiler("avr-g++");
    library.args(["-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-c"]);
    library.arg(root(LIBRARY).join("src/Blocks.cpp"));
    let mut core_in_c = compiler("avr-gcc");
    core_in_c.args(["-w", "-c"]).args(files("c"));
    let objects = files("c").into_iter().map(|it| it.with_extension("o"));
    let objects = objects.map(|it| folder.path().join(it.file_name().expect("a file")));
    let mut image = compiler("avr-g++");
    image.args(["-std=gnu++11", "-w", "-fpermissive", "-Wl,--gc-sections"]);
    image.arg("-o").arg(part).arg("Blocks.o").args(objects);
    image.args(["-include", "Arduino.h", "-x", "c++"]);
    image.args(files("cpp"));
    image.arg(sketch);
    for mut command in [library, core_in_c, image] {
        let ended = command.output().expect("it was found before");
        let errors = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{errors}");
    }
    Ok(())
}
