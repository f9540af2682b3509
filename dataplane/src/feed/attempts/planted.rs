//! Harm that one record does to who applies it, for tests: `GODWIT_PLANTED=panic|loop|memory|stack:OWNER`. Only where debug
//! assertions are on, which they are in no release.

use std::hint::black_box;
use std::time::Duration;

use godwit_wire::name::{Name, NameRef};

/// See the module.
#[derive(Clone, Debug)]
pub struct Planted {
    /// Whose record it is.
    pub owner: Name,
    /// What it does.
    pub harm: Harm,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "they are what they say")]
pub enum Harm {
    Panic,
    Loop,
    Memory,
    Stack,
}

impl Planted {
    pub(super) fn of_environment() -> Option<Planted> {
        let text = std::env::var("GODWIT_PLANTED").ok()?;
        let (harm, owner) = text.split_once(':')?;
        let harm = match harm {
            "panic" => Harm::Panic,
            "loop" => Harm::Loop,
            "memory" => Harm::Memory,
            "stack" => Harm::Stack,
            _ => return None,
        };
        Some(Planted { owner: owner.parse().ok()?, harm })
    }

    pub(super) fn strike(&self, owner: NameRef<'_>) {
        if self.owner.as_ref() != owner {
            return;
        }
        match self.harm {
            Harm::Panic => panic!("planted"),
            Harm::Loop => loop {
                std::hint::spin_loop();
            },
            Harm::Memory => {
                let mut taken = Vec::new();
                loop {
                    taken.push(vec![1_u8; 16 << 20]);
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Harm::Stack => {
                black_box(deeper(0));
            }
        }
    }
}

fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 128]);
    if black_box(true) { deeper(depth + 1) + frame.iter().sum::<u64>() } else { depth }
}
