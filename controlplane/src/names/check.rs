//! Looks for the proofs of claims: at several resolvers, of which two have to have seen it. What that means is decided in a
//! transaction, behind everybody else who decides about the name: the first that is verified wins.

use std::net::SocketAddr;
use std::sync::Arc;

use godwit_wire::name::Name;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::claims::{hold, place_of, text_of};
use super::delegation::Delegation;
use super::{DAY_US, frozen, release, resolver};
use crate::commit::Committer;
use crate::error::Problem;
use crate::jobs::{Claimed, Failure, Kind, Lease, Work};
use crate::store::claims::{self, Claim, State};
use crate::store::{Connection, audit, jobs, now_us, zones};

/// The kind of the job.
pub(crate) const KIND: &str = "claims.check";
/// When it looks whether something is due.
const EVERY: &str = "*/5 * * * *";
/// How many resolvers have to have seen a proof.
const ENOUGH: usize = 2;
/// Claims that are looked for at once.
const AT_ONCE: i64 = 16;
/// How long a proof that was not seen yet is rested from.
const AGAIN_US: i64 = 600_000_000;
/// The same where it was seen before and is gone, or nobody could say.
const DOUBT_US: i64 = 3_600_000_000;

/// Does jobs of the kind.
pub(crate) struct Check {
    pub(crate) committer: Committer,
    /// Who is asked.
    pub(crate) resolvers: Arc<[SocketAddr]>,
    /// `None` where claims have no name servers.
    pub(crate) delegation: Option<Arc<Delegation>>,
    pub(crate) terms: Terms,
}

/// What becomes of names whose proof is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long it may be gone.
    pub(crate) grace_us: i64,
    /// Whether zones are frozen then: not where names are taken without proof.
    pub(crate) freezes: bool,
    /// Days after which those that are frozen are released, if ever.
    pub(crate) frozen_days: Option<u32>,
}

/// What resolvers say about a proof.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Seen {
    with: usize,
    without: usize,
    silent: usize,
}

impl Seen {
    /// Enough of them have seen it.
    fn is_there(self) -> bool {
        self.with >= ENOUGH
    }

    /// None of them has, and enough of them could say.
    fn is_gone(self) -> bool {
        self.with == 0 && self.without >= ENOUGH
    }

    fn said(self) -> String {
        let Seen { with, without, silent } = self;
        format!(
            "{with} of {} resolvers have seen it, {without} have not, {silent} did not say",
            with + without + silent
        )
    }
}

/// What was found of either proof; one of them is enough.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    record: Seen,
    /// `None` where the record is there, or claims have no name servers.
    delegation: Option<Seen>,
}

impl Found {
    fn is_there(self) -> bool {
        self.record.is_there() || self.delegation.is_some_and(Seen::is_there)
    }

    fn is_gone(self) -> bool {
        self.record.is_gone() && self.delegation.is_none_or(Seen::is_gone)
    }

    fn said(self) -> String {
        let delegation = self.delegation.map(|seen| format!("; the delegation: {}", seen.said()));
        format!("{}{}", self.record.said(), delegation.unwrap_or_default())
    }
}

impl Kind for Check {
    fn name(&self) -> &'static str {
        KIND
    }

    fn schedule(&self) -> Option<&'static str> {
        Some(EVERY)
    }

    fn run<'a>(&'a self, job: &'a Claimed, lease: &'a Lease) -> Work<'a> {
        Box::pin(async move {
            let id = job.id;
            // Who asks for a look from here on gets one of their own: what is due then is not seen when this one ends.
            let begun = self
                .committer
                .write(move |connection| Box::pin(async move { Ok(jobs::make_room(connection, id).await?) }));
            begun.await?;
            loop {
                let due = self.due().await?;
                if due.is_empty() {
                    return self.see_to_frozen(lease).await;
                }
                lease.hold().await?;
                let mut asking = JoinSet::new();
                for claim in due {
                    let (resolvers, delegation) = (self.resolvers.clone(), self.delegation.clone());
                    asking.spawn(async move { (claim.id, look(&resolvers, delegation, claim).await) });
                }
                while let Some(asked) = asking.join_next().await {
                    let (id, seen) = asked.map_err(|_| Failure::Passing("a question failed".to_owned()))?;
                    let terms = self.terms;
                    let settled = self.committer.write(move |connection| {
                        Box::pin(async move { settle(connection, id, seen, terms).await })
                    });
                    settled.await?;
                }
            }
        })
    }
}

impl Check {
    /// Releases what was frozen for too long, or thaws everything where no proof is asked for any more.
    async fn see_to_frozen(&self, lease: &Lease) -> Result<(), Failure> {
        if !self.terms.freezes {
            let thaw = self
                .committer
                .write(|connection| Box::pin(async move { Ok(zones::thaw_all(connection).await?) }));
            let _zones: u64 = thaw.await?;
            return Ok(());
        }
        let Some(days) = self.terms.frozen_days else { return Ok(()) };
        release::release(&self.committer, lease, i64::from(days).saturating_mul(DAY_US)).await
    }

    async fn due(&self) -> Result<Vec<Claim>, Problem> {
        let take = self.committer.write(|connection| {
            Box::pin(async move {
                let now = now_us();
                Ok(claims::take_due(connection, now, now.saturating_add(AGAIN_US), AT_ONCE).await?)
            })
        });
        take.await
    }
}

/// Looks for the record, and for the delegation where that is not there.
async fn look(resolvers: &[SocketAddr], delegation: Option<Arc<Delegation>>, claim: Claim) -> Found {
    let record = look_for_record(resolvers, &claim).await;
    let delegation = match delegation {
        Some(delegation) if !record.is_there() => Some(look_above(resolvers, &delegation, claim).await),
        _ => None,
    };
    Found { record, delegation }
}

/// Has all resolvers lead to the zone above at once.
async fn look_above(resolvers: &[SocketAddr], delegation: &Arc<Delegation>, claim: Claim) -> Seen {
    let claim = Arc::new(claim);
    let mut asking = JoinSet::new();
    for &resolver in resolvers {
        let (delegation, claim) = (delegation.clone(), claim.clone());
        asking.spawn(async move { delegation.is_there(resolver, &claim).await });
    }
    let mut seen = Seen::default();
    for said in asking.join_all().await {
        match said {
            Ok(true) => seen.with += 1,
            Ok(false) => seen.without += 1,
            Err(reason) => {
                tracing::debug!(name = %claim.name, reason, "whether a name is delegated is not known");
                seen.silent += 1;
            }
        }
    }
    seen
}

/// Asks all resolvers at once.
async fn look_for_record(resolvers: &[SocketAddr], claim: &Claim) -> Seen {
    let Some(place) = place_of(&claim.name) else { return Seen::default() };
    let place: Arc<Name> = Arc::new(place);
    let mut asking = JoinSet::new();
    for &resolver in resolvers {
        let place = place.clone();
        asking.spawn(async move { resolver::texts(resolver, &place).await });
    }
    let text = text_of(claim);
    let mut seen = Seen::default();
    for said in asking.join_all().await {
        match said {
            Ok(texts) if texts.iter().any(|found| found == text.as_bytes()) => seen.with += 1,
            Ok(_) => seen.without += 1,
            Err(reason) => {
                tracing::debug!(name = %claim.name, reason, "a resolver did not say");
                seen.silent += 1;
            }
        }
    }
    seen
}

/// Decides what was seen means.
async fn settle(connection: &mut Connection, id: Uuid, seen: Found, terms: Terms) -> Result<(), Problem> {
    let Some(found) = claims::by_id(connection, id).await? else { return Ok(()) };
    hold(connection, &found.name).await?;
    // What was read before it was held may have changed.
    let Some(mut claim) = claims::by_id(connection, id).await? else { return Ok(()) };
    let now = now_us();
    let before = claim.state;
    claim.checked_at_us = Some(now);
    claim.found = Some(seen.said());
    let mut check_at = Some(now.saturating_add(if seen.is_there() { DAY_US } else { DOUBT_US }));
    match before {
        // It has ended while it was looked for: that it was looked for again says nothing.
        State::Failed | State::Expired => {
            claim = found;
            check_at = None;
        }
        State::Pending if now >= claim.expires_at_us => {
            claim.state = State::Expired;
            check_at = None;
        }
        State::Pending | State::Lapsed if seen.is_there() => {
            match claims::claimant(connection, claim.name.as_ref()).await? {
                None => {
                    claim.state = State::Verified;
                    claim.seen_at_us = Some(now);
                }
                Some(_) => {
                    claim.state = State::Failed;
                    claim.found = Some("somebody else has proven it before".to_owned());
                    check_at = None;
                }
            }
        }
        State::Pending => check_at = Some(now.saturating_add(AGAIN_US)),
        State::Lapsed => check_at = Some(now.saturating_add(DAY_US)),
        State::Verified if seen.is_there() => claim.seen_at_us = Some(now),
        State::Verified => {
            let since = claim.seen_at_us.unwrap_or(claim.created_at_us);
            // That nobody can say is no proof of the opposite.
            if seen.is_gone() && now.saturating_sub(since) > terms.grace_us {
                claim.state = State::Lapsed;
            }
        }
    }
    claim.check_at_us = check_at;
    claims::settle(connection, &claim).await?;
    if claim.state == before {
        return Ok(());
    }
    if claim.state == State::Verified {
        claims::fail_others(connection, &claim, "somebody else has proven it").await?;
        frozen::thaw(connection, &claim).await?;
    }
    if claim.state == State::Lapsed && terms.freezes {
        frozen::freeze(connection, &claim, now, terms.frozen_days).await?;
    }
    let (name, state, tenant) = (&claim.name, claim.state.as_str(), claim.tenant);
    tracing::info!(%name, tenant, state, "a claim has another state");
    audit::note(connection, &audit::Who::itself(), "claim.settle", &format!("{name} {tenant} {state}"))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_have_to_have_seen_it_and_two_that_it_is_gone() {
        for (with, without, silent, is_there, is_gone) in [
            (2, 0, 0, true, false),
            (2, 3, 3, true, false),
            (1, 1, 0, false, false),
            (1, 0, 7, false, false),
            (0, 2, 0, false, true),
            (0, 1, 7, false, false),
            (0, 0, 2, false, false),
            (0, 0, 0, false, false),
        ] {
            let seen = Seen { with, without, silent };
            assert_eq!((seen.is_there(), seen.is_gone()), (is_there, is_gone), "{seen:?}");
        }
    }
}
