//! Answers that are written while the database is read, so that memory does not follow their size.
//!
//! What is sent is one state: all of it is read in one transaction. It holds a connection of its own, of which there are a few,
//! and has an end: while it lasts the write-ahead log of the database cannot begin anew.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use http_body_util::channel::{Channel, Sender};
use uuid::Uuid;

use super::super::App;
use crate::error::{Code, Problem};
use crate::observe::metrics::Limit;
use crate::store::Connection;

/// From so many octets on, what was written is sent.
const PIECE_OCTETS: usize = 128 << 10;
/// Pieces that may wait for the client.
const PIECES: usize = 2;

/// What is on its way to the client. Dropped before its end it breaks the answer off, for whatever reason that is: a part must
/// not look like all.
pub(super) struct Sending {
    sender: Option<Sender<Bytes, io::Error>>,
    /// What is written and not sent.
    pub text: String,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the client is gone")]
    Client,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A transaction to read an export in, for an account, or for nobody's.
///
/// # Errors
/// `DB_POOL_TIMEOUT` while as many exports as may are under way.
pub(super) async fn begin(app: &App, account: Option<Uuid>) -> Result<Connection, Problem> {
    app.views.begin_long(account).await.map_err(|error| {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            app.metrics.limited(Limit::Exports);
            return Problem::new(Code::DbPoolTimeout, "other exports are under way; try again");
        }
        Problem::from(error)
    })
}

/// An answer that `write` writes, of `what`, until `refused` says that who asked may not have it any more.
pub(super) fn body<W>(
    app: Arc<App>,
    what: &'static str,
    refused: impl Future<Output = Problem> + Send + 'static,
    write: impl FnOnce(Sending) -> W,
) -> Body
where
    W: Future<Output = Result<(), Broken>> + Send + 'static,
{
    let (sender, body) = Channel::new(PIECES);
    let writing = write(Sending { sender: Some(sender), text: String::new() });
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = tokio::time::timeout(app.export_timeout, writing) => ended,
            problem = refused => {
                tracing::info!(%problem, "an export of {what} was cut: who asked for it may not have it any more");
                return;
            }
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "an export of {what} ended early"),
            Err(_) => {
                app.metrics.limited(Limit::ExportTime);
                tracing::warn!("an export of {what} took too long and was cut");
            }
        }
    });
    Body::new(body)
}

impl Sending {
    /// Sends what was written, where that is enough for a piece.
    pub(super) async fn send_full(&mut self) -> Result<(), Broken> {
        if self.text.len() >= PIECE_OCTETS { self.send().await } else { Ok(()) }
    }

    /// Sends the rest, and that it was all.
    pub(super) async fn end(mut self, transaction: Connection) -> Result<(), Broken> {
        // Nothing was written: this only ends it.
        transaction.end_reading().await?;
        self.send().await?;
        self.sender = None;
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Broken> {
        let piece = Bytes::from(std::mem::take(&mut self.text));
        let Some(sender) = &mut self.sender else { return Err(Broken::Client) };
        sender.send_data(piece).await.map_err(|_| Broken::Client)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.abort(io::ErrorKind::Interrupted.into());
        }
    }
}
