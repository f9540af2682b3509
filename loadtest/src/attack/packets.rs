//! What floods consist of, made before the flood starts: bursts of 64 messages of the same length behind one another, which the
//! kernel cuts apart (UDP segmentation), so that one system call offers 64 queries.

use std::collections::BTreeMap;
use std::fmt;

use crate::data::draw::Draw;
use crate::data::record::{name_wire, rtype};
use crate::data::{Source, Workload};
use crate::load::queries::Queries;

/// Messages in a burst: what every kernel with UDP segmentation takes.
pub const BURST: usize = 64;
/// Bursts of one kind: together more different messages than any cache line predictor learns.
const BURSTS: u64 = 256;
/// Octets of a random label that are written anew each time.
const VARYING: usize = 8;

/// What a flood asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// Names that are there.
    Hits,
    /// Names that are not there, never the same twice.
    RandomSubdomains,
    /// What no server should read to its end.
    Malformed,
    /// A third of each.
    All,
}

impl Mix {
    /// In the order of the table.
    pub const ALL: [Mix; 4] = [Mix::Hits, Mix::RandomSubdomains, Mix::Malformed, Mix::All];
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mix::Hits => "hits",
            Mix::RandomSubdomains => "random subdomains",
            Mix::Malformed => "malformed",
            Mix::All => "all three mixed",
        })
    }
}

/// 64 messages of one length.
#[derive(Clone, Debug)]
pub struct Burst {
    /// The messages.
    pub octets: Vec<u8>,
    /// Octets of each.
    pub len: u16,
    /// Where each has the part of its QNAME that is written anew each time.
    varying: Option<usize>,
}

impl Burst {
    /// From 64 messages of the same length.
    #[must_use]
    pub fn new(messages: &[&[u8]]) -> Self {
        let len = messages.first().map_or(0, |message| message.len());
        debug_assert!(messages.iter().all(|message| message.len() == len));
        Burst { octets: messages.concat(), len: u16::try_from(len).expect("a query is short"), varying: None }
    }

    /// Writes the random labels anew, so that no name is asked twice; `pass` must be another one each time.
    pub fn vary(&mut self, pass: u64) {
        let Some(start) = self.varying else { return };
        let len = usize::from(self.len);
        let mut draw = Draw::new(pass, "random subdomains", 0);
        for message in self.octets.chunks_exact_mut(len) {
            let bits = draw.bits();
            for (place, octet) in message[start..start + VARYING].iter_mut().enumerate() {
                *octet = b'a' + ((bits >> (place * 4)) & 15) as u8;
            }
        }
    }
}

/// The bursts of a mix, in the order in which they are sent.
#[must_use]
pub fn bursts(source: &Source, mix: Mix) -> Vec<Burst> {
    let mut bursts = match mix {
        Mix::Hits => hits(source),
        Mix::RandomSubdomains => random_subdomains(source),
        Mix::Malformed => malformed(source),
        Mix::All => {
            let mut all = Vec::new();
            for mut kind in [hits(source), random_subdomains(source), malformed(source)] {
                shuffle(&mut kind, source.seed);
                kind.truncate(BURSTS as usize / 2);
                all.extend(kind);
            }
            all
        }
    };
    shuffle(&mut bursts, source.seed);
    bursts
}

/// Fisher and Yates, from the seed.
fn shuffle(bursts: &mut [Burst], seed: u64) {
    let mut draw = Draw::new(seed, "order of bursts", 0);
    for place in (1..bursts.len()).rev() {
        bursts.swap(place, draw.below(place as u64 + 1) as usize);
    }
}

/// The queries of the small zone, those of one length together.
fn hits(source: &Source) -> Vec<Burst> {
    let queries = Queries::of(source, Workload::Small);
    let mut by_len: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
    for index in 0..queries.len() {
        let message = queries.message(index);
        by_len.entry(message.len()).or_default().push(message);
    }
    by_len.values().flat_map(|messages| messages.chunks_exact(BURST).map(Burst::new)).collect()
}

fn random_subdomains(source: &Source) -> Vec<Burst> {
    let name = format!("{}.{}", "a".repeat(VARYING + 4), source.small().apex);
    let queries = Queries::new(false, std::iter::once((name.as_str(), rtype::A)));
    let mut draw = Draw::new(source.seed, "random labels", 0);
    (0..BURSTS)
        .map(|_| {
            let mut message = queries.message(0).to_vec();
            // The header, and the octet that holds the label's length.
            let start = crate::load::queries::HEADER + 1;
            message[start + VARYING..start + VARYING + 4].copy_from_slice(draw.text(4).as_bytes());
            let mut burst = Burst::new(&[message.as_slice(); BURST]);
            burst.varying = Some(start);
            burst
        })
        .collect()
}

/// As many bursts of each class of malformed message.
fn malformed(source: &Source) -> Vec<Burst> {
    let classes = MALFORMED.len() as u64;
    (0..BURSTS)
        .map(|number| {
            let mut draw = Draw::new(source.seed, "malformed", number);
            let (_, make) = MALFORMED[(number % classes) as usize];
            let message = make(source, &mut draw);
            Burst::new(&[message.as_slice(); BURST])
        })
        .collect()
}

/// A malformed message of one class.
type Make = fn(&Source, &mut Draw) -> Vec<u8>;

/// The classes, each with its name.
pub const MALFORMED: [(&str, Make); 14] = [
    ("no whole header", |_, draw| draw.bits().to_be_bytes().to_vec()),
    ("a response", |source, draw| message(draw, 0x8000, [1, 0, 0, 0], &question(source))),
    ("no question", |_, draw| message(draw, 0, [0; 4], &[])),
    ("two questions", |source, draw| message(draw, 0, [2, 0, 0, 0], &question(source).repeat(2))),
    ("question cut short", |source, draw| message(draw, 0, [1, 0, 0, 0], &question(source)[..6])),
    ("pointer to itself", |_, draw| message(draw, 0, [1, 0, 0, 0], b"\xc0\x0c\x00\x01\x00\x01")),
    ("label type 01", |_, draw| message(draw, 0, [1, 0, 0, 0], b"\x41aa\x00\x00\x01\x00\x01")),
    ("name of 320 octets", |_, draw| {
        let label = [&[63_u8][..], &[b'a'; 63]].concat();
        message(draw, 0, [1, 0, 0, 0], &[&label.repeat(5)[..], b"\x00\x00\x01\x00\x01"].concat())
    }),
    ("octets after the end", |source, draw| {
        message(draw, 0, [1, 0, 0, 0], &[&question(source)[..], &[0xA5; 40]].concat())
    }),
    ("65,535 answers that are not there", |source, draw| {
        message(draw, 0, [1, u16::MAX, 0, 0], &question(source))
    }),
    ("OPT cut short", |source, draw| {
        message(draw, 0, [1, 0, 0, 1], &[&question(source)[..], b"\x00\x00\x29\x04"].concat())
    }),
    ("two OPT records", |source, draw| {
        let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
        message(draw, 0, [1, 0, 0, 2], &[&question(source)[..], opt, opt].concat())
    }),
    ("option longer than OPT", |source, draw| {
        let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x04\x00\x0a\xff\xff";
        message(draw, 0, [1, 0, 0, 1], &[&question(source)[..], opt].concat())
    }),
    ("noise", |_, draw| {
        let mut octets: Vec<u8> = (0..6).flat_map(|_| draw.bits().to_be_bytes()).collect();
        // Not a response, or it is of the second class.
        octets[2] &= 0x7F;
        octets
    }),
];

fn message(draw: &mut Draw, flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut message = (draw.bits() as u16).to_be_bytes().to_vec();
    message.extend(flags.to_be_bytes());
    message.extend(counts.into_iter().flat_map(u16::to_be_bytes));
    message.extend(rest);
    message
}

/// The question for the small zone's SOA.
fn question(source: &Source) -> Vec<u8> {
    [&name_wire(source.small().apex)[..], &rtype::SOA.to_be_bytes(), &1_u16.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::message;

    const SOURCE: Source = Source { seed: 1, shrink: 1_000 };

    #[test]
    fn bursts_hold_64_messages_of_one_length() {
        for mix in Mix::ALL {
            let bursts = bursts(&SOURCE, mix);
            assert!(bursts.len() > 50, "{mix}: {}", bursts.len());
            for burst in bursts {
                assert_eq!(burst.octets.len(), BURST * usize::from(burst.len), "{mix}");
            }
        }
    }

    #[test]
    fn random_subdomains_are_never_the_same() {
        let mut burst = random_subdomains(&SOURCE).swap_remove(0);
        let mut seen = HashSet::new();
        for pass in 0..100 {
            burst.vary(pass);
            for message in burst.octets.chunks_exact(usize::from(burst.len)) {
                assert!(message::read(message).is_ok());
                assert!(seen.insert(message.to_vec()), "pass {pass}: asked twice");
            }
        }
    }

    #[test]
    fn malformed_messages_are_so() {
        let mut draw = Draw::new(1, "test", 0);
        // These can be read, and are wrong in what they say.
        let readable =
            ["a response", "no question", "two questions", "two OPT records", "option longer than OPT"];
        for (name, make) in MALFORMED {
            let octets = make(&SOURCE, &mut draw);
            assert_eq!(message::read(&octets).is_ok(), readable.contains(&name), "{name}");
        }
    }
}
