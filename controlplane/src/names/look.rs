//! What a label looks like: two that look alike have the same skeleton (UTS 39), and only one of them is taken below a suffix.

use unicode_security::{MixedScript as _, skeleton};

use super::idna;

/// The skeleton of a label as it stands in a name.
pub(super) fn of_label(label: &[u8]) -> String {
    let shown = idna::shown(label);
    // A 0 looks like an O, and an O is an o here.
    skeleton(&shown).collect::<String>().to_lowercase()
}

/// Whether a label is of one script, as people write it: of several it can look like any other.
pub(super) fn is_of_one_script(label: &[u8]) -> bool {
    idna::shown(label).as_str().is_single_script()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> Vec<u8> {
        let name = idna::read(&format!("{text}.test")).unwrap();
        name.as_ref().labels().next().unwrap().to_vec()
    }

    #[test]
    fn what_looks_alike_has_one_skeleton() {
        for (one, other) in [
            ("paypal", "paypa1"),
            ("bob0", "bobo"),
            ("modern", "modem"),
            ("apple", "аррӏе"),
            ("PayPal", "paypal"),
        ] {
            assert_eq!(of_label(&label(one)), of_label(&label(other)), "{one} {other}");
        }
        for (one, other) in [("alice", "alicia"), ("bücher", "bucher"), ("a-b", "ab"), ("xn", "nx")] {
            assert_ne!(of_label(&label(one)), of_label(&label(other)), "{one} {other}");
        }
    }

    #[test]
    fn scripts_are_not_mixed_but_as_people_do() {
        for one in ["alice", "alice-1", "bücher", "пример", "例え", "テスト例", "한국"] {
            assert!(is_of_one_script(&label(one)), "{one}");
        }
        for several in ["pаypal", "аlice", "googlе", "aβc"] {
            assert!(!is_of_one_script(&label(several)), "{several}");
        }
    }
}
