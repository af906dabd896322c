//! Compares every public signature of the libraries with `tests/golden/public-api/`.
//!
//! `tests/public-api` writes the API as JSON, with rustdoc. To accept a change:
//! `tests/public-api && BLOCKSD_TEST_ACCEPT=1 cargo test -p blocksd-tests --test it -- public_api::`

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use blocksd_tests::golden::assert_golden;
use blocksd_tests::skip::skipped;

/// The names and the folders of the libraries.
const LIBRARIES: [(&str, &str); 5] = [
    ("framing-core", "framing-core"),
    ("framing-uplink", "framing-core/uplink"),
    ("blocksd-engine", "host-daemon/engine"),
    ("blocksd-recording", "host-daemon/recording"),
    ("blocksd-forward", "host-daemon/forward"),
];

/// Format version of rustdoc's JSON that the snapshots were written with. Another version may print an item differently.
const FORMAT: u64 = 57;

/// Auto traits that are left out of the snapshots, because programs rarely depend on them.
const LEFT_OUT: [&str; 5] = [
    "core::marker::Freeze for ",
    "core::marker::StructuralPartialEq for ",
    "core::marker::UnsafeUnpin for ",
    "core::panic::unwind_safe::RefUnwindSafe for ",
    "core::panic::unwind_safe::UnwindSafe for ",
];

#[test]
fn the_signatures_of_the_libraries_match_the_snapshots() {
    for (library, folder) in LIBRARIES {
        match api(library, folder) {
            Ok(text) => assert_golden(&format!("public-api/{library}.txt"), text),
            Err(reason) => skipped(&format!("public_api::{library}"), reason),
        }
    }
}

/// Returns the public items of a library, one a line.
///
/// # Errors
/// The reason why the API cannot be compared.
fn api(library: &str, folder: &str) -> Result<String, String> {
    const RUN: &str = "run tests/public-api";
    let file = json(library);
    let Ok(text) = fs::read_to_string(&file) else {
        return Err(format!("the JSON of its API does not exist; {RUN}"));
    };
    let written = modified(&file);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if newest(&root.join(folder).join("src")) > written {
        return Err(format!(
            "the JSON of its API is older than the sources; {RUN}"
        ));
    }
    let format = text.rsplit("\"format_version\":").next().unwrap();
    let format: String = format.chars().take_while(char::is_ascii_digit).collect();
    if format != FORMAT.to_string() {
        return Err(format!(
            "the JSON of this compiler's rustdoc has format {format}, but the snapshots need format {FORMAT}"
        ));
    }
    let builder = public_api::Builder::from_rustdoc_json(&file).omit_blanket_impls(true);
    let api = builder.build().map_err(|error| error.to_string()).unwrap();
    let is_named = |line: &String| !LEFT_OUT.iter().any(|it| line.contains(it));
    let lines = api.items().map(|item| item.to_string());
    let lines: Vec<_> = lines.filter(is_named).collect();
    assert!(
        lines.len() > 100,
        "{library} has only {} items",
        lines.len()
    );
    Ok(lines.join("\n") + "\n")
}

/// The JSON file that `tests/public-api` writes.
fn json(library: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let name = library.replace('-', "_");
    target.join("public-api").join(name).with_extension("json")
}

fn modified(file: &Path) -> SystemTime {
    fs::metadata(file).unwrap().modified().unwrap()
}

/// The latest modification time of the files in a folder.
fn newest(folder: &Path) -> SystemTime {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let times = paths.map(|path| match path.is_dir() {
        true => newest(&path),
        false => modified(&path),
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}
