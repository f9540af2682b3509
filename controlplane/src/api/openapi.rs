//! The API's description, made from its handlers. Checked in as `controlplane/openapi.json` and compared in a test.

use std::sync::Arc;

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{App, v1};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Godwit",
        description = "Records, zones and changes. Records are also served under /api/v1/dns-records. Every write of \
                       these takes the headers Idempotency-Key and If-Match, and answers Godwit-Change and ETag. Every request may be \
                       answered with 429 RATE_LIMITED or 503 DB_UNAVAILABLE, DB_POOL_TIMEOUT (both with Retry-After), and \
                       with 504 TIMEOUT. Requests that are counted say in RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset and \
                       RateLimit-Policy how their sender stands.",
    ),
    components(schemas(v1::changes::Wanted)),
    tags(
        (name = "records", description = "RRsets"),
        (name = "domains", description = "Zones"),
        (name = "changes", description = "Several steps at once, and how far a change has come"),
        (name = "versions", description = "What zones were, and making them that again"),
        (name = "operation", description = "Data planes, jobs"),
        (name = "auth", description = "Registering, logging in, and links"),
        (name = "me", description = "The account of who has logged in"),
        (name = "users", description = "Accounts, for who manages them"),
        (name = "names", description = "Which names tenants make zones of"),
        (name = "webhooks", description = "Servers that are told what happens"),
        (name = "tenants", description = "Who owns zones, and who acts for them"),
    ),
    security(("token" = [])),
    modifiers(&Security),
)]
struct Description;

/// Every request carries a token.
struct Security;

impl Modify for Security {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// What is asked by strangers, without a token.
pub(super) fn of_strangers(app: Arc<App>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(v1::auth::register))
        .routes(routes!(v1::auth::verify))
        .routes(routes!(v1::auth::login))
        .routes(routes!(v1::auth::refresh))
        .routes(routes!(v1::auth::logout))
        .routes(routes!(v1::auth::forgot))
        .routes(routes!(v1::auth::reset))
        .routes(routes!(v1::auth::email))
        // Who they are may come later.
        .routes(routes!(v1::events::socket::listen))
        .with_state(app)
}

/// What is about people: each handler says who may.
pub(super) fn of_people(app: Arc<App>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(v1::me::look_up, v1::me::patch, v1::me::delete))
        .routes(routes!(v1::me::export))
        .routes(routes!(v1::me::password))
        .routes(routes!(v1::me::email))
        .routes(routes!(v1::me::offer_totp, v1::me::end_totp))
        .routes(routes!(v1::me::begin_totp))
        .routes(routes!(v1::me::sessions, v1::me::end_sessions))
        .routes(routes!(v1::me::end_session))
        .routes(routes!(v1::tokens::list, v1::tokens::add))
        .routes(routes!(v1::tokens::revoke))
        .routes(routes!(v1::keys::list, v1::keys::add))
        .routes(routes!(v1::keys::delete))
        .routes(routes!(v1::keys::revoke))
        .routes(routes!(v1::users::list, v1::users::create))
        .routes(routes!(v1::users::look_up, v1::users::patch, v1::users::delete))
        .routes(routes!(v1::users::link))
        .routes(routes!(v1::tenants::list, v1::tenants::create))
        .routes(routes!(v1::tenants::look_up, v1::tenants::patch, v1::tenants::delete))
        .routes(routes!(v1::tenants::accept))
        .routes(routes!(v1::invitations::list, v1::invitations::create))
        .routes(routes!(v1::invitations::delete))
        .routes(routes!(v1::quotas::look_up, v1::quotas::put))
        .routes(routes!(v1::tenants::members))
        .routes(routes!(v1::tenants::put_member, v1::tenants::drop_member))
        .routes(routes!(v1::events::listen))
        .routes(routes!(v1::grants::list))
        .routes(routes!(v1::grants::put, v1::grants::delete))
        .routes(routes!(v1::suffixes::list))
        .routes(routes!(v1::suffixes::look_up, v1::suffixes::put, v1::suffixes::delete))
        .routes(routes!(v1::claims::list, v1::claims::create))
        .routes(routes!(v1::claims::look_up, v1::claims::delete))
        .routes(routes!(v1::claims::check))
        .routes(routes!(v1::webhooks::list, v1::webhooks::create))
        .routes(routes!(v1::webhooks::look_up, v1::webhooks::patch, v1::webhooks::delete))
        .routes(routes!(v1::webhooks::test))
        .routes(routes!(v1::webhooks::deliveries))
        .with_state(app)
}

/// What takes a scope: all described routes but those of people.
pub(super) fn routes(app: Arc<App>) -> OpenApiRouter {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(v1::records::list, v1::records::create))
        .routes(routes!(v1::records::look_up, v1::records::replace, v1::records::delete))
        .routes(routes!(v1::domains::list, v1::domains::create))
        .routes(routes!(v1::domains::look_up, v1::domains::replace, v1::domains::patch, v1::domains::delete))
        .routes(routes!(v1::import::import))
        .routes(routes!(v1::export::export))
        .routes(routes!(v1::versions::list))
        .routes(routes!(v1::rollback::zone))
        .routes(routes!(v1::rollback::all))
        .routes(routes!(v1::changes::list, v1::changes::create))
        .routes(routes!(v1::changes::look_up))
        .routes(routes!(v1::nodes::list, v1::nodes::create))
        .routes(routes!(v1::nodes::delete))
        .routes(routes!(v1::jobs::list))
        .routes(routes!(v1::jobs::look_up))
        .routes(routes!(v1::jobs::cancel))
        .routes(routes!(v1::jobs::retry))
        .routes(routes!(v1::jobs::mail_test))
        .routes(routes!(v1::audit::list))
        .routes(routes!(v1::audit::export))
        .routes(routes!(v1::reload::reload))
        .routes(routes!(v1::data_keys::list))
        .routes(routes!(v1::data_keys::rotate))
        .routes(routes!(v1::data_keys::rewrap))
        .routes(routes!(v1::data_keys::finish))
        .with_state(app)
}

/// The description, and pages to browse it. Nothing of them comes from elsewhere, and the description is sent nowhere: the
/// pages would have a service of others judge it.
pub(super) fn pages(description: utoipa::openapi::OpenApi) -> SwaggerUi {
    SwaggerUi::new("/docs")
        .url("/api/v1/openapi.json", description)
        .config(Config::default().validator_url("none"))
}
