//! What somebody may in which zone: everything as an operator, or what they are in tenants and were granted of zones. A zone of
//! which they may see nothing does not exist for them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use godwit_wire::name::Name;
use uuid::Uuid;

use crate::error::{Code, Problem};
use crate::model::role::Role;
use crate::model::zone::Zone;
use crate::store::{Connection, tenants};

/// See the module.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Access(Option<Arc<Member>>);

/// Somebody who is no operator.
#[derive(Debug, Eq, PartialEq)]
struct Member {
    account: Uuid,
    /// By tenant.
    roles: BTreeMap<u32, Role>,
    /// By the zone's row.
    granted: HashMap<i64, Role>,
    /// The same zones by apex and owner, as the feed names them.
    granted_names: HashSet<(Name, u32)>,
    /// See [`Access::unchecked`].
    unchecked: bool,
}

impl Access {
    /// That of an operator, and of a token of nobody's account: all zones.
    pub(crate) fn everything() -> Access {
        Access(None)
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
        let role = |(tenant, role): (tenants::Tenant, Role)| {
            let role = if tenant.suspended_at_us.is_some() { Role::Viewer } else { role };
            (tenant.number, role)
        };
        let mut granted: HashMap<i64, Role> = HashMap::new();
        let mut granted_names = HashSet::new();
        for tenants::Granted { zone_id, apex, owner, role } in tenants::granted(connection, account).await? {
            let most = granted.entry(zone_id).or_insert(role);
            *most = role.max(*most);
            granted_names.insert((apex, owner));
        }
        let roles = of_tenants.into_iter().map(role).collect();
        Ok(Access(Some(Arc::new(Member { account, roles, granted, granted_names, unchecked: false }))))
    }

    /// That of a tenant, by what it owns and what it is granted, for what is told to all of it.
    pub(crate) fn of_tenant(tenant: u32, granted_names: HashSet<(Name, u32)>) -> Access {
        let roles = BTreeMap::from([(tenant, Role::Viewer)]);
        let granted = HashMap::new();
        let account = Uuid::nil();
        Access(Some(Arc::new(Member { account, roles, granted, granted_names, unchecked: false })))
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
        };
        Access(self.0.as_ref().map(|member| Arc::new(unchecked(member))))
    }

    /// The account, where it is not everything that may be done.
    pub(crate) fn account(&self) -> Option<Uuid> {
        self.0.as_ref().map(|member| member.account)
    }

    /// Whether all zones are theirs.
    pub(crate) fn is_everything(&self) -> bool {
        self.0.as_ref().is_none_or(|member| member.unchecked)
    }

    /// Whether the database alone is to decide.
    pub(crate) fn is_unchecked(&self) -> bool {
        self.0.as_ref().is_some_and(|member| member.unchecked)
    }

    /// The tenants that they are members of, by number; none where they need not be one.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|member| member.roles.keys().copied())
    }

    /// Whether they are a member of one.
    pub(crate) fn acts_for(&self, tenant: u32) -> bool {
        self.tenants().any(|of| of == tenant)
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
            Some(member) if !member.unchecked => Access::of(connection, member.account, false).await,
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
            // Somebody else's tenant, or none at all: who is no member cannot tell.
            let message = format!("you may make no zones for tenant {tenant}: that takes admin in it");
            return Some(tenant).filter(makes).ok_or_else(|| Problem::new(Code::Forbidden, message));
        }
        let mut all = member.roles.keys().copied().filter(|tenant| makes(tenant));
        match (all.next(), all.next()) {
            (Some(tenant), None) => Ok(tenant),
            (None, _) => {
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

/// What is said of a zone that is not there, and of one that somebody does not see.
pub(crate) fn no_zone(apex: &Name) -> Problem {
    Problem::new(Code::DomainNotFound, format!("there is no zone {apex} here"))
}
