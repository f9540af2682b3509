//! Backups: everything that a database of ours holds as one stream that does not depend on the kind of database.
//!
//! ```text
//! {"godwit_backup":1,"made_at_us":N}            first line
//! {"table":"zones","columns":["created_at_us",…]}   then each table, in the order of TABLES
//! [N,"text",true,null,"base64",…]               a row
//! {"rows":N,"sha256":"hex"}                     last line: rows of all tables, hash of all octets before this line
//! ```
//!
//! One JSON value a line; octets are in base64.

mod check;
mod create;
mod restore;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use check::verify;
pub use create::{create, write};
pub use restore::restore;

const VERSION: u64 = 1;

/// A table and its primary key, which orders its rows. Who is referred to comes first; `relay` is first of all: it has the
/// key of the digests.
const TABLES: &[(&str, &[&str])] = &[
    ("relay", &["id"]),
    ("zones", &["id"]),
    ("departed_zones", &["name_key"]),
    ("rrsets", &["zone_id", "owner_key", "rtype"]),
    ("changes", &["id"]),
    ("outbox", &["commit_number"]),
    ("history", &["zone_key", "version"]),
    ("tenant_changes", &["day", "tenant", "slot"]),
    ("undo_parts", &["zone_key", "version", "part"]),
    ("audit", &["id"]),
    ("audit_chain", &["number"]),
    ("audit_head", &["id"]),
    ("idempotency", &["caller", "key"]),
    ("batches", &["last_sequence"]),
    ("secrets", &["name"]),
    ("data_keys", &["id"]),
    ("wrapped_keys", &["data_key_id", "master_id"]),
    ("key_holders", &["id"]),
    ("nodes", &["id"]),
    ("buffered_changes", &["change_id"]),
    ("withheld_zones", &["zone_key"]),
    ("jobs", &["id"]),
    ("accounts", &["id"]),
    ("tenants", &["number"]),
    ("memberships", &["tenant", "account_id"]),
    ("invitations", &["id"]),
    ("grants", &["zone_id", "tenant"]),
    ("suffixes", &["name_key"]),
    ("taken_names", &["name_key"]),
    ("quarantined_names", &["name_key"]),
    ("claims", &["id"]),
    ("webhooks", &["id"]),
    ("deliveries", &["id"]),
    ("webhook_position", &["id"]),
    ("tokens", &["id"]),
    ("recovery_codes", &["account_id", "hash"]),
    ("registrations", &["id"]),
    ("links", &["hash"]),
    ("sessions", &["id"]),
    ("keys", &["id"]),
    ("revocations", &["id"]),
    ("spent_tokens", &["key_id", "jti"]),
];

/// What a backup holds.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Summary {
    /// When it was made, microseconds since the epoch.
    pub made_at_us: i64,
    /// Zones.
    pub zones: u64,
    /// RRsets of all zones.
    pub rrsets: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// The feed's generation.
    pub generation: i64,
    /// The feed's last sequence.
    pub sequence: i64,
    /// SHA-256 of all but the last line, in hexadecimal.
    pub sha256: String,
}

fn names() -> Vec<&'static str> {
    TABLES.iter().map(|(name, _)| *name).collect()
}
