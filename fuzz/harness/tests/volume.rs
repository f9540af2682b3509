//! A short run of the volume: whatever can be answered comes up, and the same seed makes the same packets.

use godwit_fuzz_harness::volume::{Volume, corpus};

const BATCHES: u64 = 1500;

#[test]
fn every_outcome_comes_up() {
    let corpus = corpus();
    let mut volume = Volume::new(5, &corpus);
    (0..BATCHES).for_each(|number| volume.batch(number));
    let outcomes = &volume.census().outcomes;
    // Silence, and each RCODE that docs/answers.md has; truncated answers, truncated NXDOMAIN included.
    for rcode in
        [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(9), Some(16), Some(23)]
    {
        assert!(outcomes.contains_key(&(rcode, false)), "no {rcode:?} in {outcomes:?}");
    }
    assert!(
        outcomes.contains_key(&(Some(0), true)) && outcomes.contains_key(&(Some(3), true)),
        "{outcomes:?}"
    );
    assert!(volume.census().checked_whole > 100);
}

#[test]
fn the_same_seed_makes_the_same_packets() {
    let corpus = corpus();
    let packets = |seed: u64, numbers: &[u64]| {
        let mut volume = Volume::new(seed, &corpus);
        numbers.iter().for_each(|number| volume.batch(*number));
        volume.last_packets().map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert_eq!(packets(1, &[7]), packets(1, &[3, 9, 7]));
    assert_ne!(packets(1, &[7]), packets(2, &[7]));
    assert_ne!(packets(1, &[7]), packets(1, &[8]));
}
