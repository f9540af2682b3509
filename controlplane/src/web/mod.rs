//! Pages for people, without scripts.
//!
//! - [`links`]: where the links in mails lead.

pub(crate) mod links;
