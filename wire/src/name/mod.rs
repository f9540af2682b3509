//! Domain names as look-ups use them: uncompressed wire format, lower case, in canonical order.
//!
//! Presentation format goes through `domain`. The case in which a client wrote a name is kept by whoever
//! echoes it; owner names are stored and compared in lower case only (RFC 4343).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use domain::base::name::Name as DomainName;

mod order;

/// The most octets a name takes in wire format, the root label included (RFC 1035 §2.3.4).
pub const MAX_NAME_OCTETS: usize = 255;
/// The most octets of one label (RFC 1035 §2.3.4).
pub const MAX_LABEL_OCTETS: usize = 63;
/// The most labels of a name, the root label not counted (127 labels of one octet, RFC 1035 §2.3.4).
pub const MAX_LABELS: usize = 127;

/// Why octets or text are not a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// The octets end before the root label.
    #[error("name ends before its root label")]
    Short,
    /// A label length above 63 (a compression pointer, or an unknown label type).
    #[error("label longer than 63 octets, or a compression pointer where none may be")]
    BadLabel,
    /// More than 255 octets.
    #[error("name longer than 255 octets")]
    TooLong,
    /// Octets follow the root label.
    #[error("octets after the root label")]
    Trailing,
    /// The text is not a name in presentation format.
    #[error("not a domain name in presentation format")]
    BadText,
}

/// A valid name in lower-case uncompressed wire format, borrowed.
///
/// Shape: 1–255 octets, labels of 1–63 octets each behind its length, then the root label (one zero octet).
/// Ordered canonically (RFC 4034 §6.1).
#[derive(Clone, Copy, Eq, PartialEq, Hash)]
pub struct NameRef<'a>(&'a [u8]);

/// A valid name in lower-case uncompressed wire format, owned. See [`NameRef`] for the shape.
#[derive(Clone, Eq, PartialEq, Hash)]
pub struct Name(Box<[u8]>);

impl<'a> NameRef<'a> {
    /// The root name.
    pub const ROOT: NameRef<'static> = NameRef(&[0]);

    /// Takes octets that are a whole uncompressed name and are in lower case already.
    ///
    /// # Errors
    /// [`NameError`] when they are not a name; upper-case octets give [`NameError::BadText`].
    pub fn from_wire(octets: &'a [u8]) -> Result<Self, NameError> {
        let len = wire_len(octets)?;
        if len != octets.len() {
            return Err(NameError::Trailing);
        }
        if octets.iter().any(u8::is_ascii_uppercase) {
            return Err(NameError::BadText);
        }
        Ok(NameRef(octets))
    }

    /// Takes octets that the caller has validated and lower-cased already (look-up scratch, the store's nodes).
    ///
    /// Not checked again, as this stands on the query path; a wrong name can make an answer wrong, never unsafe.
    #[must_use]
    pub fn from_checked(octets: &'a [u8]) -> Self {
        debug_assert!(wire_len(octets) == Ok(octets.len()), "not a name: {octets:?}");
        NameRef(octets)
    }

    /// The octets, root label included.
    #[must_use]
    pub fn as_wire(self) -> &'a [u8] {
        self.0
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(self) -> bool {
        self.0.len() <= 1
    }

    /// Whether the first label is `*` (RFC 4592 §2.1.1).
    #[must_use]
    pub fn is_wildcard(self) -> bool {
        self.0.starts_with(&[1, b'*'])
    }

    /// The labels from left to right, the root label not included.
    #[must_use]
    pub fn labels(self) -> Labels<'a> {
        Labels(self.0)
    }

    /// How many labels, the root label not counted (as in the Labels field of RRSIG, RFC 4034 §3.1.3,
    /// but with a leading `*` counted).
    #[must_use]
    pub fn label_count(self) -> usize {
        self.labels().count()
    }

    /// The name without its first label; `None` for the root.
    #[must_use]
    pub fn parent(self) -> Option<NameRef<'a>> {
        let (&len, rest) = self.0.split_first()?;
        if len == 0 {
            return None;
        }
        rest.get(usize::from(len)..).map(NameRef)
    }

    /// The names above this one: the closest first, the root last.
    pub fn ancestors(self) -> impl Iterator<Item = NameRef<'a>> {
        std::iter::successors(self.parent(), |name| name.parent())
    }

    /// Whether this name is `other` or below it.
    #[must_use]
    pub fn is_at_or_below(self, other: NameRef<'_>) -> bool {
        let Some(skip) = self.0.len().checked_sub(other.0.len()) else {
            return false;
        };
        if self.0.get(skip..) != Some(other.0) {
            return false;
        }
        // The suffix must begin at a label, not inside one.
        let mut at = 0usize;
        while at < skip {
            at = at.saturating_add(1).saturating_add(self.0.get(at).copied().map_or(usize::MAX, usize::from));
        }
        at == skip
    }

    /// Whether this name is below `other`, and not `other` itself.
    #[must_use]
    pub fn is_below(self, other: NameRef<'_>) -> bool {
        self.0.len() > other.0.len() && self.is_at_or_below(other)
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(self) -> Name {
        Name(self.0.into())
    }
}

impl Name {
    /// The root name.
    #[must_use]
    pub fn root() -> Self {
        Name(Box::new([0]))
    }

    /// Takes octets that are a whole uncompressed name, in any case; stores them in lower case.
    ///
    /// # Errors
    /// [`NameError`] when they are not a name.
    pub fn from_wire(octets: &[u8]) -> Result<Self, NameError> {
        let len = wire_len(octets)?;
        if len != octets.len() {
            return Err(NameError::Trailing);
        }
        Ok(Name(octets.to_ascii_lowercase().into()))
    }

    /// The borrowed form.
    #[must_use]
    pub fn as_ref(&self) -> NameRef<'_> {
        NameRef(&self.0)
    }

    /// The octets, root label included.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// `*.` and this name: the source of synthesis below this closest encloser (RFC 4592 §3.3.1).
    /// `None` when that is too long to exist.
    #[must_use]
    pub fn wildcard_child(&self) -> Option<Name> {
        if self.0.len() > MAX_NAME_OCTETS.saturating_sub(2) {
            return None;
        }
        let mut octets = Vec::with_capacity(self.0.len().saturating_add(2));
        octets.extend_from_slice(&[1, b'*']);
        octets.extend_from_slice(&self.0);
        Some(Name(octets.into()))
    }
}

/// The length of the uncompressed name at the start of `octets`, root label included.
///
/// # Errors
/// [`NameError::Short`], [`NameError::BadLabel`] or [`NameError::TooLong`].
pub fn wire_len(octets: &[u8]) -> Result<usize, NameError> {
    let mut at = 0usize;
    loop {
        let len = usize::from(*octets.get(at).ok_or(NameError::Short)?);
        if len > MAX_LABEL_OCTETS {
            return Err(NameError::BadLabel);
        }
        at = at.saturating_add(len).saturating_add(1);
        if at > MAX_NAME_OCTETS {
            return Err(NameError::TooLong);
        }
        if len == 0 {
            return Ok(at);
        }
    }
}

/// The labels of a name from left to right. See [`NameRef::labels`].
#[derive(Clone, Debug)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.0.split_first()?;
        if len == 0 {
            return None;
        }
        let (label, rest) = rest.split_at_checked(usize::from(len))?;
        self.0 = rest;
        Some(label)
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(&other.as_ref())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Name {
    type Err = NameError;

    /// Reads presentation format; a missing final dot makes no difference.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(name) = plain_name(text.as_bytes()) {
            return Ok(name);
        }
        let name: DomainName<Vec<u8>> = DomainName::from_str(text).map_err(|_| NameError::BadText)?;
        Name::from_wire(name.as_slice())
    }
}

/// A name of letters, digits, hyphens and underscores, as nearly all are: what `domain` reads, in a fraction of its
/// time, as there may be names by the hundred thousand. `None` for what is wrong, and for what has other octets in it.
fn plain_name(text: &[u8]) -> Option<Name> {
    if !text.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_')) {
        return None;
    }
    let text = text.strip_suffix(b".").unwrap_or(text);
    let mut octets = Vec::with_capacity(text.len().saturating_add(2));
    for label in text.split(|&octet| octet == b'.') {
        if !(1..=MAX_LABEL_OCTETS).contains(&label.len()) {
            return None;
        }
        octets.push(u8::try_from(label.len()).ok()?);
        octets.extend_from_slice(label);
    }
    octets.push(0);
    octets.make_ascii_lowercase();
    (octets.len() <= MAX_NAME_OCTETS).then(|| Name(octets.into()))
}

/// Presentation format with the final dot; octets that are not printable ASCII, dots and backslashes escaped.
impl fmt::Display for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DomainName::from_octets(self.0) {
            Ok(name) => write!(f, "{}", name.fmt_with_dot()),
            Err(_) => f.write_str("<invalid>"),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Debug for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    proptest! {
        #[test]
        fn plain_names_are_what_domain_reads(text in "([a-zA-Z0-9_-]{0,9}\\.){0,5}[a-z]{0,2}|[a-z.]{0,8}|([a-z]{60,64}\\.){2,4}[a-z]{0,63}\\.?") {
            let read = DomainName::<Vec<u8>>::from_str(&text).ok().map(|name| Name::from_wire(name.as_slice()).unwrap());
            // The root stands for itself.
            let expected = read.filter(|name| !name.as_ref().is_root());
            prop_assert_eq!(plain_name(text.as_bytes()), expected, "{}", text);
        }
    }

    #[test]
    fn below_respects_label_borders() {
        for (sub, sup, at_or_below, below) in [
            ("example.", "example.", true, false),
            ("www.example.", "example.", true, true),
            ("wwwexample.", "example.", false, false),
            ("example.", "www.example.", false, false),
            ("a.b.", ".", true, true),
            (".", ".", true, false),
            // The octets of the longer name's first label end like the shorter name.
            ("a\\007example.", "example.", false, false),
        ] {
            assert_eq!(name(sub).as_ref().is_at_or_below(name(sup).as_ref()), at_or_below, "{sub} {sup}");
            assert_eq!(name(sub).as_ref().is_below(name(sup).as_ref()), below, "{sub} {sup}");
        }
    }

    #[test]
    fn limits_of_length_hold() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}.", "a".repeat(61));
        assert_eq!(name(&longest).as_wire().len(), MAX_NAME_OCTETS);
        assert!(Name::from_str(&format!("{label}.{label}.{label}.{}.", "a".repeat(62))).is_err());
        assert!(Name::from_str(&format!("{}.", "a".repeat(64))).is_err());
        assert_eq!(wire_len(&[0xC0, 12]), Err(NameError::BadLabel));
        assert_eq!(wire_len(&[3, b'a', b'b']), Err(NameError::Short));
        assert_eq!(Name::from_wire(&[0, 0]), Err(NameError::Trailing));
        assert_eq!(name("A.").as_wire(), &[1, b'a', 0]);
        assert!(name(&longest).wildcard_child().is_none());
    }
}
