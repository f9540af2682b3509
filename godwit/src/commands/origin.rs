//! Which zone a zone file is, when nobody says so.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use godwit_wire::name::Name;

use crate::output::Wrong;

/// How much of a file is looked at for its first line.
const START_OCTETS: u64 = 1 << 16;

/// The name given, else that in the file's name (`ORIGIN.zone`, `db.ORIGIN`), else the first `$ORIGIN` where it comes
/// before any record. Nothing is guessed beyond that.
pub(super) fn of(file: &Path, given: Option<&str>, flag: &str) -> Result<Name, Wrong> {
    if let Some(text) = given {
        return text.parse().map_err(|error| Wrong(format!("{flag} {text}: {error}")));
    }
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = name.strip_suffix(".zone").or_else(|| name.strip_prefix("db."));
    if let Some(apex) = stem.filter(|stem| !stem.is_empty()).and_then(|stem| stem.parse().ok()) {
        return Ok(apex);
    }
    from_text(file).ok_or_else(|| {
        Wrong(format!("{}: which zone is it? Say {flag} NAME, or name the file NAME.zone", file.display()))
    })
}

/// The first line that is neither empty nor a comment nor `$TTL`, if it is an absolute `$ORIGIN` (RFC 1035 §5.1).
fn from_text(file: &Path) -> Option<Name> {
    // A pipe could block, a device never end.
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    File::open(file).ok()?.take(START_OCTETS).read_to_end(&mut text).ok()?;
    let start = String::from_utf8_lossy(&text);
    let line = start.lines().map(|line| line.split(';').next().unwrap_or_default().trim()).find(|line| {
        !line.is_empty() && !line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("$TTL "))
    })?;
    let mut words = line.split_ascii_whitespace();
    let directive = words.next()?;
    let name = words.next()?;
    (directive.eq_ignore_ascii_case("$ORIGIN") && name.ends_with('.')).then(|| name.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_found_by_flag_name_and_text() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, given, expected) in [
            ("example.org.zone", "", None, Some("example.org.")),
            ("db.example.org", "", None, Some("example.org.")),
            ("zone", "; x\n$TTL 1h\n$origin example.net. ; y\n", None, Some("example.net.")),
            ("zone", "$ORIGIN net.\n", Some("example.com"), Some("example.com.")),
            ("zone", "www A 192.0.2.1\n$ORIGIN example.net.\n", None, None),
            ("zone", "$ORIGIN example\n", None, None),
            ("zone", "", Some("a..b"), None),
        ] {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            let found = of(&file, given, "--origin").ok().map(|name| name.to_string());
            assert_eq!(found.as_deref(), expected, "{name}: {text:?}");
        }
    }
}
