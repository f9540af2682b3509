//! What a feed carries, one after the other: batches, and now and then a head that says what is to be held by now. Which of
//! the two some octets are stands in their header.

use super::batch::Batch;
use super::codec::{Cursor, DecodeError, Kind, Reason};
use super::head::Head;
use super::signature::{SignatureError, VerifyingKey};

/// One entry of a feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// Change sets.
    Batch(Batch),
    /// Where the feed stands: who is at its position with its root digest holds exactly what the sender holds.
    Head(Head),
}

impl Entry {
    /// Reads one encoding that takes all of `bytes`. A signature is stepped over: see [`Batch::verify`] and
    /// [`Head::verify`].
    ///
    /// # Errors
    /// [`DecodeError`] when they are anything else; other kinds are said not to be a batch.
    pub fn decode(bytes: &[u8]) -> Result<Entry, DecodeError> {
        match Cursor::new(bytes).header(Kind::Head) {
            Err(DecodeError { reason: Reason::Kind { .. }, .. }) => Batch::decode(bytes).map(Entry::Batch),
            _ => Head::decode(bytes).map(Entry::Head),
        }
    }

    /// Checks the signature of an encoding against any of `keys`, without decoding it.
    ///
    /// # Errors
    /// [`SignatureError`] when there is none or none of the keys made it.
    pub fn verify(bytes: &[u8], keys: &[VerifyingKey]) -> Result<(), SignatureError> {
        match Cursor::new(bytes).header(Kind::Head) {
            Err(DecodeError { reason: Reason::Kind { .. }, .. }) => Batch::verify(bytes, keys),
            _ => Head::verify(bytes, keys),
        }
    }
}
