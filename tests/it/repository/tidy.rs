//! Documents and code agree, and every source file has a purpose and a limited length.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use blocksd_tests::process::run;
use framing_core::AnyFraming;
use regex::Regex;

/// Highest number of lines of a file.
const LINES_MAX: usize = 500;

#[test]
fn every_source_file_has_a_first_doc_line_and_is_not_too_long() {
    let files = files_of(&root(), "rs");
    assert!(files.len() > 30, "found only {files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let first = text.lines().next().unwrap_or_default();
        let documented = first.starts_with("//! ") || first.starts_with("#![doc = include_str!");
        assert!(
            documented,
            "{} does not begin with a doc comment",
            file.display()
        );
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", file.display());
    }
}

#[test]
fn links_between_documents_lead_to_files_and_headings() {
    let (mut links, mut dead) = (0, Vec::new());
    for document in files_of(&root(), "md") {
        let text = fs::read_to_string(&document).unwrap();
        for target in targets(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = match path {
                "" => document.clone(),
                _ => document.with_file_name(path),
            };
            let has_anchor = || {
                let text = fs::read_to_string(&file).unwrap();
                anchors(&text).contains(anchor)
            };
            if !file.exists() || !anchor.is_empty() && !has_anchor() {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(links > 50, "found only {links} links");
    assert!(dead.is_empty(), "dead links: {dead:#?}");
}

#[test]
fn links_and_anchors_are_found() {
    let text = "# A `b`, [c](d.md)!\n[one](a.md#b) ![two](b.png \"title\")\n[`x`]: c.md\n`[no](e)`\n\
                ## Twice\n```sh\n# no\n[no](f)\n```\n## Twice\n[q](r_(s).md)";
    assert_eq!(
        targets(text),
        ["d.md", "a.md#b", "b.png", "c.md", "r_(s).md"]
    );
    let wanted = ["a-b-c", "twice", "twice-1"].map(str::to_owned);
    assert_eq!(anchors(text), wanted.into());
}

#[test]
fn the_tests_that_the_documents_name_exist() {
    let tests = files_of(&root().join("tests/it"), "rs");
    for document in ["CONTRIBUTING.md", "SECURITY.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let words = text.split(|it: char| !(it.is_ascii_alphanumeric() || "_:".contains(it)));
        let names: Vec<_> = words.filter_map(|word| word.strip_suffix("::")).collect();
        assert!(names.len() > 5, "{document} names only {names:?}");
        for name in names {
            let file = format!("{name}.rs");
            let is_group = root().join("tests/it").join(name).is_dir();
            assert!(
                is_group || tests.iter().any(|path| path.ends_with(&file)),
                "{document} names {name}"
            );
        }
    }
}

#[test]
fn the_paths_that_the_documents_name_exist() {
    let folders = [
        "tests/",
        "framing-core/",
        "host-daemon/",
        "firmware-example/",
        "docs/",
    ];
    let is_path = |it: &str| {
        it.chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
    };
    let (mut paths, mut missing) = (0, Vec::new());
    for document in files_of(&root(), "md") {
        let text = fs::read_to_string(&document).unwrap();
        // Without the blocks of code, whose marks have three backticks.
        let prose: String = text.split("```").step_by(2).collect();
        for span in prose.split('`').skip(1).step_by(2) {
            // Words after a path are arguments; a path before `::` is that of a test.
            let path = span.split([' ', ':']).next().unwrap_or_default();
            let is_ours = folders.iter().any(|folder| path.starts_with(folder));
            // Fuzzing makes this one.
            if !is_ours || !is_path(path) || path == "framing-core/fuzz/artifacts" {
                continue;
            }
            paths += 1;
            if !root().join(path).exists() {
                missing.push(format!("{}: {path}", document.display()));
            }
        }
    }
    assert!(paths > 100, "found only {paths} paths");
    assert!(missing.is_empty(), "missing: {missing:#?}");
}

#[test]
fn both_tables_of_framings_name_every_framing() {
    for document in ["docs/framings.md", "framing-core/README.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for spec in AnyFraming::SPECS {
            assert!(
                text.contains(&format!("`{spec}`")),
                "{document} does not name {spec}"
            );
        }
    }
}

#[test]
fn the_readme_names_every_command() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let help = run(&["--help"], b"");
    let commands = help.stdout_text();
    let commands = commands
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"serve"), "{commands:?}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        assert!(
            readme.contains(&format!("`blocksd {command}`")),
            "README.md does not name {command}"
        );
    }
}

#[test]
fn facts_of_the_manifest_are_stated_only_there() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap();
    for file in ["README.md", "framing-core/Cargo.toml"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert!(
            !text.contains(version.trim_matches('"')),
            "{file} repeats the Rust version"
        );
    }
}

/// A document without its blocks of code.
fn without_code(text: &str) -> String {
    let blocks = Regex::new(r"(?ms)^ *```.*?^ *```").unwrap();
    blocks.replace_all(text, "").into_owned()
}

/// The targets of the links and images of a document.
fn targets(text: &str) -> Vec<String> {
    let spans = Regex::new("`[^`\n]*`").unwrap();
    // A span may be the text of a link.
    let text = without_code(text);
    let text = spans.replace_all(&text, "code");
    let link = r#"\]\(((?:[^()\s]|\([^()\s]*\))+)(?:\s+"[^"]*")?\)|^\[[^\]]+\]:\s+(\S+)"#;
    let link = Regex::new(&format!("(?m){link}")).unwrap();
    let found = link.captures_iter(&text);
    let found = found.map(|it| it.get(1).or_else(|| it.get(2)).unwrap());
    found.map(|it| it.as_str().to_owned()).collect()
}

/// The anchors of the headings of a document: their words in lower case, joined by hyphens; with a number, if they occur
/// again.
fn anchors(text: &str) -> HashSet<String> {
    let link = Regex::new(r"\]\([^)]*\)").unwrap();
    let mut anchors = HashSet::new();
    for line in without_code(text).lines().filter(|it| it.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let heading = link.replace_all(&heading, "");
        let is_kept = |it: &char| it.is_alphanumeric() || [' ', '-', '_'].contains(it);
        let heading: String = heading.chars().filter(is_kept).collect();
        let first = heading.replace(' ', "-");
        let mut anchor = first.clone();
        for number in 1.. {
            if anchors.insert(anchor) {
                break;
            }
            anchor = format!("{first}-{number}");
        }
    }
    anchors
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files with this extension, except build output.
fn files_of(folder: &Path, wanted: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files_of(&path, wanted));
        } else if path
            .extension()
            .is_some_and(|extension| extension == wanted)
        {
            found.push(path);
        }
    }
    found
}
