//! What goes out in the place of an answer that is over a rate limit: as short as a response can be, and a real client
//! knows from it how to come back. Whether it goes out is for whoever limits to say.

use godwit_wire::edns::Edns;
use godwit_wire::message::{Header, flag, opcode, rcode};
use godwit_wire::query::Query;

use super::admit::{Frame, Reply};
use super::cookie;
use super::settings::{Client, DropReason, Outcome, Settings};

/// Composes it from the query alone: the question, the OPT, no records.
///
/// - A client that sent a client cookie without a valid server cookie gets BADCOOKIE with a fresh one: it can ask again
///   over UDP, and has then proven its address (RFC 7873 §5.2.3).
/// - Everybody else gets TC, and comes back over TCP (RFC 2181 §9).
///
/// A packet whose answer would have no records anyway ([`super::Kind::Error`]) need not be given here: that answer is
/// just as short. One that does not parse gets nothing. `now`: seconds since the epoch.
pub fn shorten(settings: &Settings, client: &Client, now: u32, packet: &[u8], out: &mut [u8]) -> Outcome {
    let Some(header) = Header::read(packet) else { return Outcome::dropped(DropReason::Short) };
    if header.is_response() {
        return Outcome::dropped(DropReason::Response);
    }
    let query = match Query::parse(packet, header) {
        Ok(query) if header.opcode() == opcode::QUERY => query,
        _ => return Outcome::NOTHING,
    };
    let frame = Frame { settings, client: *client, now };
    // Options that would only make it longer are not answered.
    let edns = query.edns.map(|edns| Edns { nsid: false, keepalive: false, ..edns });
    let edns = edns.as_ref();
    let unproven = settings
        .cookies
        .as_ref()
        .zip(edns.and_then(|edns| edns.cookie.as_ref()))
        .is_some_and(|(secrets, theirs)| !cookie::is_valid(secrets, theirs, client.address, now));
    let reply = Reply { frame: &frame, packet, query: &query };
    if unproven {
        reply.send_with(0, rcode::BADCOOKIE, edns, None, out)
    } else {
        reply.send_with(flag::TC, rcode::NOERROR, edns, None, out)
    }
}
