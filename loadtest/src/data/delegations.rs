//! One zone of delegations (`delegations`): each with two name servers below the cut and their addresses as glue, as in
//! a registry's zone. Every question is answered with a referral.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Question;
use super::draw::{Draw, unique};
use super::record::{Data, Record, rtype};
use super::truth::Expected;

/// The apex of the zone.
pub const APEX: &str = "registry.test.";

/// The zone: each delegation can be made from its index alone.
#[derive(Clone, Copy, Debug)]
pub struct Delegations {
    /// The seed of the run.
    pub seed: u64,
    /// How many.
    pub count: u64,
}

impl Delegations {
    /// SOA, NS and the name server's address.
    #[must_use]
    pub fn apex_records(&self) -> Vec<Record> {
        let server = format!("ns1.{APEX}");
        let at = |owner: &str, data| Record { owner: owner.to_owned(), ttl: 86_400, data };
        vec![
            at(
                APEX,
                Data::Soa(server.clone(), format!("hostmaster.{APEX}"), [2026, 7200, 3600, 1_209_600, 300]),
            ),
            at(APEX, Data::Ns(server.clone())),
            at(&server, Data::A(Ipv4Addr::new(192, 0, 2, 1))),
        ]
    }

    /// NS RRset first (two records), then its glue (three).
    #[must_use]
    pub fn records(&self, index: u64) -> Vec<Record> {
        let cut = self.cut(index);
        let [.., b, c, d] = index.to_be_bytes();
        let at = |owner: &str, data| Record { owner: owner.to_owned(), ttl: 86_400, data };
        let (first, second) = (format!("ns1.{cut}"), format!("ns2.{cut}"));
        vec![
            at(&cut, Data::Ns(first.clone())),
            at(&cut, Data::Ns(second.clone())),
            at(&first, Data::A(Ipv4Addr::new(10, b, c, d))),
            at(&first, Data::Aaaa(Ipv6Addr::from((0x2001_0DB8_u128 << 96) | u128::from(index)))),
            at(&second, Data::A(Ipv4Addr::new(11, b, c, d))),
        ]
    }

    /// A question at or below a random zone cut.
    #[must_use]
    pub fn question(&self, index: u64) -> Question {
        let mut draw = Draw::new(self.seed, "delegation question", index);
        let records = self.records(draw.below(self.count));
        let cut = records[0].owner.clone();
        let name = if draw.below(10) < 3 { cut } else { format!("www.{cut}") };
        Question {
            name,
            qtype: rtype::A,
            expected: Expected {
                authority: records[..2].to_vec(),
                glue: records[2..].to_vec(),
                ..Expected::default()
            },
        }
    }

    fn cut(&self, index: u64) -> String {
        let mut draw = Draw::new(self.seed, "delegation", index);
        let len = 1 + draw.below(12);
        format!("{}{}.{APEX}", unique(index), draw.text(len))
    }
}
