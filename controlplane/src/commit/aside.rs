//! What is written and is no change of records: nothing of it is published. It has a transaction of its own, between those
//! of changes, on the one connection that writes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::writer::{Writer, guarded};
use super::{COMMIT, Committer, ROLLBACK};
use crate::error::{Code, Problem};
use crate::store::connection::is_lost;
use crate::store::{Connection, Kind};

/// Work inside a transaction; an error takes all of it back.
pub(crate) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'c>>;

type Begin = Box<dyn for<'c> FnOnce(&'c mut Connection) -> Work<'c, ()> + Send>;

/// Something to be written, on its way to the writer.
pub(crate) struct Aside {
    /// The account that the database is to guard others from.
    guard: Option<Uuid>,
    begin: Begin,
    done: oneshot::Sender<Result<(), Problem>>,
}

impl Committer {
    /// Has something written, and waits for its commit; gives what the work gave.
    ///
    /// Cancelling before the writer has begun with it withdraws it.
    ///
    /// # Errors
    /// Whatever the work says, or that the database failed.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Connection) -> Work<'c, T> + Send + 'static,
    ) -> Result<T, Problem> {
        self.write_for(None, work).await
    }

    /// The same by a connection that sees no more than an account may, where one is given and the database can tell.
    ///
    /// # Errors
    /// Whatever the work says, or that the database failed.
    pub(crate) async fn write_for<T: Send + 'static>(
        &self,
        guard: Option<Uuid>,
        work: impl for<'c> FnOnce(&'c mut Connection) -> Work<'c, T> + Send + 'static,
    ) -> Result<T, Problem> {
        let gone =
            || Problem::new(Code::DbUnavailable, "nothing can be written; nothing was changed; try again");
        let given = Arc::new(Mutex::new(None));
        let taken = given.clone();
        let begin: Begin = Box::new(move |connection| {
            let working = work(connection);
            Box::pin(async move {
                let value = working.await?;
                *taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
                Ok(())
            })
        });
        let (done, result) = oneshot::channel();
        self.asides.send(Aside { guard, begin, done }).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())??;
        given.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(gone)
    }
}

impl Writer {
    pub(super) async fn write_aside(&mut self, Aside { guard, begin, done }: Aside) {
        if !done.is_closed() {
            let written = match guard.filter(|_| self.place.kind() == Kind::Postgres) {
                None => self.transact_aside(begin).await,
                Some(account) => match self.go_guarded(account).await {
                    Ok(own) => {
                        let written = self.transact_aside(begin).await;
                        self.go_back(own);
                        written
                    }
                    Err(error) => Err(error.into()),
                },
            };
            // Who does not listen any more has it written all the same.
            let _ = done.send(written);
        }
    }

    async fn transact_aside(&mut self, begin: Begin) -> Result<(), Problem> {
        if let Err(error) = self.begin().await {
            self.line.lost |= is_lost(&error);
            if !self.line.lost {
                let _ = self.line.connection.control(&[ROLLBACK]).await;
            }
            return Err(error.into());
        }
        let worked = guarded(begin(&mut self.line.connection)).await;
        let end = if worked.is_ok() { COMMIT } else { ROLLBACK };
        let Err(error) = self.line.connection.control(&[end]).await else { return worked };
        self.line.lost |= is_lost(&error);
        worked?;
        tracing::error!(%error, "the database failed");
        let message =
            "the database did not confirm it; it is not done as far as is known: look, and try again";
        Err(Problem::new(Code::DbUnavailable, message))
    }
}
