//! Records as dnstap messages (<https://dnstap.info>, its `dnstap.proto`), each in a data frame: AUTH_QUERY with the
//! query as it came, and AUTH_RESPONSE with the answer as it left. What got no answer has no second one.

use std::net::{IpAddr, SocketAddr};

use prost::Message as _;

use super::frame_stream;
use super::record::Record;

/// Writes records as dnstap.
pub(super) struct Dnstap {
    identity: Vec<u8>,
}

impl Dnstap {
    pub(super) fn new(node: &str) -> Self {
        Dnstap { identity: node.as_bytes().to_vec() }
    }

    /// Appends the frames of a record.
    pub(super) fn append(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let head = &record.head;
        let (query_time_sec, query_time_nsec) = split(head.times.received_us);
        let mut message = Message {
            r#type: MessageType::AuthQuery.into(),
            socket_family: Some(
                if head.client.is_ipv4() { SocketFamily::Inet } else { SocketFamily::Inet6 }.into(),
            ),
            socket_protocol: Some(if head.tcp { SocketProtocol::Tcp } else { SocketProtocol::Udp }.into()),
            query_address: Some(address(head.client)),
            response_address: Some(address(head.server)),
            query_port: Some(head.client.port().into()),
            response_port: Some(head.server.port().into()),
            query_time_sec,
            query_time_nsec,
            query_message: Some(record.query.to_vec()),
            ..Message::default()
        };
        self.frame(&message, out);
        if head.dropped.is_some() {
            return;
        }
        (message.response_time_sec, message.response_time_nsec) = split(head.times.answered_us);
        message.r#type = MessageType::AuthResponse.into();
        message.query_message = None;
        message.response_message = Some(record.response.to_vec());
        self.frame(&message, out);
    }

    fn frame(&self, message: &Message, out: &mut Vec<u8>) {
        let tap = Tap {
            identity: Some(self.identity.clone()),
            version: Some(VERSION.as_bytes().to_vec()),
            message: Some(message.clone()),
            r#type: TapType::Message.into(),
        };
        frame_stream::data(tap.encoded_len(), out);
        // Writing to a vector does not fail: it grows.
        let _ = tap.encode(out);
    }
}

/// What this server calls itself.
const VERSION: &str = concat!("godwit ", env!("CARGO_PKG_VERSION"));

fn address(of: SocketAddr) -> Vec<u8> {
    match of.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Seconds, and nanoseconds beside them.
fn split(at_us: i64) -> (Option<u64>, Option<u32>) {
    let nanoseconds = u32::try_from(at_us.rem_euclid(1_000_000) * 1_000).ok();
    (u64::try_from(at_us.div_euclid(1_000_000)).ok(), nanoseconds)
}

/// `Dnstap` of `dnstap.proto`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Tap {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) version: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    pub(super) message: Option<Message>,
    #[prost(enumeration = "TapType", required, tag = "15")]
    pub(super) r#type: i32,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub(super) enum TapType {
    Message = 1,
}

/// `Message` of `dnstap.proto`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(enumeration = "MessageType", required, tag = "1")]
    pub(super) r#type: i32,
    #[prost(enumeration = "SocketFamily", optional, tag = "2")]
    pub(super) socket_family: Option<i32>,
    #[prost(enumeration = "SocketProtocol", optional, tag = "3")]
    pub(super) socket_protocol: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) query_address: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(super) response_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "6")]
    pub(super) query_port: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    pub(super) response_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    pub(super) query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    pub(super) query_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    pub(super) query_message: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    pub(super) response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    pub(super) response_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub(super) response_message: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub(super) enum MessageType {
    AuthQuery = 1,
    AuthResponse = 2,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub(super) enum SocketFamily {
    Inet = 1,
    Inet6 = 2,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub(super) enum SocketProtocol {
    Udp = 1,
    Tcp = 2,
}
