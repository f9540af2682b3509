//! Why text is not what it should be: which token, and what was expected there. No file name: readers of files
//! add it.

use std::borrow::Cow;

use super::tokens::Token;

/// So many octets of a token are shown.
const SHOWN_OCTETS: usize = 80;

/// Boxed, so that the way of valid text does not carry its size.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Parts {
    line: Option<u32>,
    token: Option<String>,
    expected: Cow<'static, str>,
}

impl Problem {
    /// This token is not what was expected.
    pub(crate) fn new(token: Token<'_>, expected: impl Into<Cow<'static, str>>) -> Self {
        Problem(Box::new(Parts { line: None, token: Some(shown(token.raw)), expected: expected.into() }))
    }

    /// This text is not what was expected.
    pub(crate) fn text(text: &str, expected: impl Into<Cow<'static, str>>) -> Self {
        Problem(Box::new(Parts {
            line: None,
            token: Some(shown(text.as_bytes())),
            expected: expected.into(),
        }))
    }

    /// The entry ended where this was expected.
    pub(crate) fn at_end(expected: impl Into<Cow<'static, str>>) -> Self {
        Problem(Box::new(Parts { line: None, token: None, expected: expected.into() }))
    }

    /// Says that the problem stands on another line than the reader does.
    pub(crate) fn on_line(mut self, line: u32) -> Self {
        self.0.line = Some(line);
        self
    }

    pub(crate) fn line(&self) -> Option<u32> {
        self.0.line
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.0.token.as_deref()
    }

    pub(crate) fn expected(&self) -> &str {
        &self.0.expected
    }
}

/// The octets as text for people: printable, and not too long.
fn shown(octets: &[u8]) -> String {
    let mut text = octets.get(..SHOWN_OCTETS).unwrap_or(octets).escape_ascii().to_string();
    if octets.len() > SHOWN_OCTETS {
        text.push('…');
    }
    text
}
