//! `/metrics` over HTTP, on an address of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use prometheus_client::registry::Registry;

use super::metrics::Metrics;

/// The media type of OpenMetrics, which Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves a registry for as long as the process lives; gives the bound address.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(address: SocketAddr, registry: Arc<Registry>) -> anyhow::Result<SocketAddr> {
    let listener =
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("metrics address {address}"))?;
    let bound = listener.local_addr()?;
    let scrape = move || {
        let registry = registry.clone();
        async move { ([(CONTENT_TYPE, OPEN_METRICS)], Metrics::text(&registry)) }
    };
    let health = || async { ([(CONTENT_TYPE, "application/json")], "{\"status\":\"ok\"}") };
    let router = Router::new().route("/metrics", get(scrape)).route("/health", get(health));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(bound)
}
