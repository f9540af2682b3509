//! Random zones: a few that lie beside, above and inside each other, each a heap of features at random names.

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::pick;
use super::rdata::{self, child};
use super::sign::{Signing, sign};
use crate::reference::{World, Zone, ZoneRecord};

/// What may be in the zones.
#[derive(Clone, Copy, Debug)]
pub struct WorldOptions {
    /// Only what NSD, Knot DNS and BIND all load: nothing below a DNAME, no DNAME or NS at a wildcard, one owner number.
    pub strict: bool,
    /// How each zone is signed; `None` draws for each.
    pub signing: Option<Signing>,
}

/// Draws a world of zones.
#[must_use]
pub fn world(random: &mut ChaCha8Rng, options: &WorldOptions) -> World {
    let name = |text: &str| text.parse::<Name>().expect("a name");
    let mut apexes = vec![name("alpha.test."), name("beta.test."), name("n.alpha.test.")];
    if random.random_bool(0.3) {
        apexes.push(name("q.w.n.alpha.test."));
    }
    if random.random_bool(0.2) {
        apexes.push(name("test."));
    }
    if !options.strict && random.random_bool(0.05) {
        apexes.push(name("."));
    }
    let mut zones = Vec::new();
    for apex in &apexes {
        let owner_number = if options.strict || random.random_bool(0.75) { 1 } else { 2 };
        zones.push(zone(random, options, apex, owner_number, &apexes));
    }
    World { zones }
}

/// Draws one zone anew or changes a little in it: what a change set brings.
pub fn edit(random: &mut ChaCha8Rng, options: &WorldOptions, world: &mut World) {
    let apexes: Vec<Name> = world.zones.iter().map(|zone| zone.apex.clone()).collect();
    let at = random.random_range(0..world.zones.len());
    let old = &world.zones[at];
    let signed = old.records.iter().any(|record| record.rtype == Rtype::RRSIG);
    if signed || random.random_bool(0.1) {
        let (apex, owner_number) = (old.apex.clone(), old.owner_number);
        world.zones[at] = zone(random, options, &apex, owner_number, &apexes);
        return;
    }
    let mut builder = Builder { random, options: *options, apexes: &apexes, zone: old.clone() };
    for _ in 0..builder.random.random_range(1..4) {
        if builder.random.random_bool(0.5) {
            builder.remove_rrset();
        } else {
            builder.feature();
        }
    }
    world.zones[at] = builder.zone;
}

fn zone(
    random: &mut ChaCha8Rng,
    options: &WorldOptions,
    apex: &Name,
    owner_number: u32,
    apexes: &[Name],
) -> Zone {
    let zone = Zone { apex: apex.clone(), owner_number, records: Vec::new() };
    let mut builder = Builder { random, options: *options, apexes, zone };
    builder.apex();
    builder.nested();
    for _ in 0..builder.random.random_range(10..28) {
        builder.feature();
    }
    let signing = options.signing.unwrap_or_else(|| match builder.random.random_range(0..10) {
        0..=4 => Signing::None,
        5 | 6 => Signing::Nsec,
        7 | 8 => Signing::Nsec3 { opt_out: false },
        _ => Signing::Nsec3 { opt_out: true },
    });
    let mut zone = builder.zone;
    sign(random, &mut zone, signing);
    zone
}

struct Builder<'a> {
    random: &'a mut ChaCha8Rng,
    options: WorldOptions,
    apexes: &'a [Name],
    zone: Zone,
}

const LABELS: [&str; 10] = ["a", "b", "c", "d", "w", "x", "mail", "_sip", "n", "q"];

impl Builder<'_> {
    fn add(&mut self, owner: &Name, rtype: Rtype, rdata: Vec<u8>) {
        let ttl = self.zone.rrset(owner, rtype).first().map(|record| record.ttl);
        let ttl = ttl.unwrap_or_else(|| self.random.random_range(0..4000));
        let record = ZoneRecord { owner: owner.clone(), rtype, ttl, rdata };
        if !self
            .zone
            .records
            .iter()
            .any(|other| other.owner == *owner && other.rtype == rtype && other.rdata == record.rdata)
        {
            self.zone.records.push(record);
        }
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    fn apex(&mut self) {
        let apex = self.zone.apex.clone();
        let soa = rdata::soa(self.random, &apex);
        self.add(&apex, Rtype::SOA, soa);
        let inside = child(&apex, b"ns1").expect("short");
        self.add(&apex, Rtype::NS, inside.as_wire().to_vec());
        // BIND refuses a zone whose name servers inside it have no address.
        let address = rdata::plain(self.random, Rtype::A);
        self.add(&inside, Rtype::A, address);
        self.addresses(&inside);
        let outside: Name = "ns.outside.invalid.".parse().expect("a name");
        self.add(&apex, Rtype::NS, outside.as_wire().to_vec());
        for rtype in [Rtype::A, Rtype::TXT] {
            if self.chance(0.5) {
                let rdata = rdata::plain(self.random, rtype);
                self.add(&apex, rtype, rdata);
            }
        }
        if self.chance(0.5) {
            self.service_at(&apex);
        }
        if !self.options.strict && self.chance(0.05) {
            let target = self.target();
            self.add(&apex, Rtype::DNAME, target.as_wire().to_vec());
        }
    }

    /// Mostly delegates the zones that lie right inside this one, as they should be.
    fn nested(&mut self) {
        for apex in self.apexes {
            if !apex.as_ref().is_below(self.zone.apex.as_ref()) {
                continue;
            }
            if self.options.strict || self.chance(0.8) {
                self.cut_at(apex);
            }
        }
    }

    fn feature(&mut self) {
        match self.random.random_range(0..26) {
            0..=3 => self.plain(),
            4 | 5 => self.empty_non_terminal(),
            6..=8 => self.wildcard(),
            9..=12 => {
                if let Some(cut) = self.fresh() {
                    self.cut_at(&cut);
                }
            }
            13 => self.big_cut(),
            14 | 15 => self.dname(),
            16 | 17 => self.cname(),
            18 => self.chain(),
            19 | 20 => self.cname_loop(),
            21 => self.large(),
            22..=24 => {
                if let Some(owner) = self.fresh() {
                    self.service_at(&owner);
                }
            }
            _ => self.beside(),
        }
    }

    /// A name without records that may get some: not below a cut or DNAME, not itself hiding what others need.
    fn fresh(&mut self) -> Option<Name> {
        for _ in 0..20 {
            let mut name = match self.random.random_range(0..10) {
                0..=5 => self.zone.apex.clone(),
                _ => pick(self.random, &self.zone.records).owner.clone(),
            };
            for _ in 0..self.random.random_range(1..3) {
                let label = *pick(self.random, &LABELS);
                let label = if self.chance(0.3) {
                    format!("{label}{}", self.random.random_range(0..5))
                } else {
                    label.to_owned()
                };
                name = child(&name, label.as_bytes())?;
            }
            let nested = self.apexes.iter().any(|apex| {
                apex.as_ref().is_below(self.zone.apex.as_ref()) && name.as_ref().is_at_or_below(apex.as_ref())
            });
            let hashed = self.zone.path(&name).iter().any(|above| self.zone.has(above, Rtype::NSEC3));
            let taken = !self.zone.types(&name).is_empty();
            let hidden = self.zone.is_hidden(&name)
                || self
                    .zone
                    .path(&name)
                    .iter()
                    .any(|above| self.zone.has(above, Rtype::DNAME) && *above != self.zone.apex);
            if !(taken || hashed || nested || hidden) {
                return Some(name);
            }
        }
        None
    }

    fn addresses(&mut self, owner: &Name) {
        if self.zone.has(owner, Rtype::CNAME) {
            return;
        }
        for rtype in [Rtype::A, Rtype::AAAA] {
            if self.chance(0.7) {
                for _ in 0..self.random.random_range(1..3) {
                    let rdata = rdata::plain(self.random, rtype);
                    self.add(owner, rtype, rdata);
                }
            }
        }
    }

    /// Something that is there, is not there, lies in another zone, or lies outside.
    fn target(&mut self) -> Name {
        let outside: Name = "host.outside.invalid.".parse().expect("a name");
        match self.random.random_range(0..12) {
            0..=5 => pick(self.random, &self.zone.records).owner.clone(),
            6 => {
                let above = pick(self.random, &self.zone.records).owner.clone();
                child(&above, b"nothing").unwrap_or(above)
            }
            7..=9 => {
                let apex = pick(self.random, self.apexes).clone();
                let label = *pick(self.random, &LABELS);
                if self.chance(0.3) { apex } else { child(&apex, label.as_bytes()).unwrap_or(outside) }
            }
            10 => {
                let above = pick(self.random, self.apexes).clone();
                child(&child(&above, b"w").unwrap_or(above), b"deep").unwrap_or(outside)
            }
            _ => outside,
        }
    }

    fn plain(&mut self) {
        let Some(owner) = self.fresh() else { return };
        for _ in 0..self.random.random_range(1..4) {
            let rtype = *pick(self.random, &[Rtype::A, Rtype::AAAA, Rtype::TXT, Rtype::CAA, Rtype(65400)]);
            for _ in 0..self.random.random_range(1..4) {
                let rdata = rdata::plain(self.random, rtype);
                self.add(&owner, rtype, rdata);
            }
        }
    }

    fn empty_non_terminal(&mut self) {
        let Some(mut owner) = self.fresh() else { return };
        for label in [&b"e"[..], b"f"] {
            owner = child(&owner, label).unwrap_or(owner);
        }
        self.addresses(&owner);
    }

    fn wildcard(&mut self) {
        let above = match self.random.random_range(0..4) {
            0 => Some(self.zone.apex.clone()),
            1 => Some(pick(self.random, &self.zone.records).owner.clone()),
            _ => self.fresh(),
        };
        let Some(above) = above.filter(|above| !self.zone.is_hidden(above)) else { return };
        // Names below hashed owners would be no sound NSEC3 zone.
        if self.zone.has(&above, Rtype::NS) && above != self.zone.apex || self.zone.has(&above, Rtype::DNAME)
        {
            return;
        }
        let Some(owner) = child(&above, b"*") else { return };
        if !self.zone.types(&owner).is_empty() {
            return;
        }
        match self.random.random_range(0..12) {
            0..=4 => {
                self.addresses(&owner);
                let rdata = rdata::plain(self.random, Rtype::TXT);
                self.add(&owner, Rtype::TXT, rdata);
            }
            5..=7 => {
                let target = self.target();
                self.add(&owner, Rtype::CNAME, target.as_wire().to_vec());
            }
            8 | 9 => self.service_at(&owner),
            // A wildcard that is an empty non-terminal (RFC 4592 §4.?): a name below it.
            10 => {
                if let Some(below) = child(&owner, b"below") {
                    self.addresses(&below);
                }
            }
            _ if self.options.strict => {}
            _ => {
                let rtype = *pick(self.random, &[Rtype::NS, Rtype::DNAME]);
                let target = self.target();
                self.add(&owner, rtype, target.as_wire().to_vec());
            }
        }
    }

    /// A delegation: with glue of all kinds or none, with DS or not, sometimes with data hidden below it.
    fn cut_at(&mut self, cut: &Name) {
        if !self.zone.types(cut).is_empty() || self.zone.is_hidden(cut) {
            return;
        }
        for number in 0..self.random.random_range(1..4) {
            let target = match self.random.random_range(0..7) {
                0..=2 => child(cut, format!("ns{number}").as_bytes()),
                3 => Some(cut.clone()),
                // Often a sibling's glue, or an authoritative host.
                4 | 5 => Some(pick(self.random, &self.zone.records).owner.clone()),
                _ => Some(self.target()),
            };
            let Some(target) = target else { continue };
            self.add(cut, Rtype::NS, target.as_wire().to_vec());
            if target.as_ref().is_at_or_below(cut.as_ref()) && self.chance(0.9) {
                self.addresses(&target);
            }
        }
        if self.chance(0.4) {
            let ds = rdata::ds(self.random);
            self.add(cut, Rtype::DS, ds);
        }
        if self.chance(0.4)
            && let Some(hidden) = child(cut, b"hidden")
        {
            self.addresses(&hidden);
        }
    }

    /// A delegation whose glue does not fit into small messages.
    fn big_cut(&mut self) {
        let Some(cut) = self.fresh() else { return };
        for number in 0..self.random.random_range(6..14) {
            let Some(target) = child(&cut, format!("name-server-{number}").as_bytes()) else { continue };
            self.add(&cut, Rtype::NS, target.as_wire().to_vec());
            for rtype in [Rtype::A, Rtype::AAAA] {
                let rdata = rdata::plain(self.random, rtype);
                self.add(&target, rtype, rdata);
            }
        }
    }

    fn dname(&mut self) {
        let Some(owner) = self.fresh() else { return };
        if self.options.strict && self.zone.exists(&owner) {
            return;
        }
        let target = match self.random.random_range(0..8) {
            // Grows with each turn, until it is too long.
            0 => {
                let label = [b'g'; 63];
                child(
                    &child(&child(&owner, &label).unwrap_or(owner.clone()), &label).unwrap_or(owner.clone()),
                    b"g",
                )
                .unwrap_or(owner.clone())
            }
            1 => self.zone.apex.clone(),
            _ => self.target(),
        };
        self.add(&owner, Rtype::DNAME, target.as_wire().to_vec());
        if self.chance(0.3) {
            let rdata = rdata::plain(self.random, Rtype::A);
            self.add(&owner, Rtype::A, rdata);
        }
        if !self.options.strict
            && self.chance(0.3)
            && let Some(hidden) = child(&owner, b"hidden")
        {
            self.addresses(&hidden);
        }
    }

    fn cname(&mut self) {
        let Some(owner) = self.fresh() else { return };
        let target = self.target();
        self.add(&owner, Rtype::CNAME, target.as_wire().to_vec());
    }

    /// CNAMEs in a row, sometimes more than are followed.
    fn chain(&mut self) {
        let Some(base) = self.fresh() else { return };
        let count = self.random.random_range(2..13);
        let mut target = self.target();
        for number in 0..count {
            let Some(owner) = child(&base, format!("chain{number}").as_bytes()) else { return };
            if self.zone.types(&owner).is_empty() {
                self.add(&owner, Rtype::CNAME, target.as_wire().to_vec());
                target = owner;
            }
        }
    }

    fn cname_loop(&mut self) {
        let count = self.random.random_range(1..4);
        let owners: Vec<Name> = (0..count).filter_map(|_| self.fresh()).collect();
        for (number, owner) in owners.iter().enumerate() {
            let target = owners[(number + 1) % owners.len()].clone();
            if self.zone.types(owner).is_empty() {
                self.add(owner, Rtype::CNAME, target.as_wire().to_vec());
            }
        }
    }

    /// RRsets that do not fit into one datagram.
    fn large(&mut self) {
        let Some(owner) = self.fresh() else { return };
        let len = self.random.random_range(20..200);
        for _ in 0..self.random.random_range(3..14) {
            let rdata = rdata::text(self.random, len);
            self.add(&owner, Rtype::TXT, rdata);
        }
        if self.chance(0.5) {
            for _ in 0..30 {
                let rdata = rdata::plain(self.random, Rtype::A);
                self.add(&owner, Rtype::A, rdata);
            }
        }
    }

    /// MX, SRV, SVCB or HTTPS at a name that has no CNAME.
    fn service_at(&mut self, owner: &Name) {
        for _ in 0..self.random.random_range(1..3) {
            let rtype = *pick(self.random, &[Rtype::MX, Rtype::SRV, Rtype::SVCB, Rtype::HTTPS, Rtype::PTR]);
            for _ in 0..self.random.random_range(1..4) {
                let target = if self.chance(0.15) { Name::root() } else { self.target() };
                let rdata = rdata::pointing(self.random, rtype, &target);
                self.add(owner, rtype, rdata);
            }
        }
    }

    /// One more type at a name that has some.
    fn beside(&mut self) {
        let owner = pick(self.random, &self.zone.records).owner.clone();
        let alone = self.zone.has(&owner, Rtype::CNAME) || self.zone.has(&owner, Rtype::NSEC3);
        if !alone && !self.zone.is_hidden(&owner) {
            self.addresses(&owner);
        }
    }

    fn remove_rrset(&mut self) {
        let (owner, rtype) = {
            let record = pick(self.random, &self.zone.records);
            (record.owner.clone(), record.rtype)
        };
        if owner == self.zone.apex && matches!(rtype, Rtype::SOA | Rtype::NS) {
            return;
        }
        self.zone.records.retain(|record| !(record.owner == owner && record.rtype == rtype));
    }
}
