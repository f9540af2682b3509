//! Batches: as change sets, and the chain hash is that of the octets; a forged signature is never accepted.

use godwit_wire::feed::{Batch, VerifyingKey};

use crate::{Target, holding, names, samples};

/// Checks the properties.
pub fn run(data: &[u8]) {
    // The secret of this key is known to nobody who writes the input.
    assert!(Batch::verify(data, &[VerifyingKey([9; 32])]).is_err(), "a forged signature is accepted");
    let Ok(batch) = Batch::decode(data) else { return };
    assert_eq!(Batch::chain_of(data), Ok(batch.chain()));
    assert!(batch.last_sequence() >= batch.first_sequence);
    if !samples::is_signed(data) {
        let again = samples::octets(|out| batch.encode(out));
        assert_eq!(again, data, "accepted octets that are written differently");
    }
}

pub(crate) fn target() -> Target {
    Target {
        name: "batch",
        run,
        classes: names(&["one", "several", "signed", "unsigned"]),
        classify: |data| {
            Batch::decode(data).map_or_else(
                |_| Vec::new(),
                |batch| {
                    let signed = Batch::verify(data, &[samples::signing_key().verifying_key()]).is_ok();
                    holding(&[
                        ("one", batch.change_sets.len() == 1),
                        ("several", batch.change_sets.len() > 1),
                        ("signed", signed),
                        ("unsigned", !samples::is_signed(data)),
                    ])
                },
            )
        },
        seeds: || {
            let mut sets = samples::change_sets().into_iter().map(|(_, set)| set);
            let one = samples::batch(sets.by_ref().take(1).collect());
            let several = samples::batch(sets.collect());
            vec![
                ("one".to_owned(), samples::octets(|out| one.encode(out))),
                ("several".to_owned(), samples::octets(|out| several.encode(out))),
                ("signed".to_owned(), samples::octets(|out| one.encode_signed(&samples::signing_key(), out))),
            ]
        },
    }
}
