//! Whether every data plane has everything that was committed, and every control plane knows it.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{CONTROLS, Cluster, LOOK_EVERY, metric};
use crate::interrupt;

/// Waits until it is so, for so long.
///
/// # Errors
/// It is not by then, or a part has ended by itself.
pub fn wait(cluster: &mut Cluster, limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    loop {
        interrupt::check()?;
        cluster.check_alive()?;
        let Some(why) = missing(cluster) else { return Ok(()) };
        anyhow::ensure!(Instant::now() < end, "not everywhere after {limit:?}: {why}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What is not so yet.
fn missing(cluster: &Cluster) -> Option<String> {
    let Some(leader) = cluster.leader() else { return Some("no control plane leads".to_owned()) };
    let of_leader = |name: &str| metric(cluster.controls[leader].metrics, name);
    if of_leader("godwit_controlplane_outbox_depth") != Some(0.0) {
        return Some("changes have no sequence".to_owned());
    }
    let Some(sequence) = of_leader("godwit_controlplane_sequence") else {
        return Some("the leader does not answer".to_owned());
    };
    for (index, node) in cluster.nodes.iter().enumerate() {
        let of_node = |name: &str| metric(node.metrics, name);
        let has = of_node("godwit_dataplane_sequence");
        if has != Some(sequence) {
            return Some(format!("node{} has {has:?} of {sequence}", index + 1));
        }
        if of_node("godwit_dataplane_quarantined_zones") != Some(0.0) {
            return Some(format!("node{} has zones in quarantine", index + 1));
        }
    }
    // As the control planes know it.
    for control in 0..CONTROLS {
        let Ok(nodes) = cluster.get(control, "/api/v1/nodes") else {
            return Some(format!("control{} does not answer", control + 1));
        };
        for node in nodes["items"].as_array().into_iter().flatten() {
            if node["live"] != true || node["lag_sequences"] != 0 {
                return Some(format!("control{} knows of {node}", control + 1));
            }
        }
    }
    None
}
