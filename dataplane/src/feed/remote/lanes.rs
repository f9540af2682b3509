//! Many zones at once: a request each, several of them under way, each lane on a connection of its own.
//!
//! How many lanes there are is found out as with a network: one at first, twice as many after each group that came whole, one
//! again when something did not come. A control plane gives zones to eight at once, whoever they are, and many nodes may
//! fetch at the same time.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use godwit_wire::feed::ZoneBlob;
use godwit_wire::name::Name;
use hyper::{HeaderMap, Method, StatusCode};
use tokio::task::JoinSet;

use super::client::{Client, Places, Response};
use super::known::Known;
use super::{PATIENCE, refused, unsigned};
use crate::feed::source::{Lost, ZoneState};

/// The most lanes.
const MOST: usize = 8;

/// A zone, and what is known of it; `None`: there was no answer.
type Answer = (Name, Option<ZoneState>);

/// See the module.
pub(super) struct Lanes {
    places: Arc<Places>,
    known: Arc<Known>,
    lanes: Vec<Lane>,
    /// How many are used.
    width: usize,
}

struct Lane {
    client: Client,
    known: Arc<Known>,
}

impl Lanes {
    pub(super) fn new(places: &Arc<Places>, known: &Arc<Known>) -> Lanes {
        Lanes { places: Arc::clone(places), known: Arc::clone(known), lanes: Vec::new(), width: 1 }
    }

    /// Zones in any order; those that are not among them were not asked for.
    ///
    /// # Errors
    /// None of them is to be had.
    pub(super) async fn zones(&mut self, apexes: Vec<Name>) -> Result<Vec<Answer>, Lost> {
        let count = apexes.len();
        let wanted = Arc::new(Mutex::new(apexes.into_iter()));
        let mut fetching = JoinSet::new();
        for _ in 0..self.width.min(count) {
            let lane = self.lanes.pop().unwrap_or_else(|| Lane {
                client: Client::new(&self.places),
                known: Arc::clone(&self.known),
            });
            fetching.spawn(lane.fetch(Arc::clone(&wanted)));
        }
        let mut answers = Vec::with_capacity(count);
        while let Some(fetched) = fetching.join_next().await {
            if let Ok((lane, fetched)) = fetched {
                self.lanes.push(lane);
                answers.extend(fetched);
            }
        }
        let came = answers.iter().filter(|(_, state)| state.is_some()).count();
        self.width = if came == count { (self.width * 2).min(MOST) } else { 1 };
        self.lanes.truncate(self.width);
        if came == 0 && count > 0 { Err(Lost::Again) } else { Ok(answers) }
    }
}

impl Lane {
    /// One zone after the other, until all are asked for. One that cannot be had is asked for again later; without a connection
    /// the others are not to be had either.
    async fn fetch(mut self, wanted: Arc<Mutex<std::vec::IntoIter<Name>>>) -> (Lane, Vec<Answer>) {
        let mut answers = Vec::new();
        loop {
            let next = wanted.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(apex) = next else { return (self, answers) };
            let state = self.zone(&apex).await.ok();
            let is_lost = state.is_none();
            answers.push((apex, state));
            if is_lost {
                return (self, answers);
            }
        }
    }

    async fn zone(&mut self, apex: &Name) -> Result<ZoneState, Lost> {
        // Any octet may stand in a label: the name in wire format says which, in hexadecimal.
        let path = format!("/internal/v1/zones/{}", in_path(apex));
        let asked = self.client.ask(Method::GET, &path, None, PATIENCE).await;
        let Response { status, headers, body } = asked.map_err(|_| Lost::Again)?;
        let number = |name| number(&headers, name).ok_or_else(|| refused("zone", status));
        let (version, settled) = (number("godwit-zone-version")?, number("godwit-settled")?);
        let blob = match status {
            StatusCode::OK => {
                ZoneBlob::verify(&body, &self.known.keys()).map_err(|error| unsigned("zone", &error))?;
                Some(body)
            }
            StatusCode::NOT_FOUND => None,
            other => return Err(refused("zone", other)),
        };
        Ok(ZoneState { blob, version, settled })
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// A name as part of a path: presentation format, and what is not unreserved there percent-encoded (RFC 3986 §2.3).
fn in_path(name: &Name) -> String {
    let mut text = String::new();
    for octet in name.to_string().bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            text.push(char::from(octet));
        } else {
            let _ = write!(text, "%{octet:02X}");
        }
    }
    text
}
