//! A broker inside this process, on loopback: for the demo, and for `serve` where a site names none. Everything is in memory; that
//! loses no alert, since the outbox keeps each one until a station answered.

use super::config::BrokerAddress;
use super::error::AlertError;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The broker answers within this time, or the start failed.
const START_WITHIN: Duration = Duration::from_secs(5);
/// Boxes and stations at once.
const CONNECTIONS_MAX: usize = 100;
/// Largest packet, in bytes; the outbox holds at most 16 KiB.
const PACKET_BYTES_MAX: usize = 256 * 1024;
/// Kept for subscribers that are away: 10 segments of 1 MiB for each topic filter.
const SEGMENT_BYTES: usize = 1024 * 1024;
const N_SEGMENTS: usize = 10;
/// CONNECT of MQTT 5, clean start, keep-alive 5 s, client id `metwatch-probe`.
const CONNECT: &[u8] = b"\x10\x1b\x00\x04MQTT\x05\x02\x00\x05\x00\x00\x0emetwatch-probe";
const DISCONNECT: &[u8] = b"\xe0\x00";

/// A running broker. It cannot be stopped; it ends with the process.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedBroker {
    address: SocketAddr,
}

impl EmbeddedBroker {
    /// Starts a broker on 127.0.0.1 and returns once it answers. It speaks MQTT 5 alone: the 3.1.1 side of rumqttd 0.20 panics when
    /// it has to pass on a message with properties, as ours are. Port 0 takes a free one.
    pub fn start(port: u16) -> Result<EmbeddedBroker, AlertError> {
        let address = free(port)?;
        let mut broker = Broker::new(config(address));
        let failed = |why: String| AlertError::NoEmbedded { port, why };
        std::thread::Builder::new()
            .name("mqtt-broker".into())
            .spawn(move || {
                if let Err(error) = broker.start() {
                    tracing::error!(%error, "the embedded broker ended");
                }
            })
            .map_err(|e| failed(e.to_string()))?;
        let end = Instant::now() + START_WITHIN;
        while let Err(error) = probe(address) {
            if end < Instant::now() {
                return Err(failed(format!("it does not answer: {error}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(EmbeddedBroker { address })
    }

    /// Where it answers.
    pub fn address(&self) -> BrokerAddress {
        self.address.into()
    }
}

/// The broker binds by itself and tells nobody if it cannot: so whether the port is free is asked first.
fn free(port: u16) -> Result<SocketAddr, AlertError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .and_then(|listener| listener.local_addr())
        .map_err(|e| AlertError::NoEmbedded { port, why: e.to_string() })
}

/// A whole greeting: a listening socket alone may be another program's.
fn probe(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(CONNECT)?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    stream.write_all(DISCONNECT)?;
    if first == [0x20] { Ok(()) } else { Err(std::io::Error::other("another program answers on this port")) }
}

fn config(address: SocketAddr) -> Config {
    let server = ServerSettings {
        name: "mqtt-v5".into(),
        listen: address,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5000,
            max_payload_size: PACKET_BYTES_MAX,
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let router = RouterConfig {
        max_connections: CONNECTIONS_MAX,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: N_SEGMENTS,
        ..RouterConfig::default()
    };
    Config { router, v5: Some(HashMap::from([("1".to_owned(), server)])), ..Config::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_has_the_length_it_claims() {
        assert_eq!(CONNECT.len(), 2 + usize::from(CONNECT[1]));
    }

    #[test]
    fn a_port_in_use_is_told() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(matches!(EmbeddedBroker::start(port), Err(AlertError::NoEmbedded { port: p, .. }) if p == port));
    }
}
