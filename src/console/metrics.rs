//! `/metrics` for Prometheus, on a port of its own: a scraper needs no login, and so must see nothing of the pages.

use super::ConsoleError;
use super::connection::Door;
use axum::Router;
use axum::http::header;
use axum::routing::get;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The format's own name.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Requests under way get this long when the service stops.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The `[metrics]` part of the configuration. There is no login: beyond loopback everybody who reaches the port reads temperatures,
/// counts and versions. No patient data is among them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Address and port.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9480))
}

/// What is answered: the whole text, made at each request.
pub type Text = Arc<dyn Fn() -> String + Send + Sync>;

/// Answers scrapers until `stopped` becomes true. Needs a tokio runtime with time and network.
pub async fn serve_metrics(
    listener: std::net::TcpListener,
    text: Text,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), ConsoleError> {
    let failed = |source| ConsoleError::System { action: "opening the port of the metrics", source };
    listener.set_nonblocking(true).map_err(failed)?;
    let door = Door::new(tokio::net::TcpListener::from_std(listener).map_err(failed)?);
    let answer = async move || ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], text());
    let router = Router::new().route("/metrics", get(answer));
    tokio::select! {
        ended = async { axum::serve(door, router).await } => ended.map_err(failed),
        _ = async {
            // A sender that is gone means the service is gone.
            let _ = stopped.wait_for(|s| *s).await;
            tokio::time::sleep(STOP_GRACE).await;
        } => Ok(()),
    }
}
