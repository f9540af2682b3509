//! Which names tenants make zones of.
//!
//! - one label below a zone that the operator shares: `suffixes`;
//! - at or below a name that they have proven to be theirs: `claims`, which `check` has looked at by `resolver`, and `delegation`;
//! - inside of a zone of their own, or of which they were granted admin.
//!
//! Where a proof is gone, the zones that rest on it are `frozen`, and after a while there is a `release`.
//!
//! Never a name below which strangers register (`public`), or that is not what it says it is (`idna`); below a suffix no label
//! that is reserved (`words`), looks like another one (`look`), or was somebody else's a short time ago.

pub(crate) mod check;
pub(crate) mod claims;
pub(crate) mod delegation;
pub(crate) mod frozen;
pub(crate) mod idna;
mod look;
mod public;
mod release;
pub(crate) mod resolver;
pub(crate) mod suffixes;
mod words;

use godwit_wire::name::{Name, NameRef};

use crate::commit::plan::Plan;
use crate::config;
use crate::error::{Code, Problem};
use crate::model::zone::Zone;
use crate::store::batch::Batch;
use crate::store::suffixes::Suffix;
use crate::store::zones::{self, Longest};
use crate::store::{Connection, claims as stored, now_us, suffixes as taken};
use public::Public;
use words::Words;

/// So many times as many names as a tenant may have below a suffix may be kept from others by it.
const KEPT_RATIO: i64 = 2;
/// Microseconds of a day.
pub(crate) const DAY_US: i64 = 86_400_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rules {
    require_proof: bool,
    /// How long what somebody gave up is kept for them.
    quarantine_us: i64,
    words: Words,
    public: Public,
    /// The domain of name servers of claims: whoever had one of these names would answer for the zones of its claim.
    name_servers: Option<Name>,
}

/// What a tenant makes a zone of, as far as it is the operator's to say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// Inside of a zone of its own, or of another tenant's of which it was granted admin.
    Inside,
    /// Inside of a zone of the operator of which it was granted admin.
    Granted,
    /// Below nothing that is anybody's here.
    Free,
}

impl Rules {
    /// As configured.
    ///
    /// # Errors
    /// When the public suffix list cannot be read.
    pub(crate) fn of(config: &config::Names) -> anyhow::Result<Rules> {
        Ok(Rules {
            require_proof: config.require_proof,
            quarantine_us: i64::from(config.quarantine_days) * DAY_US,
            words: Words::with(&config.reserved),
            public: Public::of(config.public_suffix_list.as_deref())?,
            name_servers: config.name_servers(),
        })
    }

    /// Those of a new installation.
    #[cfg(test)]
    pub(crate) fn usual() -> Rules {
        Rules::of(&config::Names::default()).unwrap()
    }

    /// Refuses what no tenant makes a zone of, or claims: a name below which strangers register, or where name servers of claims are, or
    /// of labels that are not what they say.
    ///
    /// # Errors
    /// `INVALID_NAME`, `NAME_RESERVED`.
    pub(crate) fn allow(&self, apex: &Name) -> Result<(), Problem> {
        genuine(apex)?;
        if self.public.has(apex.as_ref()) {
            let message = format!(
                "{apex} is a name below which others register (a public suffix): nobody takes it whole"
            );
            return Err(Problem::new(Code::NameReserved, message));
        }
        if self.is_of_name_servers(apex) {
            return Err(reserved(apex));
        }
        Ok(())
    }

    fn is_of_name_servers(&self, apex: &Name) -> bool {
        self.name_servers.as_ref().is_some_and(|domain| apex.as_ref().is_at_or_below(domain.as_ref()))
    }

    /// Whether a suffix of ours is on the public suffix list: where it is not, browsers let the pages below it share cookies.
    pub(crate) fn lists(&self, suffix: &Name) -> bool {
        self.public.lists(suffix.as_ref())
    }

    /// Refuses a tenant a zone that is not inside of one of its own, and below no zone that is not shared.
    ///
    /// # Errors
    /// `OWNERSHIP_REQUIRED`, `NAME_RESERVED`, `NAME_QUARANTINED`, `INVALID_NAME`, or of the database.
    pub(crate) async fn may_take(
        &self,
        connection: &mut Connection,
        apex: &Name,
        tenant: u32,
        place: Place,
    ) -> Result<(), Problem> {
        self.allow(apex)?;
        if place == Place::Inside {
            return Ok(());
        }
        if place == Place::Free {
            match claimant(connection, apex.as_ref()).await? {
                Some(proven) if proven == tenant => {}
                // Where no proof is asked for, what somebody has proven is theirs all the same.
                None if !self.require_proof => {}
                _ => {
                    let message = format!(
                        "tenant {tenant} has not proven that {apex} is its own: claim it, or a name above it, with POST /api/v1/claims"
                    );
                    return Err(Problem::new(Code::OwnershipRequired, message));
                }
            }
        }
        not_quarantined(connection, apex, tenant).await
    }

    /// Refuses a tenant a name one label below a suffix.
    ///
    /// # Errors
    /// `NAME_RESERVED`, `NAME_QUARANTINED`, `INVALID_NAME`, `QUOTA_EXCEEDED` where it has as many as it may, or of the database.
    pub(crate) async fn may_take_below(
        &self,
        connection: &mut Connection,
        suffix: &Suffix,
        apex: &Name,
        tenant: u32,
    ) -> Result<(), Problem> {
        let zone = suffix.zone.as_ref();
        let label = apex.as_ref().labels().next().unwrap_or_default();
        if !is_of_a_host(label) {
            let message = format!(
                "{apex} cannot be taken: below {} a label has letters, digits and hyphens, and begins and ends with no hyphen",
                suffix.zone
            );
            return Err(Problem::new(Code::InvalidName, message));
        }
        genuine(apex)?;
        let uses = taken::uses(connection, zone, apex.as_ref()).await?;
        if self.words.have(label) || uses || self.is_of_name_servers(apex) {
            return Err(reserved(apex));
        }
        not_quarantined(connection, apex, tenant).await?;
        let held = taken::count_of(connection, zone, tenant).await?;
        if held >= suffix.per_tenant {
            let message = format!(
                "tenant {tenant} has {} names below {} already, which is the most",
                suffix.per_tenant, suffix.zone
            );
            return Err(Problem::new(Code::QuotaExceeded, message));
        }
        // Taking and giving up keeps names from everybody else, too.
        let most = suffix.per_tenant.saturating_mul(KEPT_RATIO);
        if held + taken::kept_of(connection, zone, tenant, apex.as_ref(), now_us()).await? >= most {
            let message = format!(
                "tenant {tenant} has, with those that it gave up and that are kept for it, {most} names below {}, which is the \
                 most: take one of those back",
                suffix.zone
            );
            return Err(Problem::new(Code::QuotaExceeded, message));
        }
        if taken::looks_like(connection, zone, &look::of_label(label)).await?.is_some() {
            let message = format!("{apex} looks like a name below {} that is taken", suffix.zone);
            return Err(Problem::new(Code::NameReserved, message));
        }
        Ok(())
    }

    /// Keeps the name of a zone that a tenant gave up for that tenant, but for what is inside of a tenant's zone: there that one
    /// decides.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn released(
        &self,
        connection: &mut Connection,
        batch: &mut Batch,
        zone: &Zone,
    ) -> sqlx::Result<()> {
        if zone.owner_number == 0 || self.quarantine_us == 0 {
            return Ok(());
        }
        let above: Vec<NameRef<'_>> = zone.apex.as_ref().ancestors().collect();
        if let Longest::Zone(above) = zones::longest_seen(connection, &above, false).await?
            && above.owner_number > 0
        {
            return Ok(());
        }
        let until_us = now_us().saturating_add(self.quarantine_us);
        taken::quarantine(batch, zone.apex.as_ref(), zone.owner_number, until_us);
        Ok(())
    }
}

/// The suffix that a name is one label below.
///
/// # Errors
/// Of the database.
pub(crate) async fn suffix_of(
    connection: &mut Connection,
    apex: NameRef<'_>,
) -> sqlx::Result<Option<Suffix>> {
    match apex.parent() {
        Some(above) => taken::by_name(connection, above).await,
        None => Ok(None),
    }
}

/// Writes down that a zone was made, where it is one label below a suffix; and that its name is kept for nobody any more.
///
/// # Errors
/// Of the database.
pub(crate) async fn made(connection: &mut Connection, zone: &Zone, by_operator: bool) -> sqlx::Result<()> {
    let apex = zone.apex.as_ref();
    if let Some(suffix) = suffix_of(connection, apex).await? {
        let look = look::of_label(apex.labels().next().unwrap_or_default());
        let above = suffix.zone.as_ref();
        taken::take(connection, apex, above, zone.owner_number, &look, !by_operator).await?;
    }
    Ok(())
}

/// Keeps a name for nobody any more, before a zone of it is made for the tenant for which it was kept, or by an operator. What is
/// kept for somebody else stays, for the database to see.
///
/// # Errors
/// Of the database.
pub(crate) async fn to_be_made(
    connection: &mut Connection,
    apex: NameRef<'_>,
    owner: u32,
    by_operator: bool,
) -> sqlx::Result<()> {
    match taken::quarantined(connection, apex).await? {
        Some((of, _)) if by_operator || of == owner => taken::release(connection, apex).await,
        _ => Ok(()),
    }
}

/// Refuses a wildcard right below a suffix: it would answer for every name that nobody has taken.
///
/// # Errors
/// `CONFLICT`, or of the database.
pub(crate) async fn refuse_wildcards(connection: &mut Connection, plan: &Plan) -> Result<(), Problem> {
    for (apex, zone) in &plan.zones {
        if zone.removed || zone.zone.owner_number != 0 {
            continue;
        }
        let Some(wildcard) = wildcard_of(apex) else { continue };
        let is_put = zone
            .owners
            .get(&wildcard)
            .is_some_and(|owner| !owner.after.is_empty() && owner.before != owner.after);
        if is_put && taken::by_name(connection, apex.as_ref()).await?.is_some() {
            let message = format!(
                "{apex} is shared by tenants: a wildcard would answer for every name that nobody has taken"
            );
            return Err(Problem::new(Code::Conflict, message));
        }
    }
    Ok(())
}

/// The wildcard right below a name; `None` where it would be too long.
fn wildcard_of(apex: &Name) -> Option<Name> {
    let mut wire = vec![1, b'*'];
    wire.extend_from_slice(apex.as_wire());
    Name::from_wire(&wire).ok()
}

/// The tenant that has proven to own a name: that of the closest name at or above it that anybody has proven.
async fn claimant(connection: &mut Connection, apex: NameRef<'_>) -> sqlx::Result<Option<u32>> {
    for name in std::iter::successors(Some(apex), |name| name.parent()) {
        if let Some(tenant) = stored::claimant(connection, name).await? {
            return Ok(Some(tenant));
        }
    }
    Ok(None)
}

/// Refuses what somebody else gave up a short time ago.
async fn not_quarantined(connection: &mut Connection, apex: &Name, tenant: u32) -> Result<(), Problem> {
    match taken::quarantined(connection, apex.as_ref()).await? {
        Some((of, until_us)) if of != tenant && until_us > now_us() => {
            let days = (until_us - now_us()) / DAY_US + 1;
            let message = format!("{apex} was somebody else's: it is given to nobody for {days} more days");
            Err(Problem::new(Code::NameQuarantined, message))
        }
        _ => Ok(()),
    }
}

/// Refuses labels that are not what they say: A-labels that stand for nothing, or for several scripts at once.
fn genuine(apex: &Name) -> Result<(), Problem> {
    for label in apex.as_ref().labels().filter(|label| idna::is_a_label(label)) {
        let shown = String::from_utf8_lossy(label);
        if !idna::is_genuine(label) {
            let message =
                format!("\"{shown}\" in {apex} is no A-label: it stands for no label outside ASCII (UTS 46)");
            return Err(Problem::new(Code::InvalidName, message));
        }
        if !look::is_of_one_script(label) {
            let message =
                format!("\"{shown}\" in {apex} mixes letters of several scripts, which look alike (UTS 39)");
            return Err(Problem::new(Code::InvalidName, message));
        }
    }
    Ok(())
}

/// Whether a label is one of a host (RFC 952, RFC 1123 §2.1), without what looks like the form of another kind (RFC 5890 §2.3.1).
fn is_of_a_host(label: &[u8]) -> bool {
    let is_reserved_form = label.get(2..4) == Some(b"--") && !idna::is_a_label(label);
    !label.is_empty()
        && !is_reserved_form
        && label.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-')
        && !label.starts_with(b"-")
        && !label.ends_with(b"-")
}

fn reserved(apex: &Name) -> Problem {
    Problem::new(Code::NameReserved, format!("{apex} is reserved by the operator"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_hosts() {
        for good in ["a", "alice", "a-b", "1", "xn--bcher-kva"] {
            assert!(is_of_a_host(good.as_bytes()), "{good}");
        }
        for bad in ["", "-a", "a-", "a_b", "*", "a.b", "ab--c", "a\0", "ü"] {
            assert!(!is_of_a_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn what_no_tenant_takes_whole() {
        let rules = Rules::usual();
        let code = |text: &str| rules.allow(&text.parse().unwrap()).map_err(|problem| problem.code);
        for (name, expected) in [
            ("example.com.", Ok(())),
            ("com.", Err(Code::NameReserved)),
            ("co.uk.", Err(Code::NameReserved)),
            ("github.io.", Err(Code::NameReserved)),
            ("anything.", Err(Code::NameReserved)),
            (".", Err(Code::NameReserved)),
            ("xn--bcher-kva.example.", Ok(())),
            ("xn--bcher-kv.example.", Err(Code::InvalidName)),
            ("xn--.example.", Err(Code::InvalidName)),
            // pаypal with a Cyrillic а.
            ("xn--pypal-4ve.example.", Err(Code::InvalidName)),
        ] {
            assert_eq!(code(name), expected, "{name}");
        }
    }
}
