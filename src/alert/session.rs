//! The box's client: joins the outbox, the rules of delivery and the connection.

use super::config::{Config, topic};
use super::delivery::{Delivery, Policy, Receipt, Send, Step};
use super::error::AlertError;
use super::link::{Link, LinkEvent, LinkOptions};
use super::notice::Notice;
use super::payload::{Presence, STATUS_SCHEMA, StatusV1, read_ack, rfc3339, with_attempt};
use crate::store::{AuditNote, OutboxKind, OutboxState, Store};
use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, LastWillProperties, PubAckReason, Publish, PublishProperties};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

/// Messages at the broker without its receipt (rule 3); mosquitto takes 20.
const WINDOW: usize = 8;
/// How often time is looked at; repetitions and escalations are that exact.
const TICK: Duration = Duration::from_millis(100);
/// The outbox is read again at most this often: every receipt changes it.
const READ_PAUSE: Duration = Duration::from_millis(100);
/// A wait for the outbox blocks its thread this long, and so a stop.
const OUTBOX_WAIT: Duration = Duration::from_millis(250);
/// The goodbye may take this long.
const GOODBYE: Duration = Duration::from_secs(1);
/// Header, topic and properties of a packet around its payload, at most, in bytes.
const PACKET_OVERHEAD: usize = 1024;

/// Brings the outbox to the site's broker until `stop` becomes true (or its sender is gone), then says goodbye.
///
/// Errors of the configuration and of the outbox at the start are returned; whatever happens later is told through `on_notice`
/// and survived. `health` is JSON that is published at every change while connected (QoS 0; empty text is not).
/// Dropping the future is safe at any moment: what was not acknowledged is sent again by the next `run`.
pub async fn run<F>(
    config: Config,
    store: Arc<Store>,
    mut health: watch::Receiver<String>,
    mut stop: watch::Receiver<bool>,
    on_notice: F,
) -> Result<(), AlertError>
where
    F: Fn(&Notice) + Sync + std::marker::Send,
{
    let mut link = open(&config)?;
    let policy = Policy {
        window: WINDOW,
        resend_ms: i64::from(config.resend_s) * 1000,
        escalate_ms: i64::from(config.escalate_s) * 1000,
    };
    let mut session = Session {
        config,
        store: store.clone(),
        delivery: Delivery::new(policy),
        client: None,
        packet_bytes_max: usize::MAX,
        last_down: "",
        read_at: None,
        read_due: Some(Instant::now()),
        on_notice,
    };
    session.read_outbox().await?;
    let mut outbox = watch_outbox(store);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !*stop.borrow_and_update() {
        tokio::select! {
            event = link.events.recv() => match event {
                Some(event) => session.handle(event).await,
                None => break,
            },
            _ = outbox.changed() => session.read_due = session.read_due.or(Some(Instant::now())),
            Ok(()) = health.changed() => session.publish_health(&health.borrow_and_update().clone()),
            _ = tick.tick() => session.tick().await,
            changed = stop.changed() => if changed.is_err() { break },
        }
        session.read_if_due().await;
        session.hand_over().await;
    }
    session.say_goodbye(&mut link).await;
    Ok(())
}

impl Config {
    /// Reads what the configuration names (password, certificates), as [`run`] would; for `metwatch check`. Without a broker there
    /// is nothing to read.
    pub fn verify(&self) -> Result<(), AlertError> {
        match &self.broker {
            Some(broker) => super::link::verify(&link_options(self, broker)),
            None => Ok(()),
        }
    }
}

pub(super) fn link_options<'a>(config: &'a Config, broker: &'a super::BrokerAddress) -> LinkOptions<'a> {
    let properties = LastWillProperties {
        delay_interval: Some(config.will_delay_s),
        payload_format_indicator: Some(1),
        message_expiry_interval: None,
        content_type: Some("application/json".into()),
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let will = status(config, Presence::Offline, "connection lost");
    LinkOptions {
        broker,
        client_id: config.client_id(),
        username: config.username.as_deref(),
        password_file: config.password_file.as_deref(),
        tls: config.tls.as_ref(),
        keep_alive_s: config.keep_alive_s,
        last_will: Some(LastWill::new(config.topic(topic::STATUS), will, QoS::AtLeastOnce, true, Some(properties))),
    }
}

fn open(config: &Config) -> Result<Link, AlertError> {
    let broker = config.broker.as_ref().ok_or(AlertError::NoBroker)?;
    Link::open(&link_options(config, broker))
}

fn status(config: &Config, state: Presence, reason: &str) -> String {
    let status = StatusV1 {
        schema: STATUS_SCHEMA.into(),
        site: config.site.to_string(),
        box_id: config.box_id.to_string(),
        state,
        since: rfc3339(now_ms()),
        reason: reason.into(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    serde_json::to_string(&status).unwrap_or_default()
}

/// A thread that waits for the store, and ends with the receiver.
fn watch_outbox(store: Arc<Store>) -> watch::Receiver<u64> {
    let (sender, receiver) = watch::channel(0);
    tokio::task::spawn_blocking(move || {
        let mut seen = 0;
        while !sender.is_closed() {
            let generation = store.wait_outbox(seen, OUTBOX_WAIT);
            if generation != seen {
                seen = generation;
                sender.send_replace(generation);
            }
        }
    });
    receiver
}

struct Session<F> {
    config: Config,
    store: Arc<Store>,
    delivery: Delivery,
    /// Only while connected.
    client: Option<AsyncClient>,
    packet_bytes_max: usize,
    /// Code of the last break that was told, so that a broker away for an hour is told once.
    last_down: &'static str,
    read_at: Option<Instant>,
    read_due: Option<Instant>,
    on_notice: F,
}

impl<F: Fn(&Notice)> Session<F> {
    async fn handle(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { client, resumed, packet_bytes_max } => {
                self.packet_bytes_max = packet_bytes_max.map_or(usize::MAX, |n| n as usize);
                self.last_down = "";
                self.tell(Notice::Connected { resumed });
                // First forget what the old session had under way, then hand over the birth message.
                let steps = self.delivery.connected(resumed);
                self.greet(&client);
                self.client = Some(client);
                self.perform(steps).await;
            }
            LinkEvent::Sent(packet_id) => self.delivery.sent(packet_id),
            LinkEvent::Acked(packet_id, reason) => {
                let receipt = match reason {
                    PubAckReason::Success => Receipt::Taken,
                    PubAckReason::NoMatchingSubscribers => Receipt::NobodyListens,
                    refused => Receipt::Refused(format!("{refused:?}")),
                };
                let steps = self.delivery.broker_acked(packet_id, receipt, now_ms());
                self.perform(steps).await;
            }
            LinkEvent::Message(publish) => self.hear(&publish).await,
            LinkEvent::SubscriptionRefused => {
                let broker = self.config.broker.as_ref().map(ToString::to_string).unwrap_or_default();
                self.tell(Notice::Down(AlertError::NoSubscription {
                    broker,
                    filter: self.config.topic(&topic::ack("+")),
                }));
            }
            LinkEvent::Down { error, proceed } => {
                self.client = None;
                self.delivery.disconnected();
                // The receiver is only gone when the link is.
                let _ = proceed.send(());
                let code = crate::Explain::code(&error);
                if std::mem::replace(&mut self.last_down, code) != code {
                    self.tell(Notice::Down(error));
                }
            }
        }
    }

    /// Subscribes to acknowledgements and publishes the birth message; both at every CONNACK, which repairs whatever was lost.
    fn greet(&mut self, client: &AsyncClient) {
        if client.try_subscribe(self.config.topic(&topic::ack("+")), QoS::AtLeastOnce).is_err() {
            error!("the client took no subscription");
        }
        self.publish_status(client, Presence::Online, "connected");
    }

    fn publish_status(&mut self, client: &AsyncClient, state: Presence, reason: &str) {
        let body = status(&self.config, state, reason);
        match client.try_publish(self.config.topic(topic::STATUS), QoS::AtLeastOnce, true, body) {
            Ok(()) => self.delivery.other_handed(),
            Err(_) => warn!(?state, "the client took no status"),
        }
    }

    /// Health is worth nothing later: QoS 0, and only while connected (rule 8).
    fn publish_health(&self, body: &str) {
        if let (Some(client), false) = (&self.client, body.is_empty())
            && client.try_publish(self.config.topic(topic::HEALTH), QoS::AtMostOnce, false, body.to_owned()).is_err()
        {
            debug!("the client took no health message");
        }
    }

    /// A message on an ack topic. The broker hears that it arrived only after it is in the store.
    async fn hear(&mut self, publish: &Publish) {
        let topic = String::from_utf8_lossy(&publish.topic);
        let prefix = self.config.topic(&topic::ack(""));
        let mut written = true;
        match topic.strip_prefix(&prefix).map(|id| (id, read_ack(&publish.payload, id))) {
            Some((id, Some(ack))) => {
                let steps = self.delivery.station_acked(id, &ack.station, now_ms());
                if steps.is_empty() {
                    info!(
                        alert_id = id,
                        station = ack.station,
                        "acknowledgement of an alert that is not open: ignored"
                    );
                }
                written = self.perform(steps).await;
            }
            Some((_, None)) => warn!(bytes = publish.payload.len(), "unreadable acknowledgement: ignored"),
            None => warn!("a message on a topic that was not asked for: ignored"),
        }
        if let (true, Some(client)) = (written, &self.client)
            && client.try_ack(publish).is_err()
        {
            debug!("the broker will repeat an acknowledgement");
        }
    }

    async fn tick(&mut self) {
        let steps = self.delivery.tick(now_ms());
        self.perform(steps).await;
    }

    /// Hands over what the window allows.
    async fn hand_over(&mut self) {
        let Some(client) = self.client.clone() else { return };
        while let Some(send) = self.delivery.next(now_ms()) {
            let topic = self.config.topic(&send.topic);
            let too_large = self.packet_bytes_max < send.payload.len() + PACKET_OVERHEAD;
            if too_large || topic.contains(['+', '#', '\0']) {
                // Neither can be cured by sending: the client would break the connection over it, again and again.
                let reason = if too_large { "PacketTooLarge" } else { "TopicNameInvalid" };
                self.delivery.not_handed(now_ms() + i64::from(self.config.resend_s) * 1000);
                self.tell(Notice::Refused { id: send.id, reason: reason.into() });
                continue;
            }
            let (store, id) = (self.store.clone(), send.id.clone());
            if let Err(error) = blocking(move || store.outbox_attempt(&id)).await {
                warn!(message = send.id, %error, "the attempt was not counted");
            }
            let (body, properties) = packet(&send);
            if client.try_publish_with_properties(topic, QoS::AtLeastOnce, false, body, properties).is_err() {
                self.delivery.not_handed(i64::MIN);
                return;
            }
            debug!(message = send.id, attempt = send.attempt, "handed over");
        }
    }

    /// Carries steps out in their order; `false` if one could not be written.
    async fn perform(&mut self, steps: Vec<Step>) -> bool {
        let mut all_written = true;
        let mut failed = String::new();
        for step in steps {
            match step {
                Step::Advance { id, state } => {
                    if !self.write(&id, state).await {
                        self.delivery.not_written(&id);
                        all_written = false;
                        failed = id;
                    }
                }
                Step::NobodyListens { id } => self.tell(Notice::NobodyListens { id }),
                Step::Refused { id, reason } => self.tell(Notice::Refused { id, reason }),
                // An end that is not in the store is none: it will come again.
                Step::Expired { id, .. } | Step::Acknowledged { id, .. } if id == failed => {}
                Step::Escalate { id, study } => self.tell(Notice::Escalated { id, study }),
                Step::Expired { id, study } => self.tell(Notice::Expired { id, study }),
                Step::Acknowledged { id, by } => self.tell(Notice::Acknowledged { id, by }),
            }
        }
        all_written
    }

    async fn write(&mut self, id: &str, state: OutboxState) -> bool {
        let (store, key) = (self.store.clone(), id.to_owned());
        let note = note(id, &state);
        match blocking(move || store.outbox_advance(&key, state, &note, now_ms())).await {
            Ok(_) => true,
            Err(error) => {
                error!(message = id, %error, "the outbox was not written; the message will be sent again");
                self.read_due = Some(Instant::now() + Duration::from_secs(self.config.resend_s.into()));
                false
            }
        }
    }

    async fn read_if_due(&mut self) {
        let now = Instant::now();
        let rested = self.read_at.is_none_or(|at| READ_PAUSE <= now - at);
        if rested && self.read_due.is_some_and(|due| due <= now) && self.read_outbox().await.is_err() {
            error!("the outbox cannot be read; new messages wait");
            self.read_due = Some(now + Duration::from_secs(1));
        }
    }

    async fn read_outbox(&mut self) -> Result<(), AlertError> {
        let store = self.store.clone();
        let rows = blocking(move || store.outbox_open()).await.map_err(|why| AlertError::Outbox { why })?;
        self.delivery.load(rows);
        self.read_at = Some(Instant::now());
        self.read_due = None;
        Ok(())
    }

    fn tell(&self, notice: Notice) {
        let code = notice.code();
        match &notice {
            Notice::Connected { .. } | Notice::Acknowledged { .. } => info!(code, "{}", notice.sentence()),
            Notice::Escalated { .. } | Notice::Expired { .. } => error!(code, "{}", notice.sentence()),
            _ => warn!(code, "{}", notice.sentence()),
        }
        (self.on_notice)(&notice);
    }

    /// Says that the box goes (a clean goodbye cancels the last will) and waits until the broker closed.
    async fn say_goodbye(&mut self, link: &mut Link) {
        let Some(client) = self.client.clone() else { return };
        self.publish_status(&client, Presence::Offline, "stopped");
        if client.try_disconnect().is_err() {
            return;
        }
        let closed = async { while !matches!(link.events.recv().await, None | Some(LinkEvent::Down { .. })) {} };
        if tokio::time::timeout(GOODBYE, closed).await.is_err() {
            warn!("the broker did not close the connection in time");
        }
    }
}

fn packet(send: &Send) -> (String, PublishProperties) {
    let body = match send.kind {
        OutboxKind::Alert => with_attempt(&send.payload, send.attempt),
        _ => send.payload.clone(),
    };
    let left_s = send.expires_at_ms.map(|end| (end - now_ms()).max(1000) / 1000);
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: left_s.map(|s| u32::try_from(s).unwrap_or(u32::MAX)),
        content_type: Some("application/json".into()),
        user_properties: vec![("message_id".into(), send.id.clone()), ("attempt".into(), send.attempt.to_string())],
        ..PublishProperties::default()
    };
    (body, properties)
}

fn note(id: &str, state: &OutboxState) -> AuditNote {
    let detail = match state {
        OutboxState::StationAcked { by, .. } => format!("message {id}, station {by}"),
        _ => format!("message {id}"),
    };
    AuditNote::new("alert", &format!("outbox.{}", state.name())).detail(detail)
}

/// The store writes to a disk: never on the thread of the runtime. A panic below is an error like another.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + std::marker::Send + 'static) -> Result<T, String>
where
    T: std::marker::Send + 'static,
    E: std::fmt::Display + std::marker::Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
