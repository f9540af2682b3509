//! A connection made of a place. Who is the master, and which servers a cluster has, is asked anew each time: what was known
//! before a failover is of no use after it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult, Value,
};

use crate::Connection;
use crate::place::{Kind, Place, info};

/// How often a cluster is asked again where a slot is on its way elsewhere.
const CLUSTER_RETRIES: u32 = 3;

/// How long Redis may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// Until there is a connection, asking Sentinel or the cluster included.
    pub connect: Duration,
    /// Until an answer is there.
    pub response: Duration,
}

impl Place {
    /// Connects; with Sentinel to the server that is the master at this moment and says so itself.
    ///
    /// # Errors
    /// Nobody is there in time, or lets us in.
    pub async fn connect(&self, timeouts: Timeouts) -> RedisResult<Connection> {
        within(timeouts.connect, async {
            let client = match &self.kind {
                Kind::Server(address) => open(info(address, Some(&self.settings))?)?,
                Kind::Sentinel { .. } => self.master().await?,
                Kind::Cluster(addresses) => return self.cluster(addresses, timeouts).await,
            };
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(timeouts.connect))
                .set_response_timeout(Some(timeouts.response));
            client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Server)
        })
        .await
    }

    async fn cluster(&self, addresses: &[ConnectionAddr], timeouts: Timeouts) -> RedisResult<Connection> {
        let infos: Vec<_> = addresses
            .iter()
            .map(|address| info(address, Some(&self.settings)))
            .collect::<RedisResult<_>>()?;
        let client = ClusterClientBuilder::new(infos)
            .connection_timeout(timeouts.connect)
            .response_timeout(timeouts.response)
            .retries(CLUSTER_RETRIES)
            .tcp_settings(at_once())
            .build()?;
        client.get_async_connection().await.map(Connection::Cluster)
    }

    /// The server that is the master.
    async fn master(&self) -> RedisResult<Client> {
        let Kind::Sentinel { master, tls, .. } = &self.kind else { return Err(of_another_kind()) };
        let mut of_servers =
            SentinelNodeConnectionInfo::default().set_redis_connection_info(self.settings.clone());
        if let Some(tls) = tls {
            of_servers = of_servers.set_tls_mode(*tls);
        }
        let found = self.sentinel(false)?.async_master_for(master, Some(&of_servers)).await;
        let found = match found {
            Err(error) if self.is_refused(&error) => {
                self.sentinel(true)?.async_master_for(master, Some(&of_servers)).await
            }
            found => found,
        };
        open(found?.get_connection_info().clone())
    }

    /// Those who say who is the master; most of them let everybody ask.
    fn sentinel(&self, with_password: bool) -> RedisResult<Sentinel> {
        let Kind::Sentinel { sentinels, .. } = &self.kind else { return Err(of_another_kind()) };
        let settings = with_password.then(|| self.settings.clone().set_db(0));
        let infos =
            sentinels.iter().map(|address| info(address, settings.as_ref())).collect::<RedisResult<_>>()?;
        Sentinel::build::<ConnectionInfo>(infos)
    }

    fn is_refused(&self, error: &RedisError) -> bool {
        self.password().is_some() && error.code() == Some("NOAUTH")
    }

    /// The TCP ports of all servers that are part of it at this moment, and those of the URL: who gives up the right to
    /// connect to others has to know them before. Where nobody answers, those of the URL alone.
    pub async fn ports_now(&self, timeouts: Timeouts) -> Vec<u16> {
        let mut ports: BTreeSet<u16> = self.ports().into_iter().collect();
        match within(timeouts.connect, self.further_ports(timeouts)).await {
            Ok(further) => ports.extend(further),
            Err(error) => {
                tracing::warn!(place = %self, %error, "Redis does not say which servers it has; their ports are taken to be known");
            }
        }
        ports.into_iter().collect()
    }

    async fn further_ports(&self, timeouts: Timeouts) -> RedisResult<Vec<u16>> {
        match &self.kind {
            Kind::Server(_) => Ok(Vec::new()),
            Kind::Sentinel { .. } => match self.sentinel_ports(false, timeouts).await {
                Err(error) if self.is_refused(&error) => self.sentinel_ports(true, timeouts).await,
                ports => ports,
            },
            Kind::Cluster(addresses) => {
                let mut connection = self.any(addresses, Some(&self.settings), timeouts).await?;
                let slots: Vec<Vec<Value>> =
                    redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
                // From, to, then servers: address, port, more.
                let servers = slots.into_iter().flat_map(|slot| slot.into_iter().skip(2));
                Ok(servers.filter_map(port_of_slot).collect())
            }
        }
    }

    async fn sentinel_ports(&self, with_password: bool, timeouts: Timeouts) -> RedisResult<Vec<u16>> {
        let Kind::Sentinel { sentinels, master, .. } = &self.kind else { return Err(of_another_kind()) };
        let settings = with_password.then(|| self.settings.clone().set_db(0));
        let mut connection = self.any(sentinels, settings.as_ref(), timeouts).await?;
        let (_, port): (String, u16) = redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(master)
            .query_async(&mut connection)
            .await?;
        let replicas: Vec<HashMap<String, String>> =
            redis::cmd("SENTINEL").arg("REPLICAS").arg(master).query_async(&mut connection).await?;
        let of_replicas =
            replicas.iter().filter_map(|replica| replica.get("port").and_then(|port| port.parse().ok()));
        Ok(of_replicas.chain([port]).collect())
    }

    /// The first that answers.
    async fn any(
        &self,
        addresses: &[ConnectionAddr],
        settings: Option<&redis::RedisConnectionInfo>,
        timeouts: Timeouts,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response));
        let mut last = of_another_kind();
        for address in addresses {
            let client = open(info(address, settings)?)?;
            match client.get_multiplexed_async_connection_with_config(&config).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// For one server.
fn open(info: ConnectionInfo) -> RedisResult<Client> {
    Client::open(info.set_tcp_settings(at_once()))
}

/// What is written goes out at once. A command behind one that the server has not acknowledged yet, which it puts off for 40 ms
/// where it has nothing to say, would wait for that (RFC 896).
fn at_once() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn port_of_slot(server: Value) -> Option<u16> {
    let parts: Vec<Value> = redis::from_redis_value(server).ok()?;
    redis::from_redis_value(parts.into_iter().nth(1)?).ok()
}

async fn within<T>(limit: Duration, doing: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    tokio::time::timeout(limit, doing)
        .await
        .unwrap_or_else(|_| Err(RedisError::from((ErrorKind::Io, "nobody answered in time"))))
}

fn of_another_kind() -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "the place names no server"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_do_not_wait_for_those_before_them() {
        let Kind::Server(address) = Place::parse("redis://127.0.0.1:6379").unwrap().kind else { panic!() };
        let client = open(info(&address, None).unwrap()).unwrap();
        assert!(client.get_connection_info().tcp_settings().nodelay());
    }
}
