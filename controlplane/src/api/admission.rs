//! What requests may take of this process together: how many are in flight, and how many octets of their bodies are held.
//! Who comes when it is full is told to come again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::App;
use super::pieces::Pieces;
use crate::error::{Code, Problem};
use crate::observe::metrics::{Limit, Metrics};

/// Octets that one permit of [`BodyRoom`] stands for.
const UNIT_OCTETS: usize = 1 << 10;
/// The longest piece of an answer that is given to the connection at once: the rest is held, and counted, here.
const PIECE_OCTETS: usize = 64 << 10;

/// Lets so many requests in at once. A request is in flight until its answer is with the connection but for the last
/// pieces. Probes are let in always: they ask whether this process lives.
pub(super) async fn limit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if matches!(path, "/health" | "/ready") {
        return next.run(request).await;
    }
    let stays = matches!(path, "/api/v1/events" | "/api/v1/ws");
    let Ok(place) = app.in_flight.clone().try_acquire_owned() else { return full(&app.metrics) };
    let response = next.run(request).await;
    // Who listens has a place of their own from then on: they stay.
    if stays { response } else { holding(response, place) }
}

/// Lets a request in while there is a place.
pub(crate) async fn within(
    places: &Arc<Semaphore>,
    metrics: &Metrics,
    request: Request,
    next: Next,
) -> Response {
    let Ok(place) = places.clone().try_acquire_owned() else { return full(metrics) };
    holding(next.run(request).await, place)
}

fn full(metrics: &Metrics) -> Response {
    metrics.limited(Limit::Requests);
    Problem::new(Code::RateLimited, "too many requests are in flight; try again").into_response()
}

/// An answer that keeps a place until it is with the connection.
pub(crate) fn holding<P: Send + Unpin + 'static>(response: Response, place: P) -> Response {
    response.map(|body| Body::new(Held { body: Pieces::of(body, PIECE_OCTETS), _place: place }))
}

/// The body of an answer that keeps its request in flight until it is gone.
struct Held<P> {
    body: Pieces,
    _place: P,
}

impl<P: Unpin> hyper::body::Body for Held<P> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Room for the bodies of all requests together.
#[derive(Clone, Debug)]
pub struct BodyRoom {
    units: Arc<Semaphore>,
    metrics: Metrics,
}

/// What one body takes of it; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    room: BodyRoom,
    permit: Option<OwnedSemaphorePermit>,
}

impl BodyRoom {
    /// Room for so many octets.
    #[must_use]
    pub fn new(octets: usize, metrics: Metrics) -> BodyRoom {
        let units = octets.div_ceil(UNIT_OCTETS).min(Semaphore::MAX_PERMITS);
        BodyRoom { units: Arc::new(Semaphore::new(units)), metrics }
    }

    pub(super) fn begin(&self) -> Taken {
        Taken { room: self.clone(), permit: None }
    }
}

impl Taken {
    /// Takes what is needed to hold so many octets in all.
    pub(super) fn grow_to(&mut self, octets: usize) -> Result<(), Problem> {
        let has = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let lacks = octets.div_ceil(UNIT_OCTETS).saturating_sub(has);
        if lacks == 0 {
            return Ok(());
        }
        let lacks = u32::try_from(lacks).unwrap_or(u32::MAX);
        let Ok(more) = self.room.units.clone().try_acquire_many_owned(lacks) else {
            self.room.metrics.limited(Limit::BodyOctets);
            let message = "the bodies of other requests take all the room there is; try again";
            return Err(Problem::new(Code::RateLimited, message));
        };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }

    /// Gives all of it back.
    pub(super) fn clear(&mut self) {
        self.permit = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use hyper::body::Body as _;

    #[tokio::test]
    async fn a_long_answer_goes_out_in_pieces_and_holds_its_place_until_the_last() {
        let places = Arc::new(Semaphore::new(1));
        let whole = Bytes::from(vec![7; PIECE_OCTETS * 2 + 5]);
        let place = places.clone().try_acquire_owned().unwrap();
        let mut held = Held { body: Pieces::of(Body::from(whole.clone()), PIECE_OCTETS), _place: place };
        let mut pieces = Vec::new();
        while !held.is_end_stream() {
            assert_eq!(held.size_hint().exact(), Some((whole.len() - pieces.len()) as u64));
            let piece = held.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE_OCTETS);
            pieces.extend_from_slice(&piece);
            assert_eq!(places.available_permits(), 0);
        }
        assert_eq!(pieces, whole);
        drop(held);
        assert_eq!(places.available_permits(), 1);
    }

    #[test]
    fn room_for_bodies_is_shared_and_comes_back() {
        let room = BodyRoom::new(10 * UNIT_OCTETS, Metrics::default());
        let (mut one, mut other) = (room.begin(), room.begin());
        one.grow_to(1).unwrap();
        one.grow_to(6 * UNIT_OCTETS).unwrap();
        other.grow_to(4 * UNIT_OCTETS).unwrap();
        assert_eq!(other.grow_to(4 * UNIT_OCTETS + 1).unwrap_err().code, Code::RateLimited);
        one.clear();
        other.grow_to(10 * UNIT_OCTETS).unwrap();
        drop(other);
        one.grow_to(10 * UNIT_OCTETS).unwrap();
    }
}
