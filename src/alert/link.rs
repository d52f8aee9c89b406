//! One connection to a broker, kept up: options, TLS, back-off, and a task that does nothing but poll.
//!
//! The client library deadlocks if the task that polls awaits a call to the client, so it is alone in its task and tells what
//! happens through a channel. After a break it waits until the receiver has heard of it: what is handed over to a client that is
//! down would otherwise be sent later without anyone knowing.

use super::config::{BrokerAddress, Tls};
use super::error::AlertError;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, LastWill, Packet, PubAckReason, Publish,
    SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// Requests that wait for the polling task.
const REQUESTS_MAX: usize = 64;
/// Happenings that wait for the receiver.
const EVENTS_MAX: usize = 256;
/// Places for unacknowledged publishes; the library would reserve 65,535.
const INFLIGHT_MAX: u16 = 32;
/// Largest packet that is accepted, in bytes.
const PACKET_BYTES_MAX: u32 = 256 * 1024;
/// The broker keeps the session of a box or station that is away, in seconds.
const SESSION_EXPIRY_S: u32 = 24 * 3600;
/// The library accepts no shorter keep-alive, in seconds.
const KEEP_ALIVE_MIN_S: u16 = 5;
/// A connection that lasted this long was a good one: the next attempt is early again.
const SETTLED: Duration = Duration::from_secs(5);

/// So many connections in a row that were lost before that mean that something is wrong. A broker that gives a client id to another
/// client need not say so: mosquitto 2.0.11 closes the connection without a word.
const SHORT_MAX: u32 = 3;

/// After a panic of the client library.
const PANIC_PAUSE: Duration = Duration::from_secs(2);

/// What a connection needs.
pub(super) struct LinkOptions<'a> {
    pub broker: &'a BrokerAddress,
    pub client_id: String,
    pub username: Option<&'a str>,
    pub password_file: Option<&'a Path>,
    pub tls: Option<&'a Tls>,
    pub keep_alive_s: u16,
    pub last_will: Option<LastWill>,
}

/// What happens on a connection, in order.
pub(super) enum LinkEvent {
    /// CONNACK. `resumed`: both sides still have the session.
    Up { client: AsyncClient, resumed: bool, packet_bytes_max: Option<u32> },
    /// A publish left, the first time or again; 0 for QoS 0.
    Sent(u16),
    /// PUBACK.
    Acked(u16, PubAckReason),
    /// A message for this client; the receiver acknowledges it.
    Message(Publish),
    /// SUBACK with a refusal.
    SubscriptionRefused,
    /// The connection is down, or could not be made. Polling goes on after `proceed`.
    Down { error: AlertError, proceed: oneshot::Sender<()> },
}

/// A connection that is kept up until this is dropped.
pub(super) struct Link {
    pub events: mpsc::Receiver<LinkEvent>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Starts to connect; files are read here, so that a wrong one is told at once.
    pub fn open(options: &LinkOptions) -> Result<Link, AlertError> {
        let broker = options.broker.to_string();
        let options = mqtt_options(options)?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        Ok(Link { events, task: tokio::spawn(supervise(options, broker, sender)) })
    }
}

/// Reads what the options name, without connecting.
pub(super) fn verify(options: &LinkOptions) -> Result<(), AlertError> {
    mqtt_options(options).map(|_| ())
}

/// Bytes from outside reach the client library before they reach us: a panic there must not end the alerts.
async fn supervise(options: MqttOptions, broker: String, sender: mpsc::Sender<LinkEvent>) {
    loop {
        let mut polling = JoinSet::new();
        polling.spawn(poll(options.clone(), broker.clone(), sender.clone()));
        match polling.join_next().await {
            Some(Err(error)) if error.is_panic() => {}
            _ => return,
        }
        let (proceed, heard) = oneshot::channel();
        let error = AlertError::Lost {
            broker: broker.clone(),
            why: "the client library broke down over what the broker sent".into(),
        };
        if sender.send(LinkEvent::Down { error, proceed }).await.is_err() || heard.await.is_err() {
            return;
        }
        tokio::time::sleep(PANIC_PAUSE).await;
    }
}

async fn poll(options: MqttOptions, broker: String, sender: mpsc::Sender<LinkEvent>) {
    let (mut client, mut event_loop) = AsyncClient::new(options.clone(), REQUESTS_MAX);
    let mut back_off = BackOff::new();
    let mut is_new = true;
    let mut up_since: Option<Instant> = None;
    let mut n_short = 0;
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                up_since = Some(Instant::now());
                let up = up(client.clone(), &ack, is_new);
                is_new = false;
                if sender.send(up).await.is_err() {
                    return;
                }
            }
            Ok(event) => {
                if let Some(event) = translate(event)
                    && sender.send(event).await.is_err()
                {
                    return;
                }
            }
            Err(error) => {
                let renew = needs_renewal(&error) || event_loop.state.collision.is_some();
                let lasted = up_since.take().map(|since| since.elapsed());
                match lasted {
                    Some(time) if SETTLED <= time => (back_off, n_short) = (BackOff::new(), 0),
                    Some(_) => n_short += 1,
                    None => {}
                }
                let error = match explain(error, lasted.is_some(), &broker) {
                    AlertError::Lost { broker, why } if SHORT_MAX <= n_short => AlertError::Unstable { broker, why },
                    error => error,
                };
                if tell_down(&mut event_loop, error, &sender).await.is_err() {
                    return;
                }
                if renew {
                    (client, event_loop) = AsyncClient::new(options.clone(), REQUESTS_MAX);
                    is_new = true;
                } else {
                    event_loop.clean();
                }
                tokio::time::sleep(back_off.next()).await;
            }
        }
    }
}

fn up(client: AsyncClient, ack: &ConnAck, is_new: bool) -> LinkEvent {
    let packet_bytes_max = ack.properties.as_ref().and_then(|p| p.max_packet_size);
    LinkEvent::Up { client, resumed: ack.session_present && !is_new, packet_bytes_max }
}

/// Tells what still belongs to the connection that broke, then that it broke, and waits until that was heard.
async fn tell_down(event_loop: &mut EventLoop, error: AlertError, sender: &mpsc::Sender<LinkEvent>) -> Result<(), ()> {
    for event in event_loop.state.events.drain(..).filter_map(translate) {
        sender.send(event).await.map_err(|_| ())?;
    }
    let (proceed, heard) = oneshot::channel();
    sender.send(LinkEvent::Down { error, proceed }).await.map_err(|_| ())?;
    heard.await.map_err(|_| ())
}

fn translate(event: Event) -> Option<LinkEvent> {
    match event {
        Event::Outgoing(Outgoing::Publish(packet_id)) => Some(LinkEvent::Sent(packet_id)),
        Event::Incoming(Packet::PubAck(ack)) => Some(LinkEvent::Acked(ack.pkid, ack.reason)),
        Event::Incoming(Packet::Publish(publish)) => Some(LinkEvent::Message(publish)),
        Event::Incoming(Packet::SubAck(ack)) => {
            let taken = ack.return_codes.iter().all(|c| matches!(c, SubscribeReasonCode::Success(_)));
            (!taken).then_some(LinkEvent::SubscriptionRefused)
        }
        _ => None,
    }
}

/// After these the library's own state cannot be trusted: a colliding packet id is in no list and would be lost without a word.
fn needs_renewal(error: &ConnectionError) -> bool {
    use StateError::{AwaitPingResp, ConnectionAborted, Io, ServerDisconnect};
    matches!(error, ConnectionError::MqttState(state) if !matches!(state, Io(_) | ConnectionAborted | AwaitPingResp | ServerDisconnect { .. }))
}

fn explain(error: ConnectionError, was_up: bool, broker: &str) -> AlertError {
    use ConnectReturnCode::{BadAuthenticationMethod, BadUserNamePassword, Banned, NotAuthorized};
    let broker = broker.to_owned();
    match error {
        ConnectionError::Timeout(_) => AlertError::Unreachable { broker, why: "no answer in time".into() },
        ConnectionError::Tls(error) => AlertError::Insecure { broker, why: error.to_string() },
        ConnectionError::ConnectionRefused(
            code @ (BadUserNamePassword | NotAuthorized | Banned | BadAuthenticationMethod),
        ) => AlertError::Refused { broker, reason: format!("{code:?}") },
        ConnectionError::ConnectionRefused(code) => AlertError::NotAccepted { broker, reason: format!("{code:?}") },
        ConnectionError::NotConnAck(_) => AlertError::NotAccepted { broker, reason: "its answer is not MQTT 5".into() },
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => AlertError::TakenOver { broker },
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            AlertError::Lost { broker, why: format!("the broker closed it: {reason_code:?}") }
        }
        ConnectionError::Io(error) if !was_up => AlertError::Unreachable { broker, why: error.to_string() },
        error if was_up => AlertError::Lost { broker, why: error.to_string() },
        ConnectionError::MqttState(StateError::ConnectionAborted) => AlertError::NotAccepted {
            broker,
            reason: "it closed the connection without an answer; does it expect TLS?".into(),
        },
        error => AlertError::NotAccepted { broker, reason: error.to_string() },
    }
}

fn mqtt_options(link: &LinkOptions) -> Result<MqttOptions, AlertError> {
    let mut options = MqttOptions::new(link.client_id.as_str(), link.broker.host.as_str(), link.broker.port);
    options
        .set_clean_start(false)
        .set_keep_alive(Duration::from_secs(link.keep_alive_s.max(KEEP_ALIVE_MIN_S).into()))
        .set_manual_acks(true)
        .set_outgoing_inflight_upper_limit(INFLIGHT_MAX)
        .set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(SESSION_EXPIRY_S),
            receive_maximum: Some(INFLIGHT_MAX),
            max_packet_size: Some(PACKET_BYTES_MAX),
            ..ConnectProperties::new()
        });
    // Manual acknowledgements are small and single: Nagle's algorithm would hold them back.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some(will) = &link.last_will {
        options.set_last_will(will.clone());
    }
    match (link.username, link.password_file) {
        (Some(username), Some(file)) => {
            let text = String::from_utf8_lossy(&read_secret(file)?).into_owned();
            options.set_credentials(username, text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r'));
        }
        (None, None) => {}
        (Some(_), None) => return Err(AlertError::HalfLogin { present: "username", missing: "password_file" }),
        (None, Some(_)) => return Err(AlertError::HalfLogin { present: "password_file", missing: "username" }),
    }
    if let Some(tls) = link.tls {
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(tls_config(tls)?))));
    }
    Ok(options)
}

fn tls_config(tls: &Tls) -> Result<rustls::ClientConfig, AlertError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&tls.ca_file)?);
    if roots.is_empty() {
        return Err(AlertError::BadPem { path: tls.ca_file.clone(), what: "certificate" });
    }
    let unusable = |error: rustls::Error| AlertError::BadClientCertificate { why: error.to_string() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots);
    match (&tls.client_cert_file, &tls.client_key_file) {
        (Some(cert), Some(key)) => {
            let bytes = read_secret(key)?;
            let key = PrivateKeyDer::from_pem_slice(&bytes)
                .map_err(|_| AlertError::BadPem { path: key.clone(), what: "private key" })?;
            config.with_client_auth_cert(certificates(cert)?, key).map_err(unusable)
        }
        (None, None) => Ok(config.with_no_client_auth()),
        _ => {
            Err(AlertError::BadClientCertificate { why: "client_cert_file and client_key_file belong together".into() })
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AlertError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(AlertError::BadPem { path: path.into(), what: "certificate" }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, AlertError> {
    std::fs::read(path).map_err(|source| AlertError::File { path: path.into(), source })
}

/// Reads a file that only its owner may read.
fn read_secret(path: &Path) -> Result<Vec<u8>, AlertError> {
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(path).map_err(|source| AlertError::File { path: path.into(), source })?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 { Err(AlertError::OpenSecret { path: path.into(), mode }) } else { read(path) }
}

/// 200 ms, doubling to 30 s, each a quarter more or less, so that boxes do not come back in step.
#[derive(Debug)]
struct BackOff {
    next_ms: u64,
    seed: u64,
}

impl BackOff {
    const FIRST_MS: u64 = 200;
    const LAST_MS: u64 = 30_000;

    fn new() -> Self {
        let nanos =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        BackOff { next_ms: Self::FIRST_MS, seed: u64::from(nanos) ^ (u64::from(std::process::id()) << 32) }
    }

    fn next(&mut self) -> Duration {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let percent = 75 + (self.seed >> 33) % 51;
        let wait = Duration::from_millis(self.next_ms * percent / 100);
        self.next_ms = (self.next_ms * 2).min(Self::LAST_MS);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_from_200_ms_to_30_s_within_a_quarter() {
        let mut back_off = BackOff::new();
        for expected in [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000] {
            let wait = back_off.next().as_millis();
            assert!((expected * 3 / 4..=expected * 5 / 4).contains(&wait), "{wait} for {expected}");
        }
    }

    #[test]
    fn files_of_the_configuration_are_told_apart() {
        let folder = std::env::temp_dir().join(format!("metwatch-link-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = folder.join("text.pem");
        std::fs::write(&text, "no pem").unwrap();
        let tls = |file: &Path| Tls { ca_file: file.into(), client_cert_file: None, client_key_file: None };
        assert!(matches!(tls_config(&tls(&text)), Err(AlertError::BadPem { .. })));
        assert!(matches!(tls_config(&tls(&folder.join("none"))), Err(AlertError::File { .. })));
        std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(read_secret(&text), Err(AlertError::OpenSecret { mode: 0o644, .. })));
        std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(read_secret(&text).unwrap(), b"no pem");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
