//! What somebody may in which zone: everything as an operator, or what they are in tenants and were granted of zones. A zone of
//! which they may see nothing does not exist for them; one that they see from elsewhere, and not from where they are, is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use godwit_wire::name::Name;
use uuid::Uuid;

use crate::config::AccessList;
use crate::error::{Code, Problem};
use crate::model::role::Role;
use crate::model::zone::Zone;
use crate::observe::metrics::Limit;
use crate::store::Connection;
use crate::store::tenants::{self, Granted};

/// See the module. Beside who they are, where they ask from, in its canonical form; without that it is what they may from
/// anywhere, and is narrowed with [`Access::asking_from`] before anything is decided by it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Access(Option<Arc<Member>>, Option<IpAddr>);

/// Somebody who is no operator.
#[derive(Debug, Default, Eq, PartialEq)]
struct Member {
    account: Uuid,
    /// By tenant.
    roles: BTreeMap<u32, Role>,
    /// By the zone's row.
    granted: HashMap<i64, Role>,
    /// The same zones by apex and owner, as the feed names them.
    granted_names: HashSet<(Name, u32)>,
    /// What of this hangs on where they ask from; `None` where nothing does.
    fenced: Option<Arc<Fenced>>,
    /// The tenants that do not let them in from where they are, and those that keep them out of zones, by the zones' rows.
    outside: BTreeSet<u32>,
    outside_zones: HashMap<i64, u32>,
    /// See [`Access::unchecked`].
    unchecked: bool,
}

/// What the database says of somebody of whose tenants, or of the owners of what those are granted, some let in from some networks
/// alone.
#[derive(Debug, Eq, PartialEq)]
struct Fenced {
    roles: BTreeMap<u32, Role>,
    granted: Vec<Granted>,
    /// By tenant.
    networks: HashMap<u32, AccessList>,
}

impl Access {
    /// That of an operator, and of a token of nobody's account: all zones.
    pub(crate) fn everything() -> Access {
        Access(None, None)
    }

    /// That of an account.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn of(
        connection: &mut Connection,
        account: Uuid,
        is_operator: bool,
    ) -> sqlx::Result<Access> {
        if is_operator {
            return Ok(Access::everything());
        }
        let of_tenants = tenants::of_account(connection, account).await?;
        let granted = tenants::granted(connection, account).await?;
        let here = of_tenants.iter().map(|(tenant, _)| (tenant.number, &tenant.networks));
        let there = granted.iter().map(|granted| (granted.owner, &granted.networks));
        let networks: HashMap<u32, AccessList> = here
            .chain(there)
            .filter(|(_, networks)| **networks != AccessList::default())
            .map(|(tenant, networks)| (tenant, networks.clone()))
            .collect();
        let role = |(tenant, role): (tenants::Tenant, Role)| {
            let role = if tenant.suspended_at_us.is_some() { Role::Viewer } else { role };
            (tenant.number, role)
        };
        let roles: BTreeMap<u32, Role> = of_tenants.into_iter().map(role).collect();
        let member = if networks.is_empty() {
            let mut member = Member { account, roles, ..Member::default() };
            granted.iter().for_each(|granted| member.grant(granted));
            member
        } else {
            let fenced = Arc::new(Fenced { roles, granted, networks });
            Member::fenced(account, &fenced, None)
        };
        Ok(Access(Some(Arc::new(member)), None))
    }

    /// The same for who asks from an address: of what does not let them in from there they are no member, and are granted nothing.
    pub(crate) fn asking_from(&self, client: Option<IpAddr>) -> Access {
        let narrowed = |member: &Arc<Member>| match &member.fenced {
            Some(fenced) if !member.unchecked => Arc::new(Member::fenced(member.account, fenced, client)),
            _ => member.clone(),
        };
        Access(self.0.as_ref().map(narrowed), client)
    }

    /// That of a tenant, by what it owns and what it is granted, for what is told to all of it.
    pub(crate) fn of_tenant(tenant: u32, granted_names: HashSet<(Name, u32)>) -> Access {
        let roles = BTreeMap::from([(tenant, Role::Viewer)]);
        Access(Some(Arc::new(Member { roles, granted_names, ..Member::default() })), None)
    }

    /// The same without a check in the program: what is left is what the database itself keeps. For tests, and in no release.
    #[cfg(debug_assertions)]
    pub(crate) fn unchecked(self) -> Access {
        let unchecked = |member: &Arc<Member>| Member {
            account: member.account,
            roles: member.roles.clone(),
            granted: member.granted.clone(),
            granted_names: member.granted_names.clone(),
            unchecked: true,
            ..Member::default()
        };
        Access(self.0.as_ref().map(|member| Arc::new(unchecked(member))), self.1)
    }

    /// The account, where it is not everything that may be done.
    pub(crate) fn account(&self) -> Option<Uuid> {
        self.0.as_ref().map(|member| member.account)
    }

    /// Where they ask from.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.1
    }

    /// Whether all zones are theirs.
    pub(crate) fn is_everything(&self) -> bool {
        self.0.as_ref().is_none_or(|member| member.unchecked)
    }

    /// Whether the database alone is to decide.
    pub(crate) fn is_unchecked(&self) -> bool {
        self.0.as_ref().is_some_and(|member| member.unchecked)
    }

    /// The tenants that they are members of from where they are, by number; none where they need not be one.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|member| member.roles.keys().copied())
    }

    /// Whether they are a member of one, wherever they are.
    pub(crate) fn acts_for(&self, tenant: u32) -> bool {
        self.tenants().any(|of| of == tenant) || self.is_outside_of(tenant)
    }

    /// Whether one that they are a member of does not let them in from where they are.
    fn is_outside_of(&self, tenant: u32) -> bool {
        self.0.as_ref().is_some_and(|member| member.outside.contains(&tenant))
    }

    /// What they are in a tenant.
    pub(crate) fn role_in(&self, tenant: u32) -> Option<Role> {
        match &self.0 {
            None => Some(Role::Owner),
            Some(member) if member.unchecked => Some(Role::Owner),
            Some(member) => member.roles.get(&tenant).copied(),
        }
    }

    /// What they are in a zone.
    pub(crate) fn role_of(&self, zone: &Zone) -> Option<Role> {
        let granted = self.0.as_ref().and_then(|member| member.granted.get(&zone.id).copied());
        self.role_in(zone.owner_number).max(granted)
    }

    /// Whether they see a zone.
    pub(crate) fn sees(&self, zone: &Zone) -> bool {
        self.role_of(zone).is_some()
    }

    /// Whether a zone that somebody names is there for them.
    ///
    /// # Errors
    /// `FORBIDDEN` to who would see it from elsewhere.
    pub(crate) fn finds(&self, zone: &Zone) -> Result<bool, Problem> {
        if self.sees(zone) {
            return Ok(true);
        }
        self.let_in_by(zone.owner_number)?;
        let keeps_out = self.0.as_ref().and_then(|member| member.outside_zones.get(&zone.id));
        keeps_out.map_or(Ok(false), |tenant| Err(outside(*tenant, self.1)))
    }

    /// Refuses a member whom the tenant does not let in from where they are.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub(crate) fn let_in_by(&self, tenant: u32) -> Result<(), Problem> {
        if self.is_outside_of(tenant) { Err(outside(tenant, self.1)) } else { Ok(()) }
    }

    /// Whether they see a zone of an owner, by its apex.
    pub(crate) fn sees_named(&self, apex: &Name, owner: u32) -> bool {
        let is_granted = |member: &Arc<Member>| member.granted_names.contains(&(apex.clone(), owner));
        self.role_in(owner).is_some() || self.0.as_ref().is_some_and(is_granted)
    }

    /// Whether they see what a zone was when it was of an owner: what is granted is granted of the present one.
    pub(crate) fn sees_past(&self, owner: u32, present: Option<&Zone>) -> bool {
        let same = present.filter(|present| present.owner_number == owner);
        same.map_or_else(|| self.role_in(owner), |zone| self.role_of(zone)).is_some()
    }

    /// Refuses who is less in a zone than this; to who does not see it, it is not there.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, `FORBIDDEN`.
    pub(crate) fn need(&self, zone: &Zone, least: Role) -> Result<(), Problem> {
        self.finds(zone)?;
        let role = self.role_of(zone).ok_or_else(|| no_zone(&zone.apex))?;
        if role >= least {
            return Ok(());
        }
        let message =
            format!("you are {} in the zone {}, and this takes {}", role.as_str(), zone.apex, least.as_str());
        Err(Problem::new(Code::Forbidden, message))
    }

    /// The same by what somebody is in the tenant that owns it, whatever was granted: who was let in does not decide who else is, nor
    /// that there is no zone any more.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, `FORBIDDEN`.
    pub(crate) fn need_at_home(&self, zone: &Zone, least: Role) -> Result<(), Problem> {
        self.need(zone, Role::Viewer)?;
        if self.role_in(zone.owner_number) >= Some(least) {
            return Ok(());
        }
        let message = format!("this takes {} in the tenant that owns the zone {}", least.as_str(), zone.apex);
        Err(Problem::new(Code::Forbidden, message))
    }

    /// What they may now, as the database has it.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn again(&self, connection: &mut Connection) -> sqlx::Result<Access> {
        match &self.0 {
            Some(member) if !member.unchecked => {
                Ok(Access::of(connection, member.account, false).await?.asking_from(self.1))
            }
            _ => Ok(self.clone()),
        }
    }

    /// Whose a new zone is: the tenant that is named, or the only one in which they may make zones.
    ///
    /// # Errors
    /// `FORBIDDEN` where they may make none there, `INVALID_VALUE` where it has to be said.
    pub(crate) fn owner_of_new(&self, named: Option<u32>) -> Result<u32, Problem> {
        let Some(member) = self.0.as_ref() else { return Ok(named.unwrap_or(0)) };
        let makes = |tenant: &u32| self.role_in(*tenant) >= Some(Role::Admin);
        if let Some(tenant) = named {
            self.let_in_by(tenant)?;
            // Somebody else's tenant, or none at all: who is no member cannot tell.
            let message = format!("you may make no zones for tenant {tenant}: that takes admin in it");
            return Some(tenant).filter(makes).ok_or_else(|| Problem::new(Code::Forbidden, message));
        }
        let mut all = member.roles.keys().copied().filter(|tenant| makes(tenant));
        match (all.next(), all.next()) {
            (Some(tenant), None) => Ok(tenant),
            (None, _) => {
                member.outside.first().map_or(Ok(()), |tenant| self.let_in_by(*tenant))?;
                let message = "you are admin in no tenant: make one with POST /api/v1/tenants";
                Err(Problem::new(Code::Forbidden, message))
            }
            (Some(_), Some(_)) => {
                let message = "you are admin in several tenants: say for which the zone is";
                Err(Problem::new(Code::InvalidValue, message))
            }
        }
    }
}

impl Member {
    /// What somebody is from an address, or from anywhere.
    fn fenced(account: Uuid, fenced: &Arc<Fenced>, client: Option<IpAddr>) -> Member {
        let keeps_out = |tenant: u32| {
            let list = fenced.networks.get(&tenant).zip(client);
            list.is_some_and(|(list, client)| !list.lets_in(client))
        };
        let mut member = Member { account, fenced: Some(fenced.clone()), ..Member::default() };
        for (tenant, role) in &fenced.roles {
            if keeps_out(*tenant) {
                member.outside.insert(*tenant);
            } else {
                member.roles.insert(*tenant, *role);
            }
        }
        for granted in &fenced.granted {
            // Who acts for either side acts from where both let in.
            match [granted.tenant, granted.owner].into_iter().find(|side| keeps_out(*side)) {
                Some(tenant) => drop(member.outside_zones.insert(granted.zone_id, tenant)),
                None => member.grant(granted),
            }
        }
        member
    }

    fn grant(&mut self, granted: &Granted) {
        let most = self.granted.entry(granted.zone_id).or_insert(granted.role);
        *most = granted.role.max(*most);
        self.granted_names.insert((granted.apex.clone(), granted.owner));
    }
}

/// What somebody is told whom a tenant does not let in from where they are.
pub(crate) fn outside(tenant: u32, client: Option<IpAddr>) -> Problem {
    let client = client.map_or_else(|| "where you are".to_owned(), |client| client.to_string());
    let message = format!("tenant {tenant} does not let in requests from {client}");
    Problem::new(Code::Forbidden, message).at(Limit::TenantNetworks)
}

/// What is said of a zone that is not there, and of one that somebody does not see.
pub(crate) fn no_zone(apex: &Name) -> Problem {
    Problem::new(Code::DomainNotFound, format!("there is no zone {apex} here"))
}
