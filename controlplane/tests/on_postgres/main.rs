//! The tests of `tests/it` with their records on a PostgreSQL server, and what only such a server can do to us.

use godwit_controlplane::store::Kind;

/// What the servers of this program keep their records in.
const DATABASE: Kind = Kind::Postgres;

#[path = "../it/access.rs"]
mod access;
#[path = "../it/accounts.rs"]
mod accounts;
#[path = "../it/applied.rs"]
mod applied;
#[path = "../it/audit.rs"]
mod audit;
#[path = "../it/backup.rs"]
mod backup;
mod buffer;
mod buffer_kills;
#[path = "../it/cache.rs"]
mod cache;
mod cache_writes;
#[path = "../it/changes.rs"]
mod changes;
#[path = "../it/claims.rs"]
mod claims;
#[path = "../it/concurrency.rs"]
mod concurrency;
#[path = "../it/confirmation.rs"]
mod confirmation;
#[path = "../it/delegated.rs"]
mod delegated;
#[path = "../it/difference.rs"]
mod difference;
#[path = "../it/domains.rs"]
mod domains;
#[path = "../it/dry_run.rs"]
mod dry_run;
#[path = "../it/egress.rs"]
mod egress;
#[path = "../it/errors.rs"]
mod errors;
#[path = "../it/events.rs"]
mod events;
#[path = "../it/examples.rs"]
mod examples;
#[path = "../it/exports.rs"]
mod exports;
#[path = "../it/faults.rs"]
mod faults;
#[path = "../it/feed.rs"]
mod feed;
#[path = "../it/frozen.rs"]
mod frozen;
#[path = "../it/harness.rs"]
mod harness;
#[path = "../it/http2.rs"]
mod http2;
#[path = "../it/idempotency.rs"]
mod idempotency;
#[path = "../it/internal.rs"]
mod internal;
#[path = "../it/invitations.rs"]
mod invitations;
#[path = "../it/isolation.rs"]
mod isolation;
#[path = "../it/jobs.rs"]
mod jobs;
#[path = "../it/keys.rs"]
mod keys;
#[path = "../it/ledger.rs"]
mod ledger;
#[path = "../it/lifecycle.rs"]
mod lifecycle;
#[path = "../it/limits.rs"]
mod limits;
#[path = "../it/names.rs"]
mod names;
#[path = "../it/node.rs"]
mod node;
#[path = "../it/office.rs"]
mod office;
#[path = "../it/overlap.rs"]
mod overlap;
#[path = "../it/past.rs"]
mod past;
#[path = "../it/product.rs"]
mod product;
#[path = "../it/program.rs"]
mod program;
#[path = "../it/quotas.rs"]
mod quotas;
#[path = "../it/rates.rs"]
mod rates;
#[path = "../it/receiver.rs"]
mod receiver;
#[path = "../it/records.rs"]
mod records;
#[path = "../it/replica.rs"]
mod replica;
mod replicas;
#[path = "../it/responder.rs"]
mod responder;
#[path = "../it/rollback.rs"]
mod rollback;
#[path = "../it/secrets.rs"]
mod secrets;
mod server_faults;
#[path = "../it/sessions.rs"]
mod sessions;
mod shadow;
mod shared;
mod shared_rates;
#[path = "../it/sockets.rs"]
mod sockets;
#[path = "../it/tenant_networks.rs"]
mod tenant_networks;
#[path = "../it/tenants.rs"]
mod tenants;
#[path = "../it/tls.rs"]
mod tls;
#[path = "../it/tokens.rs"]
mod tokens;
#[path = "../it/webhooks.rs"]
mod webhooks;
#[path = "../it/writes.rs"]
mod writes;
