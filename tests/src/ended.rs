//! How a process ended: [`Ended`].

use std::collections::BTreeMap;

/// How a process ended, and its complete output.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The figures of the line that begins with `totals:`, by their words in the singular.
    pub fn totals(&self) -> BTreeMap<String, u64> {
        let mut lines = self.stderr.lines();
        let line = lines.find_map(|line| line.strip_prefix("totals:"));
        let line = line.unwrap_or_else(|| panic!("no line `totals:` in:\n{}", self.stderr));
        // A part in brackets gives details of the figure before it.
        line.split(['(', ')'])
            .step_by(2)
            .flat_map(|part| part.split(','))
            .filter_map(|part| part.trim().split_once(' '))
            .map(|(number, word)| {
                let number = number.parse().expect("a number and a word");
                (word.trim().trim_end_matches('s').to_owned(), number)
            })
            .collect()
    }

    /// Asserts that this was a refusal: this exit code, an empty standard output, and one line on standard error that
    /// contains `what`.
    #[track_caller]
    pub fn assert_refused(&self, code: i32, what: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{self:?}");
        assert!(self.stderr.contains(what), "{what} is not in {self:?}");
        assert_eq!(self.stdout_text(), "", "{self:?}");
    }
}
