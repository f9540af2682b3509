//! Reads zone files as users of BIND and NSD write them: RFC 1035 §5 with `$TTL` (RFC 2308 §4), times with units,
//! `$GENERATE`, records without class, RFC 3597's unknown types, and every type of [`crate::presentation`].
//!
//! Text in, records out, one call of the sink for each; names in lower case for owners and as written in RDATA. No
//! I/O: included files come through [`Includes`]. Whether the records make a zone is for others to judge.
//!
//! Any octets give records or an error. Work is linear in the text read and the records made; the bounds are
//! [`MAX_INCLUDE_DEPTH`], [`MAX_INCLUDES`], [`MAX_INCLUDED_OCTETS`], [`MAX_GENERATED`] and [`MAX_GENERATED_OCTETS`]. A record allocates nothing but what the sink
//! allocates (base types; service bindings and type bitmaps take a small list).

mod entry;
mod error;
mod generate;
mod reader;

#[cfg(test)]
mod tests;

pub use error::Error;

use crate::name::{Name, NameRef};
use crate::rr::Rtype;

/// How deep files may include files; what NSD allows.
pub const MAX_INCLUDE_DEPTH: usize = 10;
/// How many files one zone may include, counted each time.
pub const MAX_INCLUDES: u64 = 100_000;
/// How many octets all included files of one zone may have together, counted each time they are included.
pub const MAX_INCLUDED_OCTETS: usize = 4 << 30;
/// How many records all `$GENERATE` of one zone may make together, where [`Options::max_generated`] says no less.
pub const MAX_GENERATED: u64 = 1_000_000;
/// The same for their octets of names and RDATA: a short line can ask for a million of the longest.
pub const MAX_GENERATED_OCTETS: usize = 1 << 28;

/// One record as read.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The owner, absolute.
    pub owner: NameRef<'a>,
    /// The type; one that can stand in a zone.
    pub rtype: Rtype,
    /// Seconds, at most [`crate::rr::MAX_TTL`].
    pub ttl: u32,
    /// Valid for the type, names uncompressed and absolute, in the case they were written in.
    pub rdata: &'a [u8],
    /// Where the entry starts, from 1.
    pub line: u32,
    /// In which file, as [`Options::file`] or [`Includes::open`] name it.
    pub file: &'a str,
}

/// What the text alone does not say.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where relative names end until `$ORIGIN` says otherwise: the zone's apex.
    pub origin: Name,
    /// The TTL where the file gives none at all: no `$TTL`, no earlier TTL, no SOA to take it from. `None`: an error.
    pub default_ttl: Option<u32>,
    /// How many records all `$GENERATE` of it may make together.
    pub max_generated: u64,
    /// How many octets of names and RDATA these may have together.
    pub max_generated_octets: usize,
    /// What errors call the text.
    pub file: String,
}

impl Options {
    /// For the zone `origin` in `file`, without a default TTL, and with as many records from `$GENERATE` as ever.
    #[must_use]
    pub fn new(origin: Name, file: impl Into<String>) -> Self {
        Options {
            origin,
            default_ttl: None,
            max_generated: MAX_GENERATED,
            max_generated_octets: MAX_GENERATED_OCTETS,
            file: file.into(),
        }
    }
}

/// Finds the files that `$INCLUDE` names. Where they may lie is for the implementation to decide.
pub trait Includes {
    /// The file that `from` calls `file`: the name to show in errors, which also tells files apart, and the text.
    ///
    /// # Errors
    /// Why it cannot be had, for people.
    fn open(&mut self, file: &str, from: &str) -> Result<(String, Vec<u8>), String>;
}

/// Refuses every `$INCLUDE`: for text that stands alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoIncludes;

impl Includes for NoIncludes {
    fn open(&mut self, _file: &str, _from: &str) -> Result<(String, Vec<u8>), String> {
        Err("no $INCLUDE here".to_owned())
    }
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// Records given to the sink.
    pub records: u64,
    /// Files included, each time they were.
    pub includes: u64,
    /// Errors reported; 0 from [`read`].
    pub errors: u64,
}

/// What takes the records; its `Err` becomes the error of the record's line.
pub type Sink<'a> = dyn FnMut(Record<'_>) -> Result<(), String> + 'a;

/// Reads a zone file up to its end or to the first error.
///
/// # Errors
/// [`Error`] names file, line, token, and what was expected. Records before it have gone to the sink.
pub fn read(
    text: &[u8],
    options: &Options,
    includes: &mut dyn Includes,
    sink: &mut Sink<'_>,
) -> Result<Summary, Error> {
    let mut stop = |error| Err(error);
    reader::Reader::new(options, includes, sink, &mut stop).run(text)
}

/// Reads a zone file to its end, whatever is wrong with it: each error goes to `report`, and reading goes on with the
/// next line.
pub fn check(
    text: &[u8],
    options: &Options,
    includes: &mut dyn Includes,
    sink: &mut Sink<'_>,
    report: &mut dyn FnMut(Error),
) -> Summary {
    let mut go_on = |error| {
        report(error);
        Ok(())
    };
    reader::Reader::new(options, includes, sink, &mut go_on).run(text).unwrap_or_default()
}
