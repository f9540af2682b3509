//! A zone as it was: the present one, and what takes its versions back down to the one that is wanted.
//!
//! **Cost**: what changed since then, in work and, each RRset once, in memory; the zone itself is read page by page. A version
//! can be read for as long as the version after it is kept in the history (`store.history_days` after that was made).

use std::collections::BTreeMap;
use std::ops::Bound;

use godwit_wire::feed::{OwnedRrset, RrsetChange};
use godwit_wire::name::{Name, NameRef};
use godwit_wire::rr::{Rrset, Rtype};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::auth::Access;
use crate::error::{Code, Problem};
use crate::model::name_key;
use crate::model::zone::Zone;
use crate::store::rrsets::{self, Listed, Position};
use crate::store::zones::Longest;
use crate::store::{Connection, history, zones};

/// Versions that are read from the history at once.
const STEP: i64 = 64;

/// Which state is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At {
    /// That version of the zone.
    Version(u64),
    /// What was true then, in microseconds since the epoch. A time that is to come means what is true now.
    Time(i64),
}

impl At {
    /// Reads `?at=`.
    ///
    /// # Errors
    /// `MALFORMED_REQUEST`.
    pub fn parse(text: &str) -> Result<At, Problem> {
        let malformed = || {
            let message = format!(
                "at is {text:?}; expected a version like 17, or a time like 2026-11-20T19:00:00Z (RFC 3339)"
            );
            Problem::new(Code::MalformedRequest, message)
        };
        if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) {
            return text.parse().map(At::Version).map_err(|_| malformed());
        }
        // In a query a plus is a space, and offsets begin with one.
        let time = OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).map_err(|_| malformed())?;
        i64::try_from(time.unix_timestamp_nanos() / 1_000).map(At::Time).map_err(|_| malformed())
    }
}

/// The key of a row, and its type.
type Key = (Vec<u8>, i64);

/// A zone as it was. See the module.
#[derive(Debug)]
pub struct Past {
    /// As it was then; its row's id is that of the present zone, if there is one.
    pub zone: Zone,
    /// Where rows of the present still stand under what differs.
    present: Option<i64>,
    /// What differs: `None` for what was not there.
    differs: BTreeMap<Key, (Name, Option<Rrset>)>,
}

/// The version that a zone has now: that of its removal where it is gone, 0 where there never was one.
async fn current(connection: &mut Connection, apex: NameRef<'_>) -> Result<(Option<Zone>, u64), Problem> {
    if let Some(zone) = zones::by_name(connection, apex).await? {
        let version = zone.version;
        return Ok((Some(zone), version));
    }
    let departed = zones::departed(connection, apex).await?.unwrap_or(0);
    Ok((None, departed.max(history::last(connection, apex).await?)))
}

/// The version that a zone had.
///
/// # Errors
/// `DOMAIN_NOT_FOUND` where there was no zone then, `VERSION_NOT_FOUND`, `VERSION_GONE`.
pub async fn version_at(connection: &mut Connection, apex: &Name, at: At) -> Result<u64, Problem> {
    let at_us = match at {
        At::Version(version) => return Ok(version),
        At::Time(at_us) => at_us,
    };
    if let Some(version) = history::at_time(connection, apex.as_ref(), at_us).await? {
        return Ok(version);
    }
    match history::oldest(connection, apex.as_ref()).await? {
        Some(oldest) => match oldest.before {
            Some((_, since)) if since <= at_us => Ok(oldest.version.saturating_sub(1)),
            Some(_) => Err(gone(apex, oldest.version.saturating_sub(1))),
            None if oldest.version == 1 => Err(not_there(apex, "had not been made yet")),
            None => Err(gone(apex, oldest.version)),
        },
        None => {
            let (zone, _) = current(connection, apex.as_ref()).await?;
            let zone = zone.ok_or_else(|| unknown(apex))?;
            if zone.updated_at_us <= at_us { Ok(zone.version) } else { Err(gone(apex, zone.version)) }
        }
    }
}

/// What leads from the present to a version: how it differs, and what the zone was; `None` where there was none. To be
/// called where both are one state of the database.
///
/// # Errors
/// `DOMAIN_NOT_FOUND` where there never was a zone of this name, `VERSION_NOT_FOUND`, `VERSION_GONE`.
pub(crate) async fn back_to(
    connection: &mut Connection,
    apex: &Name,
    version: u64,
) -> Result<Option<Past>, Problem> {
    let (present, last) = current(connection, apex.as_ref()).await?;
    if last == 0 {
        return Err(unknown(apex));
    }
    if version > last {
        let message = format!("{apex} has no version {version} yet: it is at version {last}");
        return Err(Problem::new(Code::VersionNotFound, message));
    }
    let present_id = present.as_ref().map(|zone| zone.id);
    let mut past = present.map(|zone| Past { present: Some(zone.id), zone, differs: BTreeMap::new() });
    let mut reached = last;
    while reached > version {
        let step = history::undos(connection, apex.as_ref(), version, reached, STEP).await?;
        if step.is_empty() {
            return Err(gone(apex, reached));
        }
        for undo in step {
            let Some(steps) = undo.steps.filter(|_| undo.version == reached) else {
                return Err(gone(apex, reached));
            };
            reached -= 1;
            let Some(mut before) = undo.before else {
                past = None;
                continue;
            };
            before.id = present_id.unwrap_or(0);
            let past = past.get_or_insert_with(|| Past {
                zone: before.clone(),
                present: None,
                differs: BTreeMap::new(),
            });
            past.zone = before;
            past.apply(steps);
            let mut part = 1;
            while let Some(steps) = history::undo_part(connection, apex.as_ref(), undo.version, part).await? {
                past.apply(steps);
                part += 1;
            }
        }
    }
    Ok(past)
}

/// A zone as it was in a version.
///
/// # Errors
/// As `back_to`, and `DOMAIN_NOT_FOUND` where there was no zone in that version.
pub async fn of_version(connection: &mut Connection, apex: &Name, version: u64) -> Result<Past, Problem> {
    let past = back_to(connection, apex, version).await?;
    past.ok_or_else(|| not_there(apex, &format!("was not there in version {version}")))
}

/// A zone as it was.
///
/// # Errors
/// As [`version_at`] and [`of_version`].
pub async fn of(connection: &mut Connection, apex: &Name, at: At) -> Result<Past, Problem> {
    let version = version_at(connection, apex, at).await?;
    of_version(connection, apex, version).await
}

/// Refuses who sees neither a zone nor, where it is gone, what it was: for them there never was one.
///
/// # Errors
/// `DOMAIN_NOT_FOUND`, `FORBIDDEN` to who would see it from elsewhere, or of the database.
pub(crate) async fn seen(
    connection: &mut Connection,
    apex: &Name,
    present: Option<&Zone>,
    access: &Access,
) -> Result<(), Problem> {
    if access.is_everything() {
        return Ok(());
    }
    if let Some(zone) = present {
        return if access.finds(zone)? { Ok(()) } else { Err(unknown(apex)) };
    }
    // Hidden by the database, it is there.
    if !matches!(zones::longest_seen(connection, &[apex.as_ref()], false).await?, Longest::Nothing) {
        return Err(unknown(apex));
    }
    let owner = zones::departed_owner(connection, apex.as_ref()).await?;
    owner.map_or(Ok(()), |owner| access.let_in_by(owner))?;
    let is_theirs = owner.is_some_and(|owner| access.role_in(owner).is_some());
    if is_theirs { Ok(()) } else { Err(unknown(apex)) }
}

impl Past {
    /// Refuses who does not see a zone as it was: it may have been somebody else's then, who has granted nothing.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, or `FORBIDDEN` to who would see it from elsewhere.
    pub(crate) fn needs(&self, present: Option<&Zone>, access: &Access) -> Result<(), Problem> {
        if access.sees_past(self.zone.owner_number, present) {
            return Ok(());
        }
        access.let_in_by(self.zone.owner_number)?;
        Err(unknown(&self.zone.apex))
    }

    /// The zone as it is.
    #[must_use]
    pub fn of_present(zone: Zone) -> Past {
        Past { present: Some(zone.id), zone, differs: BTreeMap::new() }
    }

    fn apply(&mut self, steps: Vec<RrsetChange>) {
        for step in steps {
            let (owner, rtype, rrset) = match step {
                RrsetChange::Put(OwnedRrset { owner, rrset }) => (owner, rrset.rtype, Some(rrset)),
                RrsetChange::Delete { owner, rtype } => (owner, rtype, None),
            };
            let key = (name_key::encode(owner.as_ref()), i64::from(rtype.0));
            self.differs.insert(key, (owner, rrset));
        }
    }

    /// What differs from the present: RRsets that were other or not there (`None`). All of the zone where it is not there
    /// any more.
    pub(crate) fn differs(&self) -> impl ExactSizeIterator<Item = (&Name, Rtype, Option<&Rrset>)> {
        self.differs.iter().map(|((_, rtype), (name, rrset))| {
            (name, Rtype(u16::try_from(*rtype).unwrap_or_default()), rrset.as_ref())
        })
    }

    /// All RRsets of one owner name.
    ///
    /// # Errors
    /// Of the database.
    pub async fn of_owner(
        &self,
        connection: &mut Connection,
        owner: NameRef<'_>,
    ) -> sqlx::Result<Vec<Rrset>> {
        let mut sets = BTreeMap::new();
        if let Some(zone_id) = self.present {
            for set in rrsets::of_owner(connection, zone_id, owner).await? {
                sets.insert(i64::from(set.rtype.0), set);
            }
        }
        let key = name_key::encode(owner);
        for ((_, rtype), (_, set)) in self.differs.range((key.clone(), 0)..=(key, i64::MAX)) {
            match set {
                Some(set) => drop(sets.insert(*rtype, set.clone())),
                None => drop(sets.remove(rtype)),
            }
        }
        Ok(sets.into_values().collect())
    }

    /// RRsets behind a position, in order of owner name and type; of one type when `rtype` is given. Fewer than `limit`
    /// only at the end.
    ///
    /// # Errors
    /// Of the database.
    pub async fn list(
        &self,
        connection: &mut Connection,
        rtype: Option<Rtype>,
        after: &Position,
        limit: i64,
    ) -> sqlx::Result<Vec<Listed>> {
        if let (Some(zone_id), true) = (self.present, self.differs.is_empty()) {
            let after = Position { zone_id, ..after.clone() };
            return rrsets::list(connection, Some(zone_id), rtype, &after, limit).await;
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut all: Vec<Listed> = Vec::new();
        let mut after = after.clone();
        loop {
            let step = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = match self.present {
                Some(id) => {
                    after.zone_id = id;
                    rrsets::list(connection, Some(id), rtype, &after, step).await?
                }
                None => Vec::new(),
            };
            let is_last = rows.len() < limit;
            let from = (after.owner_key.clone(), after.rtype);
            let to = match rows.last().filter(|_| !is_last) {
                Some(last) => Bound::Included((last.position.owner_key.clone(), last.position.rtype)),
                None => Bound::Unbounded,
            };
            if let Some(last) = rows.last() {
                after = last.position.clone();
            }
            let mut merged: BTreeMap<Key, Listed> = rows
                .into_iter()
                .map(|row| ((row.position.owner_key.clone(), row.position.rtype), row))
                .collect();
            let differs = self.differs.range((Bound::Excluded(from), to));
            for (key, (owner, set)) in differs.filter(|((_, of), _)| is_of(rtype, *of)) {
                // What is no longer there comes from here alone, in order.
                if self.present.is_none() && merged.len() >= limit {
                    break;
                }
                merged.remove(key);
                if let Some(rrset) = set {
                    let position = Position { zone_id: self.zone.id, owner_key: key.0.clone(), rtype: key.1 };
                    let listed = Listed { position, owner: owner.clone(), rrset: rrset.clone() };
                    merged.insert(key.clone(), listed);
                }
            }
            all.extend(merged.into_values());
            if all.len() >= limit || is_last {
                all.truncate(limit);
                return Ok(all);
            }
        }
    }
}

fn is_of(wanted: Option<Rtype>, rtype: i64) -> bool {
    wanted.is_none_or(|wanted| i64::from(wanted.0) == rtype)
}

fn unknown(apex: &Name) -> Problem {
    Problem::new(Code::DomainNotFound, format!("there is no zone {apex} here, and nothing is kept of one"))
}

fn not_there(apex: &Name, why: &str) -> Problem {
    Problem::new(Code::DomainNotFound, format!("the zone {apex} {why}"))
}

fn gone(apex: &Name, oldest: u64) -> Problem {
    let message =
        format!("this is further back than what is kept of {apex}: its oldest version here is {oldest}");
    Problem::new(Code::VersionGone, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_a_version_or_a_time() {
        assert_eq!(At::parse("17").unwrap(), At::Version(17));
        assert_eq!(At::parse("1970-01-01T00:00:01.5Z").unwrap(), At::Time(1_500_000));
        assert_eq!(At::parse("1970-01-01T02:00:00 02:00").unwrap(), At::Time(0));
        for text in ["", "-1", "+1", "v1", "99999999999999999999", "2026-11-20", "2026-11-20 19:00:00", "now"]
        {
            assert_eq!(At::parse(text).unwrap_err().code, Code::MalformedRequest, "{text}");
        }
    }
}
