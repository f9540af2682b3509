//! Harm that one record does to who applies it, for tests: `GODWIT_PLANTED=panic|loop|memory|stack:OWNER`. Only where debug
//! assertions are on, which they are in no release.

use std::hint::black_box;

use godwit_wire::name::{Name, NameRef};

/// In the environment.
pub(super) const VARIABLE: &str = "GODWIT_PLANTED";

/// See the module.
#[derive(Debug)]
pub(super) struct Planted {
    owner: Name,
    harm: fn(),
}

impl Planted {
    pub(super) fn of_environment() -> Option<Planted> {
        let text = std::env::var(VARIABLE).ok()?;
        let (harm, owner) = text.split_once(':')?;
        let harm: fn() = match harm {
            "panic" => || panic!("planted"),
            "loop" => || while black_box(true) {},
            "memory" => || {
                let mut taken = Vec::new();
                while black_box(true) {
                    taken.push(vec![1_u8; 16 << 20]);
                }
            },
            "stack" => || {
                black_box(deeper(0));
            },
            _ => return None,
        };
        Some(Planted { owner: owner.parse().ok()?, harm })
    }

    pub(super) fn strike(&self, owner: NameRef<'_>) {
        if self.owner.as_ref() == owner {
            (self.harm)();
        }
    }
}

fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 128]);
    if black_box(true) { deeper(depth + 1) + frame.iter().sum::<u64>() } else { depth }
}
