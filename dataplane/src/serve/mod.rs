//! Packet in, packet out.
//!
//! The rules of the hot path, from a datagram's arrival to its answer's departure: no allocation, no lock, no shared
//! counter, no log line, no clock read that a batch can share, no count of references touched, no system call but the
//! batched receive and send. A worker owns its sockets, buffers, counters and snapshot handle, takes the snapshot once
//! per batch, and looks at it when idle too, or it would hold an old one for ever.
//!
//! - [`sockets`]: which sockets the workers get; [`handover`]: from whom, and to whom they go on;
//! - [`udp`], [`tcp`]: the workers; [`limit`]: how many TCP connections there may be;
//! - [`rate`]: how many answers of a kind one client network gets over UDP;
//! - [`secrets`]: the file with the secrets of server cookies;
//! - [`respond`]: the border to the engine, which is behind it in [`engine`].

pub mod engine;
pub mod handover;
pub mod limit;
pub mod rate;
pub mod respond;
pub mod secrets;
pub mod sockets;
pub mod tcp;
pub mod udp;
