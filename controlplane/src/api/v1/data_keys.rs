//! `/keys`: what secrets in the database are sealed with, and sealing them with something else while everything goes on.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::App;
use super::super::envelope::ErrorBody;
use super::super::write::{Empty, Write};
use super::timestamp;
use crate::error::Problem;
use crate::secrets::rotation::Held;
use crate::store::audit;

/// A data key.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DataKey {
    /// Its number.
    #[schema(example = 2)]
    pub id: i64,
    /// When it was made.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub created_at: String,
    /// The master keys that open it, by their ids.
    #[schema(example = json!(["3f9c0a55d1b2e874"]))]
    pub masters: Vec<String>,
}

/// What secrets are sealed with.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Keys {
    /// The master key that counts for the control plane that was asked.
    #[schema(example = "3f9c0a55d1b2e874")]
    pub master: Option<String>,
    /// Data keys, the newest last: that one seals, the others open what is not sealed anew yet.
    pub items: Vec<DataKey>,
}

/// A rotation that was begun.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Rotating {
    /// The data key that seals from now on.
    #[schema(example = 3)]
    pub key: i64,
    /// The job that seals anew, and deletes older keys then.
    pub job: String,
}

fn keys((held, master): (Vec<Held>, Option<String>)) -> Keys {
    let item =
        |held: Held| DataKey { id: held.key, created_at: timestamp(held.made_at_us), masters: held.masters };
    Keys { master, items: held.into_iter().map(item).collect() }
}

/// Lists what secrets are sealed with.
#[utoipa::path(get, path = "/api/v1/keys", tag = "operation", responses(
    (status = 200, description = "All data keys", body = Keys),
))]
pub async fn list(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let mut connection = app.readers.acquire().await?;
    Ok(Json(keys(app.vault.data_keys(&mut connection).await?)).into_response())
}

/// Makes a data key, and has everything sealed anew with it by a job.
#[utoipa::path(post, path = "/api/v1/keys/rotate", tag = "operation", responses(
    (status = 202, description = "It seals; the job has begun, or will", body = Rotating),
    (status = 409, description = "CONFLICT: a rotation is under way", body = ErrorBody),
))]
pub async fn rotate(State(app): State<Arc<App>>, write: Write<Empty>) -> Result<Response, Problem> {
    let (who, vault) = (write.by()?, app.vault.clone());
    let begun = app.committer.write(move |connection| {
        Box::pin(async move {
            let begun = vault.rotate_data_key(connection).await?;
            let object = format!("data key {}", begun.key);
            audit::note(connection, &who, "keys.rotate", &object).await?;
            Ok(begun)
        })
    });
    let begun = begun.await?;
    app.jobs.wake();
    let rotating = Rotating { key: begun.key, job: begun.job.to_string() };
    Ok((StatusCode::ACCEPTED, Json(rotating)).into_response())
}

/// Has all data keys opened by the next master key too.
#[utoipa::path(post, path = "/api/v1/keys/rewrap", tag = "operation", responses(
    (status = 200, description = "Either of the two opens them", body = Keys),
    (status = 409, description = "CONFLICT: there is no next master key", body = ErrorBody),
))]
pub async fn rewrap(State(app): State<Arc<App>>, write: Write<Empty>) -> Result<Response, Problem> {
    let (who, vault) = (write.by()?, app.vault.clone());
    let rewrapped = app.committer.write(move |connection| {
        Box::pin(async move {
            let next = vault.rewrap(connection).await?;
            audit::note(connection, &who, "keys.rewrap", &format!("master key {next}")).await?;
            Ok(vault.data_keys(connection).await?)
        })
    });
    Ok(Json(keys(rewrapped.await?)).into_response())
}

/// Leaves all data keys to the master key that counts: others open them no more.
#[utoipa::path(post, path = "/api/v1/keys/rewrap/finish", tag = "operation", responses(
    (status = 200, description = "Done", body = Keys),
    (status = 409, description = "CONFLICT: another one counts here or on another control plane", body = ErrorBody),
))]
pub async fn finish(State(app): State<Arc<App>>, write: Write<Empty>) -> Result<Response, Problem> {
    let (who, vault) = (write.by()?, app.vault.clone());
    let finished = app.committer.write(move |connection| {
        Box::pin(async move {
            let own = vault.leave_to_own(connection).await?;
            audit::note(connection, &who, "keys.finish", &format!("master key {own}")).await?;
            Ok(vault.data_keys(connection).await?)
        })
    });
    Ok(Json(keys(finished.await?)).into_response())
}
