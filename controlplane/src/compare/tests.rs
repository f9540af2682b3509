//! The oracle: both states asked for every name up to some depth and every type. What differs there, and nothing else, must
//! have been reported.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

const TYPES: [Rtype; 9] = [
    Rtype::A,
    Rtype::TXT,
    Rtype::NS,
    Rtype::SOA,
    Rtype::CNAME,
    Rtype::DNAME,
    Rtype::DS,
    Rtype::MX,
    Rtype(65_400),
];
const LABELS: [&str; 4] = ["a", "b", "*", "z"];

fn seed() -> u64 {
    std::env::var("GODWIT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn put(state: &mut State, apex: &str, owner: &str, rtype: Rtype, value: &str) {
    let rdata = presentation(rtype, value);
    let rrsets = &mut state.entry(name(apex)).or_default().1;
    rrsets.insert((name(owner), rtype), Rrset::new(rtype, 300, vec![rdata], vec![]));
}

fn presentation(rtype: Rtype, value: &str) -> Box<[u8]> {
    godwit_wire::presentation::parse_rdata(rtype, value, None).unwrap()
}

fn zone(state: &mut State, apex: &str) {
    put(state, apex, apex, Rtype::SOA, "ns.other. h.other. 1 2 3 4 5");
    put(state, apex, apex, Rtype::NS, "ns.other.");
}

/// Puts something somewhere, or takes something away.
fn change(state: &mut State, random: &mut ChaCha8Rng) {
    let apexes: Vec<String> = state.keys().map(ToString::to_string).collect();
    let apex = apexes[random.random_range(0..apexes.len())].clone();
    let mut owner = apex.clone();
    for _ in 0..random.random_range(0..3) {
        owner = format!("{}.{owner}", LABELS[random.random_range(0..3)]);
    }
    let target = || -> String {
        ["a.e.", "b.a.e.", "e.", "b.f.", "a.f.", "z.e.", "b.e.", "x.other."][random_of(owner.len(), 8)]
            .to_owned()
    };
    let sets = &mut state.get_mut(&name(&apex)).unwrap().1;
    let here = name(&owner);
    let is_apex = owner == apex;
    let of = |sets: &BTreeMap<(Name, Rtype), Rrset>, rtype| sets.contains_key(&(here.clone(), rtype));
    let has_alias = of(sets, Rtype::CNAME);
    let has_any = sets.keys().any(|(owner, _)| *owner == here);
    match random.random_range(0..10) {
        0..3 if !is_apex => sets.retain(|(owner, _), _| *owner != here),
        3 if !is_apex && !has_any => {
            let to = ["a.e.", "b.a.e.", "b.f.", "a.f.", "z.e.", "x.other."][random.random_range(0..6)];
            put(state, &apex, &owner, Rtype::CNAME, to);
        }
        4 if !has_alias => {
            let to = ["a.e.", "e.", "f.", "b.f.", "b.e.", "x.other."][random.random_range(0..6)];
            put(state, &apex, &owner, Rtype::DNAME, to);
        }
        5 if !is_apex && !has_alias => put(state, &apex, &owner, Rtype::NS, &target()),
        6 if !has_alias => put(state, &apex, &owner, Rtype::DS, "1 8 2 aa"),
        7 if !has_alias => put(state, &apex, &owner, Rtype::TXT, &random.random_range(0..3).to_string()),
        _ if !has_alias => {
            let value = format!("192.0.2.{}", random.random_range(0..3));
            put(state, &apex, &owner, Rtype::A, &value);
        }
        _ => {}
    }
}

fn random_of(number: usize, of: usize) -> usize {
    number % of
}

/// Every name up to some depth below a few.
fn universe() -> Vec<Name> {
    let mut all: Vec<String> = [".", "e.", "f.", "g."].map(str::to_owned).to_vec();
    let mut last: Vec<String> = all[1..].to_vec();
    for _ in 0..3 {
        last = last.iter().flat_map(|name| LABELS.map(|label| format!("{label}.{name}"))).collect();
        all.extend(last.iter().cloned());
    }
    all.iter().map(|text| name(text)).collect()
}

/// Whether a row says that this answer changes.
fn reported(found: &Comparison, names: &BTreeSet<Name>, asked: &Name, rtype: Rtype) -> bool {
    let key = if names.contains(asked) {
        Asked::Name(asked.clone())
    } else {
        let Some(above) = asked.as_ref().ancestors().map(NameRef::to_owned).find(|name| names.contains(name))
        else {
            return false;
        };
        Asked::Below(above)
    };
    let Some(types) = found.types.get(&key) else { return false };
    let of = if types.contains(&rtype) { Type::Of(rtype) } else { Type::Others };
    found.rows.iter().any(|row| row.asked == key && row.rtype == of)
}

#[test]
fn what_is_reported_is_what_changes() {
    let seed = seed();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let universe = universe();
    let (mut changed, mut compared) = (0, 0);
    for round in 0..60 {
        let mut before = State::new();
        zone(&mut before, "e.");
        zone(&mut before, "f.");
        if random.random_range(0..3) == 0 {
            zone(&mut before, "a.e.");
        }
        // A third of another owner: aliases do not lead there.
        if random.random_range(0..3) == 0 {
            before.get_mut(&name("f.")).unwrap().0 = 7;
        }
        for _ in 0..random.random_range(0..20) {
            change(&mut before, &mut random);
        }
        let mut after = before.clone();
        match random.random_range(0..8) {
            0 => drop(after.remove(&name("a.e."))),
            1 => zone(&mut after, "b.e."),
            _ => {}
        }
        for _ in 0..random.random_range(1..4) {
            change(&mut after, &mut random);
        }
        for (one, other) in [(&before, &after), (&after, &before)] {
            // DNAMEs that lead to each other make names without end.
            let found = match compare(one, other) {
                Err(Refusal::TooLarge) => continue,
                found => found.unwrap(),
            };
            compared += 1;
            let names = World::of(one, other).unwrap().asked().unwrap();
            let (first, second) = (snapshot(one).unwrap(), snapshot(other).unwrap());
            let (mut first, mut second) = (Asker::new(&first), Asker::new(&second));
            for asked in &universe {
                for rtype in TYPES {
                    let (was, is) = (first.ask(asked, rtype), second.ask(asked, rtype));
                    let differs = was.differs(&is);
                    changed += usize::from(differs);
                    assert_eq!(
                        reported(&found, &names, asked, rtype),
                        differs,
                        "{asked} {rtype}: {was:?} {is:?}, round {round}, seed {seed}"
                    );
                }
            }
        }
    }
    assert!(compared > 60 && changed > 1_000, "{compared} {changed}: too little happens to say anything");
}

/// One name with an address, where a wildcard and an alias were.
#[test]
fn effects_on_other_names_are_said() {
    let mut before = State::new();
    zone(&mut before, "e.");
    put(&mut before, "e.", "*.w.e.", Rtype::A, "192.0.2.1");
    put(&mut before, "e.", "alias.e.", Rtype::CNAME, "x.w.e.");
    put(&mut before, "e.", "a.cut.e.", Rtype::TXT, "below");
    let mut after = before.clone();
    put(&mut after, "e.", "a.x.w.e.", Rtype::TXT, "t");
    put(&mut after, "e.", "cut.e.", Rtype::NS, "ns.other.");
    let found = compare(&before, &after).unwrap();
    let said = |asked: Asked, rtype: Rtype| {
        let row = found.rows.iter().find(|row| row.asked == asked && row.rtype == Type::Of(rtype));
        row.map(|row| (row.before.kind, row.after.kind))
    };
    let one = |text: &str| Asked::Name(name(text));
    // A name between is made: the wildcard gives nothing there any more, nor below.
    assert_eq!(said(one("x.w.e."), Rtype::A), Some(("answer", "nodata")));
    assert_eq!(said(Asked::Below(name("x.w.e.")), Rtype::A), Some(("answer", "nxdomain")));
    assert_eq!(said(Asked::Below(name("w.e.")), Rtype::A), None);
    assert_eq!(said(one("alias.e."), Rtype::A), Some(("answer", "answer")));
    assert_eq!(said(one("a.cut.e."), Rtype::TXT), Some(("answer", "referral")));
    assert_eq!(said(one("e."), Rtype::SOA), None);
    let below = found.rows.iter().find(|row| row.asked == Asked::Below(name("x.w.e."))).unwrap();
    assert_eq!(below.before.records, ["*.x.w.e. 300 IN A 192.0.2.1"]);
}
