//! A zone that is too large for one request: made with its apex alone if it is not there, compared with what is there,
//! and brought to what the file says in several changes. Each is whole in itself; between them a mixture of before
//! and after is served. Nothing is remembered here: an import that was interrupted is run again and sends what is
//! missing.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use anyhow::{anyhow, bail};
use godwit_controlplane::config::Guard;
use godwit_engine::snapshot::ZoneView;
use godwit_wire::name::{Name, NameRef};
use godwit_wire::presentation::{format_rdata, write_name};
use godwit_wire::rr::{Rrset, Rtype};
use serde_json::{Value, json};

use super::import::{How, Sent, send_whole, write};
use super::progress::Progress;
use super::{confirmed, not_made};
use crate::client::{Ask, Client, ClientError, encoded};

/// Steps of one change, and octets of one request from which on it takes no further step.
const CHUNK_STEPS: usize = 5_000;
const CHUNK_OCTETS: usize = 8 << 20;

/// What is there: by owner, by type, a hash of TTL and values.
type There = HashMap<String, HashMap<String, u64>>;

/// Brings the zone at `apex` to what `view` holds.
pub(super) fn send(client: &mut Client, apex: &Name, view: &ZoneView<'_>, how: How) -> anyhow::Result<Sent> {
    // A signed zone is right as a whole only: half of two signings would not validate.
    if view.rrsets().any(|(_, rrset)| !rrset.rrsigs.is_empty()) {
        bail!("it is signed and does not fit in one request, and a signed zone changes as a whole only");
    }
    let total = view.rrsets().count() as u64;
    let made = prepare(client, apex, view)?;
    let hasher = RandomState::new();
    let mut there = there(client, apex, &hasher, total)?;
    let cost = guard(apex, view, &there, &hasher, how.confirm)?;
    let mut sender = Sender {
        client,
        zone: encoded(&apex.to_string()),
        left: cost,
        is_confirmed: how.confirm.is_some(),
        accepted: None,
        steps: Vec::new(),
        octets: 0,
        max_octets: how.max_request.min(CHUNK_OCTETS),
        names: Names::default(),
        changed: if made { 2 } else { 0 },
        progress: Progress::new(format!("{apex} RRsets"), total),
    };
    let mut sets = view.rrsets().map(|(owner, rrset)| (shown(owner), rrset)).peekable();
    while let Some((owner, first)) = sets.next() {
        let mut wanted = vec![first];
        while let Some((_, next)) = sets.next_if(|(next, _)| *next == owner) {
            wanted.push(next);
        }
        let before = there.remove(&owner).unwrap_or_default();
        // What goes makes room for what comes: a CNAME stands alone (RFC 2181 §10.1).
        for rtype in before.keys().filter(|&rtype| !wanted.iter().any(|set| set.rtype.to_string() == *rtype))
        {
            sender.step(&owner, true, json!({ "op": "delete", "name": owner, "type": rtype }))?;
        }
        for rrset in &wanted {
            let (values, hash) = values(&hasher, rrset);
            let there = before.get(&rrset.rtype.to_string());
            if there != Some(&hash) {
                let costs = there.is_some() && rrset.rtype != Rtype::SOA;
                sender.step(&owner, costs, put(&owner, rrset, &values))?;
            }
        }
        sender.progress.add(wanted.len() as u64);
    }
    for (owner, types) in there {
        for rtype in types.keys() {
            sender.step(&owner, true, json!({ "op": "delete", "name": owner, "type": rtype }))?;
        }
    }
    sender.flush()?;
    Ok(Sent { rrsets: total, changed: sender.changed, accepted: sender.accepted })
}

/// Refuses what changes much of the zone unconfirmed, or more of it than was confirmed: the server judges each change alone, and sees
/// a small part of it. Gives how many names it changes or takes away.
fn guard(
    apex: &Name,
    view: &ZoneView<'_>,
    there: &There,
    hasher: &RandomState,
    confirm: Option<u64>,
) -> anyhow::Result<u64> {
    // Of each name, the types that stay as they are.
    let mut kept: HashMap<String, usize> = HashMap::new();
    for (owner, rrset) in view.rrsets() {
        let owner = shown(owner);
        let before = there.get(&owner).and_then(|types| types.get(&rrset.rtype.to_string()));
        if before.is_some_and(|before| rrset.rtype == Rtype::SOA || *before == values(hasher, &rrset).1) {
            *kept.entry(owner).or_default() += 1;
        }
    }
    let is_kept = |(owner, types): &(&String, &HashMap<String, u64>)| kept.get(*owner) == Some(&types.len());
    let changed = there.iter().filter(|name| !is_kept(name)).count() as u64;
    let (names, limits) = (there.len() as u64, Guard::default());
    let is_much = changed > limits.changed_names && changed * 100 > names * u64::from(limits.changed_percent);
    let is_less = confirm.is_some_and(|confirm| confirm < changed);
    if is_less || (is_much && confirm != Some(changed)) {
        bail!(
            "this would change or take away {changed} of the {names} names of the zone {apex}; nothing was changed; say \
             --confirm {changed} if it is meant"
        );
    }
    Ok(changed)
}

/// The values of an RRset in presentation format, and what it is compared by.
fn values(hasher: &RandomState, rrset: &Rrset) -> (Vec<String>, u64) {
    let values: Vec<String> = rrset.rdata.iter().map(|rdata| format_rdata(rrset.rtype, rdata)).collect();
    let rtype = rrset.rtype.to_string();
    let hash = hash(hasher, &rtype, rrset.ttl.into(), values.iter().map(String::as_str));
    (values, hash)
}

/// A name as the API shows it, so that it is found in what is there.
fn shown(owner: NameRef<'_>) -> String {
    let mut text = String::new();
    write_name(owner.as_wire(), &mut text).map_or_else(|| owner.to_string(), |()| text)
}

fn put(owner: &str, rrset: &Rrset, values: &[String]) -> Value {
    json!({ "op": "put", "name": owner, "type": rrset.rtype.to_string(), "ttl": rrset.ttl, "value": values })
}

/// Makes the zone when it is not there (`true`), and has it keep TTLs as they are.
fn prepare(client: &mut Client, apex: &Name, view: &ZoneView<'_>) -> anyhow::Result<bool> {
    let path = format!("/api/v1/domains/{}", encoded(&apex.to_string()));
    match client.ask(&Ask::get(&path)) {
        Ok(_) => {
            let patch = client.ask(&Ask::patch(&path, &json!({ "ttl_policy": "keep" })))?;
            made_now(patch.accepted().as_deref())?;
            Ok(false)
        }
        Err(ClientError::Api { code, .. }) if code == "DOMAIN_NOT_FOUND" => {
            let mut text = String::new();
            for rtype in [Rtype::SOA, Rtype::NS] {
                if let Some(rrset) = view.rrset(view.apex(), rtype) {
                    write(view.apex(), &rrset, &mut text);
                }
            }
            made_now(send_whole(client, apex, text.into(), None)?.accepted.as_deref())?;
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// Ends an import at whose beginning the database went away: what is there cannot be read then.
fn made_now(accepted: Option<&str>) -> anyhow::Result<()> {
    match accepted {
        None => Ok(()),
        Some(change) => bail!("{}; import it again then", not_made(change)),
    }
}

fn there(client: &mut Client, apex: &Name, hasher: &RandomState, about: u64) -> anyhow::Result<There> {
    let mut there = There::new();
    let mut progress = Progress::new(format!("{apex} RRsets compared"), about);
    let path = format!("/api/v1/records?zone={}", encoded(&apex.to_string()));
    client.list(&path, |record| {
        let (Some(owner), Some(rtype)) = (record["name"].as_str(), record["type"].as_str()) else {
            return Err(ClientError::NotTheApi { reason: "a record without name or type".to_owned() }.into());
        };
        let values = record["value"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let hash = hash(hasher, rtype, record["ttl"].as_u64().unwrap_or(0), values);
        progress.add(1);
        there.entry(owner.to_owned()).or_default().insert(rtype.to_owned(), hash);
        Ok(())
    })?;
    Ok(there)
}

/// Of what makes two RRsets of one name and type equal. An SOA's serial is the server's own: it rises with every
/// change, so it makes no difference.
fn hash<'a>(hasher: &RandomState, rtype: &str, ttl: u64, values: impl Iterator<Item = &'a str>) -> u64 {
    let mut values: Vec<Vec<&str>> = values
        .map(|value| {
            let words = value.split(' ').enumerate();
            words.filter(|(i, _)| !(rtype == "SOA" && *i == 2)).map(|(_, word)| word).collect()
        })
        .collect();
    values.sort_unstable();
    hasher.hash_one((ttl, values))
}

/// Gathers steps and sends them, so many at once.
struct Sender<'a> {
    client: &'a mut Client,
    /// The zone alone is changed: others on the server may lie below it, or above.
    zone: String,
    steps: Vec<Value>,
    octets: usize,
    max_octets: usize,
    changed: u64,
    /// What the next change costs, to be confirmed where all of it was.
    names: Names,
    is_confirmed: bool,
    /// What those cost that are not made yet.
    left: u64,
    accepted: Option<String>,
    progress: Progress,
}

/// Counts names that come one behind the other.
#[derive(Default)]
struct Names {
    count: u64,
    last: String,
}

impl Sender<'_> {
    fn step(&mut self, owner: &str, costs: bool, step: Value) -> anyhow::Result<()> {
        if costs && (self.names.count == 0 || self.names.last != owner) {
            self.names = Names { count: self.names.count + 1, last: owner.to_owned() };
        }
        self.octets += step.to_string().len();
        self.steps.push(step);
        self.changed += 1;
        if self.steps.len() >= CHUNK_STEPS || self.octets >= self.max_octets { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if !self.steps.is_empty() {
            let body = json!({ "changes": std::mem::take(&mut self.steps) });
            let names = std::mem::take(&mut self.names).count;
            let confirmed = confirmed(self.is_confirmed.then_some(names));
            let path = format!("/api/v1/changes?wait=applied&zone={}{confirmed}", self.zone);
            let answer = self.client.ask(&Ask::post(path, &body)).map_err(|error| match error {
                ClientError::Api { code, .. } if code == "CONFIRMATION_REQUIRED" => anyhow!(
                    "this server asks for confirmation of less: {} of the zone's names are still to be changed or taken away; say \
                     --confirm {} if that is meant",
                    self.left,
                    self.left
                ),
                other => other.into(),
            })?;
            answer.note_unapplied();
            self.accepted = answer.accepted().or(self.accepted.take());
            self.left = self.left.saturating_sub(names);
            self.octets = 0;
        }
        Ok(())
    }
}
