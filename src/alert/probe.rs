//! One connection to the site's broker, to see whether there could be one.

use super::error::AlertError;
use super::link::{Link, LinkEvent};
use super::{Config, session};
use std::time::Duration;

/// Connects as the box would (address, TLS, login), under a client id of its own so that the running service keeps its session, and
/// leaves at once. Returns what the broker said; needs a tokio runtime.
pub async fn probe(config: &Config, within: Duration) -> Result<(), AlertError> {
    let broker = config.broker.as_ref().ok_or(AlertError::NoBroker)?;
    let mut options = session::link_options(config, broker);
    options.client_id.push_str("-probe");
    options.last_will = None;
    let mut link = Link::open(&options)?;
    let answer = async {
        match link.events.recv().await {
            Some(LinkEvent::Up { client, .. }) => {
                // Whether the goodbye is heard is the broker's affair.
                let _ = client.try_disconnect();
                Ok(())
            }
            Some(LinkEvent::Down { error, .. }) => Err(error),
            _ => Err(AlertError::Unreachable { broker: broker.to_string(), why: "no answer".into() }),
        }
    };
    let late = || AlertError::Unreachable { broker: broker.to_string(), why: "no answer in time".into() };
    tokio::time::timeout(within, answer).await.unwrap_or_else(|_| Err(late()))
}
