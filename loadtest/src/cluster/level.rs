//! Whether every data plane has everything that was committed, and every control plane knows it.

use super::{CONTROLS, Cluster, metric};

/// What is not so yet.
#[must_use]
pub fn missing(cluster: &Cluster) -> Option<String> {
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
