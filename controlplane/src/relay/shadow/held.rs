//! Which zones the child has, and how many octets they take, about: the least recently used go first.

use godwit_wire::name::Name;
use hashlink::LinkedHashMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Octets of each, the most recently used last. One that is too large is not held, and known to be so.
    zones: LinkedHashMap<Name, Option<u64>>,
    octets: u64,
    /// What the child still has, and is to be told to forget.
    forgotten: Vec<Name>,
}

/// The most zones that are remembered, those that are too large with them.
const MOST: usize = 100_000;

impl Held {
    /// A new child has nothing.
    pub(super) fn clear(&mut self) {
        *self = Held::default();
    }

    /// Whether it is held, or too large to be.
    pub(super) fn has(&self, zone: &Name) -> bool {
        self.zones.contains_key(zone)
    }

    pub(super) fn put(&mut self, zone: &Name, octets: u64) {
        self.remove(zone);
        self.octets += octets;
        self.zones.insert(zone.clone(), Some(octets));
    }

    pub(super) fn put_large(&mut self, zone: &Name) {
        self.remove(zone);
        self.zones.insert(zone.clone(), None);
    }

    /// A change of it was applied, which may have made it larger by so many octets.
    pub(super) fn grow(&mut self, zone: &Name, octets: u64) {
        if let Some(held) = self.zones.to_back(zone).and_then(Option::as_mut) {
            *held += octets;
            self.octets += octets;
        }
    }

    /// The child has it no more.
    pub(super) fn remove(&mut self, zone: &Name) {
        self.octets -= self.zones.remove(zone).flatten().unwrap_or(0);
    }

    /// The child is to have it no more.
    pub(super) fn forget(&mut self, zone: &Name) {
        self.remove(zone);
        self.forgotten.push(zone.clone());
    }

    /// Forgets the least recently used, until the others take so many octets.
    pub(super) fn bound(&mut self, octets: u64) {
        while self.octets > octets || self.zones.len() > MOST {
            let Some((zone, held)) = self.zones.pop_front() else { return };
            self.octets -= held.unwrap_or(0);
            self.forgotten.push(zone);
        }
    }

    /// What the child is to be told to forget.
    pub(super) fn take_forgotten(&mut self) -> Vec<Name> {
        std::mem::take(&mut self.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_are_forgotten() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let [a, b, c, large] = ["a.", "b.", "c.", "large."].map(name);
        let mut held = Held::default();
        held.put(&a, 10);
        held.put_large(&large);
        held.put(&b, 10);
        held.put(&c, 10);
        held.grow(&a, 5);
        held.grow(&large, 1_000);
        held.bound(30);
        assert_eq!(held.take_forgotten(), std::slice::from_ref(&b));
        assert!(held.has(&a) && held.has(&large) && held.has(&c) && !held.has(&b));
        held.put(&a, 20);
        held.bound(30);
        assert_eq!(held.take_forgotten(), [], "it was put anew: 20 and 10");
        held.forget(&c);
        held.bound(19);
        assert_eq!(held.take_forgotten(), [c, large, a]);
        assert_eq!(held.octets, 0);
    }
}
