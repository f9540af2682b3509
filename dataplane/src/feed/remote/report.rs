//! Where we stand, told to the control plane: at once when it changes, and every second all the same, as who has not been
//! heard for five is not counted.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use tokio::sync::watch;

use super::client::Client;
use super::hex;
use crate::feed::Applied;

/// The longest that nothing is said.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most zones in quarantine that are named.
const MOST_NAMED: usize = 10_000;

/// Until the feed ends.
pub(super) async fn run(mut client: Client, mut applied: watch::Receiver<Applied>) {
    loop {
        let body = said(&applied.borrow_and_update());
        let told = client.ask(Method::POST, "/internal/v1/position", Some(body), PATIENCE).await;
        match told {
            Ok(response) if response.status.is_success() => {
                if matches!(tokio::time::timeout(EVERY, applied.changed()).await, Ok(Err(_))) {
                    return;
                }
            }
            // Whoever refuses us now may not in a while.
            Ok(_) | Err(_) => tokio::time::sleep(EVERY).await,
        }
        if applied.has_changed().is_err() {
            return;
        }
    }
}

fn said(applied: &Applied) -> Bytes {
    let quarantined: serde_json::Map<String, serde_json::Value> = applied
        .quarantined
        .iter()
        .take(MOST_NAMED)
        .map(|(zone, version)| (zone.to_string(), json!(version)))
        .collect();
    let body = json!({
        "generation": applied.generation,
        "epoch": applied.epoch,
        "sequence": applied.sequence,
        "chain": hex(&applied.chain),
        "quarantined": quarantined,
        "version": env!("CARGO_PKG_VERSION"),
    });
    body.to_string().into()
}
