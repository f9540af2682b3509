//! Names outside ASCII (IDNA, UTS 46): read as people write them, kept as A-labels; and whether A-labels are what somebody would
//! have written.

use godwit_wire::name::Name;
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use crate::error::{Code, Problem};
use crate::validate::name;

/// What A-labels begin with.
const PREFIX: &[u8] = b"xn--";

/// Reads the name of a zone that is to be made, or claimed: as [`name::absolute`], and outside ASCII as people write it.
///
/// # Errors
/// `INVALID_NAME`.
pub(crate) fn read(text: &str) -> Result<Name, Problem> {
    if text.is_ascii() {
        return name::absolute(text);
    }
    let ascii = Uts46::new().to_ascii(
        text.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::Check,
        DnsLength::VerifyAllowRootDot,
    );
    match ascii {
        Ok(ascii) => name::absolute(&ascii),
        Err(_) => {
            let shown: String = text.chars().take(100).collect();
            let message = format!("\"{shown}\" is not a valid name: it has no form in ASCII (UTS 46)");
            Err(Problem::new(Code::InvalidName, message))
        }
    }
}

/// Whether a label says that it stands for one outside ASCII.
pub(super) fn is_a_label(label: &[u8]) -> bool {
    label.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Whether what says that it is an A-label is one: it stands for a label that has this form and no other.
pub(super) fn is_genuine(label: &[u8]) -> bool {
    let (shown, good) = Uts46::new().to_unicode(label, AsciiDenyList::STD3, Hyphens::Check);
    if good.is_err() || shown.is_ascii() {
        return false;
    }
    let again = Uts46::new().to_ascii(
        shown.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::Check,
        DnsLength::VerifyAllowRootDot,
    );
    again.is_ok_and(|again| again.as_bytes().eq_ignore_ascii_case(label))
}

/// A label as it is shown to people.
pub(super) fn shown(label: &[u8]) -> String {
    if is_a_label(label) && is_genuine(label) {
        return Uts46::new().to_unicode(label, AsciiDenyList::STD3, Hyphens::Check).0.into_owned();
    }
    String::from_utf8_lossy(label).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        for (text, expected) in [
            ("bücher.example.", Some("xn--bcher-kva.example.")),
            ("BÜCHER.Example", Some("xn--bcher-kva.example.")),
            ("faß.example.", Some("xn--fa-hia.example.")),
            ("例え.test", Some("xn--r8jz45g.test.")),
            ("ｗｗｗ.example.", Some("www.example.")),
            ("例え。test", Some("xn--r8jz45g.test.")),
            ("www.example.com.", Some("www.example.com.")),
            ("a\u{200D}b.example.", None),
            ("-ü.example.", None),
            ("ü_x.example.", None),
            ("ü..example.", None),
            ("\u{301}u.example.", None),
            ("☃\u{FE0F}\u{200B}\u{FFFE}.example.", None),
        ] {
            let read = read(text);
            assert_eq!(read.as_ref().ok().map(ToString::to_string).as_deref(), expected, "{text}");
            if let Err(problem) = read {
                assert_eq!(problem.code, Code::InvalidName);
            }
        }
    }

    #[test]
    fn only_what_somebody_would_have_written_is_an_a_label() {
        for good in ["xn--bcher-kva", "XN--BCHER-KVA", "xn--r8jz45g"] {
            assert!(is_a_label(good.as_bytes()) && is_genuine(good.as_bytes()), "{good}");
        }
        // No punycode; of ASCII alone; of a capital letter; of what is no letter of a name.
        for bad in
            ["xn--", "xn--a", "xn--abc-", "xn--bcher-kv", "xn--BCHER-9sA\u{0}", "xn--99999999", "xn--www-"]
        {
            assert!(is_a_label(bad.as_bytes()) && !is_genuine(bad.as_bytes()), "{bad}");
        }
        assert!(!is_a_label(b"xn-a") && !is_a_label(b"www"));
        assert_eq!(shown(b"xn--bcher-kva"), "bücher");
    }
}
