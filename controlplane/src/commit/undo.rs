//! What takes a version back, written down with it: for each RRset that the change touches what it was before. What is
//! deleted with a whole zone is read for it.

use godwit_wire::feed::{OwnedRrset, RrsetChange};
use godwit_wire::rr::Rrset;

use super::plan::ZonePlan;
use crate::model::zone::Zone;
use crate::store::Connection;
use crate::store::batch::Batch;
use crate::store::history::{self, Entry};
use crate::store::rrsets::{self, Position};

/// From so many octets of RDATA on, a part takes no further step.
const PART_OCTETS: usize = 256 << 10;
/// The most steps of a part.
const PART_STEPS: usize = 4_000;
/// RRsets of a zone that are read at once.
const READ: i64 = 1_000;

/// Steps on their way into the history.
struct Parts<'a> {
    entry: Entry<'a>,
    /// How many were written.
    written: i64,
    steps: Vec<RrsetChange>,
    octets: usize,
}

/// Writes the history of a version with what takes it back. The rows of a zone that goes must still be there.
pub(super) async fn write(
    batch: &mut Batch,
    connection: &mut Connection,
    plan: &ZonePlan,
    entry: Entry<'_>,
) -> sqlx::Result<()> {
    let Some(before) = entry.before else {
        history::insert(batch, &entry);
        return Ok(());
    };
    let mut parts = Parts { entry, written: 0, steps: Vec::new(), octets: 0 };
    if plan.removed {
        let mut after = Position { zone_id: before.id, ..Position::default() };
        loop {
            let step = rrsets::list(connection, Some(before.id), None, &after, READ).await?;
            let Some(last) = step.last() else { break };
            after = last.position.clone();
            for listed in step {
                let owned = OwnedRrset { owner: listed.owner, rrset: listed.rrset };
                parts.add(batch, connection, before, RrsetChange::Put(owned)).await?;
            }
        }
    } else {
        for (name, owner) in &plan.owners {
            for (rtype, was) in owner.before.iter().filter(|(rtype, was)| owner.after.get(rtype) != Some(was))
            {
                debug_assert_eq!(was.rtype, *rtype);
                let owned = OwnedRrset { owner: name.clone(), rrset: was.clone() };
                parts.add(batch, connection, before, RrsetChange::Put(owned)).await?;
            }
            for rtype in owner.after.keys().filter(|rtype| !owner.before.contains_key(rtype)) {
                let step = RrsetChange::Delete { owner: name.clone(), rtype: *rtype };
                parts.add(batch, connection, before, step).await?;
            }
        }
    }
    parts.flush(batch, connection, before).await
}

impl Parts<'_> {
    async fn add(
        &mut self,
        batch: &mut Batch,
        connection: &mut Connection,
        zone: &Zone,
        step: RrsetChange,
    ) -> sqlx::Result<()> {
        if let RrsetChange::Put(owned) = &step {
            self.octets += octets(&owned.rrset);
        }
        self.steps.push(step);
        if self.steps.len() >= PART_STEPS || self.octets >= PART_OCTETS {
            self.flush(batch, connection, zone).await?;
        }
        Ok(())
    }

    /// Writes the steps so far: the first of them with the row.
    async fn flush(
        &mut self,
        batch: &mut Batch,
        connection: &mut Connection,
        zone: &Zone,
    ) -> sqlx::Result<()> {
        if self.steps.is_empty() && self.written > 0 {
            return Ok(());
        }
        let version = self.entry.version;
        let undo = history::encode_undo(zone, version, std::mem::take(&mut self.steps));
        match self.written {
            0 => history::insert(batch, &Entry { undo: &undo, ..self.entry }),
            part => history::insert_part(batch, self.entry.zone, version, part, &undo),
        }
        self.written += 1;
        self.octets = 0;
        // Parts are large: one at a time is held.
        if self.written > 1 {
            batch.run(connection).await?;
        }
        Ok(())
    }
}

fn octets(rrset: &Rrset) -> usize {
    rrset.rdata.iter().chain(&rrset.rrsigs).map(|rdata| rdata.len()).sum()
}
