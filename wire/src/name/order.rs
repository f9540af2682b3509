//! Canonical order of names (RFC 4034 §6.1).

use std::cmp::Ordering;

use super::{MAX_LABELS, NameRef};

/// Canonical order (RFC 4034 §6.1): label by label from the right, each as octets, absent before present.
///
/// Names that are compared often end alike, as those of one zone do: what is compared label by label is only what stands
/// before their common end.
impl Ord for NameRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let common = common_end(self.0, other.0);
        let (our_label, our_rest) = label_before(self.0, common);
        let (their_label, their_rest) = label_before(other.0, common);
        if our_rest == their_rest {
            // Behind these labels both names are the same octets from a label on. No label comes before any label.
            our_label.cmp(&their_label)
        } else {
            // The octets agree, their division into labels does not: a label contains what looks like a label.
            self.cmp_labels(*other)
        }
    }
}

/// How many octets at the end are the same.
fn common_end(a: &[u8], b: &[u8]) -> usize {
    let mut common = 0usize;
    for (a, b) in a.as_rchunks::<8>().1.iter().rev().zip(b.as_rchunks::<8>().1.iter().rev()) {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return common.saturating_add((differing.leading_zeros() / 8) as usize);
        }
        common = common.saturating_add(8);
    }
    let [a, b] = [a, b].map(|name| name.get(..name.len().saturating_sub(common)).unwrap_or_default());
    common.saturating_add(a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count())
}

/// The label that ends at, or has its end inside, the last `common` octets, and how many octets follow it. No
/// label when the whole name is within them.
fn label_before(name: &[u8], common: usize) -> (Option<&[u8]>, usize) {
    if name.len() <= common {
        return (None, name.len());
    }
    let mut rest = name;
    while let Some((&len, behind)) = rest.split_first()
        && let Some((label, next)) = behind.split_at_checked(usize::from(len))
        && len > 0
    {
        if next.len() <= common {
            return (Some(label), next.len());
        }
        rest = next;
    }
    (None, rest.len())
}

impl NameRef<'_> {
    /// Canonical order, all labels looked at.
    #[cold]
    fn cmp_labels(self, other: NameRef<'_>) -> Ordering {
        let mut ours = [0u8; MAX_LABELS + 1];
        let mut theirs = [0u8; MAX_LABELS + 1];
        let ours_count = label_starts(self.0, &mut ours);
        let theirs_count = label_starts(other.0, &mut theirs);
        let ours = ours.get(..ours_count).unwrap_or_default().iter().rev();
        let theirs = theirs.get(..theirs_count).unwrap_or_default().iter().rev();
        for (&a, &b) in ours.zip(theirs) {
            match label_at(self.0, a).cmp(label_at(other.0, b)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
        }
        ours_count.cmp(&theirs_count)
    }
}

/// Writes where each label's length octet stands; returns how many labels there are.
fn label_starts(octets: &[u8], starts: &mut [u8; MAX_LABELS + 1]) -> usize {
    let mut at = 0u8;
    let mut count = 0usize;
    for slot in starts.iter_mut() {
        match octets.get(usize::from(at)) {
            None | Some(0) => break,
            Some(&len) => {
                *slot = at;
                count = count.saturating_add(1);
                at = at.saturating_add(len).saturating_add(1);
            }
        }
    }
    count
}

fn label_at(octets: &[u8], start: u8) -> &[u8] {
    let rest = octets.get(usize::from(start)..).unwrap_or_default();
    rest.split_first().and_then(|(&len, rest)| rest.get(..usize::from(len))).unwrap_or_default()
}

impl PartialOrd for NameRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::super::{MAX_LABELS, Name};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn canonical_order_is_that_of_the_rfc() {
        // RFC 4034 §6.1, its own example.
        let sorted = [
            "example.",
            "a.example.",
            "yljkjljk.a.example.",
            "Z.a.example.",
            "zABC.a.EXAMPLE.",
            "z.example.",
            "\\001.z.example.",
            "*.z.example.",
            "\\200.z.example.",
        ];
        for pair in sorted.windows(2) {
            assert!(name(pair[0]) < name(pair[1]), "{pair:?}");
        }
    }

    /// Labels from the right, as the RFC has it.
    fn slow_cmp(a: &Name, b: &Name) -> Ordering {
        let from_the_right = |name: &Name| {
            let mut labels: Vec<Vec<u8>> = name.as_ref().labels().map(<[u8]>::to_vec).collect();
            labels.reverse();
            labels
        };
        from_the_right(a).cmp(&from_the_right(b))
    }

    /// Names with common ends, and with labels that hold octets which look like lengths.
    fn names() -> impl Strategy<Value = Name> {
        let octet = prop_oneof![0u8..4, b'a'..b'd', Just(255)];
        let label = proptest::collection::vec(octet, 1..12);
        (proptest::collection::vec(label, 0..5), 0usize..3).prop_map(|(labels, end)| {
            let end: &[u8] = [&b"\0"[..], b"\x01a\0", b"\x07example\x03com\0"][end];
            let mut wire: Vec<u8> = Vec::new();
            for label in labels {
                wire.push(u8::try_from(label.len()).unwrap());
                wire.extend(label);
            }
            wire.extend_from_slice(end);
            Name::from_wire(&wire).unwrap()
        })
    }

    proptest! {
        #[test]
        fn names_are_ordered_as_their_labels_from_the_right(a in names(), b in names()) {
            prop_assert_eq!(a.cmp(&b), slow_cmp(&a, &b), "{} {}", a, b);
            prop_assert_eq!(a.cmp(&b).is_eq(), a == b);
        }
    }

    #[test]
    fn labels_that_contain_what_looks_like_labels_are_ordered_right() {
        // From the right: `com` comes before `d\003com`, though both names end with the same octets, and `b` follows
        // `com` in one of them only.
        let wires: [&[u8]; 4] =
            [b"\x01d\x03com\x00", b"\x06xd\x03com\x00", b"\x05b\x03com\x00", b"\x01z\x01b\x03com\x00"];
        let names = wires.map(|wire| Name::from_wire(wire).unwrap());
        for a in &names {
            for b in &names {
                assert_eq!(a.cmp(b), slow_cmp(a, b), "{a} {b}");
            }
        }
    }

    #[test]
    fn most_labels_are_ordered_too() {
        let most = "a.".repeat(MAX_LABELS);
        assert_eq!(name(&most).as_ref().label_count(), MAX_LABELS);
        assert!(name(&most) > name(&"a.".repeat(MAX_LABELS - 1)));
        assert!(name("b.") > name(&most));
    }
}
