//! The file of the buffer: a redb database with one table, number → entry. One thread has it; what waits at the same time
//! shares one sync.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::oneshot;

use super::entry::{Entry, Head};

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// Messages that share one sync.
const GROUP: usize = 256;
/// The same for their octets.
const GROUP_OCTETS: usize = 64 << 20;
/// The pause before a file that failed is opened again.
const OPEN_AGAIN: Duration = Duration::from_secs(1);
/// Octets of pages that are kept in memory: what is written is read once.
const CACHE_OCTETS: usize = 8 << 20;
/// From so many octets on, a file that holds nothing any more is made small again.
const COMPACT_FROM: u64 = 16 << 20;

/// What was found in the file: numbers, octets and heads.
pub(super) type Found = Vec<(u64, u64, Head)>;

/// Is told whether an entry is on the disk.
pub(super) type Kept = Box<dyn FnOnce(bool) + Send>;

/// What the thread is asked to do.
pub(super) enum Message {
    /// Keep it, and say when it is on the disk.
    Append {
        number: u64,
        octets: Vec<u8>,
        kept: Kept,
    },
    /// Gives the entries of these numbers; `None` when one of them cannot be read.
    Read {
        numbers: Vec<u64>,
        read: oneshot::Sender<Option<Vec<Vec<u8>>>>,
    },
    Remove {
        number: u64,
    },
    Close {
        closed: oneshot::Sender<()>,
    },
}

/// The thread that has the file.
pub(super) struct File {
    path: PathBuf,
    /// `None` after it failed.
    database: Option<Database>,
    opened_at: Instant,
    /// What is to be in it.
    numbers: BTreeSet<u64>,
}

impl File {
    /// Opens it, or makes it; gives what it holds, in order.
    ///
    /// # Errors
    /// When it is in use, damaged, or cannot be opened.
    pub(super) fn open(path: &Path) -> anyhow::Result<(File, Found)> {
        let database = open(path)?;
        let found = all(&database).map_err(|why| damaged(path, &why))?;
        let numbers = found.iter().map(|(number, ..)| *number).collect();
        Ok((
            File { path: path.to_owned(), database: Some(database), opened_at: Instant::now(), numbers },
            found,
        ))
    }

    /// Does what it is asked to until it is closed.
    pub(super) fn run(mut self, messages: &mpsc::Receiver<Message>) {
        let mut waiting = None;
        while let Some(first) = waiting.take().or_else(|| messages.recv().ok()) {
            let (mut appends, mut removes, mut octets) = (Vec::new(), Vec::new(), 0);
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Append { number, octets: value, kept } => {
                        octets += value.len();
                        appends.push((number, value, kept));
                    }
                    Message::Remove { number } => removes.push(number),
                    // Behind what came before it.
                    other => {
                        waiting = Some(other);
                        break;
                    }
                }
                if appends.len() + removes.len() < GROUP && octets < GROUP_OCTETS {
                    next = messages.try_recv().ok();
                }
            }
            if !appends.is_empty() || !removes.is_empty() {
                self.write(appends, &removes);
            }
            match waiting.take() {
                Some(Message::Read { numbers, read }) => {
                    let _ = read.send(self.read(&numbers));
                }
                Some(Message::Close { closed }) => {
                    drop(self);
                    let _ = closed.send(());
                    return;
                }
                other => waiting = other,
            }
        }
    }

    fn write(&mut self, appends: Vec<(u64, Vec<u8>, Kept)>, removes: &[u64]) {
        // What is removed is settled in the database, and found to be so again if it comes back.
        for number in removes {
            self.numbers.remove(number);
        }
        let written = self.with(|database| {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(ENTRIES)?;
                for (number, value, _) in &appends {
                    table.insert(number, value.as_slice())?;
                }
                for number in removes {
                    table.remove(number)?;
                }
            }
            // Synced: the file's own default.
            transaction.commit()?;
            Ok(())
        });
        if written.is_some() {
            self.numbers.extend(appends.iter().map(|(number, ..)| *number));
        }
        for (_, _, kept) in appends {
            kept(written.is_some());
        }
    }

    /// All of these, or `None`.
    fn read(&mut self, numbers: &[u64]) -> Option<Vec<Vec<u8>>> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let entry = |number| Ok(table.get(number)?.map(|value| value.value().to_vec()));
            numbers.iter().map(entry).collect()
        })?
    }

    /// Works on the file. One that failed is opened anew: the library asks for that.
    fn with<T>(&mut self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Option<T> {
        if self.database.is_none() && self.opened_at.elapsed() >= OPEN_AGAIN {
            self.opened_at = Instant::now();
            match self.again() {
                Ok(database) => self.database = Some(database),
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the buffer cannot be opened again");
                }
            }
        }
        let database = self.database.take()?;
        match guarded(|| work(&database)) {
            Ok(Ok(done)) => {
                self.database = Some(database);
                Some(done)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, buffer = %self.path.display(), "the buffer failed");
                None
            }
            Err(()) => {
                tracing::error!(buffer = %self.path.display(), "the buffer failed in a panic");
                let _ = guarded(|| drop(database));
                None
            }
        }
    }

    /// Opens it after it failed. What was refused then and is on the disk all the same goes.
    fn again(&self) -> anyhow::Result<Database> {
        let database = open(&self.path)?;
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(ENTRIES)?;
            table.retain(|number, _| self.numbers.contains(&number))?;
        }
        transaction.commit()?;
        Ok(database)
    }
}

fn open(path: &Path) -> anyhow::Result<Database> {
    let context = || format!("buffer {}", path.display());
    if let Some(folder) = path.parent() {
        // What it holds is nobody else's business.
        DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(context)?;
    }
    let is_new = !path.try_exists().with_context(context)?;
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    made.with_context(context)?;
    let opened = guarded(|| {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_OCTETS).set_check_integrity_on_open(true);
        let mut database = builder.create(path)?;
        let transaction = database.begin_write()?;
        let is_empty = transaction.open_table(ENTRIES)?.first()?.is_none();
        transaction.commit()?;
        if is_empty && std::fs::metadata(path).is_ok_and(|file| file.len() >= COMPACT_FROM) {
            let _ = database.compact();
        }
        Ok::<Database, redb::Error>(database)
    });
    let database = match opened {
        Ok(Ok(database)) => database,
        Ok(Err(redb::Error::DatabaseAlreadyOpen)) => anyhow::bail!(
            "the buffer {} is in use by another process: give each control plane its own ([buffer] file)",
            path.display()
        ),
        Ok(Err(redb::Error::Io(error))) if error.kind() != std::io::ErrorKind::InvalidData => {
            return Err(error).with_context(context);
        }
        Ok(Err(error)) => return Err(damaged(path, &error.to_string())),
        Err(()) => return Err(damaged(path, "it cannot be read")),
    };
    if is_new && let Some(folder) = path.parent() {
        // Its name is to outlive the machine too.
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(context)?;
    }
    Ok(database)
}

fn damaged(path: &Path, why: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "the buffer {} is damaged ({why}): changes that were accepted in it and are not made may be lost. Put a good copy back, \
         or move it away to go on without them",
        path.display()
    )
}

fn all(database: &Database) -> Result<Found, String> {
    let read = guarded(|| {
        let table = database.begin_read()?.open_table(ENTRIES)?;
        let mut found = Vec::new();
        for row in table.iter()? {
            let (number, value) = row?;
            let octets = u64::try_from(value.value().len()).unwrap_or(u64::MAX);
            found.push((number.value(), octets, Entry::decode(value.value()).map(|entry| entry.head)));
        }
        Ok::<_, redb::Error>(found)
    });
    let found = read.map_err(|()| "it cannot be read".to_owned())?.map_err(|error| error.to_string())?;
    let heads = found.into_iter().map(|(number, octets, head)| {
        head.map(|head| (number, octets, head)).map_err(|why| format!("entry {number}: {why}"))
    });
    heads.collect()
}

/// A damaged file may lead the library into a panic.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, ()> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_| ())
}
