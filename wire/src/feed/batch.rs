//! Change sets with consecutive sequences: one entry of the stream, one link of the hash chain, one signature.
//! What a node does at a gap, a fork or another generation is not decided here.

use std::ops::RangeInclusive;

use super::change_set::ChangeSet;
use super::codec::{
    Cursor, DecodeError, Kind, Reason, SIGNATURE_OCTETS, put_count, put_header, split_signature,
};
use super::signature::{self, SignatureError, SigningKey, VerifyingKey};

/// The most change sets in one batch.
pub const MAX_CHANGE_SETS: u64 = 1_000;

/// The fewest octets of a change set behind its length: header, id, time, count.
const LEAST_CHANGE_SET_OCTETS: usize = 34;
/// Keeps the chain's hashes apart from every other use of BLAKE3.
const CHAIN_CONTEXT: &str = "godwit feed 1 2026 chain of batches";

/// Change sets `first_sequence`, `first_sequence + 1`, …, chained to the batch before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Batch {
    /// Which unbroken history this belongs to.
    pub generation: u64,
    /// The term of the relay that made it.
    pub epoch: u64,
    /// The sequence of the first change set; from 1.
    pub first_sequence: u64,
    /// [`Batch::chain`] of the batch before; zeros before the first.
    pub previous_chain: [u8; 32],
    /// 1 to [`MAX_CHANGE_SETS`].
    pub change_sets: Vec<ChangeSet>,
}

/// Where a batch stands: all of it but its change sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchPlace {
    /// See [`Batch::generation`].
    pub generation: u64,
    /// See [`Batch::epoch`].
    pub epoch: u64,
    /// See [`Batch::first_sequence`].
    pub first_sequence: u64,
    /// See [`Batch::previous_chain`].
    pub previous_chain: [u8; 32],
}

impl BatchPlace {
    /// Appends the encoding of the batch with these change sets, which are encoded already, and with a signature where there
    /// is a key; gives its [`Batch::chain`].
    pub fn assemble<T: AsRef<[u8]>>(
        &self,
        change_sets: &[T],
        key: Option<&SigningKey>,
        out: &mut Vec<u8>,
    ) -> [u8; 32] {
        let start = out.len();
        put_header(out, Kind::Batch, key.is_some());
        let body = out.len();
        self.put(out);
        put_count(out, change_sets.len());
        for change_set in change_sets {
            super::codec::put_octets(out, change_set.as_ref());
        }
        let chain = chain_hash(out.get(body..).unwrap_or_default());
        if let Some(key) = key {
            signature::put_signature(out, start, Kind::Batch, key);
        }
        chain
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.first_sequence.to_be_bytes());
        out.extend_from_slice(&self.previous_chain);
    }
}

impl Batch {
    /// Appends the encoding without a signature.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.place().assemble(&self.encoded(), None, out);
    }

    /// Appends the encoding with a signature. Same value, same key: same octets.
    pub fn encode_signed(&self, key: &SigningKey, out: &mut Vec<u8>) {
        self.place().assemble(&self.encoded(), Some(key), out);
    }

    /// Reads one encoding that takes all of `bytes`. A signature is stepped over: see [`Batch::verify`].
    ///
    /// # Errors
    /// [`DecodeError`] when they are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Batch, DecodeError> {
        let (octets, _) = split_signature(bytes, Kind::Batch)?;
        let mut cursor = Cursor::new(octets);
        let (BatchPlace { generation, epoch, first_sequence, previous_chain }, count) = begin(&mut cursor)?;
        let mut change_sets = Vec::with_capacity(count);
        for _ in 0..count {
            change_sets.push(ChangeSet::read(cursor.nested()?)?);
        }
        cursor.end()?;
        Ok(Batch { generation, epoch, first_sequence, previous_chain, change_sets })
    }

    /// The sequences of the first and the last change set of an encoding. Cost: that of reading its first hundred octets; the
    /// change sets are not looked at.
    ///
    /// # Errors
    /// [`DecodeError`] when what stands before them is not that of a batch.
    pub fn sequences_of(bytes: &[u8]) -> Result<RangeInclusive<u64>, DecodeError> {
        let (octets, _) = split_signature(bytes, Kind::Batch)?;
        let (place, count) = begin(&mut Cursor::new(octets))?;
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        Ok(place.first_sequence..=place.first_sequence.saturating_add(count.saturating_sub(1)))
    }

    /// Checks the signature of an encoding against any of `keys`, without decoding it.
    ///
    /// # Errors
    /// [`SignatureError`] when there is none or none of the keys made it.
    pub fn verify(bytes: &[u8], keys: &[VerifyingKey]) -> Result<(), SignatureError> {
        signature::verify(bytes, Kind::Batch, keys)
    }

    /// The encoding with a signature of one that has none, or another: [`Batch::encode_signed`] without the value. Nothing
    /// behind the header is looked at.
    ///
    /// # Errors
    /// [`DecodeError`] when the header is not that of a batch.
    pub fn sign(bytes: &[u8], key: &SigningKey) -> Result<Vec<u8>, DecodeError> {
        let (octets, _) = split_signature(bytes, Kind::Batch)?;
        let mut cursor = Cursor::new(octets);
        cursor.header(Kind::Batch)?;
        let mut out = Vec::with_capacity(octets.len().saturating_add(SIGNATURE_OCTETS));
        put_header(&mut out, Kind::Batch, true);
        out.extend_from_slice(cursor.take(cursor.left())?);
        signature::put_signature(&mut out, 0, Kind::Batch, key);
        Ok(out)
    }

    /// The sequence of the last change set.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        let count = u64::try_from(self.change_sets.len()).unwrap_or(u64::MAX);
        self.first_sequence.saturating_add(count.saturating_sub(1))
    }

    /// The hash that the next batch names as its previous one: BLAKE3 over everything in this one, `previous_chain`
    /// included and the signature not. Cost: one encoding; [`Batch::chain_of`] has none.
    #[must_use]
    pub fn chain(&self) -> [u8; 32] {
        self.place().assemble(&self.encoded(), None, &mut Vec::new())
    }

    /// [`Batch::chain`] from an encoding, signed or not.
    ///
    /// # Errors
    /// [`DecodeError`] when the header is not that of a batch; the rest is not looked at.
    pub fn chain_of(bytes: &[u8]) -> Result<[u8; 32], DecodeError> {
        let (octets, _) = split_signature(bytes, Kind::Batch)?;
        let mut cursor = Cursor::new(octets);
        cursor.header(Kind::Batch)?;
        Ok(chain_hash(cursor.take(cursor.left())?))
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> BatchPlace {
        BatchPlace {
            generation: self.generation,
            epoch: self.epoch,
            first_sequence: self.first_sequence,
            previous_chain: self.previous_chain,
        }
    }

    fn encoded(&self) -> Vec<Vec<u8>> {
        let encode = |change_set: &ChangeSet| {
            let mut octets = Vec::new();
            change_set.encode(&mut octets);
            octets
        };
        self.change_sets.iter().map(encode).collect()
    }
}

/// Reads what stands before the change sets, and how many there are.
fn begin(cursor: &mut Cursor<'_>) -> Result<(BatchPlace, usize), DecodeError> {
    cursor.header(Kind::Batch)?;
    let generation = cursor.u64()?;
    let epoch = cursor.u64()?;
    let at_sequence = cursor.clone();
    let first_sequence = cursor.u64()?;
    let previous_chain = cursor.array()?;
    let at_count = cursor.clone();
    let count = cursor.count("change sets", MAX_CHANGE_SETS, LEAST_CHANGE_SET_OCTETS)?;
    if count == 0 {
        return Err(at_count.error(Reason::Empty("change set in a batch")));
    }
    let last = u64::try_from(count).unwrap_or(u64::MAX).saturating_sub(1);
    if first_sequence == 0 || first_sequence.checked_add(last).is_none() {
        return Err(at_sequence.error(Reason::Sequence));
    }
    Ok((BatchPlace { generation, epoch, first_sequence, previous_chain }, count))
}

fn chain_hash(body: &[u8]) -> [u8; 32] {
    blake3::derive_key(CHAIN_CONTEXT, body)
}
