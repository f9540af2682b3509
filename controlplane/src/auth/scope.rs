//! What a caller may do: a set of scopes. Whatever is not in it is refused.

use std::fmt;

use crate::error::{Code, Problem};

macro_rules! scopes {
    ($($(#[$doc:meta])* $scope:ident = $name:literal,)*) => {
        /// One kind of thing that may be done.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Scope {
            $($(#[$doc])* $scope,)*
        }

        impl Scope {
            /// All of them.
            pub const ALL: &[Scope] = &[$(Scope::$scope,)*];

            /// As it is written in tokens.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Scope::$scope => $name,)*
                }
            }
        }
    };
}

scopes! {
    /// To read records.
    RecordsRead = "records:read",
    /// To change records.
    RecordsWrite = "records:write",
    /// To read zones.
    DomainsRead = "domains:read",
    /// To make, change and delete zones.
    DomainsWrite = "domains:write",
    /// To change the TXT records of ACME challenges.
    AcmeTxt = "acme:txt",
    /// To tell the address of a host.
    DyndnsUpdate = "dyndns:update",
    /// To export DNSSEC keys.
    DnssecExport = "dnssec:export",
    /// To manage users.
    UsersAdmin = "users:admin",
    /// To read the audit log.
    AuditRead = "audit:read",
    /// Everything.
    Admin = "admin",
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Scopes(u16);

impl Scopes {
    /// None of them.
    pub const NONE: Scopes = Scopes(0);

    /// One of them.
    #[must_use]
    pub const fn of(scope: Scope) -> Scopes {
        Scopes(1 << scope as u16)
    }

    /// Reads names with spaces between (RFC 6749 §3.3).
    ///
    /// # Errors
    /// The first name that is none.
    pub fn parse(text: &str) -> Result<Scopes, &str> {
        text.split_ascii_whitespace().try_fold(Scopes::NONE, |all, name| {
            let scope = Scope::ALL.iter().find(|scope| scope.as_str() == name).ok_or(name)?;
            Ok(all.with(*scope))
        })
    }

    /// With one more.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Scopes {
        Scopes(self.0 | 1 << scope as u16)
    }

    /// What both have; who has `admin` has whatever the other has.
    #[must_use]
    pub fn within(self, most: Scopes) -> Scopes {
        if most.has(Scope::Admin) {
            self
        } else if self.has(Scope::Admin) {
            most
        } else {
            Scopes(self.0 & most.0)
        }
    }

    /// Whether it allows a thing.
    #[must_use]
    pub fn has(self, scope: Scope) -> bool {
        let allows = |scope: Scope| self.0 & 1 << scope as u16 != 0;
        allows(scope) || allows(Scope::Admin)
    }

    /// Refuses who has not a scope.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`.
    pub fn require(self, scope: Scope) -> Result<(), Problem> {
        if self.has(scope) {
            return Ok(());
        }
        Err(Problem::new(Code::InsufficientScope, format!("this needs the scope {}", scope.as_str())))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for scope in Scope::ALL.iter().filter(|scope| self.0 & 1 << **scope as u16 != 0) {
            write!(f, "{between}{}", scope.as_str())?;
            between = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_written_and_narrowed() {
        for scope in Scope::ALL {
            let one = Scopes::parse(scope.as_str()).unwrap();
            assert_eq!(one, Scopes::of(*scope));
            assert_eq!(one.to_string(), scope.as_str());
            assert!(one.has(*scope) && one.require(*scope).is_ok());
        }
        let some = Scopes::parse(" records:read  domains:read ").unwrap();
        assert_eq!(some.to_string(), "records:read domains:read");
        assert!(!some.has(Scope::RecordsWrite));
        assert_eq!(some.require(Scope::Admin).unwrap_err().code, Code::InsufficientScope);
        assert_eq!(Scopes::parse("records:read Admin"), Err("Admin"));
        assert_eq!(Scopes::parse("").unwrap(), Scopes::NONE);
        let admin = Scopes::of(Scope::Admin);
        assert!(Scope::ALL.iter().all(|scope| admin.has(*scope) && !Scopes::NONE.has(*scope)));
        assert_eq!(some.within(admin), some);
        assert_eq!(admin.within(some), some);
        assert_eq!(some.within(Scopes::of(Scope::RecordsRead)), Scopes::of(Scope::RecordsRead));
    }
}
