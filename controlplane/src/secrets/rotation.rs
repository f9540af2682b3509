//! Data keys that come and go while control planes run. A new one seals from the moment on at which it is committed; the job
//! [`ROTATE`] seals anew, some rows at a time, what older ones have sealed, and deletes these when nothing is left of it. It can
//! be ended at any point and begun again: what is done is known by what the rows begin with.

use std::sync::Arc;
use std::time::Duration;

use super::sealing::{By, OCTETS, random};
use super::{Vault, not_sealed};
use crate::commit::Committer;
use crate::error::{Code, Problem};
use crate::jobs::{Claimed, Failure, Kind, Lease, Work};
use crate::store::batch::Batch;
use crate::store::data_keys::{self, Column, RowId, SEALED, Wrapped};
use crate::store::{self, Connection, damaged, jobs, now_us};

/// Name of the kind.
pub(crate) const ROTATE: &str = "keys.rotate";
/// Rows that are sealed anew at once.
const STEP: i64 = 32;
/// The pause between two steps, so that what people wait for goes between.
const PAUSE: Duration = Duration::from_millis(2);
/// So often it is begun anew where somebody sealed with an older key meanwhile; it can be that once, by who was about to.
const TURNS: usize = 8;
/// A control plane that said nothing for so long does not run any more.
const HOLDER_US: i64 = 10_000_000;
/// The most rows that a sentence names.
const MOST_NAMED: usize = 5;

/// A rotation that was begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The key that seals from now on.
    pub(crate) key: i64,
    /// The job that seals anew.
    pub(crate) job: uuid::Uuid,
}

/// A data key that is there.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) key: i64,
    pub(crate) made_at_us: i64,
    /// The master keys that open it.
    pub(crate) masters: Vec<String>,
}

impl Vault {
    /// Makes a data key, which seals from the commit on, and leaves it to a job to seal anew what older ones have sealed.
    ///
    /// # Errors
    /// `CONFLICT` while such a job is not ended or a master key is changed that is not here; or of the database.
    pub(crate) async fn rotate_data_key(&self, connection: &mut Connection) -> Result<Begun, Problem> {
        store::relay::hold(connection).await?;
        self.look_again();
        let newest =
            data_keys::newest(connection).await?.ok_or_else(|| damaged("data_keys", "the newest"))?;
        let wrapped = data_keys::wrapped_of(connection, newest).await?;
        let masters: Vec<String> = wrapped.into_iter().map(|wrapped| wrapped.master).collect();
        let lacking = |id: &&String| self.masters().get(id).is_none();
        if let Some(id) = masters.iter().find(lacking) {
            let mut message = format!(
                "data keys can be opened with the master key {id} too, which is not here: first bring its change to an end"
            );
            if let Some(failed) = &self.masters().next_failed {
                message = format!("{message}; the other master key cannot be used: {failed}");
            }
            return Err(Problem::new(Code::Conflict, message));
        }
        let key = self.add_data_key(connection, &masters).await?;
        let new = jobs::New { once: Some(ROTATE.to_owned()), ..new_job()? };
        let mut batch = Batch::of(connection);
        let job = jobs::enqueue(&mut batch, &new);
        batch.run(connection).await?;
        if jobs::by_id(connection, job).await?.is_none() {
            let message = "a rotation is under way: see the job keys.rotate in GET /api/v1/jobs";
            return Err(Problem::new(Code::Conflict, message));
        }
        Ok(Begun { key, job })
    }

    /// Makes a data key that each of some master keys opens.
    pub(super) async fn add_data_key(
        &self,
        connection: &mut Connection,
        masters: &[String],
    ) -> sqlx::Result<i64> {
        let newest = data_keys::newest(connection).await?.unwrap_or(0);
        let key = newest.checked_add(1).ok_or_else(|| damaged("data_keys", "the newest"))?;
        let octets = random::<OCTETS>().map_err(not_sealed)?;
        data_keys::insert(connection, key, now_us()).await?;
        for id in masters {
            let sealed = {
                let held = self.masters();
                let master = held.get(id).ok_or_else(|| damaged("wrapped_keys", "the master key"))?;
                master.key.seal(By::Master, &place_of(key, id), &octets).map_err(not_sealed)?
            };
            data_keys::wrap(connection, &Wrapped { key, master: id.clone(), sealed }).await?;
        }
        Ok(key)
    }

    /// Has all data keys opened by the next master key too.
    ///
    /// # Errors
    /// `CONFLICT` where there is none, or something is sealed with a master key itself; or of the database.
    pub(crate) async fn rewrap(&self, connection: &mut Connection) -> Result<String, Problem> {
        store::relay::hold(connection).await?;
        // The next thing that is done is to move the next key over the one before, which alone would open it.
        by_no_master(connection).await?;
        self.look_again();
        let (next, failed) = {
            let held = self.masters();
            (held.next.as_ref().map(|next| next.id.clone()), held.next_failed.clone())
        };
        let next = next.ok_or_else(|| {
            let message = match failed {
                Some(failed) => format!("the other master key cannot be used: {failed}"),
                None => format!(
                    "there is no other master key: put it into {} on every control plane first (godwit keys make)",
                    self.places.next.display()
                ),
            };
            Problem::new(Code::Conflict, message)
        })?;
        for (key, _) in data_keys::list(connection).await? {
            let octets = self.data_key_octets(connection, key).await?;
            let octets = octets.ok_or_else(|| damaged("wrapped_keys", "sealed"))?;
            let sealed = {
                let held = self.masters();
                let master = held.get(&next).ok_or_else(|| damaged("wrapped_keys", "the master key"))?;
                master.key.seal(By::Master, &place_of(key, &next), &octets).map_err(not_sealed)?
            };
            data_keys::wrap(connection, &Wrapped { key, master: next.clone(), sealed }).await?;
        }
        Ok(next)
    }

    /// Leaves all data keys to the master key of this control plane: no other opens them any more.
    ///
    /// # Errors
    /// `CONFLICT` while a control plane has another one, or something is sealed with a master key itself; or of the database.
    pub(crate) async fn leave_to_own(&self, connection: &mut Connection) -> Result<String, Problem> {
        store::relay::hold(connection).await?;
        self.look_again();
        let refused = |message: String| Err(Problem::new(Code::Conflict, message));
        let (own, next, failed) = {
            let held = self.masters();
            let id = |master: &super::masters::Master| master.id.clone();
            (held.own.as_ref().map(id), held.next.as_ref().map(id), held.next_failed.clone())
        };
        let Some(own) = own else {
            return refused(format!("there is no master key in {}", self.places.told()));
        };
        let wrapped = data_keys::wrapped(connection).await?;
        if let Some(next) = next
            && next != own
            && wrapped.iter().any(|wrapped| wrapped.master == next)
        {
            let (next_at, at) = (self.places.next.display(), self.places.told());
            return refused(format!(
                "the key that counts here is {own} still: move {next_at}, with the key {next}, to {at} on every control plane first"
            ));
        }
        // It may be the one that is to count.
        if let Some(failed) = failed
            && let Some(other) = wrapped.iter().find(|wrapped| wrapped.master != own)
        {
            return refused(format!(
                "data keys can be opened with the master key {} too, and the other master key here cannot be used: {failed}",
                other.master
            ));
        }
        if connection.kind() == store::Kind::Postgres
            && let Some(other) = data_keys::other_master(connection, HOLDER_US, &own).await?
        {
            return refused(format!(
                "a control plane that runs has the master key {other} and not {own}: change it there first"
            ));
        }
        by_no_master(connection).await?;
        for (key, _) in data_keys::list(connection).await? {
            // Never the last that opens it.
            if !wrapped.iter().any(|wrapped| wrapped.key == key && wrapped.master == own) {
                return refused(format!(
                    "data key {key} is not sealed with the master key {own}: rewrap first"
                ));
            }
            data_keys::unwrap_others(connection, key, &own).await?;
        }
        Ok(own)
    }

    /// All data keys, the newest last; and the master key of this control plane.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn data_keys(
        &self,
        connection: &mut Connection,
    ) -> sqlx::Result<(Vec<Held>, Option<String>)> {
        let wrapped = data_keys::wrapped(connection).await?;
        let masters = |key| {
            let of_it = wrapped.iter().filter(move |wrapped| wrapped.key == key);
            of_it.map(|wrapped| wrapped.master.clone()).collect()
        };
        let keys = data_keys::list(connection).await?.into_iter();
        let held = keys.map(|(key, made_at_us)| Held { key, made_at_us, masters: masters(key) }).collect();
        Ok((held, self.masters().own.as_ref().map(|own| own.id.clone())))
    }

    /// Seals rows of a column anew, in an open transaction: those behind one, some of them. Gives the last of these, and those
    /// that could not be opened.
    pub(super) async fn seal_anew(
        &self,
        connection: &mut Connection,
        column: &Column,
        after: &RowId,
    ) -> sqlx::Result<(Option<RowId>, Vec<RowId>)> {
        let (newest, key) = self.sealing_key(connection).await?;
        let rows = column.older(connection, after, &By::Data(newest).begin(), STEP).await?;
        let mut unopened = Vec::new();
        for (row, sealed) in &rows {
            let text = row.to_string();
            match self.open(connection, column.name, &text, sealed).await? {
                Some(secret) => {
                    let place = format!("{} {text}", column.name);
                    let anew = key.seal(By::Data(newest), &place, &secret).map_err(not_sealed)?;
                    column.set(connection, row, sealed, &anew).await?;
                }
                None => unopened.push(row.clone()),
            }
        }
        Ok((rows.last().map(|(row, _)| row.clone()), unopened))
    }

    /// Deletes the keys that are older than the newest, in an open transaction, unless something is sealed with one of them.
    pub(super) async fn retire(&self, connection: &mut Connection) -> sqlx::Result<bool> {
        // Whoever goes through all keys, as a start and a change of the master key do, finds none gone in the middle.
        store::relay::hold(connection).await?;
        let newest = data_keys::newest(connection).await?;
        let newest = newest.ok_or_else(|| damaged("data_keys", "the newest"))?;
        let older = data_keys::before_locked(connection, newest).await?;
        for column in SEALED {
            let begin = By::Data(newest).begin();
            if !column.older(connection, &column.start(), &begin, 1).await?.is_empty() {
                return Ok(false);
            }
        }
        for key in older {
            data_keys::delete(connection, key).await?;
        }
        Ok(true)
    }
}

/// Refuses what takes a master key away while something is sealed with a master key itself, by a version that knew no data keys.
async fn by_no_master(connection: &mut Connection) -> Result<(), Problem> {
    for column in SEALED {
        let first = By::Data(0).begin();
        if !column.older(connection, &column.start(), &first, 1).await?.is_empty() {
            let message = "something is sealed by an older version with the master key itself: rotate the data key first (godwit \
                           keys rotate), and wait until its job keys.rotate is done; until then keep the master key where it is";
            return Err(Problem::new(Code::Conflict, message));
        }
    }
    Ok(())
}

/// What a data key is bound to.
pub(super) fn place_of(key: i64, master: &str) -> String {
    format!("wrapped_keys.sealed {key} {master}")
}

fn new_job() -> Result<jobs::New, Problem> {
    let new = jobs::New::of(ROTATE, &serde_json::json!({}));
    new.map_err(|_| Problem::new(Code::Internal, "a job without a payload could not be written down"))
}

/// Does jobs of the kind.
pub(crate) struct Rotation {
    pub(crate) vault: Arc<Vault>,
    pub(crate) committer: Committer,
}

/// Rows that could not be opened: how many, and the first of them by name.
#[derive(Debug, Default)]
pub(super) struct Unopened {
    count: usize,
    named: Vec<String>,
}

impl Unopened {
    pub(super) fn add(&mut self, column: &Column, rows: &[RowId]) {
        self.count += rows.len();
        let room = MOST_NAMED.saturating_sub(self.named.len());
        self.named.extend(rows.iter().take(room).map(|row| format!("{} of {row}", column.name)));
    }

    /// What is to be said of them, where there are any.
    pub(super) fn said(&self) -> Option<String> {
        let more = match self.count - self.named.len() {
            0 if self.count == 0 => return None,
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!("these cannot be opened, so no older key is deleted: {}{more}", self.named.join(", ")))
    }
}

impl Rotation {
    /// Gives the rows that could not be opened.
    async fn through(&self) -> Result<Unopened, Problem> {
        let mut unopened = Unopened::default();
        for column in SEALED {
            let mut after = column.start();
            loop {
                let vault = self.vault.clone();
                let step = self.committer.write(move |connection| {
                    Box::pin(async move { Ok(vault.seal_anew(connection, column, &after).await?) })
                });
                let (last, closed) = step.await?;
                unopened.add(column, &closed);
                match last {
                    Some(last) => after = last,
                    None => break,
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(unopened)
    }
}

impl Kind for Rotation {
    fn name(&self) -> &'static str {
        ROTATE
    }

    fn run<'a>(&'a self, _: &'a Claimed, _: &'a Lease) -> Work<'a> {
        Box::pin(async move {
            for _ in 0..TURNS {
                if let Some(said) = self.through().await?.said() {
                    return Err(Failure::Final(said));
                }
                let vault = self.vault.clone();
                let retired = self
                    .committer
                    .write(move |connection| Box::pin(async move { Ok(vault.retire(connection).await?) }));
                if retired.await? {
                    return Ok(());
                }
            }
            Err(Failure::Passing("others seal with an older key again and again".to_owned()))
        })
    }
}
