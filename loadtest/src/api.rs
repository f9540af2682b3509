//! What runs do with the API of `godwit run`: find the token of a first start, make zones, bring records in.

use anyhow::Result;
use serde_json::{Value, json};

use crate::data::record::{Data, Record, rtype};
use crate::http::Connection;

/// The token in the line that `godwit run` prints on its first start, once the line is there whole.
#[must_use]
pub fn token_in(output: &str) -> Option<&str> {
    let (line, _) = output[output.find("admin token: ")?..].split_once('\n')?;
    line.strip_prefix("admin token: ").map(str::trim).filter(|token| !token.is_empty())
}

/// Makes an empty zone with name servers elsewhere, and this SOA but for its serial, or that of the server's choice.
///
/// # Errors
/// It is refused, or the connection is gone.
pub fn make_zone(connection: &mut Connection, apex: &str, soa: Option<&Record>) -> Result<()> {
    let mut body = json!({ "name": apex, "ns": ["ns1.hosting.test.", "ns2.hosting.test."] });
    if let Some(Data::Soa(mname, rname, [_, refresh, retry, expire, minimum])) = soa.map(|soa| &soa.data) {
        body["soa"] = json!({
            "mname": mname, "rname": rname, "refresh": refresh, "retry": retry, "expire": expire, "minimum": minimum,
        });
    }
    connection.ask("POST", "/api/v1/domains", &body.to_string())?.ok("creating the zone").map(drop)
}

/// Puts these RRsets, as many at a time in one change.
///
/// # Errors
/// A change is refused, or the connection is gone.
pub fn fill(
    connection: &mut Connection,
    rrsets: impl Iterator<Item = Vec<Record>>,
    chunk: usize,
) -> Result<()> {
    let mut changes = Vec::with_capacity(chunk);
    for rrset in rrsets {
        changes.push(put(&rrset));
        if changes.len() >= chunk {
            send(connection, &mut changes)?;
        }
    }
    send(connection, &mut changes)
}

fn send(connection: &mut Connection, changes: &mut Vec<Value>) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let body = json!({ "changes": std::mem::take(changes) }).to_string();
    connection.ask("POST", "/api/v1/changes", &body)?.ok("filling the zone").map(drop)
}

/// The records of one name as RRsets.
#[must_use]
pub fn rrsets(records: Vec<Record>) -> Vec<Vec<Record>> {
    let mut sets: Vec<Vec<Record>> = Vec::new();
    for record in records {
        match sets.iter_mut().find(|set| set[0].data.rtype() == record.data.rtype()) {
            Some(set) => set.push(record),
            None => sets.push(vec![record]),
        }
    }
    sets
}

/// One RRset, at least one record, as a step of a change.
#[must_use]
pub fn put(rrset: &[Record]) -> Value {
    let values: Vec<String> = rrset.iter().map(|record| record.data.to_string()).collect();
    let first = &rrset[0];
    json!({
        "op": "put",
        "name": first.owner,
        "type": rtype::mnemonic(first.data.rtype()),
        "ttl": first.ttl,
        "value": values,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_once_its_line_is_whole() {
        assert_eq!(token_in("godwit: DNS at …\nadmin token: gw_abc\nmore"), Some("gw_abc"));
        assert_eq!(token_in("admin token: gw_ab"), None);
        assert_eq!(token_in("nothing of the kind\n"), None);
    }
}
