//! The inputs that fuzzing kept, one by one: the properties without a fuzzer.

use std::fs;
use std::path::Path;

use tests::properties::{any_bytes, any_messages, as_tokio};

#[test]
fn the_corpora_hold() {
    for (name, property) in PROPERTIES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../framing-core/fuzz/corpus")
            .join(name);
        let mut count = 0;
        for entry in fs::read_dir(&folder).expect("a corpus") {
            property(&fs::read(entry.expect("an entry").path()).expect("an input"));
            count += 1;
        }
        assert!(30 < count, "{count} inputs in {}", folder.display());
    }
}

/// Each with the name of its fuzz target.
pub(crate) const PROPERTIES: [(&str, fn(&[u8])); 3] = [
    ("any_bytes", any_bytes),
    ("any_messages", any_messages),
    ("as_tokio", as_tokio),
];
