//! Many small zones (`zones`): each with SOA, two name servers elsewhere, and a few names as a hosting provider has.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Question;
use super::draw::{Draw, unique};
use super::record::{Data, Record, rtype};
use super::truth::Expected;

/// The zones: each can be made from its index alone.
#[derive(Clone, Copy, Debug)]
pub struct Zones {
    /// The seed of the run.
    pub seed: u64,
    /// How many.
    pub count: u64,
}

impl Zones {
    /// The apex of zone `index`.
    #[must_use]
    pub fn apex(&self, index: u64) -> String {
        let mut draw = Draw::new(self.seed, "zone apex", index);
        let len = 2 + draw.below(10);
        format!("{}{}.zt.", unique(index), draw.text(len))
    }

    /// All records of zone `index`, SOA first.
    #[must_use]
    pub fn records(&self, index: u64) -> Vec<Record> {
        let apex = self.apex(index);
        let [.., b, c, d] = index.to_be_bytes();
        let at = |owner: &str, data| Record { owner: owner.to_owned(), ttl: 3_600, data };
        let (www, mail) = (format!("www.{apex}"), format!("mail.{apex}"));
        vec![
            at(
                &apex,
                Data::Soa(
                    "ns1.hosting.test.".to_owned(),
                    format!("hostmaster.{apex}"),
                    [2026, 7200, 3600, 1_209_600, 300],
                ),
            ),
            at(&apex, Data::Ns("ns1.hosting.test.".to_owned())),
            at(&apex, Data::Ns("ns2.hosting.test.".to_owned())),
            at(&apex, Data::A(Ipv4Addr::new(10, b, c, d))),
            at(&apex, Data::Mx(10, mail.clone())),
            at(&www, Data::A(Ipv4Addr::new(11, b, c, d))),
            at(&www, Data::Aaaa(Ipv6Addr::from((0x2001_0DB8_u128 << 96) | u128::from(index)))),
            at(&mail, Data::A(Ipv4Addr::new(12, b, c, d))),
        ]
    }

    /// A question for a name of a random zone.
    #[must_use]
    pub fn question(&self, index: u64) -> Question {
        let mut draw = Draw::new(self.seed, "zone question", index);
        let records = self.records(draw.below(self.count));
        let asked = match draw.below(100) {
            0..15 => &records[3],
            15..30 => &records[4],
            30..70 => &records[5],
            70..90 => &records[6],
            _ => &records[7],
        };
        let helpful = if asked.data.rtype() == rtype::MX { vec![records[7].clone()] } else { Vec::new() };
        Question {
            name: asked.owner.clone(),
            qtype: asked.data.rtype(),
            expected: Expected {
                authoritative: true,
                answer: vec![asked.clone()],
                authority: records[1..3].to_vec(),
                authority_optional: true,
                helpful,
                ..Expected::default()
            },
        }
    }
}
