//! Which answers a change would change: the zones before and after as snapshots, and the engine asked about both.
//!
//! There are infinitely many names, but few that answers tell apart: those that exist, in either state; those of which a
//! DNAME makes one of these; and for each of them one name below it that is none of these, which stands for all such names.
//! Each is asked for with the types that it can have, and with one type that nobody has, which stands for all others.
//!
//! Compared is what a client acts on: RCODE, kind, the records of an answer with their TTLs, the servers of a referral. Not
//! compared: the serial of an SOA, what is beside an answer (glue, the SOA of a negative answer), signatures, QTYPE ANY,
//! and names so long that a DNAME makes none of them.

mod asker;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use godwit_engine::snapshot::{LoadError, Snapshot, SnapshotOptions, ZoneLoader};
use godwit_wire::feed::DigestKey;
use godwit_wire::name::{Name, NameRef};
use godwit_wire::rr::{Rrset, Rtype};

pub use asker::Said;
use asker::{Asker, STAND_IN};

/// How many DNAMEs in a row are followed backwards: one more than the links that an answer has by default.
const MAX_LINKS: usize = 11;
/// From so many names on that have to be asked for, nothing is compared.
pub const MAX_NAMES: usize = if cfg!(test) { 3_000 } else { 400_000 };
/// The most names that are held against DNAMEs, all rounds together.
const MAX_PAIRS: usize = 20_000_000;

/// What is served: zones with their owner numbers and RRsets.
pub type State = BTreeMap<Name, (u32, BTreeMap<(Name, Rtype), Rrset>)>;

/// Why states are not compared.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// More names than [`MAX_NAMES`], or too many DNAMEs that lead to them.
    #[error("too large to compare: more than {MAX_NAMES} names")]
    TooLarge,
    /// A data plane could not serve it.
    #[error("a zone could not be served: {0}")]
    Unservable(#[from] LoadError),
}

/// The names that a row is about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Asked {
    /// This one.
    Name(Name),
    /// All below this one but those that exist, those of which a DNAME makes one that exists, and what is below either.
    Below(Name),
}

/// The type that a row is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Type {
    /// This one.
    Of(Rtype),
    /// All but those of [`Comparison::types`].
    Others,
}

/// An answer that changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Names.
    pub asked: Asked,
    /// Type.
    pub rtype: Type,
    /// The answer as it is.
    pub before: Said,
    /// The answer as it would be.
    pub after: Said,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Answers that change, in canonical order of names, then by type.
    pub rows: Vec<Row>,
    /// The types that names with rows were asked for: [`Type::Others`] are all but these.
    pub types: BTreeMap<Asked, BTreeSet<Rtype>>,
}

/// Compares two states.
///
/// **Cost**: a few questions for each name of all zones, in both states.
///
/// # Errors
/// See [`Refusal`].
pub fn compare(before: &State, after: &State) -> Result<Comparison, Refusal> {
    let world = World::of(before, after)?;
    let names = world.asked()?;
    let (before, after) = (snapshot(before)?, snapshot(after)?);
    let (mut before, mut after) = (Asker::new(&before), Asker::new(&after));
    let mut found = Comparison::default();
    for name in &names {
        for key in [Asked::Name(name.clone()), Asked::Below(name.clone())] {
            let stand_in = match &key {
                Asked::Name(_) => None,
                Asked::Below(above) => match below(above, &names) {
                    Some(below) => Some(below),
                    None => continue,
                },
            };
            let asked = stand_in.as_ref().unwrap_or(name);
            let others = (before.ask(asked, world.other), after.ask(asked, world.other));
            let is_alias = others.0.is_alias() || others.1.is_alias();
            let types = if is_alias { world.types.clone() } else { world.types_of(asked) };
            let mut rows = Vec::new();
            for rtype in &types {
                let (was, is) = (before.ask(asked, *rtype), after.ask(asked, *rtype));
                if was.differs(&is) {
                    rows.push((Type::Of(*rtype), was, is));
                }
            }
            if others.0.differs(&others.1) {
                rows.push((Type::Others, others.0, others.1));
            }
            if rows.is_empty() {
                continue;
            }
            let say = |(rtype, was, is): (Type, asker::Answer, asker::Answer)| Row {
                asked: key.clone(),
                rtype,
                before: was.said(stand_in.as_ref()),
                after: is.said(stand_in.as_ref()),
            };
            found.rows.extend(rows.into_iter().map(say));
            found.types.insert(key, types);
        }
    }
    Ok(found)
}

/// A name below that is not asked for by itself. `None` where a name is so long that none is below it.
fn below(above: &Name, names: &BTreeSet<Name>) -> Option<Name> {
    (0u32..).find_map(|number| {
        let label = format!("{STAND_IN}{number}");
        let mut wire = vec![u8::try_from(label.len()).unwrap_or_default()];
        wire.extend_from_slice(label.as_bytes());
        wire.extend_from_slice(above.as_ref().as_wire());
        match Name::from_wire(&wire) {
            Ok(name) if names.contains(&name) => None,
            name => Some(name.ok()),
        }
    })?
}

/// What there is in either state.
struct World {
    /// Every type.
    types: BTreeSet<Rtype>,
    /// A type that nobody has.
    other: Rtype,
    /// Names that exist, each with its types.
    names: BTreeMap<Name, BTreeSet<Rtype>>,
    /// Owners and targets.
    dnames: BTreeSet<(Name, Name)>,
}

impl World {
    fn of(before: &State, after: &State) -> Result<World, Refusal> {
        // The parent side of a cut answers for DS whatever is there, and who asks for CNAME is not led further.
        let mut types = BTreeSet::from([Rtype::DS, Rtype::CNAME]);
        let mut names: BTreeMap<Name, BTreeSet<Rtype>> = BTreeMap::new();
        let mut dnames = BTreeSet::new();
        for (apex, (_, rrsets)) in before.iter().chain(after) {
            for ((owner, rtype), rrset) in rrsets {
                types.insert(*rtype);
                names.entry(owner.clone()).or_default().insert(*rtype);
                if *rtype == Rtype::DNAME {
                    let targets = rrset.rdata.iter().filter_map(|rdata| Name::from_wire(rdata).ok());
                    dnames.extend(targets.map(|target| (owner.clone(), target)));
                }
                // Names between a name and its apex exist too (RFC 4592 §2.2.2).
                let mut above = owner.as_ref().parent();
                while let Some(name) = above.filter(|name| name.is_below(apex.as_ref())) {
                    names.entry(name.to_owned()).or_default();
                    above = name.parent();
                }
                if names.len() > MAX_NAMES {
                    return Err(Refusal::TooLarge);
                }
            }
        }
        // Of those for private use (RFC 6895 §3.1).
        let other = (65_280..65_535).rev().map(Rtype).find(|rtype| !types.contains(rtype));
        Ok(World { other: other.unwrap_or(Rtype(65_534)), types, names, dnames })
    }

    /// Names to ask for by themselves: those that exist, and those of which DNAMEs make one that does.
    fn asked(&self) -> Result<BTreeSet<Name>, Refusal> {
        let mut asked: BTreeSet<Name> = self.names.keys().cloned().collect();
        let mut fresh: Vec<Name> = asked.iter().cloned().collect();
        let mut pairs = 0usize;
        for _ in 0..MAX_LINKS {
            pairs = pairs.saturating_add(fresh.len().saturating_mul(self.dnames.len()));
            if pairs > MAX_PAIRS {
                return Err(Refusal::TooLarge);
            }
            let mut next = Vec::new();
            for name in &fresh {
                for (owner, target) in &self.dnames {
                    if let Some(leads_here) = moved(name.as_ref(), target.as_ref(), owner.as_ref())
                        && asked.insert(leads_here.clone())
                    {
                        next.push(leads_here);
                    }
                }
                if asked.len() > MAX_NAMES {
                    return Err(Refusal::TooLarge);
                }
            }
            if next.is_empty() {
                break;
            }
            fresh = next;
        }
        Ok(asked)
    }

    /// Types that a name that is no alias can have: its own, and those of wildcards above it.
    fn types_of(&self, name: &Name) -> BTreeSet<Rtype> {
        let mut types = self.names.get(name).cloned().unwrap_or_default();
        types.insert(Rtype::DS);
        let mut above = name.as_ref().parent();
        while let Some(encloser) = above {
            let mut star = b"\x01*".to_vec();
            star.extend_from_slice(encloser.as_wire());
            if let Some(held) = Name::from_wire(&star).ok().and_then(|star| self.names.get(&star)) {
                types.extend(held);
            }
            above = encloser.parent();
        }
        types
    }
}

/// A name below one, moved below another; `None` for others and where it gets too long.
fn moved(name: NameRef<'_>, from: NameRef<'_>, to: NameRef<'_>) -> Option<Name> {
    if !name.is_below(from) {
        return None;
    }
    let head = name.as_wire().len().checked_sub(from.as_wire().len())?;
    let mut wire = name.as_wire().get(..head)?.to_vec();
    wire.extend_from_slice(to.as_wire());
    Name::from_wire(&wire).ok()
}

/// A state as a data plane would serve it.
fn snapshot(state: &State) -> Result<Snapshot, Refusal> {
    let mut zones = Vec::with_capacity(state.len());
    for (apex, (owner_number, rrsets)) in state {
        let mut loader = ZoneLoader::new(apex.clone(), *owner_number);
        for ((owner, _), rrset) in rrsets {
            loader.rrset(owner.as_ref(), rrset)?;
        }
        zones.push(loader.finish()?);
    }
    // Nobody else sees it: nothing is to be kept from anybody.
    let options = SnapshotOptions { hash_key: [0; 16], digest_key: DigestKey([0; 32]) };
    Ok(Snapshot::empty(&options).replace_zones(zones))
}
