//! Compiles a program in [`go`]. The sender in Go is formatted, `go vet` has nothing to report, and its own tests pass.

use std::path::{Path, PathBuf};

use blocksd_tests::process::finish;
use blocksd_tests::programs::Program;
use blocksd_tests::skip::ran;

use super::compiled::{kept, root};

/// Compiles the program `package` of a module in Go, with the race detector if that is possible. Returns its path, or why the program
/// cannot be compiled here.
///
/// # Panics
/// If the compiler refuses the source.
#[track_caller]
pub(super) fn go(module: &Path, package: &str) -> Result<PathBuf, String> {
    let go = Program::locate("go")?;
    let folder = module.to_str().expect("UTF-8");
    kept("go", &[package], &[folder], |part| {
        let build = |more: &[&str]| {
            let mut command = go.command(&["build", "-o"]);
            command.arg(part).args(more).arg(package);
            command.current_dir(module).output().expect("Go runs")
        };
        // A program with a race ends with an error.
        if !build(&["-race"]).status.success() {
            let plain = build(&[]);
            let errors = String::from_utf8_lossy(&plain.stderr);
            assert!(plain.status.success(), "{errors}");
            ran(package, "the program in Go without the race detector");
        }
        Ok(())
    })
}

#[test]
fn the_files_in_go_are_formatted() {
    let Some(gofmt) = Program::find("the_files_in_go_are_formatted", "gofmt") else {
        return;
    };
    let mut command = gofmt.command(&["-l"]);
    command.args(["docs/send-from/go", "tests/peers/session_vectors.go"].map(root));
    let ended = finish(command, b"");
    let found = (ended.code, ended.stdout_text(), &*ended.stderr);
    assert_eq!(found, (Some(0), String::new(), ""));
}

#[test]
fn the_sender_in_go_passes_vet_and_its_own_tests() {
    let name = "the_sender_in_go_passes_vet_and_its_own_tests";
    let Some(go) = Program::find(name, "go") else {
        return;
    };
    // Without a limit: the first time, it compiles Go's library for the race detector.
    let run = |args: &[&str]| {
        let mut command = go.command(args);
        command.current_dir(root("docs/send-from/go"));
        command.output().expect("Go runs")
    };
    let vet = run(&["vet", "./..."]);
    assert!(vet.status.success(), "{vet:?}");
    let race = run(&["build", "-race", "-o", "/dev/null", "./cmd/send"]);
    let tests = if race.status.success() {
        run(&["test", "-race", "./..."])
    } else {
        // The race detector needs a C compiler.
        ran(name, "the tests in Go without the race detector");
        run(&["test", "./..."])
    };
    let printed = String::from_utf8_lossy(&tests.stdout);
    assert!(tests.status.success(), "{printed}");
}
