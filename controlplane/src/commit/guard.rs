//! What is so large or so final that the caller has to say that it is meant (R18): deleting a zone that has records,
//! emptying one, and changing much of a large one.
//!
//! What has to be said is how many names it costs, counted inside the transaction: nobody types that by accident, a script
//! that keeps the number for another day is refused, and a confirmation does not hold for a zone that has changed since.

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

use super::plan::{OwnerPlan, Plan, ZonePlan};
use crate::config::Guard;
use crate::error::{Code, Problem};
use crate::store::{Connection, rrsets};
use crate::validate::zone::Sets;

/// Zones that a sentence names.
const SHOWN: usize = 3;

/// What a change costs that needs to be confirmed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Cost {
    /// Names that are changed or gone, over all zones that need it: what has to be said.
    pub(super) names: u64,
    /// One part of a sentence for each zone.
    effects: Vec<String>,
}

impl Guard {
    /// What of a plan has to be confirmed; `None` when nothing has.
    ///
    /// # Errors
    /// Of the database.
    pub(super) async fn cost(&self, connection: &mut Connection, plan: &Plan) -> sqlx::Result<Option<Cost>> {
        let mut cost = Cost { names: 0, effects: Vec::new() };
        for (apex, zone) in plan.zones.iter().filter(|(_, zone)| zone.existed) {
            if let Some((names, effect)) = self.of_zone(connection, apex, zone).await? {
                cost.names += names;
                cost.effects.push(effect);
            }
        }
        Ok((!cost.effects.is_empty()).then_some(cost))
    }

    async fn of_zone(
        &self,
        connection: &mut Connection,
        apex: &Name,
        zone: &ZonePlan,
    ) -> sqlx::Result<Option<(u64, String)>> {
        if zone.released {
            return Ok(None);
        }
        if zone.removed {
            if !has_content(connection, apex, zone).await? {
                return Ok(None);
            }
            let names = rrsets::count_names(connection, zone.zone.id).await?;
            return Ok(Some((names, format!("delete the zone {apex} with its {names} names"))));
        }
        let (mut lost, mut changed, mut rest) = (0, 0, 0);
        for (name, owner) in &zone.owners {
            let before = content(apex, name, &owner.before);
            let after = content(apex, name, &owner.after);
            rest += after;
            lost += u64::from(before > 0 && after == 0);
            changed += u64::from(is_changed(owner));
        }
        if rest == 0 && lost > self.emptied_names && is_all(connection, zone).await? {
            return Ok(Some((lost, format!("empty the zone {apex} of its {lost} names"))));
        }
        if changed <= self.changed_names {
            return Ok(None);
        }
        let names = rrsets::count_names(connection, zone.zone.id).await?;
        let is_much = u128::from(changed) * 100 > u128::from(names) * u128::from(self.changed_percent);
        Ok(is_much.then(|| {
            (changed, format!("change or take away {changed} of the {names} names of the zone {apex}"))
        }))
    }
}

impl Cost {
    /// What a caller is told who did not confirm it, or something else.
    pub(super) fn problem(&self, confirmed: Option<u64>) -> Problem {
        let mut what = self.effects.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
        if self.effects.len() > SHOWN {
            what.push_str(&format!("; and {} more like it", self.effects.len() - SHOWN));
        }
        let names = self.names;
        let not =
            confirmed.map_or_else(String::new, |said| format!(", which confirm={said} does not confirm"));
        let message = format!(
            "this would {what}{not}; nothing was changed; if it is meant, say ?confirm={names} (--confirm {names})"
        );
        Problem::new(Code::ConfirmationRequired, message)
    }
}

/// What was there and is not there as it was; what is new takes nothing from anybody.
fn is_changed(owner: &OwnerPlan) -> bool {
    // The SOA changes with every change.
    let before = owner.before.iter().filter(|(rtype, _)| **rtype != Rtype::SOA);
    before.into_iter().any(|(rtype, set)| owner.after.get(rtype) != Some(set))
}

/// RRsets of a name but for those that every zone has.
fn content(apex: &Name, name: &Name, sets: &Sets) -> usize {
    let is_bare = |rtype: &Rtype| name == apex && matches!(*rtype, Rtype::SOA | Rtype::NS);
    sets.keys().filter(|rtype| !is_bare(rtype)).count()
}

/// Whether a zone holds more than every zone does.
async fn has_content(connection: &mut Connection, apex: &Name, zone: &ZonePlan) -> sqlx::Result<bool> {
    let held = rrsets::count(connection, zone.zone.id).await?;
    let at_apex = rrsets::of_owner(connection, zone.zone.id, apex.as_ref()).await?;
    let bare = at_apex.iter().filter(|set| matches!(set.rtype, Rtype::SOA | Rtype::NS)).count();
    Ok(usize::try_from(held).unwrap_or(usize::MAX) > bare)
}

/// Whether the plan touches all that a zone holds.
async fn is_all(connection: &mut Connection, zone: &ZonePlan) -> sqlx::Result<bool> {
    let touched: usize = zone.owners.values().map(|owner| owner.before.len()).sum();
    let held = rrsets::count(connection, zone.zone.id).await?;
    Ok(usize::try_from(held).unwrap_or(usize::MAX) <= touched)
}
