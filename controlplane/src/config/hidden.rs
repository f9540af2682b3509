//! Settings, or parts of them, that are shown to nobody.

use serde::{Deserialize, Serialize, Serializer};

use crate::store::place::without_password;

/// A setting that is shown to nobody.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

/// In place of what is not shown.
const HIDDEN: &str = "(hidden)";

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        HIDDEN.serialize(serializer)
    }
}

/// For `serialize_with`: a URL as it may be shown.
pub(super) fn shown_without_password<S: Serializer>(
    url: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    url.as_deref().map(without_password).serialize(serializer)
}
