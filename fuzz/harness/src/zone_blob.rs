//! Zone blobs: as they come, and with their checksum made right, so that a change reaches what it covers.

use godwit_wire::feed::{Digest, VerifyingKey, ZoneBlob};

use crate::{Target, holding, names, samples};

const CHECKSUM_OCTETS: usize = 32;

/// Checks the properties.
pub fn run(data: &[u8]) {
    assert!(ZoneBlob::verify(data, &[VerifyingKey([9; 32])]).is_err(), "a forged signature is accepted");
    check(data);
    if !samples::is_signed(data) && data.len() >= CHECKSUM_OCTETS {
        let covered = &data[..data.len() - CHECKSUM_OCTETS];
        check(&[covered, blake3::hash(covered).as_bytes()].concat());
    }
}

fn check(data: &[u8]) {
    let Ok(blob) = ZoneBlob::decode(data) else { return };
    if !samples::is_signed(data) {
        let again = samples::octets(|out| blob.encode(out));
        assert_eq!(again, data, "accepted octets that are written differently");
    }
}

pub(crate) fn target() -> Target {
    Target {
        name: "zone_blob",
        run,
        classes: names(&["empty", "records", "signatures", "signed"]),
        classify: |data| {
            ZoneBlob::decode(data).map_or_else(
                |_| Vec::new(),
                |blob| {
                    let signed = ZoneBlob::verify(data, &[samples::signing_key().verifying_key()]).is_ok();
                    holding(&[
                        ("empty", blob.rrsets.is_empty()),
                        ("records", !blob.rrsets.is_empty()),
                        ("signatures", blob.rrsets.iter().any(|owned| !owned.rrset.rrsigs.is_empty())),
                        ("signed", signed),
                    ])
                },
            )
        },
        seeds: || {
            let blob = |rrsets| ZoneBlob {
                zone: samples::name("plain.test."),
                owner: 1,
                version: 2,
                digest: Digest::from_bytes([3; 32]),
                rrsets,
            };
            let empty = blob(vec![]);
            let records = blob(vec![
                samples::owned("plain.test.", "NS", &["ns.plain.test."], false),
                samples::owned("plain.test.", "TXT", &["\"some text\""], false),
                samples::owned("www.plain.test.", "A", &["192.0.2.1", "192.0.2.2"], false),
            ]);
            let signatures = blob(vec![samples::owned("plain.test.", "MX", &["10 mail.test."], true)]);
            vec![
                ("empty".to_owned(), samples::octets(|out| empty.encode(out))),
                ("records".to_owned(), samples::octets(|out| records.encode(out))),
                ("signatures".to_owned(), samples::octets(|out| signatures.encode(out))),
                (
                    "signed".to_owned(),
                    samples::octets(|out| records.encode_signed(&samples::signing_key(), out)),
                ),
            ]
        },
    }
}
