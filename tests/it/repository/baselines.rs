//! Baselines of figures: figures are compared with the baseline of their own compiler, and the documents show them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blocksd_tests::process::{Ended, finish};
use tempfile::TempDir;

const M4: &str = "thumbv7em-none-eabihf";
const M0: &str = "thumbv6m-none-eabi";
/// Output of `tests/thumb --id` for the fake compiler.
const PREBUILT: &str = "rustc-9.1.0-012345678-llvm-22.1.0-prebuilt-core";
const SOURCE: &str = "rustc-9.1.0-012345678-llvm-22.1.0-source-core";
const FIGURES: &str = "lines receive flash 2922\nlines receive stack 168\n";

/// A machine with prebuilt `core` for some targets and the sources of `core`, and a folder of baselines.
struct Machine {
    folder: TempDir,
    env: Vec<(&'static str, String)>,
}

impl Machine {
    fn new(prebuilt: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let sysroot = folder.path().join("sysroot/lib/rustlib");
        for target in prebuilt {
            let lib = sysroot.join(target).join("lib");
            fs::create_dir_all(&lib).unwrap();
            fs::write(lib.join("libcore-0123.rlib"), "").unwrap();
        }
        let library = sysroot.join("src/rust/library");
        fs::create_dir_all(&library).unwrap();
        fs::write(library.join("Cargo.lock"), "").unwrap();
        let compiler = root().join("tests/peers/compiler").display().to_string();
        let sysroot = folder.path().join("sysroot").display().to_string();
        let env = vec![
            ("PATH", std::env::var("PATH").unwrap()),
            ("RUSTC", compiler.clone()),
            ("THUMB_SOURCE_RUSTC", compiler),
            ("COMPILER_SYSROOT", sysroot),
            ("COMPILER_VERSION", "9.1.0".to_owned()),
        ];
        Self { folder, env }
    }

    /// The same machine with another environment variable.
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    fn run(&self, program: &str, args: &[&str], stdin: &str) -> Ended {
        let mut command = Command::new(root().join(program));
        command
            .args(args)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        finish(command, stdin.as_bytes())
    }

    fn compiler(&self, target: &str) -> String {
        let ended = self.run("tests/thumb", &["--id", target], "");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout_text().trim().to_owned()
    }

    /// Compares figures with the baselines of this machine's folder.
    fn compare(&self, target: &str, figures: &str, more: &[&str]) -> Ended {
        let folder = self.folder.path().join("baselines");
        let args = [&[folder.to_str().unwrap(), target], more].concat();
        self.run("tests/baseline.py", &args, figures)
    }

    fn path(&self, target: &str, compiler: &str) -> PathBuf {
        let folder = self.folder.path().join("baselines").join(target);
        folder.join(format!("{compiler}.txt"))
    }

    fn write(&self, target: &str, compiler: &str, figures: &str) {
        let path = self.path(target, compiler);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, figures).unwrap();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn a_compiler_without_a_baseline_only_prints_its_figures() {
    let machine = Machine::new(&[M4]);
    let other = "lines receive flash 1934\nlines receive stack 10\n";
    machine.write(M4, SOURCE, other);
    machine.write(M0, PREBUILT, other);
    let ended = machine.compare(M4, FIGURES, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let line =
        format!("{M4}: no baseline for {PREBUILT}: 2 figures are printed and not compared\n");
    let figures = "  lines receive flash 2922\n  lines receive stack 168\n";
    assert_eq!(ended.stdout_text(), line + figures, "{ended:?}");
}

#[test]
fn a_figure_that_differs_from_the_baseline_of_its_compiler_fails() {
    let machine = Machine::new(&[M4]);
    // The same figures, but of another compiler, so they are never read.
    machine.write(M4, SOURCE, FIGURES);
    // Differences of 2 % of flash and 10 % of stack are allowed.
    for (flash, stack, wrong) in [
        (2922, 168, None),
        (2865, 153, None),
        (2864, 168, Some("flash: 2922, was 2864: grown")),
        (2922, 151, Some("stack: 168, was 151: grown")),
        (2983, 168, Some("flash: 2922, was 2983: smaller")),
    ] {
        let baseline = format!("lines receive flash {flash}\nlines receive stack {stack}\n");
        machine.write(M4, PREBUILT, &baseline);
        let ended = machine.compare(M4, FIGURES, &[]);
        assert_eq!(ended.code, Some(wrong.map_or(0, |_| 1)), "{ended:?}");
        let text = ended.stdout_text();
        assert!(text.contains(PREBUILT) && !text.contains(SOURCE), "{text}");
        assert!(
            text.contains(wrong.unwrap_or("as in its baseline")),
            "{text}"
        );
    }
    machine.write(
        M4,
        PREBUILT,
        "lines receive flash 2922\nlines send flash 1\n",
    );
    let ended = machine.compare(M4, FIGURES, &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let text = ended.stdout_text();
    assert!(
        text.contains("lines receive stack: 168, and not in the baseline"),
        "{text}"
    );
    assert!(
        text.contains("lines send flash: in the baseline only"),
        "{text}"
    );
}

#[test]
fn a_limit_is_enforced_if_the_compiler_has_a_baseline() {
    let machine = Machine::new(&[M4]);
    let figures = "whole blocks 64 instructions 33.5 <= 32\n";
    let ended = machine.compare(M4, figures, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    machine.write(M4, PREBUILT, "whole blocks 64 instructions 33.5\n");
    let ended = machine.compare(M4, figures, &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout_text().contains("at most 32"), "{ended:?}");
}

#[test]
fn accepting_writes_only_the_baseline_of_the_current_compiler() {
    let machine = Machine::new(&[M4]);
    machine.write(M4, SOURCE, "lines receive flash 1\n");
    machine.write(M0, PREBUILT, "lines receive flash 2\n");
    let ended = machine.compare(M4, FIGURES, &["--accept"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let read = |target, compiler| fs::read_to_string(machine.path(target, compiler)).unwrap();
    assert_eq!(read(M4, PREBUILT), FIGURES);
    assert_eq!(read(M4, SOURCE), "lines receive flash 1\n");
    assert_eq!(read(M0, PREBUILT), "lines receive flash 2\n");
    let files = |target| machine.path(target, PREBUILT).parent().unwrap().read_dir();
    assert_eq!(files(M4).unwrap().count(), 2);
    assert_eq!(files(M0).unwrap().count(), 1);
    // Other things that the figures depend on select another baseline.
    let ended = machine.compare(M4, FIGURES, &["--with", "libc-7"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let line = format!("no baseline for {PREBUILT}-libc-7");
    assert!(ended.stdout_text().contains(&line), "{ended:?}");
}

#[test]
fn each_target_is_compared_with_the_compiler_that_builds_it() {
    // Rustup has one target and not the other.
    let machine = Machine::new(&[M4]);
    assert_eq!(machine.compiler(M4), PREBUILT);
    assert_eq!(machine.compiler(M0), SOURCE);
    for target in [M4, M0] {
        machine.write(target, PREBUILT, "lines receive flash 2922\n");
        machine.write(target, SOURCE, "lines receive flash 1934\n");
    }
    for (target, right, wrong) in [(M4, 2922, 1934), (M0, 1934, 2922)] {
        let figures = |flash: u32| format!("lines receive flash {flash}\n");
        let ended = machine.compare(target, &figures(right), &[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let ended = machine.compare(target, &figures(wrong), &[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
    }
}

#[test]
fn the_name_of_a_compiler_has_everything_that_its_figures_depend_on() {
    let compiler = |name, value| Machine::new(&[M4]).with(name, value).compiler(M4);
    assert_eq!(compiler("THUMB_CORE", "prebuilt"), PREBUILT);
    assert_eq!(compiler("THUMB_CORE", "source"), SOURCE);
    let newer = "rustc-9.2.0-nightly-012345678-llvm-22.1.0-prebuilt-core";
    assert_eq!(compiler("COMPILER_VERSION", "9.2.0-nightly"), newer);
    let distribution = "rustc-9.1.0-012345678-Fedora-9.1.0-1.fc44-llvm-22.1.0-prebuilt-core";
    assert_eq!(
        compiler("COMPILER_EXTRA", "Fedora 9.1.0-1.fc44"),
        distribution
    );
    // Flags and profiles change the code; those of another target do not.
    let settings = [
        compiler("RUSTFLAGS", "-C target-cpu=native"),
        compiler("RUSTFLAGS", "-C target-cpu=generic"),
        compiler("CARGO_PROFILE_RELEASE_LTO", "off"),
        compiler("CARGO_TARGET_THUMBV7EM_NONE_EABIHF_RUSTFLAGS", "-g"),
    ];
    for (at, one) in settings.iter().enumerate() {
        assert!(one.starts_with(&format!("{PREBUILT}-settings-")), "{one}");
        assert!(!settings[..at].contains(one), "{settings:?}");
    }
    assert_eq!(compiler("RUSTFLAGS", ""), PREBUILT);
    assert_eq!(compiler("CARGO_PROFILE_DEV_DEBUG", "0"), PREBUILT);
    let other = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS";
    assert_eq!(compiler(other, "-g"), PREBUILT);
}

#[test]
fn a_target_that_cannot_be_built_is_refused_with_what_to_do() {
    let machine = Machine::new(&[M4]).with("THUMB_CORE", "prebuilt");
    let ended = machine.run("tests/thumb", &["--id", M0], "");
    ended.assert_refused(1, &format!("rustup target add {M0}"));
    let machine = Machine::new(&[M4]).with("THUMB_CORE", "built");
    let ended = machine.run("tests/thumb", &["--id", M4], "");
    ended.assert_refused(2, "`built`");
}

#[test]
fn the_documents_show_the_figures_of_the_baselines() {
    let machine = Machine::new(&[]);
    for (program, document) in [
        ("tests/size/run", "docs/measurements/size.md"),
        ("tests/size/run", "framing-core/README.md"),
        ("firmware-example/size", "firmware-example/README.md"),
    ] {
        let copy = machine.folder.path().join("copy.md");
        fs::copy(root().join(document), &copy).unwrap();
        let ended = machine.run(program, &["--document", copy.to_str().unwrap()], "");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let written = fs::read_to_string(&copy).unwrap();
        let committed = fs::read_to_string(root().join(document)).unwrap();
        assert!(
            written == committed,
            "{document} does not show the baselines; run `{program} --document`"
        );
    }
    // Flash with both ways of building `core`, and the figures in the summaries.
    let tables = fs::read_to_string(root().join("docs/measurements/size.md")).unwrap();
    let size = fs::read_to_string(root().join("docs/size.md")).unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for core in ["source", "prebuilt"] {
        assert!(tables.contains(&format!(" {core} | ")), "{core}");
        let folder = root().join("tests/size/baselines").join(M4);
        let files = folder
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut baselines = files.filter(|path| {
            path.to_string_lossy()
                .ends_with(&format!("-{core}-core.txt"))
        });
        let baseline = fs::read_to_string(baselines.next().unwrap()).unwrap();
        let flash = |way: &str| {
            let key = format!("blocks {way} flash ");
            let value = baseline.lines().find_map(|line| line.strip_prefix(&key));
            value.unwrap().to_owned()
        };
        let receive = (flash("receive blocking"), flash("receive async"));
        let send = (flash("send blocking"), flash("send async"));
        let summary = format!(
            "{} bytes to receive and {} to send (awaiting {} and {})",
            receive.0, send.0, receive.1, send.1
        );
        assert!(size.contains(&summary), "docs/size.md lacks: {summary}");
        let summary = format!("takes {} bytes of flash", receive.0);
        assert!(readme.contains(&summary), "README.md lacks: {summary}");
    }
}

#[test]
fn the_page_on_framings_shows_the_counts_of_the_baseline() {
    let page = fs::read_to_string(root().join("docs/measurements/framings.md")).unwrap();
    let folder = root().join("tests/speed/counts/x86_64-unknown-linux-gnu");
    let files = folder.read_dir().unwrap().map(|it| it.unwrap().path());
    let mut files = files.filter(|it| it.to_string_lossy().contains("-prebuilt-core-"));
    let baseline = fs::read_to_string(files.next().unwrap()).unwrap();
    let count = |case: &str| -> f64 {
        let key = format!("{case} instructions ");
        let value = baseline.lines().find_map(|line| line.strip_prefix(&key));
        value.unwrap().parse().unwrap()
    };
    let (short, long) = (count("whole blocks 64"), count("whole blocks 1500"));
    let line = count("send lines 1500");
    for figures in [
        format!("| {short} at 64 B, {long} at 1,500 B |"),
        format!(
            "`encode` takes {} instructions for a message of 64 B",
            count("encode blocks 64")
        ),
        format!("`Sender` takes {}\n", count("send blocks 64")),
        format!("A line of 1,500 B takes {line:.0} "),
        format!("delimiter; {line:.0}: `memchr`"),
        format!("; {:.0}: an equal header", count("whole netstring 64")),
    ] {
        assert!(page.contains(&figures), "the page lacks: {figures}");
    }
}
