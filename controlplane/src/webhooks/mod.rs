//! Webhooks: what happens to zones is told to servers of those who see them, signed, at least once, and in order.
//!
//! - `follow`: works out what has to be told, by the process that gives sequences, behind its place in the log: that place moves in
//!   the transaction that adds the deliveries;
//! - `told`: what is told of a change;
//! - `deliver`: sends what waits, by jobs: those of one webhook one behind the other, and of one tenant a few at once;
//! - `breaker`: what comes of an attempt: when it is tried again, and when a webhook is turned off;
//! - `sign`: by what a receiver knows that it is from us.
//!
//! Calls are made by `egress/`, which is told no secret.

mod breaker;
pub(crate) mod deliver;
pub(crate) mod follow;
mod sign;
mod told;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::accounts::mail::{self, Mail};
use crate::commit::Committer;
use crate::egress::Egress;
use crate::error::{Code, Problem};
use crate::events::told::Topic;
use crate::jobs;
use crate::model::role::Role;
use crate::observe::metrics::Limit;
use crate::relay::log::Log;
use crate::secrets::Vault;
use crate::store::batch::Batch;
use crate::store::data_keys::WEBHOOKS;
use crate::store::jobs::{hurry, next_of};
use crate::store::webhooks::{self, Delivery, New, Webhook};
use crate::store::{Connection, Views, audit, now_us, tenants};
use crate::tenants::Asker;

/// Webhooks of a tenant.
const MOST_WEBHOOKS: i64 = 20;
/// Deliveries that may wait for one: who is further behind is not told any more.
pub(crate) const MOST_WAITING: i64 = 5_000;
/// Days for which deliveries are kept at least: longer than one that fails is tried.
pub(crate) const KEPT_DAYS: u32 = 4;
/// Why one is off that somebody turned off.
const BY_HAND: &str = "it was turned off by hand";

/// Turns one off that nobody has turned off; it is written down once, and who owns its tenant is told by mail.
async fn turn_off(connection: &mut Connection, id: Uuid, now_us: i64, why: &str) -> sqlx::Result<()> {
    if !webhooks::disable(connection, id, now_us, why).await? {
        return Ok(());
    }
    audit::note(connection, &audit::Who::itself(), "webhook.disable", &id.to_string()).await?;
    let Some(Webhook { tenant, url, .. }) = webhooks::by_id(connection, id).await? else { return Ok(()) };
    // The rest of it may be a secret of its own.
    let host = url.split('/').nth(2).unwrap_or_default();
    mail::enqueue_to_owners(connection, tenant, |account| {
        let (host, why) = (host.to_owned(), why.to_owned());
        Mail::WebhookOff { tenant, account, webhook: id, host, why }
    })
    .await
}

/// See the module.
pub(crate) struct Webhooks {
    pub(crate) committer: Committer,
    pub(crate) views: Views,
    pub(crate) vault: Arc<Vault>,
    pub(crate) egress: Egress,
    pub(crate) log: Arc<Log>,
    pub(crate) jobs: jobs::Handle,
}

/// What is to be changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patch {
    pub(crate) url: Option<String>,
    pub(crate) topics: Option<Vec<String>>,
    pub(crate) enabled: Option<bool>,
}

impl Webhooks {
    /// Webhooks behind one, by id: of the tenants in which who asks is admin, or all of them to an operator; of one tenant, or of the
    /// operator (0), where that is named.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn list(
        &self,
        asker: &Asker,
        tenant: Option<u32>,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<Webhook>, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        if asker.operates().is_ok() {
            let listed = webhooks::list(&mut connection, tenant, after, limit).await?;
            return Ok(with_next(&mut connection, listed).await?);
        }
        let mut listed = Vec::new();
        for own in asker.access().tenants().filter(|own| tenant.is_none_or(|tenant| tenant == *own)) {
            match asker.need(&mut connection, own, Role::Admin).await {
                Ok(_) => listed.extend(webhooks::list(&mut connection, Some(own), after, limit).await?),
                Err(problem) if matches!(problem.code, Code::TenantNotFound | Code::Forbidden) => {}
                Err(problem) => return Err(problem),
            }
        }
        listed.sort_by_key(|webhook| webhook.id);
        listed.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(with_next(&mut connection, listed).await?)
    }

    /// One of them.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`, `FORBIDDEN`, or of the database.
    pub(crate) async fn look_up(&self, asker: &Asker, id: Uuid) -> Result<Webhook, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        let webhook = seen(&mut connection, asker, id).await?;
        with_next(&mut connection, vec![webhook]).await?.pop().ok_or_else(no_webhook)
    }

    /// Its latest deliveries, before one.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`, `FORBIDDEN`, or of the database.
    pub(crate) async fn deliveries(
        &self,
        asker: &Asker,
        id: Uuid,
        before: Uuid,
        limit: i64,
    ) -> Result<Vec<Delivery>, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        seen(&mut connection, asker, id).await?;
        Ok(webhooks::latest(&mut connection, id, before, limit).await?)
    }

    /// Makes one for a tenant: the one that is named, or the only one of who asks; for an operator theirs where none is named. Gives its
    /// secret, which nobody is shown again.
    ///
    /// # Errors
    /// `INVALID_VALUE`, `FORBIDDEN`, `INSUFFICIENT_SCOPE`, `TENANT_NOT_FOUND`, `CONFLICT` where there are too many, or of the database.
    pub(crate) async fn create(
        &self,
        asker: Asker,
        url: String,
        topics: &[String],
        tenant: Option<u32>,
    ) -> Result<(Webhook, String), Problem> {
        let topics = topics_of(topics)?;
        self.would_call(&url)?;
        let tenant = asker.access().owner_of_new(tenant)?;
        if tenant == 0 {
            asker.operates()?;
        }
        let mut octets = [0; 32];
        getrandom::fill(&mut octets).map_err(|error| {
            Problem::new(Code::Internal, format!("random octets from the system: {error}"))
        })?;
        let secret = format!("gwh_{}", URL_SAFE_NO_PAD.encode(octets));
        let new = Webhook {
            id: Uuid::now_v7(),
            tenant,
            url,
            topics,
            created_at_us: now_us(),
            since_sequence: self.log.end().sequence,
            disabled_at_us: None,
            disabled_why: None,
            failures: 0,
            failing_since_us: None,
            next_at_us: None,
        };
        let made = new.clone();
        let create = self.committer.write_for(asker.guard(), move |connection| {
            Box::pin(async move {
                if tenant > 0 {
                    asker.need(connection, tenant, Role::Admin).await?;
                    if tenants::by_number(connection, tenant).await?.is_none() {
                        return Err(Problem::new(
                            Code::TenantNotFound,
                            format!("there is no tenant {tenant}"),
                        ));
                    }
                }
                if webhooks::count_of(connection, tenant).await? >= MOST_WEBHOOKS {
                    let message = format!("a tenant has at most {MOST_WEBHOOKS} webhooks");
                    return Err(Problem::new(Code::Conflict, message));
                }
                webhooks::insert(connection, &new).await?;
                asker.note(connection, "webhook.create", &format!("{} {tenant}", new.id)).await?;
                Ok(())
            })
        });
        create.await?;
        // Tenants do not see what secrets are sealed with, so it gets its own behind that: until then it is none.
        let (vault, sealed, id) = (self.vault.clone(), secret.clone(), made.id);
        let give = self.committer.write(move |connection| {
            Box::pin(async move {
                let sealed =
                    vault.seal(connection, WEBHOOKS.name, &id.to_string(), sealed.as_bytes()).await?;
                if webhooks::set_secret(connection, id, &sealed).await? { Ok(()) } else { Err(no_webhook()) }
            })
        });
        give.await?;
        Ok((made, secret))
    }

    /// Changes one. To be turned on again, it is told first that it may have missed something.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`, `FORBIDDEN`, `INVALID_VALUE`, or of the database.
    pub(crate) async fn patch(&self, asker: Asker, id: Uuid, patch: Patch) -> Result<Webhook, Problem> {
        let topics = patch.topics.as_deref().map(topics_of).transpose()?;
        if let Some(url) = &patch.url {
            self.would_call(url)?;
        }
        let since = self.log.end().sequence;
        let change = self.committer.write_for(asker.guard(), move |connection| {
            Box::pin(async move {
                seen(connection, &asker, id).await?;
                // Behind whoever sends to it now.
                webhooks::hold(connection, id).await?;
                let before = seen(connection, &asker, id).await?;
                if patch.url.is_some() || topics.is_some() {
                    let url = patch.url.as_ref().unwrap_or(&before.url);
                    let topics = topics.as_ref().unwrap_or(&before.topics);
                    webhooks::change(connection, id, url, topics).await?;
                    asker.note(connection, "webhook.change", &format!("{id} {}", before.tenant)).await?;
                }
                let now = now_us();
                match patch.enabled {
                    Some(true) if before.disabled_at_us.is_some() => {
                        webhooks::enable(connection, id, since).await?;
                        let new = told::plain(id, "resync");
                        send_now(connection, before.tenant, &new, now).await?;
                        asker.note(connection, "webhook.enable", &format!("{id} {}", before.tenant)).await?;
                    }
                    Some(false) if before.disabled_at_us.is_none() => {
                        webhooks::disable(connection, id, now, BY_HAND).await?;
                        asker.note(connection, "webhook.disable", &format!("{id} {}", before.tenant)).await?;
                    }
                    _ => {}
                }
                let changed = webhooks::by_id(connection, id).await?.ok_or_else(no_webhook)?;
                with_next(connection, vec![changed]).await?.pop().ok_or_else(no_webhook)
            })
        });
        let changed = change.await?;
        self.jobs.wake();
        Ok(changed)
    }

    /// Deletes one; what waits is not sent any more.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`, `FORBIDDEN`, or of the database.
    pub(crate) async fn delete(&self, asker: Asker, id: Uuid) -> Result<(), Problem> {
        let delete = self.committer.write_for(asker.guard(), move |connection| {
            Box::pin(async move {
                let webhook = seen(connection, &asker, id).await?;
                webhooks::delete(connection, id).await?;
                asker.note(connection, "webhook.delete", &format!("{id} {}", webhook.tenant)).await?;
                Ok(())
            })
        });
        delete.await
    }

    /// Sends one a delivery that says nothing, behind what waits; gives its id.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`, `FORBIDDEN`, `CONFLICT` where it is off, or of the database.
    pub(crate) async fn test(&self, asker: Asker, id: Uuid) -> Result<Uuid, Problem> {
        let new = told::plain(id, "test");
        let delivery = new.id;
        let test = self.committer.write_for(asker.guard(), move |connection| {
            Box::pin(async move {
                seen(connection, &asker, id).await?;
                webhooks::hold(connection, id).await?;
                let webhook = seen(connection, &asker, id).await?;
                if webhook.disabled_at_us.is_some() {
                    return Err(Problem::new(Code::Conflict, "the webhook is off: turn it on first"));
                }
                if webhooks::count_waiting(connection, id, MOST_WAITING).await? >= MOST_WAITING {
                    return Err(Problem::new(Code::Conflict, "as much waits for the webhook as may"));
                }
                send_now(connection, webhook.tenant, &new, now_us()).await?;
                asker.note(connection, "webhook.test", &format!("{id} {}", webhook.tenant)).await?;
                Ok(())
            })
        });
        test.await?;
        self.jobs.wake();
        Ok(delivery)
    }

    fn would_call(&self, url: &str) -> Result<(), Problem> {
        let refused = |why: String| Problem::new(Code::InvalidValue, format!("\"url\": {why}"));
        self.egress.would_call(url).map_err(refused)
    }
}

/// Fills in when those are sent something for which something waits.
async fn with_next(connection: &mut Connection, mut listed: Vec<Webhook>) -> sqlx::Result<Vec<Webhook>> {
    let is_on = |webhook: &&mut Webhook| webhook.disabled_at_us.is_none();
    let jobs: Vec<String> =
        listed.iter_mut().filter(is_on).map(|webhook| deliver::once(webhook.id)).collect();
    if !jobs.is_empty() {
        let next = next_of(connection, deliver::KIND, &jobs).await?;
        for webhook in listed.iter_mut().filter(is_on) {
            webhook.next_at_us = next.get(&deliver::once(webhook.id)).copied();
        }
    }
    Ok(listed)
}

/// Adds something that is to be sent at once, to a webhook that is held: whatever rest what waits for it had.
async fn send_now(connection: &mut Connection, tenant: u32, new: &New, now_us: i64) -> sqlx::Result<()> {
    let mut batch = Batch::of(connection);
    deliver::enqueue(&mut batch, new.webhook, tenant);
    webhooks::add(&mut batch, new, now_us);
    batch.run(connection).await?;
    hurry(connection, &deliver::once(new.webhook)).await
}

fn no_webhook() -> Problem {
    Problem::new(Code::WebhookNotFound, "there is no such webhook")
}

/// One that who asks is to see.
async fn seen(connection: &mut Connection, asker: &Asker, id: Uuid) -> Result<Webhook, Problem> {
    let webhook = webhooks::by_id(connection, id).await?.ok_or_else(no_webhook)?;
    match asker.need(connection, webhook.tenant, Role::Admin).await {
        Ok(_) => Ok(webhook),
        Err(problem) if problem.limit == Some(Limit::TenantNetworks) => Err(problem),
        // Of who is less in the tenant than that the database hides it as well.
        Err(problem) if matches!(problem.code, Code::TenantNotFound | Code::Forbidden) => Err(no_webhook()),
        Err(problem) => Err(problem),
    }
}

/// Topics that may be told, as they are stored.
fn topics_of(words: &[String]) -> Result<String, Problem> {
    let wrong = || {
        let message = "\"topics\": expected some of zone, record, change, each once";
        Problem::new(Code::InvalidValue, message)
    };
    let mut topics: Vec<Topic> = Vec::new();
    for word in words {
        let topic = told::TOPICS.into_iter().find(|topic| topic.as_str() == word).ok_or_else(wrong)?;
        if topics.contains(&topic) {
            return Err(wrong());
        }
        topics.push(topic);
    }
    if topics.is_empty() {
        return Err(wrong());
    }
    Ok(topics.iter().map(|topic| topic.as_str()).collect::<Vec<_>>().join(","))
}
