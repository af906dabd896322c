//! Enforces the import rules of the crates: which room may import which, and that no two modules import each other.
//!
//! A room is a folder, or a group of files with one purpose. Crates enforce the rules between themselves; this test
//! enforces those inside a crate. A new violation fails with the file, the import and the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module: its path, the root of its crate, and its file.
pub(crate) type Module = (String, &'static str, PathBuf);

/// Source folders, with the root module of each.
const CRATES: &[(&str, &str)] = &[
    ("framing-core/src", "framing_core"),
    ("host-daemon/src", ""),
    ("host-daemon/engine/src", "engine"),
    ("host-daemon/recording/src", "recording"),
    ("host-daemon/forward/src", "forward"),
];

/// Names of crates in imports, and their root modules.
const CRATE_NAMES: &[(&str, &str)] = &[
    ("blocksd", ""),
    ("blocksd_engine", "engine"),
    ("blocksd_recording", "recording"),
    ("blocksd_forward", "forward"),
];

/// A room, and what it may import besides itself. A module belongs to the room with the longest matching name. `*` is
/// everything. A name that ends with `!` is only the module of this name, without its submodules.
const RULES: &[(&str, &[&str])] = &[
    ("framing_core", &[]),
    // The facade.
    ("engine!", &["engine", "engine::engine"]),
    // Events, batches, the pool, permits, counters.
    ("engine", &[]),
    ("engine::listen", &["engine"]),
    ("engine::sink", &["engine"]),
    (
        "engine::connection",
        &["engine", "engine::listen", "engine::sink"],
    ),
    (
        "engine::admission",
        &["engine", "engine::listen", "engine::connection"],
    ),
    (
        "engine::tls",
        &["engine", "engine::listen", "engine::admission"],
    ),
    (
        "engine::engine",
        &[
            "engine",
            "engine::listen",
            "engine::sink",
            "engine::connection",
            "engine::admission",
        ],
    ),
    ("forward", &[RECORDING]),
    (
        "recording!",
        &[
            "recording",
            "recording::format",
            "recording::read",
            "recording::write",
            "recording::check",
            "recording::pack",
        ],
    ),
    // The lock and the error.
    ("recording", &["recording::format"]),
    ("recording::format", &["recording"]),
    ("recording::write", &["recording", "recording::format"]),
    ("recording::read", &["recording", "recording::format"]),
    (
        "recording::check",
        &["recording", "recording::format", "recording::read"],
    ),
    (
        "recording::pack",
        &[
            "recording",
            "recording::format",
            "recording::read",
            "recording::write",
        ],
    ),
    ("escape", &["engine"]),
    ("payload", &["engine", "escape"]),
    ("recorded", &["engine", "escape", "payload", RECORDING]),
    ("output", &["engine", "escape", "payload", "recorded"]),
    (
        "sinks",
        &[
            "engine",
            "engine::sink",
            "output",
            "payload",
            "recorded",
            RECORDING,
        ],
    ),
    ("cli", &["api", "config"]),
    (
        "config",
        &["engine", ENGINE, "escape", "payload", RECORDING],
    ),
    (
        "fields",
        &[
            "cli", "engine", "error", "escape", "output", "payload", "recorded", "service",
            RECORDING,
        ],
    ),
    ("api", &["engine", "escape", "recorded"]),
    (
        "view",
        &[
            "api",
            "engine",
            "engine::sink",
            "error",
            "escape",
            "fields",
            "output",
            "payload",
            "recorded",
            "service",
            "cli",
            RECORDING,
        ],
    ),
    (
        "http",
        &["engine", "engine::listen", "api", "recorded", "view"],
    ),
    ("service", &["engine", "escape"]),
    ("error", &["config", "engine", ENGINE, "forward", RECORDING]),
    ("tls", &["cli", "engine", ENGINE, "error", "service"]),
    ("commands", &["*"]),
    ("serve", &["*"]),
    ("reload", &["*"]),
    ("program", &["*"]),
    ("lib", &["*"]),
    ("main", &["*"]),
];

/// Any room of this crate.
const ENGINE: &str = "engine::*";
const RECORDING: &str = "recording::*";

/// Remaining violations of the rules: a module, and the room that it imports.
const VIOLATIONS: &[(&str, &str)] = &[];

/// Remaining groups of modules that import each other.
const CIRCLES: &[&[&str]] = &[];

#[test]
fn rooms_import_only_what_the_rules_allow() {
    let imports = imports();
    let mut found = BTreeSet::new();
    for (from, to) in &imports {
        let (room, allowed) = rule(from);
        let (target, _) = rule(to);
        let is_allowed = |allowed: &&str| {
            let root = allowed.strip_suffix("::*");
            *allowed == "*"
                || *allowed == target.trim_end_matches('!')
                || root.is_some_and(|root| is_below(to, root))
        };
        if room != target && !allowed.iter().any(is_allowed) {
            found.insert((from.as_str(), target));
        }
    }
    let known: BTreeSet<_> = VIOLATIONS.iter().copied().collect();
    let new: Vec<_> = found.difference(&known).collect();
    assert!(
        new.is_empty(),
        "imports that violate the rules, (module, room): {new:#?}"
    );
    let mended: Vec<_> = known.difference(&found).collect();
    assert!(
        mended.is_empty(),
        "violations that no longer exist; remove them from the list: {mended:#?}"
    );
}

#[test]
fn no_two_modules_import_each_other() {
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let imports = imports();
    for (from, to) in &imports {
        let (from, to) = (unit(from), unit(to));
        if from != to && !is_root(from) {
            graph.entry(from).or_default().insert(to);
        }
    }
    let circles = circles(&graph);
    let known: Vec<BTreeSet<&str>> = CIRCLES
        .iter()
        .map(|it| it.iter().copied().collect())
        .collect();
    assert_eq!(circles, known, "circles of imports");
}

#[test]
fn the_document_has_the_rules() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, table) = text
        .split_once("| room | may import, besides itself |")
        .unwrap();
    let table: Vec<_> = table
        .lines()
        .skip(2)
        .take_while(|line| !line.is_empty())
        .collect();
    let row = |(room, allowed): &(&str, &[&str])| {
        let allowed: Vec<_> = allowed.iter().map(|it| format!("`{it}`")).collect();
        let allowed = match allowed.as_slice() {
            [] => "nothing".to_owned(),
            some => some.join(", "),
        };
        format!("| `{room}` | {allowed} |")
    };
    let rules: Vec<_> = RULES.iter().map(row).collect();
    assert_eq!(table, rules, "ARCHITECTURE.md");
}

#[test]
fn an_import_in_any_form_is_found() {
    let source = r#"
        //! Not `crate::doc`.
        use crate::a::{self, b::C, d};
        use super::e::f;
        pub(super) fn g(x: crate::h::I) { warn!(super::super::k::L, "crate::text"); }
        mod tests { use crate::test_only; }
    "#;
    let mut found = BTreeSet::new();
    collect(source.parse().unwrap(), "x::y", "", &mut found);
    let found: Vec<_> = found.iter().map(String::as_str).collect();
    assert_eq!(found, ["a", "a::b::C", "a::d", "h::I", "k::L", "x::e::f"]);
}

/// All imports of one module by another.
fn imports() -> BTreeSet<(String, String)> {
    let files = modules();
    let modules: BTreeSet<_> = files.iter().map(|(module, ..)| module.clone()).collect();
    let mut imports = BTreeSet::new();
    for (module, home, path) in files {
        let text = fs::read_to_string(&path).unwrap();
        let mut found = BTreeSet::new();
        collect(text.parse().unwrap(), &module, home, &mut found);
        for import in found {
            let target = ancestors(&import).find(|it| modules.contains(*it));
            if let Some(target) = target.filter(|target| *target != module) {
                imports.insert((module.clone(), target.to_owned()));
            }
        }
    }
    imports
}

/// The modules of all crates, without test modules.
pub(crate) fn modules() -> Vec<Module> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut modules = Vec::new();
    for (folder, module) in CRATES {
        sources(&root.join(folder), module, module, &mut modules);
    }
    assert!(modules.len() > 110, "found only {modules:?}");
    modules
}

/// Adds the modules below a folder.
fn sources(folder: &Path, module: &str, home: &'static str, files: &mut Vec<Module>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_root = name == "lib" && module == home && !home.is_empty();
        let child = if is_root {
            home.to_owned()
        } else {
            join(module, name)
        };
        if path.is_dir() {
            sources(&path, &child, home, files);
        } else if name != "tests" {
            files.push((child, home, path));
        }
    }
}

/// Collects the paths in `tokens` that begin with `crate`, `super` or the name of one of the crates.
fn collect(tokens: TokenStream, module: &str, home: &str, found: &mut BTreeSet<String>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(word) if word == "mod" && is_word(tokens.get(at + 1), "tests") => {
                at += 3;
                continue;
            }
            TokenTree::Ident(word) if is_path(&tokens[at + 1..]) => {
                if let Some(base) = base(&word.to_string(), module, home) {
                    at = follow(&tokens, at + 3, &base, found);
                    continue;
                }
            }
            TokenTree::Group(group) => collect(group.stream(), module, home, found),
            _ => {}
        }
        at += 1;
    }
}

/// Follows a path after `base::`; returns where it ends.
fn follow(tokens: &[TokenTree], mut at: usize, base: &str, found: &mut BTreeSet<String>) -> usize {
    let mut path = base.to_owned();
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) if word == "super" => {
                path = parent(&path).to_owned();
            }
            Some(TokenTree::Ident(word)) if word == "self" => {}
            Some(TokenTree::Ident(word)) => path = join(&path, &word.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let tokens: Vec<_> = group.stream().into_iter().collect();
                let is_comma =
                    |it: &TokenTree| matches!(it, TokenTree::Punct(it) if it.as_char() == ',');
                for part in tokens.split(is_comma).filter(|part| !part.is_empty()) {
                    follow(part, 0, &path, found);
                }
                return at + 1;
            }
            _ => {}
        }
        if !is_path(tokens.get(at + 1..).unwrap_or_default()) {
            found.insert(path);
            return at + 1;
        }
        at += 3;
    }
}

/// The module that the first word of a path stands for, if it is one of ours.
fn base(word: &str, module: &str, home: &str) -> Option<String> {
    let name = CRATE_NAMES.iter().find(|(name, _)| *name == word);
    match word {
        "crate" => Some(home.to_owned()),
        "super" => Some(parent(module).to_owned()),
        _ => name.map(|(_, root)| (*root).to_owned()),
    }
}

fn is_path(tokens: &[TokenTree]) -> bool {
    let is_colon = |it: &TokenTree| matches!(it, TokenTree::Punct(it) if it.as_char() == ':');
    matches!(tokens, [one, two, ..] if is_colon(one) && is_colon(two))
}

fn is_word(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(it)) if it == word)
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() {
        name.to_owned()
    } else {
        format!("{module}::{name}")
    }
}

fn parent(module: &str) -> &str {
    module.rsplit_once("::").map_or("", |(parent, _)| parent)
}

/// A path, and its parents.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| {
        Some(parent(path)).filter(|it| !it.is_empty())
    })
}

fn is_below(module: &str, root: &str) -> bool {
    ancestors(module).any(|it| it == root)
}

/// The room of a module, and what it may import.
fn rule(module: &str) -> (&'static str, &'static [&'static str]) {
    let exact = RULES
        .iter()
        .find(|(room, _)| room.strip_suffix('!') == Some(module));
    let below = || ancestors(module).find_map(|it| RULES.iter().find(|(room, _)| *room == it));
    let (room, allowed) = exact
        .or_else(below)
        .unwrap_or_else(|| panic!("{module} is in no room: add it to the rules"));
    (room, allowed)
}

/// Whether modules below this one are separate, not parts of it.
fn is_root(module: &str) -> bool {
    RULES
        .iter()
        .any(|(room, _)| room.trim_end_matches('!') == module)
        && module != "engine::connection"
}

/// The module that a file is a part of: itself, unless a module above it is not a room.
fn unit(module: &str) -> &str {
    let parts: Vec<_> = ancestors(module).collect();
    let top = parts.iter().rev().find(|it| !is_root(it));
    top.copied().unwrap_or(module)
}

/// The groups of modules that reach each other.
fn circles<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<BTreeSet<&'a str>> {
    let reached = |from: &'a str| {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(module) = open.pop() {
            for next in graph.get(module).into_iter().flatten() {
                if reached.insert(*next) {
                    open.push(next);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<_, _> = graph.keys().map(|from| (*from, reached(from))).collect();
    let mut circles: Vec<BTreeSet<&str>> = Vec::new();
    for (from, to) in reached.iter().filter(|(from, to)| to.contains(*from)) {
        let mut circle: BTreeSet<_> = to.iter().copied().collect();
        circle.retain(|it| reached.get(it).is_some_and(|back| back.contains(from)));
        if !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}
