//! What metrics are counted by.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// Labels of a request: the route's template, never a path with names in it.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct RequestLabels {
    /// As in the API's documentation; `unmatched` for what is no route.
    pub route: String,
    /// HTTP status.
    pub status: u16,
}

/// A limit that was reached: something was refused, cut short or closed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs, reason = "`docs/metrics.md` says of each which setting it is")]
pub enum Limit {
    Connections,
    ConnectionsPerClient,
    HeaderOctets,
    HeaderTime,
    Requests,
    RequestTime,
    BodyOctets,
    BodyTime,
    BodyLength,
    WriteTime,
    Exports,
    Listeners,
    ExportTime,
    HandshakeTime,
    Resyncs,
    Buffer,
    BufferDisk,
    Networks,
    TenantNetworks,
    UrlOctets,
    RateAddress,
    RateAccount,
    RateToken,
    RateZone,
    Resets,
    TenantZones,
    TenantRecords,
    TenantChanges,
}

impl Limit {
    /// Every one of them.
    pub const ALL: &[Limit] = &[
        Limit::Connections,
        Limit::ConnectionsPerClient,
        Limit::HeaderOctets,
        Limit::HeaderTime,
        Limit::Requests,
        Limit::RequestTime,
        Limit::BodyOctets,
        Limit::BodyTime,
        Limit::BodyLength,
        Limit::WriteTime,
        Limit::Exports,
        Limit::Listeners,
        Limit::ExportTime,
        Limit::HandshakeTime,
        Limit::Resyncs,
        Limit::Buffer,
        Limit::BufferDisk,
        Limit::Networks,
        Limit::TenantNetworks,
        Limit::UrlOctets,
        Limit::RateAddress,
        Limit::RateAccount,
        Limit::RateToken,
        Limit::RateZone,
        Limit::Resets,
        Limit::TenantZones,
        Limit::TenantRecords,
        Limit::TenantChanges,
    ];
}

impl EncodeLabelValue for Limit {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            Limit::Connections => "connections",
            Limit::ConnectionsPerClient => "connections_per_client",
            Limit::HeaderOctets => "header_octets",
            Limit::HeaderTime => "header_time",
            Limit::Requests => "requests",
            Limit::RequestTime => "request_time",
            Limit::BodyOctets => "body_octets",
            Limit::BodyTime => "body_time",
            Limit::BodyLength => "body_length",
            Limit::WriteTime => "write_time",
            Limit::Exports => "exports",
            Limit::ExportTime => "export_time",
            Limit::Listeners => "listeners",
            Limit::HandshakeTime => "handshake_time",
            Limit::Resyncs => "resyncs",
            Limit::Buffer => "buffer",
            Limit::BufferDisk => "buffer_disk",
            Limit::Networks => "networks",
            Limit::TenantNetworks => "tenant_networks",
            Limit::UrlOctets => "url_octets",
            Limit::RateAddress => "rate_address",
            Limit::RateAccount => "rate_account",
            Limit::RateToken => "rate_token",
            Limit::RateZone => "rate_zone",
            Limit::Resets => "resets",
            Limit::TenantZones => "tenant_zones",
            Limit::TenantRecords => "tenant_records",
            Limit::TenantChanges => "tenant_changes",
        };
        name.encode(encoder)
    }
}

/// Labels of a limit.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct LimitLabels {
    /// Which one.
    pub limit: Limit,
}

/// How an attempt at a job ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs, reason = "`docs/metrics.md` says what each is")]
pub enum JobOutcome {
    Done,
    Retried,
    Failed,
    Lost,
    Released,
}

impl JobOutcome {
    /// Every one of them.
    pub const ALL: &[JobOutcome] =
        &[JobOutcome::Done, JobOutcome::Retried, JobOutcome::Failed, JobOutcome::Lost, JobOutcome::Released];
}

impl EncodeLabelValue for JobOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            JobOutcome::Done => "done",
            JobOutcome::Retried => "retried",
            JobOutcome::Failed => "failed",
            JobOutcome::Lost => "lost",
            JobOutcome::Released => "released",
        };
        name.encode(encoder)
    }
}

/// Labels of an attempt at a job.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct JobLabels {
    /// The job's kind.
    pub kind: String,
    /// How it ended.
    pub outcome: JobOutcome,
}

/// What came of a call to a server of others.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs, reason = "`docs/metrics.md` says what each is")]
pub enum CallOutcome {
    Answered,
    Refused,
    Failed,
    Lost,
}

impl CallOutcome {
    /// Every one of them.
    pub const ALL: &[CallOutcome] =
        &[CallOutcome::Answered, CallOutcome::Refused, CallOutcome::Failed, CallOutcome::Lost];
}

impl EncodeLabelValue for CallOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            CallOutcome::Answered => "answered",
            CallOutcome::Refused => "refused",
            CallOutcome::Failed => "failed",
            CallOutcome::Lost => "lost",
        };
        name.encode(encoder)
    }
}

/// What came of an attempt to deliver something to a webhook.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs, reason = "`docs/metrics.md` says what each is")]
pub enum DeliveryOutcome {
    Delivered,
    Retried,
    GivenUp,
    TurnedOff,
}

impl DeliveryOutcome {
    /// Every one of them.
    pub const ALL: &[DeliveryOutcome] = &[
        DeliveryOutcome::Delivered,
        DeliveryOutcome::Retried,
        DeliveryOutcome::GivenUp,
        DeliveryOutcome::TurnedOff,
    ];
}

impl EncodeLabelValue for DeliveryOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            DeliveryOutcome::Delivered => "delivered",
            DeliveryOutcome::Retried => "retried",
            DeliveryOutcome::GivenUp => "given_up",
            DeliveryOutcome::TurnedOff => "turned_off",
        };
        name.encode(encoder)
    }
}

/// Labels of a delivery.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct DeliveryLabels {
    /// What came of it.
    pub outcome: DeliveryOutcome,
}

/// Labels of a call.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct CallLabels {
    /// What came of it.
    pub outcome: CallOutcome,
}
