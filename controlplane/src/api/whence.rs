//! Where a request comes from, and with what: for limits by address, and for the audit log.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::http::Extensions;

use super::client::Client;
use super::envelope::RequestId;
use crate::auth::Caller;
use crate::store::audit::Who;

/// Who turned out to ask, for what is outside of where that is found out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asker(Arc<OnceLock<Who>>);

impl Asker {
    /// It is these.
    pub(crate) fn is(&self, who: &Who) {
        let _ = self.0.set(who.clone());
    }

    /// Who it is; of strangers where they come from.
    pub(crate) fn who(&self, client: Option<IpAddr>, request_id: &str) -> Who {
        let stranger = || Who { client, request_id: request_id.to_owned(), ..Who::default() };
        self.0.get().cloned().unwrap_or_else(stranger)
    }
}

/// The address that a request comes from.
pub(crate) fn client(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<Client>().map(|client| client.0)
}

/// The id of a request.
pub(crate) fn request_id(extensions: &Extensions) -> String {
    extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default()
}

/// Who asks, as the audit log has it. A request that was accepted before and is read again says itself who asked.
pub(crate) fn who(extensions: &Extensions, caller: &Caller) -> Who {
    extensions.get::<Who>().cloned().unwrap_or_else(|| Who {
        actor: caller.id.clone(),
        client: client(extensions),
        came_with: Some(caller.brought()),
        request_id: request_id(extensions),
        tenant: None,
    })
}
