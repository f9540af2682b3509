//! The border between the sockets and the engine: what a worker asks, and what it gets. Sockets know nothing of
//! records, the engine nothing of sockets; tests put their own responders here.

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use godwit_engine::answer::{Batch, Client, DropReason, Kind, Outcome, Slot, Transport};

/// Answers messages. One per worker; it may keep scratch space and must not allocate, lock or wait per message.
pub trait Respond: Send {
    /// Takes the newest snapshot. Called on every idle wake-up, so that no old one is kept.
    fn refresh(&mut self);

    /// Answers a batch from one snapshot, the newest, in stages where that helps. `now`: seconds since the epoch.
    fn respond_batch<B: Batch>(&mut self, now: u32, batch: &mut B);

    /// Answers one message from the newest snapshot.
    fn respond(&mut self, now: u32, client: &Client, packet: &[u8], out: &mut [u8]) -> Outcome;

    /// Composes what goes out in the place of an answer over a rate limit: without records, with TC or BADCOOKIE. Called for
    /// messages whose answer would have had records. Without a form of its own: nothing goes out.
    fn shorten(&mut self, _now: u32, _client: &Client, _packet: &[u8], _out: &mut [u8]) -> Outcome {
        NOTHING
    }

    /// Throws away scratch space that a panic may have left half-written.
    fn reset(&mut self);
}

/// The RCODE of an answer to a message that made us panic.
const SERVFAIL: u16 = 2;

/// Answers a batch; a message that makes the responder panic costs its own answer only. Returns how many did.
pub fn respond_batch_guarded<R: Respond, B: Batch>(responder: &mut R, now: u32, batch: &mut B) -> u64 {
    if guarded(responder, |responder| responder.respond_batch(now, batch)).is_some() {
        return 0;
    }
    // Some message of the batch did it, and it is not known which: once more, each by itself.
    let mut panics = 0;
    for i in 0..batch.len() {
        let Slot { client, packet, out } = batch.slot(i);
        let outcome = guarded(responder, |responder| responder.respond(now, &client, packet, &mut *out));
        panics += u64::from(outcome.is_none());
        let outcome = outcome.unwrap_or_else(|| servfail(packet, out));
        batch.done(i, outcome);
    }
    // The batch form alone may have a fault that no single message shows; it is counted all the same.
    panics.max(1)
}

/// Lets the responder do its work; `None` when it panics. It is ready for the next message then too.
pub(super) fn guarded<R: Respond, T>(responder: &mut R, work: impl FnOnce(&mut R) -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(|| work(responder))).ok();
    if done.is_none() {
        responder.reset();
    }
    done
}

/// No answer, and no reason that the engine gave.
pub(super) const NOTHING: Outcome = Outcome::NOTHING;

/// Composes SERVFAIL without looking at anything that could have caused the panic: header, and the question where it
/// is plain to see.
fn servfail(packet: &[u8], out: &mut [u8]) -> Outcome {
    let Some(header) = packet.first_chunk::<12>().filter(|header| header[2] & 0x80 == 0) else {
        return NOTHING;
    };
    let question_end = (header[4..6] == [0, 1])
        .then(|| godwit_wire::name::wire_len(&packet[12..]).ok())
        .flatten()
        .map(|name| 12 + name + 4)
        .filter(|&end| end <= packet.len());
    let len = question_end.unwrap_or(12);
    out[..len].copy_from_slice(&packet[..len]);
    // QR set; OPCODE and RD as asked (RFC 1035 §4.1.1).
    out[2] = header[2] & 0x79 | 0x80;
    out[3] = SERVFAIL.to_be_bytes()[1];
    out[4..12].copy_from_slice(&[0, u8::from(question_end.is_some()), 0, 0, 0, 0, 0, 0]);
    Outcome { len, rcode: SERVFAIL, ..NOTHING }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servfail_echoes_what_is_plain() {
        let mut query = vec![0xAB, 0xCD, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        query.extend_from_slice(&[1, b'a', 0, 0, 1, 0, 1, 9, 9]);
        let mut out = [0; 512];
        let outcome = servfail(&query, &mut out);
        assert_eq!((outcome.len, outcome.rcode), (19, 2));
        assert_eq!(out[..12], [0xAB, 0xCD, 0x81, 0x02, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out[12..19], query[12..19]);
        // A name that runs off the end, or two questions: the header alone.
        let outcome = servfail(&query[..15], &mut out);
        assert_eq!((outcome.len, out[5]), (12, 0));
        // A response, and less than a header: nothing.
        query[2] |= 0x80;
        assert_eq!(servfail(&query, &mut out).len, 0);
        assert_eq!(servfail(&[0; 11], &mut out).len, 0);
    }
}
