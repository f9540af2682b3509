//! What a run of the generator is to do.

use std::net::SocketAddr;
use std::time::Duration;

/// How the load is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// UDP, closed loop.
    Saturate {
        /// Sockets, each with its own source port.
        sockets: u16,
        /// Queries in flight on each.
        window: u16,
    },
    /// UDP, open loop.
    Rate {
        /// Sockets.
        sockets: u16,
        /// Queries a second over all sockets.
        per_second: u32,
    },
    /// TCP, connections that stay.
    Tcp {
        /// How many.
        connections: u16,
        /// Queries in flight on each.
        in_flight: u16,
    },
    /// TCP, one query on each connection.
    TcpConnect {
        /// Connections at a time.
        concurrent: u16,
    },
}

/// A run: where to, how, how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub server: SocketAddr,
    /// How the load is offered.
    pub shape: Shape,
    /// Before measuring.
    pub warm_up: Duration,
    /// Of the measurement.
    pub duration: Duration,
    /// How long answers are waited for after it.
    pub patience: Duration,
    /// How many answers to keep for comparing.
    pub samples: usize,
}
