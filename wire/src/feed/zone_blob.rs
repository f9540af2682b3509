//! One whole zone, for a node that cannot get there by change sets, and for files. Written and read RRset by RRset, so
//! that neither side needs the zone twice in memory.

use super::codec::{Cursor, DecodeError, Kind, Reason, SIGNATURE_OCTETS, is_signed, put_header};
use super::digest::Digest;
use super::rrset::{MAX_RRSETS, OwnedRrset, put_owned_rrset, read_owned_rrset};
use super::signature::{self, SignatureError, SigningKey, VerifyingKey};
use crate::name::{Name, NameRef};
use crate::rr::{Rrset, Rtype};

/// Octets of the checksum.
const CHECKSUM_OCTETS: usize = 32;

/// One whole zone as a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZoneBlob {
    /// The apex.
    pub zone: Name,
    /// The owner number.
    pub owner: u32,
    /// The version of the zone that this is.
    pub version: u64,
    /// The zone's digest at that version, as its writer computed it.
    pub digest: Digest,
    /// All RRsets in canonical order of owner, then by type.
    pub rrsets: Vec<OwnedRrset>,
}

impl ZoneBlob {
    /// Appends the encoding without a signature.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.put(out, None);
    }

    /// Appends the encoding with a signature.
    pub fn encode_signed(&self, key: &SigningKey, out: &mut Vec<u8>) {
        self.put(out, Some(key));
    }

    fn put(&self, out: &mut Vec<u8>, key: Option<&SigningKey>) {
        let mut order: Vec<&OwnedRrset> = self.rrsets.iter().collect();
        order.sort_by(|a, b| (&a.owner, a.rrset.rtype).cmp(&(&b.owner, b.rrset.rtype)));
        let mut writer = ZoneBlobWriter::new(out, self.zone.as_ref(), self.owner, self.version, key);
        for owned in order {
            writer.push(owned.owner.as_ref(), &owned.rrset);
        }
        writer.finish(self.digest);
    }

    /// Reads one encoding that takes all of `bytes`. A signature is stepped over: see [`ZoneBlob::verify`].
    ///
    /// # Errors
    /// [`DecodeError`] when they are anything else.
    pub fn decode(bytes: &[u8]) -> Result<ZoneBlob, DecodeError> {
        let mut reader = ZoneBlobReader::new(bytes)?;
        let mut rrsets = Vec::new();
        while let Some((owner, rrset)) = reader.next_rrset()? {
            rrsets.push(OwnedRrset { owner: owner.to_owned(), rrset });
        }
        Ok(ZoneBlob {
            zone: reader.zone.to_owned(),
            owner: reader.owner,
            version: reader.version,
            digest: reader.digest,
            rrsets,
        })
    }

    /// Checks the signature of an encoding against any of `keys`; its checksum is checked on the way.
    ///
    /// # Errors
    /// [`SignatureError`] when there is none or none of the keys made it.
    pub fn verify(bytes: &[u8], keys: &[VerifyingKey]) -> Result<(), SignatureError> {
        let (_, checksum, signature) = split(bytes)?;
        let signature = signature.ok_or(SignatureError::Missing)?;
        signature::verify_hash(Kind::ZoneBlob, &checksum, signature, keys)
    }
}

/// Writes a zone RRset by RRset.
///
/// Owners must come in canonical order, each once; the types of one owner may come in any order. Whoever does not keep
/// to that writes octets that every reader refuses.
#[derive(Debug)]
pub struct ZoneBlobWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    key: Option<&'a SigningKey>,
    count: u64,
    /// The RRsets of the owner at hand, to be written by type once they are all there.
    pending: Vec<(Rtype, Vec<u8>)>,
    owner: Option<Name>,
}

impl<'a> ZoneBlobWriter<'a> {
    /// Starts a zone at the end of `out`; with a key it will be signed.
    pub fn new(
        out: &'a mut Vec<u8>,
        zone: NameRef<'_>,
        owner: u32,
        version: u64,
        key: Option<&'a SigningKey>,
    ) -> Self {
        let start = out.len();
        put_header(out, Kind::ZoneBlob, key.is_some());
        out.extend_from_slice(zone.as_wire());
        out.extend_from_slice(&owner.to_be_bytes());
        out.extend_from_slice(&version.to_be_bytes());
        ZoneBlobWriter { out, start, key, count: 0, pending: Vec::new(), owner: None }
    }

    /// Writes the next RRset.
    pub fn push(&mut self, owner: NameRef<'_>, rrset: &Rrset) {
        if self.owner.as_ref().map(Name::as_ref) != Some(owner) {
            self.flush();
            self.owner = Some(owner.to_owned());
        }
        let mut octets = vec![1];
        put_owned_rrset(&mut octets, owner, rrset);
        self.pending.push((rrset.rtype, octets));
    }

    /// Ends the zone with its digest.
    pub fn finish(mut self, digest: Digest) {
        self.flush();
        self.out.push(0);
        self.out.extend_from_slice(&self.count.to_be_bytes());
        self.out.extend_from_slice(&digest.as_bytes());
        let checksum = *blake3::hash(self.out.get(self.start..).unwrap_or_default()).as_bytes();
        self.out.extend_from_slice(&checksum);
        if let Some(key) = self.key {
            self.out.extend_from_slice(&key.sign(Kind::ZoneBlob, &checksum));
        }
    }

    fn flush(&mut self) {
        self.pending.sort_by_key(|(rtype, _)| *rtype);
        for (_, octets) in self.pending.drain(..) {
            self.out.extend_from_slice(&octets);
            self.count = self.count.saturating_add(1);
        }
    }
}

/// Reads a zone RRset by RRset.
#[derive(Clone, Debug)]
pub struct ZoneBlobReader<'a> {
    cursor: Cursor<'a>,
    zone: NameRef<'a>,
    owner: u32,
    version: u64,
    digest: Digest,
    /// What the trailer counts.
    count: u64,
    read: u64,
    previous: Option<(NameRef<'a>, Rtype)>,
    ended: bool,
}

impl<'a> ZoneBlobReader<'a> {
    /// Starts to read one encoding that takes all of `bytes`: checks its checksum, reads all but the RRsets.
    ///
    /// # Errors
    /// [`DecodeError`] when any of this is wrong. A signature is stepped over: see [`ZoneBlob::verify`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (octets, _, _) = split(bytes)?;
        let short = DecodeError { offset: octets.len(), reason: Reason::Short };
        let (octets, digest) = octets.split_last_chunk::<32>().ok_or(short)?;
        let (octets, count) = octets.split_last_chunk::<8>().ok_or(short)?;
        let mut cursor = Cursor::new(octets);
        cursor.header(Kind::ZoneBlob)?;
        let zone = cursor.name()?;
        let owner = cursor.u32()?;
        let version = cursor.u64()?;
        let count = u64::from_be_bytes(*count);
        if count > MAX_RRSETS {
            let reason = Reason::TooMany { what: "RRsets", found: count, limit: MAX_RRSETS };
            return Err(DecodeError { offset: octets.len(), reason });
        }
        Ok(ZoneBlobReader {
            cursor,
            zone,
            owner,
            version,
            digest: Digest::from_bytes(*digest),
            count,
            read: 0,
            previous: None,
            ended: false,
        })
    }

    /// The apex.
    #[must_use]
    pub fn zone(&self) -> NameRef<'a> {
        self.zone
    }

    /// The owner number.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// The version of the zone that this is.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The zone's digest as its writer computed it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many RRsets the zone has, as the trailer says; at most what the octets can hold once all are read.
    #[must_use]
    pub fn rrset_count(&self) -> u64 {
        self.count
    }

    /// The next RRset; `None` after the last. After an error the rest means nothing.
    ///
    /// # Errors
    /// [`DecodeError`] when the octets here are not an RRset of this zone, or the zone does not end as it should.
    pub fn next_rrset(&mut self) -> Result<Option<(NameRef<'a>, Rrset)>, DecodeError> {
        if self.ended {
            return Ok(None);
        }
        let at = self.cursor.clone();
        match self.cursor.u8()? {
            0 => self.end().map(|()| None),
            1 => self.rrset().map(Some),
            found => Err(at.error(Reason::Tag { what: "part of a zone blob", found })),
        }
    }

    fn rrset(&mut self) -> Result<(NameRef<'a>, Rrset), DecodeError> {
        let at = self.cursor.clone();
        let (owner, rrset) = read_owned_rrset(&mut self.cursor, self.zone)?;
        let here = (owner, rrset.rtype);
        if self.previous.is_some_and(|previous| previous >= here) {
            return Err(at.error(Reason::Order("RRsets of a zone")));
        }
        self.previous = Some(here);
        self.read = self.read.saturating_add(1);
        Ok((owner, rrset))
    }

    fn end(&mut self) -> Result<(), DecodeError> {
        self.cursor.end()?;
        if self.count != self.read {
            return Err(self.cursor.error(Reason::Count { found: self.count, expected: self.read }));
        }
        self.ended = true;
        Ok(())
    }
}

type Parts<'a> = (&'a [u8], [u8; CHECKSUM_OCTETS], Option<&'a [u8; SIGNATURE_OCTETS]>);

/// The octets that the checksum covers, the checksum, which is checked, and the signature if there is one.
fn split(bytes: &[u8]) -> Result<Parts<'_>, DecodeError> {
    let short = DecodeError { offset: bytes.len(), reason: Reason::Short };
    let (rest, signature) = if is_signed(bytes, Kind::ZoneBlob)? {
        let (rest, signature) = bytes.split_last_chunk().ok_or(short)?;
        (rest, Some(signature))
    } else {
        (bytes, None)
    };
    let (octets, checksum) = rest.split_last_chunk::<CHECKSUM_OCTETS>().ok_or(short)?;
    if blake3::hash(octets) != blake3::Hash::from_bytes(*checksum) {
        return Err(DecodeError { offset: octets.len(), reason: Reason::Checksum });
    }
    Ok((octets, *checksum, signature))
}
