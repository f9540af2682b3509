//! Packet in, packet out.

pub mod engine;
pub mod handover;
pub mod limit;
pub mod respond;
pub mod sockets;
pub mod tcp;
pub mod udp;
