//! What a transaction knows of zones that it has locked: read for all of its requests at once, and kept true by what they do.

use std::collections::{BTreeSet, HashMap};

use godwit_wire::name::Name;

use super::plan::{Plan, lowest_apex};
use crate::model::change::{Operation, Request};
use crate::model::zone::Zone;
use crate::store::{Connection, is_damage, rrsets, zones};
use crate::validate::zone::Sets;

/// See the module. What it does not know is in the database.
#[derive(Debug, Default)]
pub struct Known {
    /// By apex; `None`: there is no such zone.
    zones: HashMap<Name, Option<Zone>>,
    /// RRsets by the zone's row and the owner name.
    owners: HashMap<(i64, Name), Sets>,
    /// A request has begun to write, and has not come to its end.
    pub(super) is_writing: bool,
}

impl Known {
    /// Locks those of these names that are zones, and reads them with what the requests change in them. For PostgreSQL.
    ///
    /// # Errors
    /// Of the database.
    pub(super) async fn lock(
        connection: &mut Connection,
        names: BTreeSet<Name>,
        requests: impl Iterator<Item = &Request>,
    ) -> sqlx::Result<Known> {
        let mut known = Known::default();
        let Some(found) = read(zones::lock_in_order(connection, &names).await)? else { return Ok(known) };
        if !connection.is_guarded() {
            // Where it is, there may be zones that it does not see.
            known.zones.extend(names.into_iter().map(|name| (name, None)));
        }
        known.zones.extend(found.into_iter().map(|zone| (zone.apex.clone(), Some(zone))));
        let mut owners = BTreeSet::new();
        for operation in requests.flat_map(|request| &request.operations) {
            if let Some((owner, zone)) = known.place(operation) {
                owners.insert((zone.id, owner.clone()));
                // The SOA is changed with whatever else is.
                owners.insert((zone.id, zone.apex.clone()));
            }
        }
        if owners.is_empty() {
            return Ok(known);
        }
        let Some(listed) = read(rrsets::of_owners(connection, &owners).await)? else { return Ok(known) };
        known.owners.extend(owners.into_iter().map(|owner| (owner, Sets::new())));
        for one in listed {
            let sets = known.owners.entry((one.position.zone_id, one.owner)).or_default();
            sets.insert(one.rrset.rtype, one.rrset);
        }
        Ok(known)
    }

    /// The owner name of an operation on records, and the zone that holds it.
    fn place<'o>(&self, operation: &'o Operation) -> Option<(&'o Name, &Zone)> {
        let (owner, rtype, named) = operation.of_records()?;
        let zone = match named {
            Some(apex) => self.zone(apex)??,
            None => std::iter::successors(lowest_apex(owner, rtype), |name| name.parent())
                .find_map(|name| self.zone(&name.to_owned())?)?,
        };
        Some((owner, zone))
    }

    /// The zone of this name; the inner `None`: there is none; the outer: it is not known.
    pub(super) fn zone(&self, apex: &Name) -> Option<Option<&Zone>> {
        self.zones.get(apex).map(Option::as_ref)
    }

    /// What an owner name holds, where that is known.
    pub(super) fn owner(&self, zone: &Zone, owner: &Name) -> Option<&Sets> {
        self.owners.get(&(zone.id, owner.clone()))
    }

    /// A request of this plan was carried out, which was about records only.
    pub(super) fn became(&mut self, plan: Plan) {
        self.is_writing = false;
        for (apex, plan) in plan.zones {
            let id = plan.zone.id;
            self.owners.extend(plan.owners.into_iter().map(|(name, owner)| ((id, name), owner.after)));
            self.zones.insert(apex, Some(plan.zone));
        }
    }
}

/// What was read; `None` where a row of it is damaged: who needs that one finds out, and nobody else minds.
fn read<T>(read: sqlx::Result<T>) -> sqlx::Result<Option<T>> {
    match read {
        Err(error) if is_damage(&error) => Ok(None),
        read => read.map(Some),
    }
}
