//! Presentation format of RDATA and records: what people write and read (RFC 1035 §5, RFC 3597 §5, and the document
//! of each type).
//!
//! One table (`fields`) says what the text of each type looks like, and both directions follow it, so that
//! what is written reads back to the same octets. `domain`'s parser knows about half of these types, and is what the
//! tests compare with; the original text of a record is not kept.
//!
//! Whole files are read by [`crate::zonefile`].

mod apl;
mod bitmap;
mod escape;
mod fields;
mod hip;
mod ipseckey;
mod loc;
mod mnemonic;
pub(crate) mod names;
pub(crate) mod number;
mod octets;
mod printable;
pub(crate) mod problem;
mod radix;
pub(crate) mod read;
mod svcb;
pub(crate) mod tokens;
mod write;

#[cfg(test)]
mod tests;

pub use printable::Printable;

use crate::name::NameRef;
use crate::rdata;
use crate::rr::Rtype;
use problem::Problem;
use tokens::Tokens;

/// Why text is not RDATA of a type.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}expected {expected}", shown_token(.token))]
pub struct PresentationError {
    /// The token at fault, shortened; `None` when the text ended too early.
    pub token: Option<String>,
    /// What should have stood there.
    pub expected: String,
}

pub(crate) fn shown_token(token: &Option<String>) -> String {
    token.as_ref().map(|token| format!("\"{token}\": ")).unwrap_or_default()
}

impl From<Problem> for PresentationError {
    fn from(problem: Problem) -> Self {
        PresentationError {
            token: problem.token().map(str::to_owned),
            expected: problem.expected().to_owned(),
        }
    }
}

/// The octets that a token stands for.
pub(crate) fn unescape(token: tokens::Token<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    escape::unescape(token.raw, out).map_err(|expected| Problem::new(token, expected))
}

/// Reads RDATA of one record, in the form of its type or as `\# length hex`. Relative names end in `origin`. A comment is refused: what
/// stands in it would be dropped unseen, and is mostly part of a text without its quotes (`v=DMARC1; p=none`).
///
/// # Errors
/// [`PresentationError`] names the token and what was expected. Types that cannot stand in a zone are refused.
pub fn parse_rdata(
    rtype: Rtype,
    text: &str,
    origin: Option<NameRef<'_>>,
) -> Result<Box<[u8]>, PresentationError> {
    if !rtype.is_data() {
        return Err(Problem::text(&rtype.to_string(), "a type that can stand in a zone").into());
    }
    let mut tokens = Tokens::new(text.as_bytes());
    let mut out = Vec::new();
    read::rdata(rtype, &mut tokens, origin.map(NameRef::as_wire), &mut out)?;
    tokens.end_entry()?;
    // One record is one entry: whatever follows its line would be dropped unseen.
    if let tokens::Start::Octet(_) | tokens::Start::Blank = tokens.start() {
        return Err(Problem::at_end("one line").into());
    }
    if tokens.has_comment() {
        return Err(Problem::text(";", "no comment: a text with a semicolon stands in double quotes").into());
    }
    debug_assert_eq!(rdata::validate(rtype, &out), Ok(()), "{rtype} {text}");
    Ok(out.into())
}

/// Writes RDATA in the form of its type; as `\# length hex` when the type has none or the octets do not fit it.
#[must_use]
pub fn format_rdata(rtype: Rtype, rdata: &[u8]) -> String {
    let mut text = String::new();
    write::rdata(rtype, rdata, &mut text);
    text
}

/// Whether RDATA has a form of its type that says it.
pub(crate) fn has_text(rtype: Rtype, rdata: &[u8]) -> bool {
    write::typed(rtype, rdata, &mut String::new()).is_some()
}

/// Appends an uncompressed name in wire format, in its own case and with its final dot. What is not printable ASCII, and
/// what has a meaning of its own somewhere in a zone file, is escaped (RFC 1035 §5.1). `None`, and nothing appended,
/// when the octets are not exactly one name.
pub fn write_name(octets: &[u8], out: &mut String) -> Option<()> {
    names::write(octets, out)
}

/// Appends one record as a line of a zone file: owner, TTL, class, type and RDATA between blanks, names absolute.
pub fn write_record(owner: NameRef<'_>, ttl: u32, rtype: Rtype, rdata: &[u8], out: &mut String) {
    if names::write(owner.as_wire(), out).is_none() {
        // Cannot be, as an owner is a name.
        out.push('.');
    }
    out.push_str(&format!(" {ttl} IN {rtype} "));
    write::rdata(rtype, rdata, out);
    out.push('\n');
}
