//! Where a request comes from, and with what: for limits by address, and for the audit log.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::http::Extensions;

use super::client::Client;
use super::envelope::RequestId;
use crate::auth::Caller;
use crate::store::audit::Who;

/// Who turned out to ask and from where, for what is outside of where that is found out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asker(Arc<Found>);

#[derive(Debug, Default)]
struct Found {
    who: OnceLock<Who>,
    client: OnceLock<IpAddr>,
    is_outside: AtomicBool,
}

impl Asker {
    /// It is these.
    pub(crate) fn is(&self, who: &Who) {
        let _ = self.0.who.set(who.clone());
    }

    /// The request comes from there.
    pub(crate) fn comes_from(&self, client: IpAddr) {
        let _ = self.0.client.set(client);
    }

    /// Nobody is let in from there.
    pub(crate) fn stays_outside(&self) {
        self.0.is_outside.store(true, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub(crate) fn is_outside(&self) -> bool {
        self.0.is_outside.load(Ordering::Relaxed)
    }

    /// Who it is; of strangers where they come from.
    pub(crate) fn who(&self, request_id: &str) -> Who {
        let client = self.0.client.get().copied();
        let stranger = || Who { client, request_id: request_id.to_owned(), ..Who::default() };
        self.0.who.get().cloned().unwrap_or_else(stranger)
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
