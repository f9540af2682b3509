//! What a URL says.
//!
//! | URL | what is there |
//! |---|---|
//! | `redis://[user:password@]host[:6379][/DATABASE]` | one server; `redis+unix:///PATH?db=DATABASE` for a socket |
//! | `redis+sentinel://[user:password@]host[:26379][,host…]/MASTER[/DATABASE]` | the server that Sentinel says is the master |
//! | `redis+cluster://[user:password@]host[:6379][,host…]` | a cluster, which has no databases |
//!
//! `rediss`, `rediss+sentinel` and `rediss+cluster` with TLS, to Sentinel as well. User and password are those of the servers; a
//! Sentinel that wants some is given the same.

use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, TlsMode};

/// Port of a Sentinel that names none.
const SENTINEL_PORT: u16 = 26_379;

/// Where a Redis is.
#[derive(Clone)]
pub struct Place {
    pub(crate) kind: Kind,
    /// User, password and database of the servers.
    pub(crate) settings: RedisConnectionInfo,
    /// What the URL was, without user, password and database.
    shown: String,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Server(ConnectionAddr),
    Sentinel { sentinels: Vec<ConnectionAddr>, master: String, tls: Option<TlsMode> },
    Cluster(Vec<ConnectionAddr>),
}

/// A URL that says no place. It is not in the error: it may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadUrl {
    /// Of none of the forms.
    #[error(
        "expected a URL like redis://user@host:6379, redis+sentinel://host:26379,host:26379/MASTER or \
         redis+cluster://host:6379,host:6379"
    )]
    Form,
    /// The name under which Sentinel knows the servers is missing.
    #[error("expected the name of the master behind the hosts, as redis+sentinel://host:26379/MASTER")]
    Master,
    /// A cluster has no databases.
    #[error("expected no database: a cluster has none")]
    Database,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

/// Without user and password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Cluster(_) => f.write_str(&self.shown),
            _ => write!(f, "{}/{}", self.shown, self.database()),
        }
    }
}

impl Place {
    /// Reads a URL of one of the forms of this file.
    ///
    /// # Errors
    /// [`BadUrl`].
    pub fn parse(url: &str) -> Result<Place, BadUrl> {
        let (scheme, rest) = url.split_once("://").ok_or(BadUrl::Form)?;
        let (tls, form) = match scheme.split_once('+') {
            Some(("redis", form @ ("sentinel" | "cluster"))) => (None, form),
            Some(("rediss", form @ ("sentinel" | "cluster"))) => (Some(TlsMode::Secure), form),
            _ => return Place::server(url),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let scheme = if tls.is_some() { "rediss" } else { "redis" };
        let mut settings = None;
        let mut addresses = Vec::new();
        for host in hosts.split(',') {
            let names_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
            let port =
                if form == "sentinel" && !names_port { format!(":{SENTINEL_PORT}") } else { String::new() };
            let info = format!("{scheme}://{user}{host}{port}").into_connection_info();
            let info = info.map_err(|_| BadUrl::Form)?;
            addresses.push(info.addr().clone());
            settings = Some(info.redis_settings().clone());
        }
        let settings = settings.ok_or(BadUrl::Form)?;
        let shown = format!("{}://{hosts}", url.split("://").next().unwrap_or_default());
        if form == "cluster" {
            return match path {
                "" => Ok(Place { kind: Kind::Cluster(addresses), settings, shown }),
                _ => Err(BadUrl::Database),
            };
        }
        let (master, database) = path.split_once('/').unwrap_or((path, "0"));
        if master.is_empty() || !master.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'?') {
            return Err(BadUrl::Master);
        }
        let database: u16 = database.parse().map_err(|_| BadUrl::Form)?;
        let shown = format!("{shown}/{master}");
        let kind = Kind::Sentinel { sentinels: addresses, master: master.to_owned(), tls };
        Ok(Place { kind, settings: settings.set_db(i64::from(database)), shown })
    }

    fn server(url: &str) -> Result<Place, BadUrl> {
        let info = url.into_connection_info().map_err(|_| BadUrl::Form)?;
        let settings = info.redis_settings().clone();
        let shown = format!("redis://{}", info.addr());
        Ok(Place { kind: Kind::Server(info.addr().clone()), settings, shown })
    }

    /// The same with another database. A cluster has none: there the keys alone say what is what.
    #[must_use]
    pub fn with_database(mut self, database: i64) -> Place {
        if !matches!(self.kind, Kind::Cluster(_)) {
            self.settings = self.settings.set_db(database);
        }
        self
    }

    /// The database; 0 in a cluster.
    #[must_use]
    pub fn database(&self) -> i64 {
        self.settings.db()
    }

    /// Who connects; `None` for the server's default.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.settings.username()
    }

    /// With which password.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.settings.password()
    }

    /// TCP ports that the URL names; none for a socket. Servers that Sentinel or a cluster name besides may have others: see
    /// [`Place::ports_now`].
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let addresses = match &self.kind {
            Kind::Server(address) => std::slice::from_ref(address),
            Kind::Sentinel { sentinels: addresses, .. } | Kind::Cluster(addresses) => addresses,
        };
        let port = |address: &ConnectionAddr| match address {
            ConnectionAddr::Tcp(_, port) | ConnectionAddr::TcpTls { port, .. } => Some(*port),
            _ => None,
        };
        addresses.iter().filter_map(port).collect()
    }
}

/// An address with user, password and database.
pub(crate) fn info(
    address: &ConnectionAddr,
    settings: Option<&RedisConnectionInfo>,
) -> redis::RedisResult<ConnectionInfo> {
    let info = address.clone().into_connection_info()?;
    Ok(match settings {
        Some(settings) => info.set_redis_settings(settings.clone()),
        None => info,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let one = Place::parse("redis://u:p%40x@a.test:7000/3").unwrap();
        assert_eq!((one.user(), one.password(), one.database()), (Some("u"), Some("p@x"), 3));
        assert_eq!(one.ports(), [7000]);
        assert_eq!(one.with_database(1).database(), 1);
        let sentinel = Place::parse("rediss+sentinel://u:p@a.test,[::1]:7,[::2]/main/2").unwrap();
        assert_eq!((sentinel.ports(), sentinel.database()), (vec![26_379, 7, 26_379], 2));
        let Kind::Sentinel { master, tls, .. } = &sentinel.kind else { panic!() };
        assert_eq!((master.as_str(), tls.is_some()), ("main", true));
        assert_eq!(sentinel.user(), Some("u"));
        assert_eq!(sentinel.to_string(), "rediss+sentinel://a.test,[::1]:7,[::2]/main/2");
        let cluster = Place::parse("redis+cluster://a.test:7000,b.test").unwrap();
        assert_eq!((cluster.ports(), cluster.with_database(4).database()), (vec![7000, 6379], 0));
        assert!(Place::parse("redis+unix:///run/x?db=1").unwrap().ports().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_secret_is_shown() {
        for (bad, expected) in [
            ("mysql://x", BadUrl::Form),
            ("redis//", BadUrl::Form),
            ("redis://:secret@[x", BadUrl::Form),
            ("redis+sentinel://a.test", BadUrl::Master),
            ("redis+sentinel://a.test/", BadUrl::Master),
            ("redis+sentinel://a.test/m/x", BadUrl::Form),
            ("redis+sentinel://a.test,/m", BadUrl::Form),
            ("redis+cluster://a.test/1", BadUrl::Database),
            ("redis+other://a.test", BadUrl::Form),
        ] {
            assert_eq!(Place::parse(bad).err(), Some(expected), "{bad}");
        }
        for url in ["redis://u:secret@a.test", "redis+sentinel://u:secret@a/m", "redis+cluster://u:secret@a"]
        {
            let place = Place::parse(url).unwrap();
            assert!(!format!("{place} {place:?}").contains("secret"), "{place:?}");
        }
    }
}
