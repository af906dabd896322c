//! Checks that the tests that `docs/promises.md` names exist, and the commits that the figures in `docs/` name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blocksd_tests::skip::skipped;
use regex::Regex;

/// Files outside `docs/` that make promises.
const PAGES: [&str; 8] = [
    "README.md",
    "SECURITY.md",
    "framing-core/README.md",
    "firmware-example/README.md",
    "host-daemon/README.md",
    "host-daemon/engine/README.md",
    "host-daemon/recording/README.md",
    "host-daemon/systemd/blocksd.toml",
];
/// The page of measurements that names no commit: its figures are the committed baselines, which `tests/run` compares with
/// the current program.
const PRESENT: &str = "size.md";

#[test]
fn every_promise_names_a_test_that_exists() {
    let page = read("docs/promises.md");
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let rows = rows.filter(|line| *line != "| promise | test |");
    let (mut missing, mut count) = (Vec::new(), 0);
    for row in rows {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
        if names.is_empty() && !cell.contains("by hand") {
            missing.push(row.to_owned());
        }
        for name in names {
            count += 1;
            if !exists(name) {
                missing.push(format!("{name}, in the row: {row}"));
            }
        }
    }
    assert!(count > 200, "found only {count} names");
    assert!(
        missing.is_empty(),
        "docs/promises.md names tests that do not exist: {missing:#?}"
    );
}

#[test]
fn every_page_with_promises_has_a_section() {
    let page = read("docs/promises.md");
    let documents = fs::read_dir(root().join("docs")).unwrap();
    let documents = documents.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // The index and the table itself need no section.
    let documents =
        documents.filter(|it| it.ends_with(".md") && it != "README.md" && it != "promises.md");
    let documents = documents.map(|it| format!("docs/{it}"));
    for path in documents.chain(PAGES.map(String::from)) {
        assert!(
            page.contains(&format!("\n## {path}\n")),
            "docs/promises.md has no section for {path}"
        );
    }
}

#[test]
fn a_name_without_a_test_is_reported() {
    assert!(exists(
        "repository::promises::a_name_without_a_test_is_reported"
    ));
    assert!(exists("repository::promises::"));
    assert!(exists(
        "tests/it/repository/promises.rs::a_name_without_a_test_is_reported"
    ));
    assert!(exists("tests/run"));
    assert!(exists("cargo test -p framing-core --doc"));
    for name in [
        "repository::promises::exists",
        "repository::promises::a_name_without_a_test",
        "repository::nothing::",
        "tests/it/repository/promises.rs::root",
        "tests/nothing",
        "README.md",
    ] {
        assert!(!exists(name), "{name}");
    }
}

#[test]
fn measurements_name_a_commit_that_exists_and_a_command() {
    let folder = root().join("docs/measurements");
    let commit = Regex::new(r"`([0-9a-f]{7,40})`|ommit ([0-9a-f]{7,40})\b").unwrap();
    let mut commits = Vec::new();
    let pages = fs::read_dir(&folder)
        .unwrap()
        .chain(fs::read_dir(root().join("docs")).unwrap());
    for path in pages.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let found = commit.captures_iter(&text).map(|found| {
            let id = found.get(1).or_else(|| found.get(2)).unwrap().as_str();
            (name.clone(), id.to_owned())
        });
        let found: Vec<_> = found.collect();
        if path.starts_with(&folder) {
            assert!(
                !found.is_empty() || name == PRESENT,
                "{name} names no commit"
            );
            assert!(
                text.contains("measure") && text.contains("again"),
                "{name} names no command"
            );
        }
        commits.extend(found);
    }
    assert!(commits.len() > 15, "{commits:?}");
    if !root().join(".git").exists() {
        skipped(
            "the commits of the measurements",
            "this is not a git repository",
        );
        return;
    }
    for (name, id) in commits {
        // A commit that only this clone has is not an ancestor.
        let mut git = Command::new("git");
        git.arg("-C").arg(root());
        git.args(["merge-base", "--is-ancestor", &id, "HEAD"]);
        let output = git.output().unwrap();
        assert!(output.status.success(), "{name} names {id}");
    }
}

/// Whether this names an existing test, module of tests or script, or is a cargo command.
fn exists(name: &str) -> bool {
    if name.starts_with("cargo ") {
        return true;
    }
    let Some((module, test)) = name.rsplit_once("::") else {
        // Words after a script are its arguments.
        return is_script(&root().join(name.split(' ').next().unwrap()));
    };
    let path = match module.ends_with(".rs") {
        true => root().join(module),
        false => root().join(format!("tests/it/{}.rs", module.replace("::", "/"))),
    };
    let Ok(source) = fs::read_to_string(path) else {
        return false;
    };
    let test = if test.is_empty() { r"\w+" } else { test };
    // No closing parenthesis: a test in `proptest!` has parameters.
    let pattern = format!(r"#\[(tokio::)?test\b[^\]]*\]\s*(#\[[^\]]*\]\s*)*(async )?fn {test}\(");
    Regex::new(&pattern).unwrap().is_match(&source)
}

#[cfg(unix)]
fn is_script(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
