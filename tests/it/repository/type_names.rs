//! Enforces that a type name means one thing in a crate: two modules do not define the same name.
//!
//! It counts structs, enums, traits and type aliases of modules, public or not, but not those in tests, functions and
//! implementations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::imports::modules;

/// Deliberately equal names of the same interface over a blocking and an async transport: the root of the crate, and the
/// name.
const PAIRS: &[(&str, &str)] = &[
    ("framing_core", "Framed"),
    ("framing_core", "Link"),
    ("framing_core", "Outgoing"),
    ("framing_core", "Reader"),
    ("framing_core", "Sent"),
    ("framing_core", "Writer"),
];

/// Names that are still defined more than once: the root of the crate, the name, and the number of modules. This list only
/// gets shorter.
const REPEATED: &[(&str, &str, usize)] = &[];

#[test]
fn a_type_name_is_defined_in_one_module_of_a_crate() {
    let mut places: BTreeMap<(&str, String), BTreeSet<String>> = BTreeMap::new();
    for (module, home, path) in modules() {
        let text = fs::read_to_string(path).unwrap();
        let mut names = BTreeSet::new();
        type_names(text.parse().unwrap(), &mut names);
        for name in names {
            places
                .entry((home, name))
                .or_default()
                .insert(module.clone());
        }
    }
    assert!(places.len() > 300, "found only {places:?}");
    for (home, name) in PAIRS {
        let pair = places.remove(&(home, (*name).to_owned()));
        assert_eq!(pair.map_or(0, |it| it.len()), 2, "{name}");
    }
    places.retain(|_, modules| 1 < modules.len());
    let allowed = |home: &str, name: &str| {
        let mut known = REPEATED.iter();
        let known = known.find(|(root, known, _)| (*root, *known) == (home, name));
        known.map_or(1, |(.., count)| *count)
    };
    let new: Vec<_> = places
        .iter()
        .filter(|((home, name), modules)| allowed(home, name) < modules.len())
        .collect();
    assert!(
        new.is_empty(),
        "type names that another module already defines: {new:#?}"
    );
    let mended: Vec<_> = REPEATED
        .iter()
        .filter(|(home, name, count)| {
            let modules = places.get(&(*home, (*name).to_owned()));
            modules.map_or(1, BTreeSet::len) < *count
        })
        .collect();
    assert!(
        mended.is_empty(),
        "repeated less often now; remove them or lower the count: {mended:#?}"
    );
}

#[test]
fn types_of_modules_are_found_and_no_others() {
    let source = r#"
        pub(crate) struct A<T>(T);
        enum B { struct_ }
        pub trait C { type NotThis; }
        type D<T> = Vec<T>;
        mod inner { pub struct E; }
        impl C for B { type NotThis = u8; }
        fn f() { struct NotThis; }
        #[cfg(test)]
        mod tests { struct NotThis; }
    "#;
    let mut names = BTreeSet::new();
    type_names(source.parse().unwrap(), &mut names);
    assert_eq!(names.into_iter().collect::<String>(), "ABCDE");
}

/// Adds the names of the types that a module defines, and of those in the modules inside of it.
fn type_names(tokens: TokenStream, names: &mut BTreeSet<String>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Ident(keyword) = token else {
            continue;
        };
        let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else {
            continue;
        };
        match keyword.to_string().as_str() {
            "struct" | "enum" | "trait" | "type" => {
                names.insert(name.to_string());
            }
            "mod" if name != "tests" => {
                if let Some(TokenTree::Group(body)) = tokens.get(at + 2)
                    && body.delimiter() == Delimiter::Brace
                {
                    type_names(body.stream(), names);
                }
            }
            _ => {}
        }
    }
}
