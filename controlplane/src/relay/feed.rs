//! What data planes ask for, whatever way they ask: the log after a position, in `listing` the index of zones and what of it differs,
//! and in `zones` whole zones.

mod listing;
mod zones;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use godwit_wire::feed::{Absence, DigestKey, Head, SigningKey};
use godwit_wire::name::Name;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::batches::Made;
use super::log::{After, Log};
use super::signer::{Signer, Signing};
use crate::commit::Overtaken;
use crate::store::relay::FeedState;
use crate::store::{Pool, changes, relay};

pub(crate) use listing::Listing;
pub(super) use zones::{blob_of, held};

/// How long who has everything is kept waiting for more: then it is told where the feed stands.
const PATIENCE: Duration = Duration::from_secs(1);
/// Octets of batches that one answer has, but for a single batch that is larger.
const ANSWER_OCTETS: usize = 8 << 20;
/// How often it is looked whether what has no sequence got one, and how long that may take.
const SETTLE_AGAIN: Duration = Duration::from_millis(5);
const SETTLE: Duration = Duration::from_secs(20);

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// One unbroken history.
    pub generation: u64,
    /// The highest term that was heard of.
    pub epoch: u64,
    /// The last sequence.
    pub sequence: u64,
    /// Chain hash after it.
    pub chain: [u8; 32],
}

/// What a data plane of the same process asks.
#[derive(Debug)]
pub enum FeedRequest {
    /// What digests are keyed with.
    Join {
        /// Takes it.
        answer: oneshot::Sender<DigestKey>,
    },
    /// All zones with version and digest.
    Index {
        /// Takes `wire::feed::Index`, encoded.
        answer: oneshot::Sender<Bytes>,
    },
    /// One whole zone.
    Zone {
        /// Its apex.
        apex: Name,
        /// Takes it.
        answer: oneshot::Sender<ZoneState>,
    },
    /// What comes after a place in the log; answered once there is something, or after about a second.
    Entries {
        /// The place.
        after: Position,
        /// Takes it.
        answer: oneshot::Sender<Entries>,
    },
}

/// One zone as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ZoneState {
    /// `wire::feed::ZoneBlob`, encoded; `None` when there is no such zone.
    pub blob: Option<Bytes>,
    /// Its version; of one that is gone the version at which it went, 0 when there never was one.
    pub version: u64,
    /// Every change that is in it has a sequence up to here.
    pub settled: u64,
}

/// What comes after a place in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entries {
    /// `wire::feed::Entry`, encoded, in order.
    Next(Vec<Bytes>),
    /// There is no way on from that place: compare the index.
    Gone,
    /// The place is one that this database never knew (a restored copy): nothing here is newer (P8).
    Behind,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub(crate) log: Arc<Log>,
    pub(crate) readers: Pool,
    pub(crate) digest_key: DigestKey,
    /// Signs what is given; `None` where it stays in the process.
    pub(crate) signer: Option<Arc<Signer>>,
    /// Takes what a data plane is found to have that this database never knew. `None` where those who ask are not trusted so
    /// far: nothing would be published any more.
    pub(crate) overtaken: Option<Overtaken>,
    /// All zones, as they were listed last; `None` where they are read each time.
    pub(crate) listing: Option<Listing>,
}

impl Feed {
    /// Answers what comes, each on its own, until nobody can ask any more.
    pub(crate) async fn serve(self, mut requests: mpsc::Receiver<FeedRequest>) {
        while let Some(request) = requests.recv().await {
            let feed = self.clone();
            tokio::spawn(async move {
                if let Err(error) = feed.answer(request).await {
                    tracing::warn!(%error, "a data plane could not be answered; it asks again");
                }
            });
        }
    }

    /// Who asked may have gone: an answer that nobody takes is no error.
    async fn answer(&self, request: FeedRequest) -> sqlx::Result<()> {
        match request {
            FeedRequest::Join { answer } => drop(answer.send(self.digest_key.clone())),
            FeedRequest::Index { answer } => drop(answer.send(self.index().await?)),
            FeedRequest::Zone { apex, answer } => drop(answer.send(self.zone(&apex).await?)),
            FeedRequest::Entries { after, answer } => drop(answer.send(self.entries(after).await?)),
        }
        Ok(())
    }

    /// What comes after a place, waited for.
    pub(crate) async fn entries(&self, after: Position) -> sqlx::Result<Entries> {
        let deadline = Instant::now() + PATIENCE;
        let mut watched = self.log.watch();
        loop {
            let mut end = *watched.borrow_and_update();
            if is_ahead(&after, &end) {
                // Perhaps only of what this process has read.
                self.log.refresh(&mut self.readers.acquire().await?).await?;
                end = *watched.borrow_and_update();
            }
            if is_ahead(&after, &end) {
                return Ok(self.behind(&after, &end));
            }
            if after.generation != end.generation {
                return Ok(Entries::Gone);
            }
            let connection = async || self.readers.acquire().await;
            match self.log.after(connection, after.sequence, after.chain, ANSWER_OCTETS).await? {
                After::Gone => return Ok(Entries::Gone),
                After::Forked => return Ok(self.behind(&after, &end)),
                After::Batches(made) => {
                    let waited = made.is_empty()
                        && timeout_at(deadline, watched.changed()).await.is_ok_and(|changed| changed.is_ok());
                    if waited {
                        continue;
                    }
                    let last = made.last().map_or(after.sequence, |batch| batch.entry.last_sequence);
                    let signing = self.signing();
                    let signed = |made: &Made| {
                        signing.as_ref().map_or_else(|| made.octets.clone(), |signing| signing.batch(made))
                    };
                    let mut entries: Vec<Bytes> = made.iter().map(signed).collect();
                    // A head between batches is one of their end, or it would be of no use to who is not there.
                    let head = self.log.head();
                    if last == head.sequence {
                        entries.push(self.encoded(&head));
                    }
                    return Ok(Entries::Next(entries));
                }
            }
        }
    }

    /// Where the feed stands.
    pub(crate) fn head(&self) -> Bytes {
        self.encoded(&self.log.head())
    }

    fn encoded(&self, head: &Head) -> Bytes {
        self.written(head, Head::encode, Head::encode_signed)
    }

    fn signing(&self) -> Option<Arc<Signing>> {
        self.signer.as_ref().map(|signer| signer.now())
    }

    /// Nothing more is published in this generation, or a data plane that is as far as this one would be moved back.
    fn behind(&self, after: &Position, end: &FeedState) -> Entries {
        let Some(overtaken) = &self.overtaken else { return Entries::Behind };
        tracing::error!(
            generation = end.generation,
            applied = after.sequence,
            known = end.sequence,
            "a data plane has what this database does not know: it is an older copy. Nothing is published, and what is served \
             stays. To make this database the truth all the same, start a new generation"
        );
        if after.generation == end.generation {
            overtaken.found(after.sequence.max(end.sequence + 1));
        }
        Entries::Behind
    }

    /// What says that there is no such zone.
    pub(crate) fn absence(&self, apex: &Name, version: u64, settled: u64) -> Bytes {
        let absence = Absence { zone: apex.clone(), version, settled };
        self.written(&absence, Absence::encode, Absence::encode_signed)
    }

    /// Signed where there is a key.
    fn written<T>(
        &self,
        value: &T,
        encode: fn(&T, &mut Vec<u8>),
        encode_signed: fn(&T, &SigningKey, &mut Vec<u8>),
    ) -> Bytes {
        let mut octets = Vec::new();
        match self.signing() {
            Some(signing) => encode_signed(value, signing.key(), &mut octets),
            None => encode(value, &mut octets),
        }
        octets.into()
    }
}

/// A sequence up to which all is sequenced that had none when it was read, up to a commit number.
pub(super) async fn settled(readers: &Pool, unsequenced: i64, sequence: u64) -> sqlx::Result<u64> {
    if unsequenced == 0 {
        return Ok(sequence);
    }
    let deadline = Instant::now() + SETTLE;
    loop {
        let mut connection = readers.acquire().await?;
        if changes::unsequenced_up_to(&mut connection, unsequenced).await? == 0 {
            let state = relay::read(&mut connection).await?.ok_or(sqlx::Error::RowNotFound)?;
            return Ok(state.sequence.max(sequence));
        }
        drop(connection);
        if Instant::now() >= deadline {
            return Err(overdue());
        }
        tokio::time::sleep(SETTLE_AGAIN).await;
    }
}

fn overdue() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other("no relay gives committed changes their sequence"))
}

fn is_ahead(after: &Position, end: &FeedState) -> bool {
    let further = after.sequence > end.sequence || after.epoch > end.epoch;
    after.generation > end.generation || (after.generation == end.generation && further)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use godwit_wire::feed::{Digest, Index};
    use godwit_wire::rr::{Rrset, Rtype};

    use super::*;
    use crate::commit::{COMMIT, begin_whole};
    use crate::model::zone::Zone;
    use crate::observe::metrics::Metrics;
    use crate::relay::batches::readable;
    use crate::relay::give;
    use crate::store::batch::Batch;
    use crate::store::{Kind, Pace, rrsets, testing};

    /// What is read may be ahead of the log: it is given with the sequence up to which it is, once that is known.
    #[tokio::test]
    async fn p5_what_is_ahead_of_the_log_is_given_with_where_it_is_level() {
        let (mut database, _place) = testing::database(Kind::Postgres).await;
        let writer = &mut database.writer;
        let digest_key = DigestKey([1; 32]);
        relay::start(writer, &digest_key, 7).await.unwrap();
        let state = relay::read(writer).await.unwrap().unwrap();
        let log = Arc::new(Log::new(state, Arc::default(), Metrics::default()));
        let feed = Feed {
            log,
            readers: database.readers.clone(),
            digest_key,
            signer: None,
            overtaken: None,
            listing: None,
        };
        let id = uuid::Uuid::now_v7();
        let payload = readable(id, 1, Vec::new());
        let new =
            changes::New { id, at_us: 1, actor: "a", request_id: "", payload: &payload, settled_by: None };
        let mut batch = Batch::of(writer);
        changes::insert(&mut batch, &new, Digest::default(), None);
        batch.run(writer).await.unwrap();
        let [index, zone] = [feed.clone(), feed];
        let index = tokio::spawn(async move { index.index().await });
        let apex: Name = "example.com.".parse().unwrap();
        let zone = tokio::spawn(async move { zone.zone(&apex).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!index.is_finished() && !zone.is_finished(), "nobody knows yet where it is level");
        writer.control(&[begin_whole(Kind::Postgres)]).await.unwrap();
        let mut state = relay::hold(writer).await.unwrap();
        give::to_all(writer, &mut state, COMMIT).await.unwrap();
        let index = Index::decode(&index.await.unwrap().unwrap()).unwrap();
        assert_eq!((index.place.sequence, index.place.settled), (0, 1));
        assert_eq!(zone.await.unwrap().unwrap().settled, 1);
    }

    /// Zones of all sizes: each answer has as many of them as it has room for, in the order in which they were asked for, and each is what
    /// it is alone.
    #[tokio::test]
    async fn p7_an_answer_has_as_many_zones_as_it_has_room_for() {
        let (mut database, _place) = testing::database(Kind::Postgres).await;
        let writer = &mut database.writer;
        // So many RRsets of so many octets.
        let shapes = [
            (2, 16),
            (700, 4),
            (0, 0),
            (40, 60_000),
            (30, 4_000),
            (40, 60_000),
            (700, 4),
            (120, 60_000),
            (3, 4),
        ];
        let mut apexes = Vec::new();
        for (number, (rrsets, octets)) in shapes.into_iter().enumerate() {
            let apex: Name = format!("z{number}.test.").parse().unwrap();
            apexes.push(apex.clone());
            if rrsets == 0 {
                continue;
            }
            let id = crate::store::zones::insert(writer, &zone_named(apex.clone()), 0).await.unwrap();
            let rrset = Rrset::new(Rtype(65_280), 60, vec![vec![7; octets].into()], Vec::new());
            let owners: Vec<Name> = (0..rrsets).map(|n| format!("n{n}.{apex}").parse().unwrap()).collect();
            let rows: Vec<(&Name, &Rrset)> = owners.iter().map(|owner| (owner, &rrset)).collect();
            let mut batch = Batch::of(writer);
            rrsets::put(&mut batch, writer, id, &rows).await.unwrap();
            batch.run(writer).await.unwrap();
        }
        let mut reading = database.readers.begin().await.unwrap();
        let (mut rest, mut answers) = (&apexes[..], Vec::new());
        while !rest.is_empty() {
            let answer = held(&mut reading, rest, None, &mut Pace::hurried()).await.unwrap();
            for (apex, given) in rest.iter().zip(&answer) {
                let alone = held(&mut reading, std::slice::from_ref(apex), None, &mut Pace::hurried()).await;
                let alone = alone.unwrap().remove(0).map(|(_, blob)| blob);
                assert_eq!(given.as_ref().map(|(_, blob)| blob), alone.as_ref(), "{apex}");
            }
            let sizes = answer.iter().flatten().map(|(_, blob)| blob.len()).collect::<Vec<_>>();
            answers.push((answer.len(), sizes.iter().sum::<usize>() >> 20));
            rest = &rest[answer.len()..];
        }
        // The second of 2.4 MB has no room behind the first; that of 7.2 MB would not have room anywhere.
        assert_eq!(answers, [(5, 2), (2, 2), (1, 6), (1, 0)]);
    }

    fn zone_named(apex: Name) -> Zone {
        let ttl_policy = crate::model::zone::TtlPolicy::Keep;
        let (digest, created_at_us, updated_at_us) = (Digest::default(), 1, 1);
        Zone {
            id: 0,
            apex,
            owner_number: 0,
            version: 1,
            serial: 1,
            ttl_policy,
            presigned: false,
            created_at_us,
            updated_at_us,
            digest,
            frozen_at_us: None,
        }
    }
}
