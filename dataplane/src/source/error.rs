//! What is wrong with a zone or with the list of zones, and where.

use std::path::Path;

use godwit_wire::name::Name;
use godwit_wire::zonefile;

/// Why a zone is not served, or not in its newest version: `zone ORIGIN: file:line: "token": reason`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZoneError {
    /// The zone; `None` when the list of zones is wrong.
    pub zone: Option<Name>,
    /// The file at fault, which may be an included one.
    pub file: String,
    /// The line, from 1; `None` when it is about the file or the zone as a whole.
    pub line: Option<u32>,
    /// The token at fault.
    pub token: Option<String>,
    /// What is wrong, or what was expected.
    pub reason: String,
}

impl std::error::Error for ZoneError {}

impl std::fmt::Display for ZoneError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(zone) = &self.zone {
            write!(f, "zone {zone}: ")?;
        }
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": ")?;
        if let Some(token) = &self.token {
            write!(f, "\"{token}\": ")?;
        }
        write!(f, "{}", self.reason)
    }
}

impl ZoneError {
    /// About a whole file.
    pub(super) fn of_file(zone: Option<&Name>, file: &Path, reason: impl Into<String>) -> Self {
        ZoneError {
            zone: zone.cloned(),
            file: file.display().to_string(),
            line: None,
            token: None,
            reason: reason.into(),
        }
    }

    /// About the text of a zone file.
    pub(super) fn of_text(zone: &Name, error: zonefile::Error) -> Self {
        ZoneError {
            zone: Some(zone.clone()),
            file: error.file,
            line: Some(error.line),
            token: error.token,
            reason: error.reason,
        }
    }
}
