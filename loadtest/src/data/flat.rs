//! One zone of many names of mixed types (`small`, `large`): names of 18 to 34 octets in wire format that look random,
//! an eighth of them two labels below the apex, so that there are empty non-terminals.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Question;
use super::draw::{Draw, UNIQUE, unique};
use super::record::{Data, Record, rtype};
use super::truth::{Expected, negative_soa};

/// The zone: any of its names can be made from its index alone.
#[derive(Clone, Copy, Debug)]
pub struct Flat {
    /// The seed of the run.
    pub seed: u64,
    /// Absolute apex name.
    pub apex: &'static str,
    /// Owner names besides the apex and its two name servers.
    pub count: u64,
}

/// What a name holds. Shares of a hundred stand in [`Flat::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    A,
    Aaaa,
    Both,
    Txt,
    Mx,
    Cname,
    Srv,
}

impl Flat {
    /// SOA, NS and the name servers' addresses.
    #[must_use]
    pub fn apex_records(&self) -> Vec<Record> {
        let server = |number: u8| format!("ns{number}.{}", self.apex);
        let at = |owner: String, data| Record { owner, ttl: 86_400, data };
        vec![
            at(
                self.apex.to_owned(),
                Data::Soa(server(1), format!("hostmaster.{}", self.apex), [2026, 7200, 3600, 1_209_600, 300]),
            ),
            at(self.apex.to_owned(), Data::Ns(server(1))),
            at(self.apex.to_owned(), Data::Ns(server(2))),
            at(server(1), Data::A(Ipv4Addr::new(192, 0, 2, 1))),
            at(server(2), Data::A(Ipv4Addr::new(192, 0, 2, 2))),
        ]
    }

    /// The records of name `index`, below `count`.
    #[must_use]
    pub fn records(&self, index: u64) -> Vec<Record> {
        let mut draw = Draw::new(self.seed, "flat data", index);
        let ttl = [60, 300, 3_600, 86_400][draw.below(4) as usize];
        let owner = self.name(index);
        let target = |draw: &mut Draw| self.name(self.with_address(draw.below(self.count)));
        let data = match self.kind(index) {
            Kind::A => (0..=draw.below(10).saturating_sub(7)).map(|n| address4(index, n)).collect(),
            Kind::Aaaa => vec![address6(index)],
            Kind::Both => vec![address4(index, 0), address6(index)],
            Kind::Txt => {
                let len = 20 + draw.below(60);
                vec![Data::Txt(format!("v=x1 {}", draw.text(len)))]
            }
            Kind::Mx => {
                vec![Data::Mx(10, target(&mut draw))]
            }
            Kind::Cname => vec![Data::Cname(target(&mut draw))],
            Kind::Srv => vec![Data::Srv(0, 5, 5_060, target(&mut draw))],
        };
        data.into_iter().map(|data| Record { owner: owner.clone(), ttl, data }).collect()
    }

    /// A question for a name that is there, chosen by the draw of this index.
    #[must_use]
    pub fn question(&self, index: u64) -> Question {
        let mut draw = Draw::new(self.seed, "flat question", index);
        let asked = draw.below(self.count);
        let records = self.records(asked);
        let qtype = match self.kind(asked) {
            Kind::Cname => rtype::A,
            Kind::Both if draw.below(2) == 0 => rtype::AAAA,
            _ => records[0].data.rtype(),
        };
        let name = records[0].owner.clone();
        Question { expected: self.hit(records, qtype), name, qtype }
    }

    /// As [`Flat::question`], but every second draw asks for a name that is not there.
    #[must_use]
    pub fn question_half_missing(&self, index: u64) -> Question {
        let mut draw = Draw::new(self.seed, "flat missing", index);
        if draw.below(2) == 0 { self.question(index) } else { self.missing(&mut draw) }
    }

    /// A question for a name that is not there, chosen by the draw of this index.
    #[must_use]
    pub fn question_missing(&self, index: u64) -> Question {
        self.missing(&mut Draw::new(self.seed, "flat all missing", index))
    }

    fn missing(&self, draw: &mut Draw) -> Question {
        // Indexes from `count` on give names of the same look, none of which is in the zone.
        let name = self.name(self.count + draw.below(UNIQUE - self.count));
        let expected = Expected {
            rcode: 3,
            authoritative: true,
            authority: vec![negative_soa(&self.apex_records()[0])],
            ..Expected::default()
        };
        Question { name, qtype: rtype::A, expected }
    }

    fn hit(&self, records: Vec<Record>, qtype: u16) -> Expected {
        let apex = self.apex_records();
        let mut answer: Vec<Record> = records
            .into_iter()
            .filter(|record| [qtype, rtype::CNAME].contains(&record.data.rtype()))
            .collect();
        let mut helpful = apex[3..].to_vec();
        match &answer[0].data {
            Data::Cname(target) => {
                let chained = self.records_of(target);
                answer.extend(chained.into_iter().filter(|record| record.data.rtype() == qtype));
            }
            Data::Mx(_, target) | Data::Srv(_, _, _, target) => helpful.extend(self.records_of(target)),
            _ => {}
        }
        Expected {
            authoritative: true,
            answer,
            authority: apex[1..3].to_vec(),
            authority_optional: true,
            helpful,
            ..Expected::default()
        }
    }

    /// The records of a target, which is the name of an index found by [`Flat::with_address`].
    fn records_of(&self, target: &str) -> Vec<Record> {
        let label = target.strip_suffix(self.apex).unwrap_or(target).trim_end_matches('.');
        let own = label.rsplit('.').next().unwrap_or(label);
        super::draw::index_of(own).map(|index| self.records(index)).unwrap_or_default()
    }

    /// The first index from `index` on, in a circle, whose name has an A record.
    fn with_address(&self, index: u64) -> u64 {
        (0..self.count)
            .map(|step| (index + step) % self.count)
            .find(|&candidate| self.kind(candidate) == Kind::A)
            .unwrap_or(0)
    }

    fn kind(&self, index: u64) -> Kind {
        match Draw::new(self.seed, "flat kind", index).below(100) {
            0..50 => Kind::A,
            50..70 => Kind::Aaaa,
            70..78 => Kind::Both,
            78..87 => Kind::Txt,
            87..92 => Kind::Mx,
            92..96 => Kind::Cname,
            _ => Kind::Srv,
        }
    }

    /// A name of 18 to 34 octets in wire format whose label below the apex starts with five characters that no other
    /// index has.
    fn name(&self, index: u64) -> String {
        let mut draw = Draw::new(self.seed, "flat name", index);
        let wire_len = 18 + draw.below(17);
        // The apex has as many octets on the wire as characters, plus one; a label costs one octet more than its text.
        let room = wire_len - (self.apex.len() as u64 + 1) - 1;
        let start = unique(index);
        if room >= 9 && draw.below(8) == 0 {
            let below = 1 + draw.below(room - 7);
            let rest = room - 1 - below - 5;
            format!("{}.{start}{}.{}", draw.text(below), draw.text(rest), self.apex)
        } else {
            format!("{start}{}.{}", draw.text(room.saturating_sub(5)), self.apex)
        }
    }
}

/// Addresses from 198.18.0.0/15 (RFC 2544: benchmarks) and 10.0.0.0/8, different for neighbours.
fn address4(index: u64, number: u64) -> Data {
    let [.., b, c, d] = (index * 4 + number).to_be_bytes();
    Data::A(Ipv4Addr::new(10, b, c, d))
}

/// Addresses from 2001:db8::/32 (RFC 3849).
fn address6(index: u64) -> Data {
    let low = u128::from(index);
    Data::Aaaa(Ipv6Addr::from((0x2001_0DB8_u128 << 96) | low))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::record::name_wire;
    use super::*;

    const ZONE: Flat = Flat { seed: 5, apex: "big.test.", count: 20_000 };

    #[test]
    fn names_differ_and_have_the_lengths_promised() {
        let names: HashSet<String> = (0..ZONE.count).map(|index| ZONE.name(index)).collect();
        assert_eq!(names.len() as u64, ZONE.count);
        let lens: HashSet<usize> = names.iter().map(|name| name_wire(name).len()).collect();
        assert!(lens.iter().all(|len| (18..=34).contains(len)), "{lens:?}");
        assert!(lens.len() > 12, "{lens:?}");
        assert!(names.iter().any(|name| name.matches('.').count() == 4), "none with an empty non-terminal");
    }

    #[test]
    fn every_question_for_a_name_that_is_there_has_an_answer_of_its_type() {
        for index in 0..20_000 {
            let question = ZONE.question(index);
            let last = question.expected.answer.last().expect("an answer");
            assert_eq!(last.data.rtype(), question.qtype, "{question:?}");
        }
    }

    #[test]
    fn half_of_the_questions_ask_for_what_is_not_there() {
        let zone: HashSet<String> =
            (0..ZONE.count).flat_map(|i| ZONE.records(i)).map(|record| record.owner).collect();
        let missing = (0..2_000).map(|i| ZONE.question_half_missing(i)).filter(|q| q.expected.rcode == 3);
        let names: Vec<String> = missing.map(|question| question.name).collect();
        assert!((800..1_200).contains(&names.len()), "{}", names.len());
        assert!(names.iter().all(|name| !zone.contains(name)));
    }
}
