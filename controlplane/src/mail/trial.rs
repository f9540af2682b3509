//! A message that says nothing, for an operator to see whether mail arrives: the whole way, job and all.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Mailer, Message};
use crate::jobs::{Claimed, Kind, Lease, Work};

/// Name of the kind.
pub const MAIL_TEST: &str = "mail.test";

/// Its payload.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// An address.
    pub to: String,
}

/// Does jobs of the kind.
#[derive(Debug)]
pub struct Trial(pub Arc<Mailer>);

impl Kind for Trial {
    fn name(&self) -> &'static str {
        MAIL_TEST
    }

    fn run<'a>(&'a self, job: &'a Claimed, lease: &'a Lease) -> Work<'a> {
        Box::pin(async move {
            let Recipient { to } = job.payload()?;
            lease.hold().await?;
            let message = Message {
                to,
                subject: "Godwit: a test".to_owned(),
                text: "Mail from this Godwit arrives. Nothing is to be done.\n".to_owned(),
            };
            Ok(self.0.send(&message).await?)
        })
    }
}
