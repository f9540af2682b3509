//! What is random in a test: from `GODWIT_SEED`, printed, so that a failure can be repeated.

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    /// Says what repeats this run.
    pub(crate) fn seeded() -> Self {
        let seed = seed();
        println!("GODWIT_SEED={seed}");
        Random(seed)
    }

    /// Of this very seed; whoever fails says it.
    pub(crate) fn of(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn octet(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// What `GODWIT_SEED` says.
pub(crate) fn seed() -> u64 {
    std::env::var("GODWIT_SEED").map_or(7, |text| text.parse().expect("GODWIT_SEED is a number"))
}

/// Whether the long modes are asked for.
pub(crate) fn is_long() -> bool {
    std::env::var("GODWIT_LONG").is_ok_and(|long| long == "1")
}
