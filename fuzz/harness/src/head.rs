//! Heads, of the feed and of a record cache: any octets give a value or an error, a value has one encoding, a forged signature is never accepted.

use godwit_wire::feed::{CacheHead, Digest, Head, IndexPlace, VerifyingKey};

use crate::{Target, holding, names, samples};

/// Checks the properties.
pub fn run(data: &[u8]) {
    assert!(Head::verify(data, &[VerifyingKey([9; 32])]).is_err(), "a forged signature is accepted");
    if let Ok(head) = Head::decode(data)
        && !samples::is_signed(data)
    {
        let again = samples::octets(|out| head.encode(out));
        assert_eq!(again, data, "accepted octets that are written differently");
    }
    assert!(CacheHead::verify(data, &[VerifyingKey([9; 32])]).is_err(), "a forged signature is accepted");
    if let Ok(head) = CacheHead::decode(data)
        && !samples::is_signed(data)
    {
        assert!(Head::decode(data).is_err(), "of two kinds");
        let again = samples::octets(|out| head.encode(out));
        assert_eq!(again, data, "accepted octets that are written differently");
    }
}

pub(crate) fn target() -> Target {
    Target {
        name: "head",
        run,
        classes: names(&["start", "later", "signed", "of a cache"]),
        classify: |data| {
            if CacheHead::decode(data).is_ok() {
                return names(&["of a cache"]);
            }
            Head::decode(data).map_or_else(
                |_| Vec::new(),
                |head| {
                    let signed = Head::verify(data, &[samples::signing_key().verifying_key()]).is_ok();
                    holding(&[
                        ("start", head.sequence == 0),
                        ("later", head.sequence > 0),
                        ("signed", signed),
                    ])
                },
            )
        },
        seeds: || {
            let later = Head {
                generation: 1,
                epoch: 2,
                sequence: 3,
                chain: [4; 32],
                root_digest: Digest::from_bytes([5; 32]),
            };
            let start = Head { sequence: 0, chain: [0; 32], root_digest: Digest::default(), ..later };
            let place = IndexPlace { generation: 1, epoch: 2, sequence: 3, chain: [4; 32], settled: 5 };
            let of_a_cache = CacheHead { place, sum: Digest::from_bytes([5; 32]) };
            vec![
                ("of-a-cache".to_owned(), samples::octets(|out| of_a_cache.encode(out))),
                ("start".to_owned(), samples::octets(|out| start.encode(out))),
                ("later".to_owned(), samples::octets(|out| later.encode(out))),
                (
                    "signed".to_owned(),
                    samples::octets(|out| later.encode_signed(&samples::signing_key(), out)),
                ),
            ]
        },
    }
}
