//! Names as database keys: octets that compare as names do in canonical order (RFC 4034 §6.1), so that an index on
//! them is an index on names, and everything below a name shares its key as prefix.

use godwit_wire::name::{Name, NameRef};

/// Ends a label. Below every octet that can follow in a longer label: a zero octet inside one is escaped.
const END: [u8; 2] = [0, 0];
/// What a zero octet inside a label becomes.
const ZERO: [u8; 2] = [0, 0xFF];

/// The key of a name.
///
/// Shape: labels from right to left, the root label left out; a zero octet in a label as `00 FF`, each label ended by
/// `00 00`. The root has the empty key.
#[must_use]
pub fn encode(name: NameRef<'_>) -> Vec<u8> {
    let labels: Vec<&[u8]> = name.labels().collect();
    let mut key = Vec::with_capacity(name.as_wire().len() + labels.len());
    for label in labels.iter().rev() {
        for &octet in *label {
            match octet {
                0 => key.extend_from_slice(&ZERO),
                octet => key.push(octet),
            }
        }
        key.extend_from_slice(&END);
    }
    key
}

/// The name of a key; `None` when the octets are no key of a name.
#[must_use]
pub fn decode(key: &[u8]) -> Option<Name> {
    let mut labels: Vec<Vec<u8>> = Vec::new();
    let mut label = Vec::new();
    let mut octets = key.iter().copied();
    while let Some(octet) = octets.next() {
        match (octet, if octet == 0 { octets.next() } else { None }) {
            (0, Some(0)) => labels.push(std::mem::take(&mut label)),
            (0, Some(0xFF)) => label.push(0),
            (0, _) => return None,
            (octet, _) => label.push(octet),
        }
    }
    if !label.is_empty() {
        return None;
    }
    let mut wire = Vec::with_capacity(key.len());
    for label in labels.iter().rev() {
        wire.push(u8::try_from(label.len()).ok().filter(|&len| len > 0)?);
        wire.extend_from_slice(label);
    }
    wire.push(0);
    Name::from_wire(&wire).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> impl Strategy<Value = Name> {
        // Labels from few octets, so that equal beginnings and zero octets are common.
        let label =
            prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', b'b', 0xFE, 0xFF, b'.']), 1..5);
        prop::collection::vec(label, 0..5).prop_map(|labels| {
            let mut wire = Vec::new();
            for label in labels {
                wire.push(u8::try_from(label.len()).unwrap());
                wire.extend(label);
            }
            wire.push(0);
            Name::from_wire(&wire).unwrap()
        })
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_names_and_read_back(a in names(), b in names()) {
            let (key_a, key_b) = (encode(a.as_ref()), encode(b.as_ref()));
            prop_assert_eq!(key_a.cmp(&key_b), a.cmp(&b));
            prop_assert_eq!(key_a.starts_with(&key_b), a.as_ref().is_at_or_below(b.as_ref()));
            prop_assert_eq!(decode(&key_a), Some(a));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for octets in [&b"a"[..], &[0], &[0, 1], &[0, 0], &[b'a', 0, 0, b'b']] {
            assert_eq!(decode(octets), None, "{octets:?}");
        }
        assert_eq!(decode(&[]), Some(Name::root()));
    }
}
