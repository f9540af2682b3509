//! `/nodes`: the data planes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::App;
use super::super::cursor::Page;
use super::shown;
use crate::error::Problem;

/// The data plane in the same process.
pub const LOCAL: &str = "local";

/// The most zones in quarantine that are named.
const MOST_NAMED: usize = 100;

/// A data plane.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Node {
    /// Its name.
    #[schema(example = "local")]
    pub node: String,
    /// History that it follows.
    pub generation: u64,
    /// Term of the relay that it last heard from.
    pub epoch: u64,
    /// The last sequence that it applied.
    pub sequence: u64,
    /// How many times it has asked for everything.
    pub resyncs: u64,
    /// How many zones it keeps at an earlier state than its sequence says, because a change of them could not be applied.
    pub quarantined_zones: usize,
    /// Their names: the first hundred.
    pub quarantined: Vec<String>,
}

/// Lists the data planes.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "operation", responses(
    (status = 200, description = "All of them", body = Page<Node>),
))]
pub async fn list(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let items = app.progress.iter().map(|progress| {
        let position = progress.position();
        Node {
            node: LOCAL.to_owned(),
            generation: position.generation,
            epoch: position.epoch,
            sequence: position.sequence,
            resyncs: position.resyncs,
            quarantined_zones: position.quarantined.len(),
            quarantined: position
                .quarantined
                .keys()
                .take(MOST_NAMED)
                .map(|zone| shown(zone.as_ref()))
                .collect(),
        }
    });
    Ok(Json(Page { items: items.collect(), next: None }).into_response())
}
