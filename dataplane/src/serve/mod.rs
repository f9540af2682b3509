//! Packet in, packet out.

pub mod limit;
pub mod respond;
pub mod tcp;
pub mod udp;
