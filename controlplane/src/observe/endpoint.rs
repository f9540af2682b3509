//! `/metrics` over HTTP, on an address of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use prometheus_client::registry::Registry;

use super::metrics::Metrics;
use crate::api::server::{self, Limits, Transport};

/// The media type of OpenMetrics, which Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Few ask, and what they are given is short.
const LIMITS: Limits = Limits {
    connections: 64,
    connections_per_client: 32,
    header_octets: 8 << 10,
    header_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(10),
    read_octets_per_s: 8 << 10,
    drain_timeout: Duration::ZERO,
};

/// Serves a registry for as long as the process lives; gives the bound address.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    registry: Arc<Registry>,
    metrics: Metrics,
) -> anyhow::Result<SocketAddr> {
    let listener =
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("metrics address {address}"))?;
    let bound = listener.local_addr()?;
    let scrape = move || {
        let registry = registry.clone();
        async move { ([(CONTENT_TYPE, OPEN_METRICS)], Metrics::text(&registry)) }
    };
    let health = || async { ([(CONTENT_TYPE, "application/json")], "{\"status\":\"ok\"}") };
    let router = Router::new().route("/metrics", get(scrape)).route("/health", get(health));
    tokio::spawn(server::serve(listener, Transport::Plain, router, LIMITS, metrics, std::future::pending()));
    Ok(bound)
}
