//! What a control plane says of itself, `GET /internal/v1/feed`: where in Redis it is, which keys there are, and where control
//! planes are. What of it a running process can have is used at once. Names are looked up and ports opened at the start alone,
//! before the process is confined: what needs that is said, and waits for the next start.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::elsewhere::Elsewhere;
use super::join::{ControlPlane, Join};
use super::known::{Known, Learned, Unbelieved};

/// Where it is asked for.
pub(super) const PATH: &str = "/internal/v1/feed";

/// Fields that are not known are those of a later version; an earlier one says nothing of `announcement`.
#[derive(Deserialize)]
struct Said {
    #[serde(flatten)]
    elsewhere: Elsewhere,
    announcement: Option<String>,
}

/// The ways that this process was started with. See the module.
pub(super) struct Ways {
    control_planes: Vec<ControlPlane>,
    elsewhere: Elsewhere,
    /// What was last said not to be believed: once, not every time.
    unbelieved: Option<Unbelieved>,
}

impl Ways {
    /// Those that are known.
    pub(super) fn of(known: &Known, join: &Join) -> Ways {
        Ways { control_planes: known.control_planes(join), elsewhere: known.elsewhere(), unbelieved: None }
    }

    /// Takes what a control plane says, and logs what waits for a start.
    pub(super) fn look(&mut self, known: &Known, body: &[u8]) {
        let Some((learned, is_moved)) = self.learn(known, body) else { return };
        if learned.keys {
            tracing::info!("the feed will be signed with the next key; the one after it is known too");
        }
        if is_moved && known.elsewhere() != self.elsewhere {
            tracing::warn!(
                "the stream or the cache is in another place now: it is read from the next start on"
            );
        }
        if learned.urls {
            for plane in known.announced() {
                if !self.control_planes.contains(&plane) {
                    tracing::warn!(%plane, "there is another control plane: it is asked from the next start on");
                }
            }
        }
    }

    /// The same, before anything has begun: nothing waits.
    pub(super) fn learn(&mut self, known: &Known, body: &[u8]) -> Option<(Learned, bool)> {
        let Ok(Said { elsewhere, announcement }) = serde_json::from_slice(body) else {
            tracing::warn!("what the control plane says of the feed cannot be read");
            return None;
        };
        let is_moved = known.elsewhere_is(elsewhere);
        let octets = announcement.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let learned = match octets.map(|octets| known.learn(&octets)) {
            None => Learned::default(),
            Some(Ok(learned)) => {
                self.unbelieved = None;
                learned
            }
            Some(Err(error)) => {
                if self.unbelieved.replace(error) != Some(error) {
                    tracing::error!(%error, "WHAT THE CONTROL PLANE SAYS OF ITS KEYS IS NOT BELIEVED");
                }
                Learned::default()
            }
        };
        Some((learned, is_moved))
    }
}
