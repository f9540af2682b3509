//! What is hashed of a row, and with what.
//!
//! A hash is HMAC-SHA-256 (RFC 2104), with a key that is in the database only sealed: whoever can write to the database alone cannot
//! work out what a row that they made up would need. It is no signature: who may check the log is who runs the control plane, and
//! has the key file; a signature would be for somebody who checks and must not be able to write, and would cost fifty times as much.
//!
//! ```text
//! "godwit audit 1" ┆ hash of the row before, 32 octets ┆ number u64 ┆ each column that is not NULL, in this order:
//!                  ┆ length of its name u8 ┆ name ┆ length of its value u32 ┆ value
//! ```
//!
//! Numbers are big endian. Columns that come to be later are NULL in older rows, which keep their hashes.

use ring::hmac::{Context, HMAC_SHA256, Key};
use subtle::ConstantTimeEq as _;

use crate::store::audit::Audited;
use crate::store::audit_chain::Hash;

const ROW: &[u8] = b"godwit audit 1";
const START: &[u8] = b"godwit audit start 1";

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct ChainKey(Key);

impl ChainKey {
    pub(crate) fn of(secret: &[u8]) -> ChainKey {
        ChainKey(Key::new(HMAC_SHA256, secret))
    }

    /// The hash of a row in its place of the chain.
    pub(crate) fn row(&self, before: &Hash, number: i64, row: &Audited) -> Hash {
        let mut context = Context::with_key(&self.0);
        context.update(ROW);
        context.update(before);
        context.update(&number.to_be_bytes());
        let mut column = |name: &str, value: &[u8]| {
            context.update(&[u8::try_from(name.len()).unwrap_or(u8::MAX)]);
            context.update(name.as_bytes());
            context.update(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            context.update(value);
        };
        column("id", &row.id.to_be_bytes());
        column("at_us", &row.at_us.to_be_bytes());
        column("actor", row.actor.as_bytes());
        column("action", row.action.as_bytes());
        column("object", row.object.as_bytes());
        column("request_id", row.request_id.as_bytes());
        if let Some(change) = &row.change {
            column("change_id", change.as_bytes());
        }
        let texts = [("client", &row.client), ("came_with", &row.came_with)];
        for (name, value) in texts {
            if let Some(value) = value {
                column(name, value.as_bytes());
            }
        }
        column("outcome", row.outcome.as_bytes());
        for (name, value) in [("code", &row.code), ("before", &row.before), ("after", &row.after)] {
            if let Some(value) = value {
                column(name, value.as_bytes());
            }
        }
        if let Some(tenant) = row.tenant {
            column("tenant", &tenant.to_be_bytes());
        }
        taken(context)
    }

    /// What vouches for the place behind which the chain begins.
    pub(crate) fn start(&self, number: i64, hash: &Hash) -> Hash {
        let mut context = Context::with_key(&self.0);
        context.update(START);
        context.update(&number.to_be_bytes());
        context.update(hash);
        taken(context)
    }

    /// Whether that is what it is.
    pub(crate) fn is_start(&self, number: i64, hash: &Hash, proof: Option<&[u8]>) -> bool {
        match proof {
            None => number == 0 && *hash == Hash::default(),
            Some(proof) => number > 0 && bool::from(self.start(number, hash)[..].ct_eq(proof)),
        }
    }
}

fn taken(context: Context) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(context.sign().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn row() -> Audited {
        Audited {
            id: 7,
            at_us: 8,
            actor: "anna".to_owned(),
            action: "record.put".to_owned(),
            object: "example.com.".to_owned(),
            request_id: "r".to_owned(),
            change: Some(Uuid::from_u128(9)),
            client: Some("192.0.2.1".to_owned()),
            came_with: Some("key 1".to_owned()),
            outcome: "done".to_owned(),
            code: Some("X".to_owned()),
            before: Some("{}".to_owned()),
            after: Some("{\"a\":1}".to_owned()),
            tenant: Some(3),
        }
    }

    /// Any column, its absence, the place and the key.
    #[test]
    fn a_hash_is_of_all_of_a_row_its_place_and_the_key() {
        let key = ChainKey::of(b"secret");
        let (before, is) = (Hash::default(), key.row(&Hash::default(), 1, &row()));
        assert_eq!(is, key.row(&before, 1, &row()));
        let changes: [fn(&mut Audited); 25] = [
            |row| row.id = 8,
            |row| row.at_us = 9,
            |row| row.actor.push('x'),
            |row| row.actor = "local".to_owned(),
            |row| row.action.push('x'),
            |row| row.object.push('x'),
            |row| row.request_id.push('x'),
            |row| row.change = None,
            |row| row.change = Some(Uuid::from_u128(10)),
            |row| row.client = None,
            |row| row.client = Some(String::new()),
            |row| row.came_with = None,
            |row| row.came_with = Some("key 2".to_owned()),
            |row| row.outcome = "refused".to_owned(),
            |row| row.code = None,
            |row| row.code = Some("Y".to_owned()),
            |row| row.before = None,
            |row| row.before = row.after.clone(),
            |row| row.after = None,
            |row| row.after = row.before.clone(),
            |row| row.tenant = None,
            |row| row.tenant = Some(4),
            // What moves from one column to its neighbour.
            |row| (row.actor, row.action) = ("annar".to_owned(), "ecord.put".to_owned()),
            |row| (row.client, row.came_with) = (row.came_with.clone(), row.client.clone()),
            |row| (row.before, row.code) = (row.code.clone(), row.before.clone()),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut other = row();
            change(&mut other);
            assert_ne!(key.row(&before, 1, &other), is, "{at}");
        }
        assert_ne!(key.row(&[1; 32], 1, &row()), is);
        assert_ne!(key.row(&before, 2, &row()), is);
        assert_ne!(ChainKey::of(b"other").row(&before, 1, &row()), is);
    }

    #[test]
    fn a_start_is_vouched_for() {
        let key = ChainKey::of(b"secret");
        let proof = key.start(5, &[1; 32]);
        assert!(key.is_start(5, &[1; 32], Some(&proof)) && key.is_start(0, &[0; 32], None));
        assert!(!key.is_start(6, &[1; 32], Some(&proof)) && !key.is_start(5, &[2; 32], Some(&proof)));
        assert!(!key.is_start(5, &[1; 32], None) && !key.is_start(5, &[1; 32], Some(&proof[1..])));
        assert!(!key.is_start(0, &[1; 32], None));
    }
}
