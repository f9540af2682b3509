//! A zone as a zone file: `/domains/{zone}/export`, page by page, so that memory does not follow the size of the zone.
//!
//! What is sent is one state of the zone: all pages are read in one transaction. It holds a connection of its own, of
//! which there are a few, and has an end: while it lasts the write-ahead log of the database cannot begin anew.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::{Channel, Sender};

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

use super::super::App;
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment, Within};
use super::versions::{AtParams, zone_at};
use crate::error::{Code, Problem};
use crate::observe::metrics::Limit;
use crate::past::Past;
use crate::store::Connection;
use crate::store::rrsets::Position;
use crate::validate::{name, zone_file};

/// RRsets that are read at once: with the largest ones a few megabytes.
const STEP: i64 = 256;
/// From so many octets on, what was written is sent.
const PIECE_OCTETS: usize = 128 << 10;
/// Pieces that may wait for the client.
const PIECES: usize = 2;

/// A zone as a zone file, in canonical order, SOA first.
#[utoipa::path(get, path = "/api/v1/domains/{zone}/export", tag = "domains", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."), AtParams,
), responses(
    (status = 200, description = "The zone file", body = String, content_type = "text/dns"),
    (status = 404, description = "DOMAIN_NOT_FOUND, VERSION_NOT_FOUND", body = ErrorBody),
    (status = 410, description = "VERSION_GONE", body = ErrorBody),
    (status = 503, description = "DB_POOL_TIMEOUT: other exports are under way", body = ErrorBody),
))]
pub async fn export(
    State(app): State<Arc<App>>,
    within: Within,
    Segment(text): Segment,
    Params(params): Params<AtParams>,
) -> Result<Response, Problem> {
    let apex = name::absolute(&text)?;
    within.limits.allow_whole_zone(&apex)?;
    let mut transaction = app.views.begin_long(within.access.account()).await.map_err(|error| {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            app.metrics.limited(Limit::Exports);
            return Problem::new(Code::DbPoolTimeout, "other exports are under way; try again");
        }
        Problem::from(error)
    })?;
    let past = zone_at(&mut transaction, &within, &apex, params.at.as_deref()).await?;
    let etag = format!("\"{}\"", past.zone.version);
    let headers = [(CONTENT_TYPE, "text/dns; charset=us-ascii".to_owned()), (ETAG, etag)];
    let (sender, body) = Channel::new(PIECES);
    let pieces = Pieces { sender: Some(sender), text: String::new() };
    tokio::spawn(async move {
        let all = tokio::time::timeout(app.export_timeout, pieces.send_zone(transaction, &past)).await;
        match all {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "an export ended early"),
            Err(_) => {
                app.metrics.limited(Limit::ExportTime);
                tracing::warn!("an export took too long and was cut");
            }
        }
    });
    Ok((headers, Body::new(body)).into_response())
}

/// What is on its way to the client. Dropped before its end it breaks the answer off, for whatever reason that is: a part
/// of a zone must not look like a zone.
struct Pieces {
    sender: Option<Sender<Bytes, io::Error>>,
    text: String,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the client is gone")]
    Client,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Pieces {
    async fn send_zone(mut self, mut transaction: Connection, past: &Past) -> Result<(), Broken> {
        // RFC 1035 §5.2: readers want to see the SOA first.
        let apex = &past.zone.apex;
        for set in past.of_owner(&mut transaction, apex.as_ref()).await? {
            if set.rtype == Rtype::SOA {
                zone_file::write(apex, &set, &mut self.text);
            }
        }
        let is_soa = |owner: &Name, rtype| rtype == Rtype::SOA && owner == apex;
        let mut after = Position::default();
        loop {
            let step = past.list(&mut transaction, None, &after, STEP).await?;
            let Some(last) = step.last() else { break };
            after = last.position.clone();
            for listed in step.iter().filter(|listed| !is_soa(&listed.owner, listed.rrset.rtype)) {
                zone_file::write(&listed.owner, &listed.rrset, &mut self.text);
                if self.text.len() >= PIECE_OCTETS {
                    self.send().await?;
                }
            }
        }
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

impl Drop for Pieces {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.abort(io::ErrorKind::Interrupted.into());
        }
    }
}
