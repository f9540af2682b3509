//! Records as JSON, one object per line, always with the same keys in the same order (`docs/query-log.md`).
//!
//! Nothing that a client sent is written but numbers and the QNAME, and that in presentation format with everything
//! escaped that is not printable ASCII.

use std::io::Write;

use godwit_wire::message::{Header, flag, opcode};
use godwit_wire::name::wire_len;
use godwit_wire::presentation::write_name;
use godwit_wire::query::{QNAME_AT, Query};
use godwit_wire::rr::Rtype;

use super::record::Record;
use crate::observe::counter::{DROPPED, RCODES};

/// Writes records as JSON.
pub(super) struct Json {
    /// As JSON text.
    node: String,
    workers: Vec<String>,
    time: Clock,
    /// The QNAME being written.
    name: String,
}

/// The second last written, and its text.
#[derive(Default)]
struct Clock {
    second: i64,
    text: String,
}

/// What a query says of itself, as far as it can be read.
#[derive(Default)]
struct Asked {
    qtype: Option<Rtype>,
    qclass: Option<u16>,
    edns_octets: Option<u16>,
    dnssec_ok: Option<bool>,
}

impl Json {
    pub(super) fn new(node: &str, workers: &[String]) -> Self {
        let text = |value: &str| serde_json::Value::from(value).to_string();
        Json {
            node: text(node),
            workers: workers.iter().map(|worker| text(worker)).collect(),
            time: Clock::default(),
            name: String::new(),
        }
    }

    /// Appends the line of a record of worker number `worker`.
    pub(super) fn append(&mut self, worker: usize, record: &Record<'_>, out: &mut Vec<u8>) {
        // Writing to a vector does not fail.
        let _ = self.write(worker, record, out);
    }

    fn write(&mut self, worker: usize, record: &Record<'_>, out: &mut Vec<u8>) -> std::io::Result<()> {
        let head = &record.head;
        out.extend_from_slice(b"{\"time\":\"");
        self.time.write(head.times.received_us, out)?;
        let transport = if head.tcp { "tcp" } else { "udp" };
        let worker = self.workers.get(worker).map_or("null", String::as_str);
        let (node, client) = (&self.node, head.client);
        write!(out, "\",\"node\":{node},\"worker\":{worker},\"client\":\"{}\",", client.ip().to_canonical())?;
        write!(out, "\"port\":{},\"transport\":\"{transport}\",", client.port())?;

        let query = Header::read(record.query);
        number(out, "id", query.map(|header| header.id))?;
        out.extend_from_slice(b"\"opcode\":");
        match query.map(|header| (header.flags & flag::OPCODE) >> 11) {
            None => out.extend_from_slice(b"null"),
            Some(code) if code == u16::from(opcode::QUERY) => out.extend_from_slice(b"\"QUERY\""),
            Some(code) if code == u16::from(opcode::NOTIFY) => out.extend_from_slice(b"\"NOTIFY\""),
            Some(code) if code == u16::from(opcode::UPDATE) => out.extend_from_slice(b"\"UPDATE\""),
            Some(code) => write!(out, "\"OPCODE{code}\"")?,
        }
        let asked = self.read_question(record, query, out);
        out.extend_from_slice(b",\"qtype\":");
        match asked.qtype {
            Some(qtype) => write!(out, "\"{qtype}\"")?,
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"qclass\":");
        write_class(asked.qclass, out)?;
        boolean(out, "rd", query.map(|header| header.flags & flag::RD != 0));
        boolean(out, "do", asked.dnssec_ok);
        out.push(b',');
        number(out, "edns_octets", asked.edns_octets)?;
        number(out, "query_octets", Some(head.query_octets))?;

        let response = if head.dropped.is_none() { Header::read(record.response) } else { None };
        out.extend_from_slice(b"\"rcode\":");
        match (response, RCODES.get(usize::from(head.rcode))) {
            (None, _) => out.extend_from_slice(b"null"),
            (Some(_), Some(rcode)) => write!(out, "\"{rcode}\"")?,
            (Some(_), None) => write!(out, "\"RCODE{}\"", head.rcode)?,
        }
        boolean(out, "aa", response.map(|header| header.flags & flag::AA != 0));
        boolean(out, "tc", response.map(|header| header.flags & flag::TC != 0));
        out.push(b',');
        number(out, "answer_octets", response.map(|_| head.response_octets))?;
        match head.dropped.and_then(|reason| DROPPED.get(reason)) {
            Some(reason) => writeln!(out, "\"dropped\":\"{reason}\"}}"),
            None => {
                out.extend_from_slice(b"\"dropped\":null}\n");
                Ok(())
            }
        }
    }

    /// Appends `,"qname":` with its value, and gives what else the query says. What FORMERR was answered to is shown
    /// as far as it goes.
    fn read_question(&mut self, record: &Record<'_>, header: Option<Header>, out: &mut Vec<u8>) -> Asked {
        let mut asked = Asked::default();
        self.name.clear();
        if header.is_some_and(|header| header.qdcount > 0)
            && let Some(rest) = record.query.get(QNAME_AT..)
            && let Ok(len) = wire_len(rest)
            && let Some((qname, rest)) = rest.split_at_checked(len)
            && write_name(qname, &mut self.name).is_some()
        {
            let short = |octets: Option<&[u8; 2]>| octets.map(|octets| u16::from_be_bytes(*octets));
            asked.qtype = short(rest.first_chunk()).map(Rtype);
            asked.qclass = short(rest.get(2..).and_then(<[u8]>::first_chunk));
        }
        if let Some(header) = header
            && record.has_whole_query()
            && let Ok(query) = Query::parse(record.query, header)
            && let Some(edns) = query.edns
        {
            asked.edns_octets = Some(edns.udp_payload_octets);
            asked.dnssec_ok = Some(edns.dnssec_ok);
        }
        out.extend_from_slice(b",\"qname\":");
        if self.name.is_empty() {
            out.extend_from_slice(b"null");
            return asked;
        }
        out.push(b'"');
        for octet in self.name.bytes() {
            // All of it is printable ASCII, of which JSON escapes these two (RFC 8259 §7).
            if matches!(octet, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(octet);
        }
        out.push(b'"');
        asked
    }
}

impl Clock {
    /// Appends the time in UTC (RFC 3339), microseconds since the epoch given.
    fn write(&mut self, at_us: i64, out: &mut Vec<u8>) -> std::io::Result<()> {
        let second = at_us.div_euclid(1_000_000);
        if second != self.second || self.text.is_empty() {
            // A clock that is set wrong beyond all years shows the epoch.
            let at =
                time::OffsetDateTime::from_unix_timestamp(second).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
            let (hour, minute, seconds) = at.to_hms();
            self.text = format!(
                "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{seconds:02}",
                at.year(),
                u8::from(at.month()),
                at.day()
            );
            self.second = second;
        }
        write!(out, "{}.{:06}Z", self.text, at_us.rem_euclid(1_000_000))
    }
}

/// Appends `"key":number,`.
fn number(out: &mut Vec<u8>, key: &str, value: Option<u16>) -> std::io::Result<()> {
    match value {
        Some(value) => write!(out, "\"{key}\":{value},"),
        None => write!(out, "\"{key}\":null,"),
    }
}

/// Appends `,"key":true`.
fn boolean(out: &mut Vec<u8>, key: &str, value: Option<bool>) {
    let value = match value {
        Some(true) => "true",
        Some(false) => "false",
        None => "null",
    };
    for part in [",\"", key, "\":", value] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The mnemonic, or `CLASS65534` (RFC 3597 §5).
fn write_class(class: Option<u16>, out: &mut Vec<u8>) -> std::io::Result<()> {
    match class {
        None => out.extend_from_slice(b"null"),
        Some(1) => out.extend_from_slice(b"\"IN\""),
        Some(3) => out.extend_from_slice(b"\"CH\""),
        Some(4) => out.extend_from_slice(b"\"HS\""),
        Some(254) => out.extend_from_slice(b"\"NONE\""),
        Some(255) => out.extend_from_slice(b"\"ANY\""),
        Some(class) => return write!(out, "\"CLASS{class}\""),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::record::{Exchange, Fate, Head, Keep, Times};
    use super::*;
    use crate::observe::counter::Dropped;
    use crate::serve::respond::Transport;

    /// The line of an exchange of a client at 192.0.2.1, with the newline taken off.
    fn line(query: &[u8], fate: Fate<'_>) -> String {
        let exchange = Exchange {
            client: "192.0.2.1:4711".parse().unwrap(),
            server: "192.0.2.2:53".parse().unwrap(),
            transport: Transport::Udp,
            query,
            fate,
        };
        let times = Times { received_us: 1_764_328_333_000_042, answered_us: 0 };
        let (head, query, response) = Head::of(&exchange, times, Keep::Heads);
        let octets = [&head.to_octets()[..], query, response].concat();
        let mut out = Vec::new();
        let mut json = Json::new("n\"1", &["udp-0".to_owned()]);
        json.append(0, &Record::read(&octets).unwrap(), &mut out);
        let text = String::from_utf8(out).unwrap();
        text.strip_suffix('\n').unwrap().to_owned()
    }

    fn query(qname: &[u8]) -> Vec<u8> {
        let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        let opt = [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0];
        [&head[..], qname, &[0, 28, 0, 1], &opt].concat()
    }

    #[test]
    fn an_answer_is_a_line_with_all_its_fields() {
        let response = [0x12, 0x34, 0x85, 3, 0, 1, 0, 0, 0, 0, 0, 0, 9, 9];
        let line = line(&query(b"\x03wWw\x02a\"\x00"), Fate::Answered { rcode: 3, response: &response });
        assert_eq!(
            line,
            "{\"time\":\"2025-11-28T11:12:13.000042Z\",\"node\":\"n\\\"1\",\"worker\":\"udp-0\",\"client\":\"192.0.2.1\",\
             \"port\":4711,\"transport\":\"udp\",\"id\":4660,\"opcode\":\"QUERY\",\"qname\":\"wWw.a\\\\\\\".\",\"qtype\":\"AAAA\",\
             \"qclass\":\"IN\",\"rd\":true,\"do\":true,\"edns_octets\":1232,\"query_octets\":35,\"rcode\":\"NXDOMAIN\",\
             \"aa\":true,\"tc\":false,\"answer_octets\":14,\"dropped\":null}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_null_and_keys_stay() {
        let keys = |line: &str| -> Vec<String> {
            serde_json::from_str::<serde_json::Map<_, _>>(line).unwrap().keys().cloned().collect()
        };
        let whole = query(b"\x01a\x00");
        let expected = keys(&line(&whole, Fate::Answered { rcode: 0, response: &[0; 12] }));
        for len in 0..whole.len() {
            let line = line(&whole[..len], Fate::Dropped(Dropped::Short));
            assert_eq!(keys(&line), expected, "{line}");
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["dropped"], "short");
            assert_eq!(value["rcode"], serde_json::Value::Null);
            assert_eq!(value["qname"] == "a.", len >= 15, "{len}: {line}");
            assert_eq!(value["qtype"] == "AAAA", len >= 17, "{len}: {line}");
            assert_eq!(value["edns_octets"], serde_json::Value::Null);
        }
    }
}
