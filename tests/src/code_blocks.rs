//! The code blocks of a document: [`code_blocks`].

use std::fmt::Display;
use std::path::Path;

/// A block between two fences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeBlock {
    /// The heading of its section, of the second level.
    pub section: String,
    /// The word after the fence.
    pub language: String,
    /// Its lines.
    pub code: String,
}

/// The text of a document, by its path in the repository.
#[track_caller]
pub fn document(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).expect(path)
}

/// The code blocks of a document, in their order. The fences begin their lines.
#[track_caller]
pub fn code_blocks(path: &str) -> Vec<CodeBlock> {
    let mut blocks = Vec::new();
    let mut section = "";
    let mut open: Option<CodeBlock> = None;
    let text = document(path);
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.code.push_str(line);
                block.code.push('\n');
            }
            (None, Some(language)) => {
                open = Some(CodeBlock {
                    section: section.to_owned(),
                    language: language.to_owned(),
                    code: String::new(),
                });
            }
            (None, None) => section = line.strip_prefix("## ").unwrap_or(section),
        }
    }
    assert_eq!(open, None, "{path} has a block without an end");
    blocks
}

/// Replaces text that must be there.
#[track_caller]
pub fn replace(text: &str, from: &str, to: impl Display) -> String {
    assert!(text.contains(from), "{from} is not in:\n{text}");
    text.replace(from, &to.to_string())
}
