//! Runs the properties on the inputs that fuzzing has kept, without a fuzzer.

use std::fs;
use std::path::Path;

use framing_core::AnyFraming;
use framing_core_testing::properties::{SPECS, any_bytes, any_messages, any_session, as_tokio};

#[test]
fn the_corpora_hold() {
    for (name, property) in PROPERTIES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(name);
        let mut count = 0;
        for entry in fs::read_dir(&folder).expect("a corpus") {
            property(&fs::read(entry.expect("an entry").path()).expect("an input"));
            count += 1;
        }
        assert!(30 < count, "{count} inputs in {}", folder.display());
    }
}

#[test]
fn the_properties_cover_every_framing() {
    for spec in AnyFraming::SPECS {
        let name = spec.trim_end_matches("HEX").trim_end_matches('N');
        let is_of = |known: &&str| match spec.strip_suffix(name) {
            Some("") => *known == name,
            _ => known.starts_with(name),
        };
        assert!(SPECS.iter().any(is_of), "{spec}");
    }
}

type Property = (&'static str, fn(&[u8]));

/// The properties, each with the name of its fuzz target.
pub(crate) const PROPERTIES: [Property; 4] = [
    ("any_bytes", any_bytes),
    ("any_messages", any_messages),
    ("any_session", any_session),
    ("as_tokio", as_tokio),
];
