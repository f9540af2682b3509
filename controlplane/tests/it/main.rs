//! The control plane as its callers and its data plane see it: real HTTP over loopback, a real database, and a replica
//! that checks every batch that it is sent. `tests/on_postgres` runs the same on a PostgreSQL server.

use godwit_controlplane::store::Kind;

/// What the servers of this program keep their records in.
const DATABASE: Kind = Kind::Sqlite;

mod access;
mod accounts;
mod applied;
mod audit;
mod backup;
mod cache;
mod changes;
mod claims;
mod concurrency;
mod confirmation;
mod delegated;
mod difference;
mod domains;
mod dry_run;
mod egress;
mod errors;
mod events;
mod examples;
mod exports;
mod faults;
mod feed;
mod frozen;
mod full_disk;
mod harness;
mod http2;
mod idempotency;
mod internal;
mod invitations;
mod isolation;
mod jobs;
mod keys;
mod ledger;
mod lifecycle;
mod limits;
mod listener;
mod names;
mod node;
mod office;
mod openapi;
mod overlap;
mod past;
mod product;
mod program;
mod quotas;
mod rates;
mod receiver;
mod records;
mod replica;
mod responder;
mod rollback;
mod secrets;
mod sessions;
mod sockets;
mod tenant_networks;
mod tenants;
mod tls;
mod tokens;
mod webhooks;
mod writes;
