//! What is written and is no change of records: nothing of it is published. It has a transaction of its own, between those
//! of changes, on the one connection that writes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::writer::{Writer, guarded};
use super::{COMMIT, Committer, ROLLBACK};
use crate::error::{Code, Problem};
use crate::store::Connection;
use crate::store::connection::is_lost;

/// Work inside a transaction; an error takes all of it back.
pub(crate) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'c>>;

type Begin = Box<dyn for<'c> FnOnce(&'c mut Connection) -> Work<'c, ()> + Send>;

/// Something to be written, on its way to the writer.
pub(crate) struct Aside {
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
        self.asides.send(Aside { begin, done }).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())??;
        given.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(gone)
    }
}

impl Writer {
    pub(super) async fn write_aside(&mut self, Aside { begin, done }: Aside) {
        if !done.is_closed() {
            let written = self.transact_aside(begin).await;
            // Who does not listen any more has it written all the same.
            let _ = done.send(written);
        }
    }

    async fn transact_aside(&mut self, begin: Begin) -> Result<(), Problem> {
        if let Err(error) = self.begin().await {
            self.lost |= is_lost(&error);
            return Err(error.into());
        }
        let worked = guarded(begin(&mut self.connection)).await;
        let end = if worked.is_ok() { COMMIT } else { ROLLBACK };
        let Err(error) = self.connection.control(&[end]).await else { return worked };
        self.lost |= is_lost(&error);
        worked?;
        tracing::error!(%error, "the database failed");
        let message =
            "the database did not confirm it; it is not done as far as is known: look, and try again";
        Err(Problem::new(Code::DbUnavailable, message))
    }
}
