//! Walks through a zone file entry by entry: owners, TTLs and origins as they carry over from entry to entry, the
//! directives, and the files they include.

use super::entry::{self, Head};
use super::error::{Error, Fault};
use super::generate::{self, Generate};
use super::{Includes, MAX_INCLUDE_DEPTH, MAX_INCLUDED_OCTETS, MAX_INCLUDES, Options, Record, Sink, Summary};
use crate::name::{MAX_NAME_OCTETS, NameRef};
use crate::presentation::problem::Problem;
use crate::presentation::tokens::{Start, Token, Tokens};
use crate::presentation::{names, number, read};
use crate::rr::Rtype;

/// Most RDATA fits into so many octets: where files are small, buffers that grow cost more than what is read into them.
const USUAL_RDATA_OCTETS: usize = 512;

pub(super) struct Reader<'r, 's> {
    includes: &'r mut dyn Includes,
    sink: &'r mut Sink<'s>,
    /// Takes an error; `Err` ends the reading.
    report: &'r mut dyn FnMut(Error) -> Result<(), Error>,
    /// The files being read, the innermost last.
    files: Vec<String>,
    origin: Vec<u8>,
    /// The last owner in lower case; empty before the first.
    owner: Vec<u8>,
    /// `$TTL`, or what stands in for it.
    default_ttl: Option<u32>,
    /// The last TTL stated (RFC 1035 §5.1).
    last_ttl: Option<u32>,
    /// The caller's, when nothing else is known.
    fallback_ttl: Option<u32>,
    rdata: Vec<u8>,
    included_octets: usize,
    generated: u64,
    generated_octets: usize,
    max_generated: u64,
    max_generated_octets: usize,
    summary: Summary,
}

impl<'r, 's> Reader<'r, 's> {
    pub(super) fn new(
        options: &Options,
        includes: &'r mut dyn Includes,
        sink: &'r mut Sink<'s>,
        report: &'r mut dyn FnMut(Error) -> Result<(), Error>,
    ) -> Self {
        Reader {
            includes,
            sink,
            report,
            files: vec![options.file.clone()],
            origin: options.origin.as_wire().to_vec(),
            owner: Vec::with_capacity(MAX_NAME_OCTETS),
            default_ttl: None,
            last_ttl: None,
            fallback_ttl: options.default_ttl,
            rdata: Vec::with_capacity(USUAL_RDATA_OCTETS),
            included_octets: 0,
            generated: 0,
            generated_octets: 0,
            max_generated: options.max_generated,
            max_generated_octets: options.max_generated_octets,
            summary: Summary::default(),
        }
    }

    pub(super) fn run(mut self, text: &[u8]) -> Result<Summary, Error> {
        self.file(text)?;
        Ok(self.summary)
    }

    /// Reads the file that is the last of `files`.
    fn file(&mut self, text: &[u8]) -> Result<(), Error> {
        let mut tokens = Tokens::new(text);
        loop {
            let line = tokens.line();
            match self.entry(&mut tokens, line) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(fault) => {
                    // Inside parentheses the token stands on a later line than the entry.
                    let line = if matches!(fault, Fault::Text(_)) { tokens.line() } else { line };
                    let error = fault.at(self.files.last().map_or("", String::as_str), line);
                    self.summary.errors = self.summary.errors.saturating_add(1);
                    (self.report)(error)?;
                    tokens.recover();
                }
            }
        }
    }

    /// Reads one entry; `false` at the end of the file.
    fn entry(&mut self, tokens: &mut Tokens<'_>, line: u32) -> Result<bool, Fault> {
        match tokens.start() {
            Start::End => return Ok(false),
            Start::Blank => {
                if tokens.seek()?.is_some() {
                    self.record(tokens, line)?;
                }
            }
            start => match tokens.next()? {
                None => {}
                Some(token) if start == Start::Octet(b'$') && !token.quoted => {
                    self.directive(token, tokens, line)?;
                }
                Some(token) => {
                    self.owner.clear();
                    names::read(token, Some(&self.origin), &mut self.owner)?;
                    self.owner.make_ascii_lowercase();
                    self.record(tokens, line)?;
                }
            },
        }
        tokens.end_entry()?;
        Ok(true)
    }

    /// A record of the last owner.
    fn record(&mut self, tokens: &mut Tokens<'_>, line: u32) -> Result<(), Fault> {
        if self.owner.is_empty() {
            return Err(Problem::at_end("an owner name, as no record before this one has one").into());
        }
        let head = entry::head(tokens)?;
        self.rdata.clear();
        read::rdata(head.rtype, tokens, Some(&self.origin), &mut self.rdata)?;
        let ttl = self.ttl(head)?;
        let owner = std::mem::take(&mut self.owner);
        let done = self.emit(&owner, head.rtype, ttl, line);
        self.owner = owner;
        done
    }

    /// The TTL of a record: its own, else `$TTL` (RFC 2308 §4), else the last one stated (RFC 1035 §5.1), else for an
    /// SOA its MINIMUM, which then stands for the rest of the file (as in BIND).
    fn ttl(&mut self, head: Head) -> Result<u32, Fault> {
        if let Some(ttl) = head.ttl {
            self.last_ttl = Some(ttl);
            return Ok(ttl);
        }
        if let Some(ttl) = self.default_ttl.or(self.last_ttl) {
            return Ok(ttl);
        }
        if head.rtype == Rtype::SOA
            && let Some((_, minimum)) = self.rdata.split_last_chunk::<4>()
        {
            let ttl = u32::from_be_bytes(*minimum).min(crate::rr::MAX_TTL);
            self.default_ttl = Some(ttl);
            return Ok(ttl);
        }
        self.fallback_ttl.ok_or_else(|| {
            Fault::Entry("expected a TTL, as there is no $TTL and no TTL before this record".into())
        })
    }

    fn emit(&mut self, owner: &[u8], rtype: Rtype, ttl: u32, line: u32) -> Result<(), Fault> {
        let record = Record {
            owner: NameRef::from_checked(owner),
            rtype,
            ttl,
            rdata: &self.rdata,
            line,
            file: self.files.last().map_or("", String::as_str),
        };
        (self.sink)(record).map_err(Fault::Entry)?;
        self.summary.records = self.summary.records.saturating_add(1);
        Ok(())
    }

    fn directive(&mut self, name: Token<'_>, tokens: &mut Tokens<'_>, line: u32) -> Result<(), Fault> {
        if name.raw.eq_ignore_ascii_case(b"$ORIGIN") {
            self.origin = self.name(tokens.need("a domain name")?)?;
        } else if name.raw.eq_ignore_ascii_case(b"$TTL") {
            self.default_ttl = Some(number::ttl(tokens.need("a TTL")?)?);
        } else if name.raw.eq_ignore_ascii_case(b"$INCLUDE") {
            self.include(tokens)?;
        } else if name.raw.eq_ignore_ascii_case(b"$GENERATE") {
            self.generate(tokens, line)?;
        } else {
            return Err(Problem::new(name, "$ORIGIN, $TTL, $INCLUDE or $GENERATE").into());
        }
        Ok(())
    }

    fn name(&self, token: Token<'_>) -> Result<Vec<u8>, Problem> {
        let mut name = Vec::new();
        names::read(token, Some(&self.origin), &mut name)?;
        Ok(name)
    }

    /// `$INCLUDE file [origin]`. Origin and owner of the including file stay as they are (RFC 1035 §5.1); the included
    /// file starts with them.
    fn include(&mut self, tokens: &mut Tokens<'_>) -> Result<(), Fault> {
        let token = tokens.need("a file name")?;
        let mut file = Vec::new();
        crate::presentation::unescape(token, &mut file)?;
        let file = String::from_utf8(file).map_err(|_| Problem::new(token, "a file name in UTF-8"))?;
        let origin = match tokens.next()? {
            Some(origin) => self.name(origin)?,
            None => self.origin.clone(),
        };
        tokens.end_of_entry()?;
        if self.files.len() > MAX_INCLUDE_DEPTH {
            return Err(
                Problem::new(token, format!("files included at most {MAX_INCLUDE_DEPTH} deep")).into()
            );
        }
        if self.summary.includes >= MAX_INCLUDES {
            return Err(Problem::new(token, format!("at most {MAX_INCLUDES} included files")).into());
        }
        let from = self.files.last().map_or("", String::as_str);
        let (shown, text) = self
            .includes
            .open(&file, from)
            .map_err(|reason| Problem::new(token, format!("a file that can be included: {reason}")))?;
        if self.files.contains(&shown) {
            return Err(Problem::new(token, "a file that does not include itself").into());
        }
        self.included_octets = self.included_octets.saturating_add(text.len());
        if self.included_octets > MAX_INCLUDED_OCTETS {
            return Err(Problem::new(token, "included files of at most 4 GiB together").into());
        }
        self.summary.includes = self.summary.includes.saturating_add(1);
        let outer_origin = std::mem::replace(&mut self.origin, origin);
        let outer_owner = self.owner.clone();
        self.files.push(shown);
        let read = self.file(&text);
        self.files.pop();
        self.origin = outer_origin;
        self.owner = outer_owner;
        read.map_err(|error| Fault::Placed(Box::new(error)))
    }

    /// `$GENERATE range owner [ttl] [class] type rdata` (BIND).
    fn generate(&mut self, tokens: &mut Tokens<'_>, line: u32) -> Result<(), Fault> {
        let range = tokens.need("a range as 1-100 or 0-255/2")?;
        let generate = Generate::range(range)?;
        self.generated = self.generated.saturating_add(generate.count());
        if self.generated > self.max_generated {
            let expected = format!("at most {} records from all $GENERATE of a zone", self.max_generated);
            return Err(Problem::new(range, expected).into());
        }
        let owner_template = tokens.need("an owner name with $ in it")?;
        let head = entry::head(tokens)?;
        let rdata_template = tokens.generate_rdata()?;
        let mut text = Vec::new();
        let mut owner = Vec::new();
        for value in generate.values() {
            let made =
                self.generate_one(value, head, [owner_template, rdata_template], &mut text, &mut owner);
            // Its text is on no line of the file but this one.
            made.map_err(|problem| problem.on_line(line))?;
            let octets = owner.len().saturating_add(self.rdata.len());
            self.generated_octets = self.generated_octets.saturating_add(octets);
            if self.generated_octets > self.max_generated_octets {
                let mib = self.max_generated_octets >> 20;
                let expected = format!("at most {mib} MiB of records from all $GENERATE of a zone");
                return Err(Problem::new(range, expected).into());
            }
            let ttl = self.ttl(head)?;
            self.emit(&owner, head.rtype, ttl, line)?;
        }
        Ok(())
    }

    /// Fills in the templates of owner and RDATA and reads both.
    fn generate_one(
        &mut self,
        value: u64,
        head: Head,
        [owner_template, rdata_template]: [Token<'_>; 2],
        text: &mut Vec<u8>,
        owner: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        generate::fill(owner_template, value, text)?;
        owner.clear();
        let mut words = Tokens::new(text);
        names::read(words.need("an owner name")?, Some(&self.origin), owner)?;
        words.end_of_entry()?;
        owner.make_ascii_lowercase();
        generate::fill(rdata_template, value, text)?;
        let mut words = Tokens::new(text);
        self.rdata.clear();
        read::rdata(head.rtype, &mut words, Some(&self.origin), &mut self.rdata)?;
        words.end_of_entry()
    }
}
