//! Tests of the feed as a whole.

use super::*;
use crate::rr::{Rrset, Rtype};

#[test]
fn a_change_set_is_read_back() {
    let rrset = Rrset::new(Rtype::A, 60, vec![[192, 0, 2, 2].into(), [192, 0, 2, 1].into()], Vec::new());
    let change_set = ChangeSet {
        id: [7; 16],
        committed_at_us: -1,
        zones: vec![ZoneChange {
            zone: "example.".parse().unwrap(),
            owner: 3,
            base_version: 1,
            version: 2,
            kind: ZoneChangeKind::Update(vec![RrsetChange::Put(OwnedRrset {
                owner: "www.example.".parse().unwrap(),
                rrset,
            })]),
        }],
    };
    let mut octets = Vec::new();
    change_set.encode(&mut octets);
    assert_eq!(ChangeSet::decode(&octets), Ok(change_set));
}
