//! Compares a text with a file in `tests/golden`. Start with [`assert_golden`].

use std::path::Path;

use snapbox::assert::{Action, Assert};
use snapbox::{Data, IntoData};

/// If this environment variable is set, [`assert_golden`] writes the text to the file instead of comparing it.
pub const ACCEPT: &str = "BLOCKSD_TEST_ACCEPT";

/// Asserts that a file in `tests/golden` is equal to this text.
///
/// # Panics
/// If the text differs; the message shows the lines that differ.
#[track_caller]
pub fn assert_golden(file: &str, text: String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(file);
    let action = match std::env::var_os(ACCEPT) {
        Some(_) => Action::Overwrite,
        None => Action::Verify,
    };
    // `raw` compares literally: snapbox takes some texts, such as `[..]`, for patterns.
    let known = Data::read_from(&path, None).raw();
    let assert = Assert::new().action(action);
    let result = assert.try_eq(Some(&"the program"), text.into_data(), known);
    if let Err(error) = result {
        panic!(
            "tests/golden/{file} differs; to accept the new text, run this test with {ACCEPT}=1\n{error}"
        );
    }
}
