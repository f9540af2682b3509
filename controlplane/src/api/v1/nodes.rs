//! `/nodes`: the data planes, and which of them on other machines may ask.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use godwit_wire::name::Name;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::App;
use super::super::cursor::Page;
use super::super::envelope::ErrorBody;
use super::super::read::Segment;
use super::super::write::{self, Empty, Write, json_bodies};
use super::shown;
use crate::auth::Token;
use crate::error::{Code, Problem};
use crate::internal::nodes::{Digests, LIVES, MOST};
use crate::internal::planes::LOCAL;
use crate::relay::Applied;
use crate::store::{audit, nodes, now_us};

/// The most zones in quarantine that are named.
const MOST_NAMED: usize = 100;
/// The most characters of a name: it is a label, so that it can stand in host names.
const MAX_NAME: usize = 63;

/// A data plane.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Node {
    /// Its name.
    #[schema(example = "local")]
    pub node: String,
    /// Whether it said something within five seconds.
    pub live: bool,
    /// Of its program; null when it never said anything.
    pub version: Option<String>,
    /// Where it last spoke from; null for the data plane of the same process.
    #[schema(value_type = Option<String>, example = "192.0.2.53")]
    pub address: Option<IpAddr>,
    /// History that it follows.
    pub generation: u64,
    /// Term of the relay that it last heard from.
    pub epoch: u64,
    /// The last sequence that it applied.
    pub sequence: u64,
    /// How many sequences it is behind the last that was published.
    pub lag_sequences: u64,
    /// Whether what it holds was equal to the last head of the feed that it could be compared with, by digest; null for the data
    /// plane of the same process.
    pub digests: Option<Digests>,
    /// The sequence of that head.
    pub compared_sequence: Option<u64>,
    /// Seconds since it last said something; null when it never did, to this process or what it shares its database with.
    pub silent_seconds: Option<f64>,
    /// How many zones it keeps at an earlier state than its sequence says, because a change of them could not be applied.
    pub quarantined_zones: usize,
    /// Their names: the first hundred.
    pub quarantined: Vec<String>,
}

/// A node to be added.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNode {
    /// 1 to 63 letters, digits and hyphens, in lower case; not `local`.
    #[schema(example = "ns1")]
    pub name: String,
}

json_bodies!(NewNode: write::SMALL);

/// A node that was added.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AddedNode {
    /// Its name.
    #[schema(example = "ns1")]
    pub node: String,
    /// What it has to be told to join. It holds its token, and is not shown again.
    #[schema(example = "godwit-join:eyJ1cmwiOi…")]
    pub join: String,
}

/// Lists the data planes: that of the same process, and those that were added.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "operation", responses(
    (status = 200, description = "All of them", body = Page<Node>),
))]
pub async fn list(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let mut connection = app.readers.acquire().await?;
    let added = nodes::list(&mut connection).await?;
    drop(connection);
    let end = app.log.end();
    let node = |node: String, applied: &Applied| Node {
        node,
        live: true,
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        address: None,
        generation: applied.generation,
        epoch: applied.epoch,
        sequence: applied.sequence,
        lag_sequences: if applied.generation == end.generation {
            end.sequence.saturating_sub(applied.sequence)
        } else {
            end.sequence
        },
        digests: None,
        compared_sequence: None,
        silent_seconds: Some(0.0),
        quarantined_zones: applied.quarantined.len(),
        quarantined: named(&applied.quarantined),
    };
    let mut items: Vec<Node> =
        app.planes.local().iter().map(|plane| node(plane.name.clone(), &plane.applied)).collect();
    for one in added {
        let Some((report, heard)) = app.planes.nodes().of(one.id) else {
            let silent = node(one.name, &Applied::default());
            items.push(Node { live: false, version: None, silent_seconds: None, ..silent });
            continue;
        };
        let silent = heard.elapsed();
        items.push(Node {
            live: silent < LIVES,
            version: Some(report.version),
            address: report.address,
            silent_seconds: Some(silent.as_secs_f64()),
            digests: Some(report.digests),
            compared_sequence: Some(report.compared_sequence),
            ..node(one.name, &report.applied)
        });
    }
    Ok(Json(Page { items, next: None }).into_response())
}

fn named(quarantined: &BTreeMap<Name, u64>) -> Vec<String> {
    quarantined.keys().take(MOST_NAMED).map(|zone| shown(zone.as_ref())).collect()
}

/// Adds a node, and says what it has to be told to join.
#[utoipa::path(post, path = "/api/v1/nodes", tag = "operation", request_body = NewNode, responses(
    (status = 201, description = "Added", body = AddedNode),
    (status = 409, description = "NODE_EXISTS, CONFLICT: nodes cannot ask here", body = ErrorBody),
    (status = 422, description = "INVALID_NAME", body = ErrorBody),
))]
pub async fn create(State(app): State<Arc<App>>, write: Write<NewNode>) -> Result<Response, Problem> {
    let who = write.by()?;
    let name = write.body.name;
    if !is_name(&name) {
        let message =
            "\"name\": expected 1 to 63 letters, digits and hyphens, in lower case, and not \"local\"";
        return Err(Problem::new(Code::InvalidName, message));
    }
    let Some(join) = &app.join else {
        let message = "nodes cannot ask here: internal.listen is off in the configuration";
        return Err(Problem::new(Code::Conflict, message));
    };
    let no_token = |_| Problem::new(Code::Internal, "no token could be made");
    let token = Token::random().map_err(no_token)?;
    let (hash, vault, named) = (token.hash(), join.vault.clone(), name.clone());
    let add = app.committer.write(move |connection| {
        Box::pin(async move {
            if nodes::by_name(connection, &named).await?.is_some() {
                return Err(Problem::new(Code::NodeExists, format!("there is a node {named} already")));
            }
            if usize::try_from(nodes::count(connection).await?).is_ok_and(|count| count >= MOST) {
                return Err(Problem::new(
                    Code::Conflict,
                    format!("there are {MOST} nodes: no more can be added"),
                ));
            }
            // As they are now, whoever rotated them: the node must know the one after the one that signs.
            let keys = vault.feed_keys(connection).await?;
            let now = now_us();
            let id = Uuid::now_v7();
            let node =
                nodes::Node { id, name: named.clone(), last_key: keys.trusted[1].0, created_at_us: now };
            nodes::insert(connection, &node, &hash.0).await?;
            let after = json!({ "id": id });
            let entry = audit::Entry::done(&who, "node.create", &named).from_to(Value::Null, after);
            audit::write(connection, &entry).await?;
            Ok(keys)
        })
    });
    let keys = add.await?;
    let trusted = keys.trusted;
    join.signer.replace(keys);
    let join = join.line(&name, &token, &trusted, app.log.end().generation);
    Ok((StatusCode::CREATED, Json(AddedNode { node: name, join })).into_response())
}

/// Removes a node: its token is refused from then on. It goes on answering from what it has, and hears of no change.
#[utoipa::path(delete, path = "/api/v1/nodes/{node}", tag = "operation", params(
    ("node" = String, Path, description = "Its name"),
), responses(
    (status = 204, description = "Removed"),
    (status = 404, description = "NODE_NOT_FOUND", body = ErrorBody),
))]
pub async fn delete(
    State(app): State<Arc<App>>,
    Segment(name): Segment,
    write: Write<Empty>,
) -> Result<Response, Problem> {
    let who = write.by()?;
    let remove = app.committer.write(move |connection| {
        Box::pin(async move {
            let unknown =
                || Problem::new(Code::NodeNotFound, format!("there is no node {name} that was added"));
            let id = nodes::by_name(connection, &name).await?.ok_or_else(unknown)?;
            nodes::remove(connection, id, now_us()).await?;
            let before = json!({ "id": id });
            let entry = audit::Entry::done(&who, "node.delete", &name).from_to(before, Value::Null);
            audit::write(connection, &entry).await?;
            Ok(id)
        })
    });
    let id = remove.await?;
    app.planes.nodes().forget(id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn is_name(name: &str) -> bool {
    let good = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    let edges = !name.starts_with('-') && !name.ends_with('-');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(good) && edges && name != LOCAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        let longest = "a".repeat(63);
        for name in ["a", "ns1", "1", "eu-west-1", &longest] {
            assert!(is_name(name), "{name}");
        }
        let longer = "a".repeat(64);
        for name in ["", "local", "A", "a.b", "-a", "a-", "a b", "ä", &longer] {
            assert!(!is_name(name), "{name}");
        }
    }
}
