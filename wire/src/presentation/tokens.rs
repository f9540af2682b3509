//! Cuts presentation format into tokens: words, quoted strings, ends of entries (RFC 1035 §5.1). Knows blanks,
//! comments, parentheses and where escapes hide a special character; what a token means is for its reader.

use super::problem::Problem;

/// Parentheses open at once; RFC 1035 has no use for nesting, and a file of `(` alone must not count for ever.
const MAX_PARENTHESES: u32 = 64;

/// One token, borrowed from the text, escapes not resolved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Token<'t> {
    /// The octets as written, without the quotes of a quoted string.
    pub(crate) raw: &'t [u8],
    /// Whether it stood in quotes.
    pub(crate) quoted: bool,
    /// Whether there is a backslash in it.
    pub(crate) escaped: bool,
}

/// A position in the text, moving forward only: each octet is looked at a bounded number of times.
#[derive(Clone, Debug)]
pub(crate) struct Tokens<'t> {
    text: &'t [u8],
    at: usize,
    line: u32,
    /// Open parentheses, and where the first of them was.
    depth: u32,
    opened: u32,
    has_comment: bool,
}

/// How an entry begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    /// With this octet, which is not blank.
    Octet(u8),
    /// With a blank: the owner is the last one (RFC 1035 §5.1).
    Blank,
    /// Not at all: the text ends here.
    End,
}

impl<'t> Tokens<'t> {
    pub(crate) fn new(text: &'t [u8]) -> Self {
        // Editors of some systems put a byte order mark in front of UTF-8 text.
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        Tokens { text, at: 0, line: 1, depth: 0, opened: 0, has_comment: false }
    }

    /// The line of the next octet, from 1.
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// Whether a comment was passed over.
    pub(crate) fn has_comment(&self) -> bool {
        self.has_comment
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// What stands at the start of a line.
    pub(crate) fn start(&self) -> Start {
        match self.peek() {
            None => Start::End,
            Some(b' ' | b'\t' | b'\r') => Start::Blank,
            Some(octet) => Start::Octet(octet),
        }
    }

    /// Whether the next octet, with nothing between, opens a quoted string.
    pub(crate) fn at_quote(&self) -> bool {
        self.peek() == Some(b'"')
    }

    /// The next token of this entry; `None` at its end, as often as it is asked.
    pub(crate) fn next(&mut self) -> Result<Option<Token<'t>>, Problem> {
        match self.seek()? {
            None => Ok(None),
            Some(b'"') => self.quoted().map(Some),
            Some(_) => Ok(Some(self.word())),
        }
    }

    /// Goes to the first octet of the next token; `None` at the end of the entry.
    pub(crate) fn seek(&mut self) -> Result<Option<u8>, Problem> {
        loop {
            match self.peek() {
                None if self.depth > 0 => return Err(self.unclosed()),
                None => return Ok(None),
                Some(b' ' | b'\t' | b'\r') => self.step(),
                Some(b'\n') if self.depth == 0 => return Ok(None),
                Some(b'\n') => {
                    self.step();
                    self.line = self.line.saturating_add(1);
                }
                Some(b';') => {
                    self.has_comment = true;
                    self.skip_line();
                }
                Some(b'(') => self.open()?,
                Some(b')') => self.close()?,
                octet => return Ok(octet),
            }
        }
    }

    /// The next token, which must be there.
    pub(crate) fn need(&mut self, expected: &'static str) -> Result<Token<'t>, Problem> {
        match self.next()? {
            Some(token) => Ok(token),
            None => Err(Problem::at_end(expected)),
        }
    }

    /// The rest of the line as it stands, without a comment and the blanks around it.
    pub(crate) fn rest_of_line(&mut self) -> &'t [u8] {
        let start = self.rest();
        let (mut quoted, mut escaped) = (false, false);
        let end = start.iter().position(|&octet| {
            let ends = octet == b'\n' || (octet == b';' && !quoted && !escaped);
            quoted ^= octet == b'"' && !escaped;
            escaped = octet == b'\\' && !escaped;
            ends
        });
        let line = start.get(..end.unwrap_or(start.len())).unwrap_or_default();
        self.skip_line();
        line.trim_ascii()
    }

    /// The RDATA of `$GENERATE`: a quoted string that holds it all (BIND), or the rest of the line as it stands.
    pub(crate) fn generate_rdata(&mut self) -> Result<Token<'t>, Problem> {
        let ahead = self.clone();
        let first = self.need("RDATA with $ in it")?;
        if first.quoted && self.next()?.is_none() {
            return Ok(first);
        }
        *self = ahead;
        Ok(Token { raw: self.rest_of_line(), quoted: false, escaped: false })
    }

    /// Nothing may be left of the entry.
    pub(crate) fn end_of_entry(&mut self) -> Result<(), Problem> {
        match self.next()? {
            Some(token) => Err(Problem::new(token, "nothing more on this line")),
            None => Ok(()),
        }
    }

    /// Ends the entry, of which nothing may be left, and goes to the start of the next line.
    pub(crate) fn end_entry(&mut self) -> Result<(), Problem> {
        self.end_of_entry()?;
        self.skip_newline();
        Ok(())
    }

    /// After an error: goes to the start of the next line, or of the line after the closing parenthesis.
    pub(crate) fn recover(&mut self) {
        while self.depth > 0 && matches!(self.next(), Ok(Some(_))) {}
        self.depth = 0;
        self.skip_line();
        self.skip_newline();
    }

    fn skip_newline(&mut self) {
        if self.peek() == Some(b'\n') {
            self.step();
            self.line = self.line.saturating_add(1);
        }
    }

    /// Goes to the end of the line, not over it.
    fn skip_line(&mut self) {
        let rest = self.rest();
        let len = rest.iter().position(|&octet| octet == b'\n').unwrap_or(rest.len());
        self.at = self.at.saturating_add(len);
    }

    fn open(&mut self) -> Result<(), Problem> {
        if self.depth == 0 {
            self.opened = self.line;
        }
        if self.depth >= MAX_PARENTHESES {
            return Err(Problem::text("(", "fewer parentheses inside each other"));
        }
        self.depth = self.depth.saturating_add(1);
        self.step();
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        if self.depth == 0 {
            return Err(Problem::text(")", "a \"(\" before it"));
        }
        self.depth = self.depth.saturating_sub(1);
        self.step();
        Ok(())
    }

    fn unclosed(&self) -> Problem {
        Problem::text("(", "a \")\" before the end of the file").on_line(self.opened)
    }

    /// A word: up to a blank, a comment, a parenthesis or a quote that is not escaped.
    fn word(&mut self) -> Token<'t> {
        let rest = self.rest();
        let mut len = 0usize;
        let mut escaped = false;
        loop {
            let ahead = rest.get(len..).unwrap_or_default();
            len = len.saturating_add(ahead.iter().position(|&octet| ends_word(octet)).unwrap_or(ahead.len()));
            if rest.get(len) != Some(&b'\\') {
                break;
            }
            escaped = true;
            // An escape covers the next octet, but not the end of the line.
            let covered = !matches!(rest.get(len.saturating_add(1)), None | Some(b'\n' | b'\r'));
            len = len.saturating_add(1).saturating_add(usize::from(covered));
        }
        self.at = self.at.saturating_add(len);
        Token { raw: rest.get(..len).unwrap_or_default(), quoted: false, escaped }
    }

    /// A quoted string. It ends on its own line: a forgotten quote would otherwise swallow records up to the next
    /// quote and blame them (BIND refuses it too; `\010` writes a line feed).
    fn quoted(&mut self) -> Result<Token<'t>, Problem> {
        self.step();
        let rest = self.rest();
        let mut len = 0usize;
        let mut escaped = false;
        loop {
            match rest.get(len) {
                Some(b'"') => break,
                None | Some(b'\n') => {
                    let raw = rest.get(..len).unwrap_or_default();
                    return Err(Problem::new(
                        Token { raw, quoted: true, escaped },
                        "a closing quote on the same line",
                    ));
                }
                Some(b'\\') => {
                    escaped = true;
                    let covered = !matches!(rest.get(len.saturating_add(1)), None | Some(b'\n'));
                    len = len.saturating_add(1).saturating_add(usize::from(covered));
                }
                Some(_) => len = len.saturating_add(1),
            }
        }
        self.at = self.at.saturating_add(len).saturating_add(1);
        Ok(Token { raw: rest.get(..len).unwrap_or_default(), quoted: true, escaped })
    }
}

/// Whether a word may end here, or an escape begins.
fn ends_word(octet: u8) -> bool {
    // Most octets of a zone file come through here: one look for each.
    ENDS_WORD.get(usize::from(octet)) == Some(&true)
}

#[expect(
    clippy::indexing_slicing,
    reason = "the compiler works it out, and 256 places are enough for an octet"
)]
const ENDS_WORD: [bool; 256] = {
    let mut ends = [false; 256];
    let mut among: &[u8] = b" \t\r\n;()\"\\";
    while let [octet, others @ ..] = among {
        ends[*octet as usize] = true;
        among = others;
    }
    ends
};

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut tokens = Tokens::new(text.as_bytes());
        let mut found = Vec::new();
        while let Some(token) = tokens.next().unwrap() {
            let text = String::from_utf8_lossy(token.raw);
            found.push(if token.quoted { format!("<{text}>") } else { text.into_owned() });
        }
        found
    }

    #[test]
    fn tokens_end_where_they_should() {
        for (text, expected) in [
            ("a b\tc\r\nd", vec!["a", "b", "c"]),
            ("a ; b", vec!["a"]),
            ("a (b ; c\n ( d )\n) e", vec!["a", "b", "d", "e"]),
            (r#""a ; (b" "c""d""#, vec!["<a ; (b>", "<c>", "<d>"]),
            (r#"a\ b\;c\" d"#, vec![r#"a\ b\;c\""#, "d"]),
            (r#""a\"b" c"#, vec![r#"<a\"b>"#, "c"]),
            (r#"k="v w""#, vec!["k=", "<v w>"]),
            ("a\\", vec!["a\\"]),
            ("\u{feff}a", vec!["a"]),
        ] {
            assert_eq!(words(text), expected, "{text:?}");
        }
    }

    #[test]
    fn words_end_at_few_octets() {
        let ends: Vec<u8> = (0..=255).filter(|&octet| ends_word(octet)).collect();
        assert_eq!(ends, b"\t\n\r \"();\\");
    }

    #[test]
    fn unbalanced_text_is_an_error() {
        for text in ["a (b", "a ) b", "\"a", "\"a\nb\"", "\"a\\"] {
            let mut tokens = Tokens::new(text.as_bytes());
            let error = loop {
                match tokens.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{text:?} accepted"),
                    Err(error) => break error,
                }
            };
            assert!(!error.expected().is_empty(), "{text:?}");
        }
        assert!(Tokens::new(&b"(".repeat(100)).next().is_err());
    }

    #[test]
    fn the_rest_of_a_line_keeps_its_quotes() {
        for (text, expected) in
            [(" 10 a$ ; c\n", "10 a$"), (" \"a;b\" c", "\"a;b\" c"), (" a\\;b", "a\\;b"), ("\n", "")]
        {
            assert_eq!(Tokens::new(text.as_bytes()).rest_of_line(), expected.as_bytes());
        }
    }
}
