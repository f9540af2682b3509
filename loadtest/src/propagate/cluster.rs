//! Where the parts of a running cluster are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;

use crate::cpu;
use crate::http::Connection;

/// What `make run-cluster` writes down.
#[derive(Clone, Debug, Deserialize)]
pub struct Cluster {
    /// APIs of the control planes.
    pub apis: Vec<SocketAddr>,
    /// The administrator's token.
    pub token: String,
    /// Where the data planes answer.
    pub nodes: Vec<SocketAddr>,
    /// Process ids by what they are.
    pub processes: BTreeMap<String, i32>,
}

impl Cluster {
    /// Reads the file.
    ///
    /// # Errors
    /// It is not there, or something else.
    pub fn read(file: &Path) -> Result<Cluster> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{}: is the cluster running? (make run-cluster)", file.display()))?;
        let cluster: Cluster =
            serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        anyhow::ensure!(!cluster.apis.is_empty(), "{} names no API", file.display());
        Ok(cluster)
    }

    /// A connection for the client of this number; clients take turns with the control planes.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(&self, client: usize) -> Result<Connection> {
        Connection::open(self.apis[client % self.apis.len()], &self.token)
    }

    /// Makes the zones that are not there yet.
    ///
    /// # Errors
    /// One is refused.
    pub fn make_zones(&self, count: u32) -> Result<()> {
        let mut connection = self.connect(0)?;
        for number in 0..count {
            let name = super::zone(number);
            let body = json!({ "name": name, "ns": ["ns1.hosting.test."] }).to_string();
            let response = connection.ask("POST", "/api/v1/domains", &body)?;
            if response.status != 409 {
                response.ok("making a zone")?;
            }
        }
        Ok(())
    }

    /// CPU seconds that each part has used so far, with its children.
    #[must_use]
    pub fn cpu_seconds(&self) -> BTreeMap<String, f64> {
        self.processes.iter().map(|(name, &pid)| (name.clone(), cpu::seconds(&cpu::tree(pid)))).collect()
    }
}

/// What was used between two readings.
#[must_use]
pub fn used(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let since = |name: &String, seconds: f64| seconds - before.get(name).copied().unwrap_or_default();
    after.iter().map(|(name, &seconds)| (name.clone(), since(name, seconds))).collect()
}
