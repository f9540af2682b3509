//! What is wrong with a zone file, and where.

use crate::presentation::problem::Problem;
use crate::presentation::shown_token;

/// An error in a zone file: `file:line: "token": expected …`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{file}:{line}: {}{reason}", shown_token(.token))]
pub struct Error {
    /// The file, as the caller or its includes name it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The token at fault, shortened; `None` when something is missing or the whole entry is wrong.
    pub token: Option<String>,
    /// What is wrong, or what was expected.
    pub reason: String,
}

/// Why an entry was not read.
#[derive(Debug)]
pub(super) enum Fault {
    /// This text is wrong; the reader adds where.
    Text(Problem),
    /// The entry is fine as text but cannot be used.
    Entry(String),
    /// An error that names its own place, from an included file.
    Placed(Box<Error>),
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Fault::Text(problem)
    }
}

impl Fault {
    pub(super) fn at(self, file: &str, line: u32) -> Error {
        match self {
            Fault::Text(problem) => Error {
                file: file.to_owned(),
                line: problem.line().unwrap_or(line),
                token: problem.token().map(str::to_owned),
                reason: format!("expected {}", problem.expected()),
            },
            Fault::Entry(reason) => Error { file: file.to_owned(), line, token: None, reason },
            Fault::Placed(error) => *error,
        }
    }
}
