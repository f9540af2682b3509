//! Proof by delegation (threat model R10): the zone above delegates a claimed name to name servers that are of this claim alone. As
//! nothing is served there yet, no resolver can tell: whichever resolver is asked says who serves the zone above, and these are asked
//! themselves.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use godwit_wire::name::{Name, NameRef};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::resolver;
use crate::config::Config;
use crate::egress::address::{Permits, here};
use crate::hex;
use crate::store::claims::Claim;

/// The most servers of the zone above that are asked.
const MOST_SERVERS: usize = 4;
/// How many of them have to say so, while none denies it; all where there are fewer.
const ENOUGH: usize = 2;
/// How long all of it takes at most, by one resolver.
const PATIENCE: Duration = Duration::from_secs(20);
/// What makes of the token of a claim its name servers: it is shown in TXT records, and these are something else.
const CONTEXT: &[u8] = b"godwit name servers of a claim\0";

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Delegation {
    /// Names below it are name servers.
    below: Name,
    /// Servers of whom are asked.
    permits: Permits,
    /// At which port.
    port: u16,
}

/// What the servers of the zone above say, of whom some may not be there.
#[derive(Debug, Default)]
struct Said {
    with: usize,
    without: usize,
    silent: usize,
}

impl Delegation {
    /// As configured; `None` where claims have no name servers.
    pub(crate) fn of(config: &Config) -> Option<Delegation> {
        let below = config.names.name_servers()?;
        let (allow, deny) = (config.egress.allow.clone(), config.egress.deny.clone());
        let permits = Permits { allow, deny, own: Vec::new() };
        Some(Delegation { below, permits, port: config.names.parent_port })
    }

    /// The name servers of a claim: two, each with 128 random bits that no other claim has. None where they would be too long names.
    pub(crate) fn names_of(&self, claim: &Claim) -> Vec<Name> {
        let bits = Sha256::new().chain_update(CONTEXT).chain_update(claim.token).finalize();
        let name = |bits: &[u8]| {
            let label = hex::encoded(bits);
            let mut wire = vec![u8::try_from(label.len()).ok()?];
            wire.extend_from_slice(label.as_bytes());
            wire.extend_from_slice(self.below.as_wire());
            Name::from_wire(&wire).ok()
        };
        bits.chunks(16).filter_map(name).collect()
    }

    /// Whether the zone above a claim's name delegates it to one of its name servers, as one resolver leads there.
    ///
    /// # Errors
    /// Why that is not known.
    pub(super) async fn is_there(&self, resolver: SocketAddr, claim: &Claim) -> Result<bool, String> {
        let look = tokio::time::timeout(PATIENCE, self.look(resolver, claim));
        look.await.map_err(|_| "it takes too long".to_owned())?
    }

    async fn look(&self, resolver: SocketAddr, claim: &Claim) -> Result<bool, String> {
        let own = self.names_of(claim);
        let servers = servers_above(resolver, &claim.name).await?;
        let mut finding = JoinSet::new();
        for server in servers.into_iter().take(MOST_SERVERS) {
            let delegation = self.clone();
            finding.spawn(async move { delegation.address(resolver, &server).await });
        }
        // Two names of one address are one server.
        let mut addresses = BTreeSet::new();
        let mut said = Said::default();
        for found in finding.join_all().await {
            match found {
                Ok(address) => drop(addresses.insert(address)),
                Err(reason) => {
                    tracing::debug!(name = %claim.name, reason, "a server of the zone above is not asked");
                    said.silent += 1;
                }
            }
        }
        let mut asking = JoinSet::new();
        for address in addresses {
            let name = claim.name.clone();
            asking.spawn(async move { resolver::referral(address, &name).await });
        }
        for referral in asking.join_all().await {
            match referral {
                Ok(named) if named.iter().any(|named| own.contains(named)) => said.with += 1,
                Ok(_) => said.without += 1,
                Err(reason) => {
                    tracing::debug!(name = %claim.name, reason, "a server of the zone above did not say");
                    said.silent += 1;
                }
            }
        }
        said.means()
    }

    /// The address of a server of the zone above, which is one of the public internet: whose zone that is says what it is.
    async fn address(&self, resolver: SocketAddr, server: &Name) -> Result<SocketAddr, String> {
        let mut found = resolver::addresses_in_time(resolver, server, false).await?;
        if found.is_empty() {
            found = resolver::addresses_in_time(resolver, server, true).await?;
        }
        let address: IpAddr = found.into_iter().min().ok_or_else(|| format!("{server} has no address"))?;
        let address = SocketAddr::new(address, self.port);
        self.permits.judge(address, &here()).map_err(|what| format!("{server}: {address} is {what}"))?;
        Ok(address)
    }
}

impl Said {
    /// One that denies it is enough for it not to be known: of the name servers of a zone some may be somebody else's by now, where a
    /// domain that they are in was given up.
    ///
    /// # Errors
    /// Where too few say anything, or they do not agree.
    fn means(&self) -> Result<bool, String> {
        let Said { with, without, silent } = *self;
        let enough = ENOUGH.min(with + without + silent).max(1);
        if with >= enough && without == 0 {
            return Ok(true);
        }
        if with == 0 && without >= enough {
            return Ok(false);
        }
        Err(format!("of the servers of the zone above {with} say so, {without} do not, {silent} say nothing"))
    }
}

/// Who serves the zone that a name is in, as long as it is none of its own: the closest name above it that has name servers.
async fn servers_above(resolver: SocketAddr, name: &Name) -> Result<Vec<Name>, String> {
    for above in name.as_ref().ancestors().map(NameRef::to_owned) {
        let servers = resolver::name_servers(resolver, &above).await?;
        if !servers.is_empty() {
            return Ok(servers);
        }
    }
    Err("no zone above has name servers".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_of_the_zone_above_have_to_say_so_or_all_there_are_and_none_denies_it() {
        for (with, without, silent, expected) in [
            (2, 0, 0, Some(true)),
            (2, 0, 2, Some(true)),
            (2, 1, 1, None),
            (3, 1, 0, None),
            (1, 0, 0, Some(true)),
            (1, 1, 0, None),
            (1, 0, 1, None),
            (1, 3, 0, None),
            (0, 2, 0, Some(false)),
            (0, 1, 0, Some(false)),
            (0, 1, 3, None),
            (0, 0, 2, None),
            (0, 0, 0, None),
        ] {
            let said = Said { with, without, silent };
            assert_eq!(said.means().ok(), expected, "{said:?}");
        }
    }
}
