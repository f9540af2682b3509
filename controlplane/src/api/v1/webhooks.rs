//! `/webhooks`: servers that are told what happens to zones.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::App;
use super::super::asked::Asked;
use super::super::cursor::{self, ListParams, Page};
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment};
use super::super::write::{self, Empty, json_bodies};
use super::timestamp;
use crate::auth::Scope;
use crate::error::{Code, Problem};
use crate::store::webhooks;
use crate::webhooks::Patch;

/// A server that is told what happens to the zones that a tenant sees.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Webhook {
    /// Names the webhook.
    pub id: String,
    /// The tenant's number; 0: the operator, who is told of all zones.
    pub tenant: u32,
    /// Where deliveries are sent, by POST.
    #[schema(example = "https://hooks.example.net/godwit")]
    pub url: String,
    /// What it is told: `record`, `zone`, `change`, as `GET /api/v1/events` says it.
    #[schema(example = json!(["record"]))]
    pub topics: Vec<String>,
    /// Whether it is told.
    pub enabled: bool,
    /// Since when it is not.
    pub disabled_at: Option<String>,
    /// Why it is not.
    pub disabled_because: Option<String>,
    /// Attempts that failed in a row.
    pub failures: i64,
    /// Since when they do.
    pub failing_since: Option<String>,
    /// When the next delivery is sent; null: none waits.
    pub next_at: Option<String>,
    /// When it was made.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub created_at: String,
}

/// A webhook to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// `https://`, to port 443 or 8443 of a server on the internet.
    #[schema(example = "https://hooks.example.net/godwit")]
    pub url: String,
    /// What it is told: some of `record`, `zone`, `change`.
    #[schema(example = json!(["record"]))]
    pub topics: Vec<String>,
    /// For which tenant; needed where there are several in which you are admin.
    pub tenant: Option<u32>,
}

/// What is to be changed of a webhook.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookPatch {
    /// Where deliveries are sent from now on; those that wait, too.
    pub url: Option<String>,
    /// What it is told from now on.
    pub topics: Option<Vec<String>>,
    /// Whether it is told. Turned on again, it is told first that it may have missed something (`resync`).
    pub enabled: Option<bool>,
}

/// A webhook that was made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AddedWebhook {
    /// What deliveries are signed with. It is not shown again.
    #[schema(example = "gwh_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    pub secret: String,
    /// The rest of it.
    #[serde(flatten)]
    pub about: Webhook,
}

/// Something that a webhook is, or was, to be told.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WebhookDelivery {
    /// Names it, the same with each attempt: `Godwit-Webhook-Id`.
    pub id: String,
    /// `change`; `resync`: something may have been missed; `test`.
    #[schema(example = "change")]
    pub kind: String,
    /// Sequence of the change.
    pub sequence: Option<u64>,
    /// `waiting`, for its first attempt or another one; `done`; `failed`: it was given up.
    #[schema(example = "done")]
    pub state: String,
    /// Attempts so far.
    pub attempts: i64,
    /// What the last one was answered.
    #[schema(example = 204)]
    pub status: Option<i64>,
    /// What the last one failed at.
    pub error: Option<String>,
    /// When it was written down.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub created_at: String,
    /// When it was last tried.
    pub tried_at: Option<String>,
}

/// A delivery that was asked for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WebhookTest {
    /// Names the delivery.
    pub delivery: String,
}

/// Query parameters of the list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WebhookListParams {
    /// Those of this tenant only; 0: of the operator.
    pub tenant: Option<u32>,
    /// Items of a page: 1 to 1000, 100 when left out.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

json_bodies!(NewWebhook: write::SMALL, WebhookPatch: write::SMALL);

impl Webhook {
    fn of(webhook: webhooks::Webhook) -> Webhook {
        Webhook {
            id: webhook.id.to_string(),
            tenant: webhook.tenant,
            url: webhook.url,
            topics: webhook.topics.split(',').map(str::to_owned).collect(),
            enabled: webhook.disabled_at_us.is_none(),
            disabled_at: webhook.disabled_at_us.map(timestamp),
            disabled_because: webhook.disabled_why,
            failures: webhook.failures,
            failing_since: webhook.failing_since_us.map(timestamp),
            next_at: webhook.next_at_us.map(timestamp),
            created_at: timestamp(webhook.created_at_us),
        }
    }
}

impl WebhookDelivery {
    fn of(delivery: webhooks::Delivery) -> WebhookDelivery {
        WebhookDelivery {
            id: delivery.id.to_string(),
            kind: delivery.kind,
            sequence: delivery.sequence,
            state: delivery.state,
            attempts: delivery.attempts,
            status: delivery.status,
            error: delivery.error,
            created_at: timestamp(delivery.created_at_us),
            tried_at: delivery.tried_at_us.map(timestamp),
        }
    }
}

fn id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::new(Code::WebhookNotFound, "there is no such webhook"))
}

/// Lists the webhooks of the tenants in which you are admin; all of them to an operator.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks", params(WebhookListParams), responses(
    (status = 200, description = "One page", body = Page<Webhook>),
))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<WebhookListParams>,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsRead)?;
    let limit = cursor::limit(params.limit)?;
    let after = cursor::after(params.cursor.as_deref())?;
    let listed = app.webhooks.list(&asker, params.tenant, after, limit + 1).await?;
    Ok(Json(cursor::by_id(listed, limit, |webhook| webhook.id, Webhook::of)).into_response())
}

/// Makes a webhook. It is told of what happens from now on.
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "webhooks", request_body = NewWebhook, responses(
    (status = 201, description = "Made", body = AddedWebhook),
    (status = 403, description = "FORBIDDEN, INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 404, description = "TENANT_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: there are too many", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    asked: Asked<NewWebhook>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsWrite)?;
    let NewWebhook { url, topics, tenant } = asked.body;
    let (made, secret) = app.webhooks.create(asker, url, &topics, tenant).await?;
    Ok((StatusCode::CREATED, Json(AddedWebhook { secret, about: Webhook::of(made) })).into_response())
}

/// A webhook.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 200, description = "The webhook", body = Webhook),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "WEBHOOK_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn look_up(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let found = app.webhooks.look_up(&asked.asker(Scope::DomainsRead)?, id(&text)?).await?;
    Ok(Json(Webhook::of(found)).into_response())
}

/// Changes where a webhook is, what it is told, and whether.
#[utoipa::path(patch, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(
    ("id" = String, Path, description = "Its id"),
), request_body = WebhookPatch, responses(
    (status = 200, description = "As it is now", body = Webhook),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "WEBHOOK_NOT_FOUND", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn patch(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<WebhookPatch>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsWrite)?;
    let WebhookPatch { url, topics, enabled } = asked.body;
    let changed = app.webhooks.patch(asker, id(&text)?, Patch { url, topics, enabled }).await?;
    Ok(Json(Webhook::of(changed)).into_response())
}

/// Deletes a webhook. What waits for it is not sent any more.
#[utoipa::path(delete, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 204, description = "Deleted"),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "WEBHOOK_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    app.webhooks.delete(asked.asker(Scope::DomainsWrite)?, id(&text)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Sends a webhook a delivery that tells of nothing, behind what waits; ask for its deliveries a moment later.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/test", tag = "webhooks", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 202, description = "It is sent", body = WebhookTest),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "WEBHOOK_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: it is off, or too much waits", body = ErrorBody),
))]
pub(crate) async fn test(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let delivery = app.webhooks.test(asked.asker(Scope::DomainsWrite)?, id(&text)?).await?;
    Ok((StatusCode::ACCEPTED, Json(WebhookTest { delivery: delivery.to_string() })).into_response())
}

/// Lists what a webhook was told, and is to be told, the latest first. What it answered is not kept.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}/deliveries", tag = "webhooks", params(
    ("id" = String, Path, description = "Its id"),
    ListParams,
), responses(
    (status = 200, description = "One page", body = Page<WebhookDelivery>),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "WEBHOOK_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn deliveries(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    Params(params): Params<ListParams>,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsRead)?;
    let limit = cursor::limit(params.limit)?;
    let before = cursor::before(params.cursor.as_deref())?;
    let listed = app.webhooks.deliveries(&asker, id(&text)?, before, limit + 1).await?;
    Ok(Json(cursor::by_id(listed, limit, |delivery| delivery.id, WebhookDelivery::of)).into_response())
}
