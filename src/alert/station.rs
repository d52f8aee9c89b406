//! A nursing station: hears what the boxes of a broker say, shows each alert once, and acknowledges what a person has seen.

use super::config::{BrokerAddress, Name, Tls};
use super::error::AlertError;
use super::link::{Link, LinkEvent, LinkOptions};
use super::payload::{
    ACK_SCHEMA, ALERT_SCHEMA, AckV1, AlertV1, EVENT_SCHEMA, EventV1, RESULT_SCHEMA, ResultV1, STATUS_SCHEMA, StatusV1,
    rfc3339,
};
use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

/// Alerts that are remembered, to show each once.
const SEEN_MAX: usize = 10_000;
/// What a station subscribes to, below `metwatch/{site}/{box}/`.
const FILTERS: [&str; 4] = ["alert/+", "result/+", "event/+", "status"];
/// The broker misses a station after one and a half times this long, in seconds.
const KEEP_ALIVE_S: u16 = 15;

/// Where a station connects, and as whom.
#[derive(Debug, Clone)]
pub struct StationConfig {
    /// The broker.
    pub broker: BrokerAddress,
    /// The station's name, unique at its broker: it names who acknowledged.
    pub name: Name,
    /// User name at the broker.
    pub username: Option<String>,
    /// File with the password, mode 0600.
    pub password_file: Option<PathBuf>,
    /// TLS to the broker.
    pub tls: Option<Tls>,
}

/// Which box spoke.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoxName {
    /// Its site.
    pub site: String,
    /// Its name there.
    pub box_id: String,
}

/// A person has seen this alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledge {
    /// The box that sent it.
    pub from: BoxName,
    /// The alert.
    pub alert_id: String,
}

/// What a station hears.
#[derive(Debug)]
pub enum Received {
    /// Connected and subscribed.
    Up,
    /// Not connected; goes on trying.
    Down(AlertError),
    /// An alert. `again`: it was shown before and is not acknowledged yet.
    Alert {
        /// The box.
        from: BoxName,
        /// What it says.
        alert: Box<AlertV1>,
        /// Shown before.
        again: bool,
    },
    /// A result.
    Result {
        /// The box.
        from: BoxName,
        /// What it says.
        result: Box<ResultV1>,
    },
    /// An event.
    Event {
        /// The box.
        from: BoxName,
        /// What it says.
        event: Box<EventV1>,
    },
    /// A box comes or goes.
    Status {
        /// The box.
        from: BoxName,
        /// What it says.
        status: Box<StatusV1>,
    },
    /// The broker has an acknowledgement of this station.
    AckSent {
        /// The alert.
        alert_id: String,
    },
    /// A message that is none of ours, or of a newer version.
    Unreadable {
        /// Its topic.
        topic: String,
    },
}

/// Listens until `stop` becomes true (or its sender is gone). What a person has seen comes in through `acks`.
/// Errors of the configuration are returned; a broker that is away is told as [`Received::Down`] once per cause and survived.
pub async fn listen<F>(
    config: StationConfig,
    mut acks: mpsc::UnboundedReceiver<Acknowledge>,
    mut stop: watch::Receiver<bool>,
    mut on_received: F,
) -> Result<(), AlertError>
where
    F: FnMut(Received),
{
    let mut link = Link::open(&LinkOptions {
        broker: &config.broker,
        client_id: format!("metwatch-station-{}", config.name),
        username: config.username.as_deref(),
        password_file: config.password_file.as_deref(),
        tls: config.tls.as_ref(),
        keep_alive_s: KEEP_ALIVE_S,
        last_will: None,
    })?;
    let mut station = Station::new(config.name);
    let mut acks_open = true;
    while !*stop.borrow_and_update() {
        tokio::select! {
            event = link.events.recv() => match event {
                Some(event) => station.handle(event).into_iter().for_each(&mut on_received),
                None => break,
            },
            ack = acks.recv(), if acks_open => match ack {
                Some(ack) => station.acknowledge(ack),
                None => acks_open = false,
            },
            changed = stop.changed() => if changed.is_err() { break },
        }
    }
    if let Some(client) = station.client.take()
        && client.try_disconnect().is_ok()
    {
        let closed = async { while !matches!(link.events.recv().await, None | Some(LinkEvent::Down { .. })) {} };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), closed).await;
    }
    Ok(())
}

struct Station {
    name: Name,
    client: Option<AsyncClient>,
    inbox: Inbox,
    /// Acknowledgements that no broker has yet; sent when connected.
    waiting: VecDeque<Acknowledge>,
    handed: VecDeque<Acknowledge>,
    in_flight: HashMap<u16, Acknowledge>,
    last_down: &'static str,
}

impl Station {
    fn new(name: Name) -> Self {
        Station {
            name,
            client: None,
            inbox: Inbox::default(),
            waiting: VecDeque::new(),
            handed: VecDeque::new(),
            in_flight: HashMap::new(),
            last_down: "",
        }
    }

    fn handle(&mut self, event: LinkEvent) -> Option<Received> {
        match event {
            LinkEvent::Up { client, resumed, .. } => {
                if !resumed {
                    // Whatever was on its way is sent again: a box does not mind an acknowledgement twice.
                    let lost: Vec<_> = self.in_flight.drain().map(|(_, a)| a).chain(self.handed.drain(..)).collect();
                    self.waiting.extend(lost);
                }
                for filter in FILTERS {
                    if client.try_subscribe(format!("metwatch/+/+/{filter}"), QoS::AtLeastOnce).is_err() {
                        warn!(filter, "the client took no subscription");
                    }
                }
                self.client = Some(client);
                self.last_down = "";
                self.send_waiting();
                Some(Received::Up)
            }
            LinkEvent::Down { error, proceed } => {
                self.client = None;
                let _ = proceed.send(());
                let code = crate::Explain::code(&error);
                (std::mem::replace(&mut self.last_down, code) != code).then_some(Received::Down(error))
            }
            LinkEvent::Sent(0) => None,
            LinkEvent::Sent(packet_id) => {
                if !self.in_flight.contains_key(&packet_id)
                    && let Some(ack) = self.handed.pop_front()
                {
                    self.in_flight.insert(packet_id, ack);
                }
                None
            }
            LinkEvent::Acked(packet_id, _) => {
                self.in_flight.remove(&packet_id).map(|ack| Received::AckSent { alert_id: ack.alert_id })
            }
            LinkEvent::Message(publish) => {
                let received = self.read(&publish);
                if let Some(client) = &self.client
                    && client.try_ack(&publish).is_err()
                {
                    debug!("the broker will repeat a message");
                }
                received
            }
            LinkEvent::SubscriptionRefused => {
                warn!("the broker refused a subscription of this station: it may hear nothing");
                None
            }
        }
    }

    fn read(&mut self, publish: &Publish) -> Option<Received> {
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        let mut levels = topic.split('/').skip(1);
        let from = BoxName { site: levels.next()?.into(), box_id: levels.next()?.into() };
        let body = &publish.payload;
        let known = match levels.next()? {
            "alert" => read(body, ALERT_SCHEMA).map(|alert: AlertV1| self.alert(from, alert)),
            "result" => {
                read(body, RESULT_SCHEMA).map(|result| Some(Received::Result { from, result: Box::new(result) }))
            }
            "event" => read(body, EVENT_SCHEMA).map(|event| Some(Received::Event { from, event: Box::new(event) })),
            "status" if body.is_empty() => Some(None), // a cleared retained message
            "status" => {
                read(body, STATUS_SCHEMA).map(|status| Some(Received::Status { from, status: Box::new(status) }))
            }
            _ => None,
        };
        known.unwrap_or(Some(Received::Unreadable { topic }))
    }

    fn alert(&mut self, from: BoxName, alert: AlertV1) -> Option<Received> {
        match self.inbox.take(&alert.alert_id) {
            Seen::First => Some(Received::Alert { from, alert: Box::new(alert), again: false }),
            Seen::Before => Some(Received::Alert { from, alert: Box::new(alert), again: true }),
            Seen::Acknowledged => {
                // The box did not hear the acknowledgement.
                self.waiting.push_back(Acknowledge { from, alert_id: alert.alert_id });
                self.send_waiting();
                None
            }
        }
    }

    fn acknowledge(&mut self, ack: Acknowledge) {
        self.inbox.acknowledge(&ack.alert_id);
        self.waiting.push_back(ack);
        self.send_waiting();
    }

    fn send_waiting(&mut self) {
        let Some(client) = &self.client else { return };
        while let Some(ack) = self.waiting.pop_front() {
            let body = AckV1 {
                schema: ACK_SCHEMA.into(),
                alert_id: ack.alert_id.clone(),
                station: self.name.to_string(),
                at: rfc3339(chrono::Utc::now().timestamp_millis()),
            };
            let topic = format!("metwatch/{}/{}/ack/{}", ack.from.site, ack.from.box_id, ack.alert_id);
            let body = serde_json::to_vec(&body).unwrap_or_default();
            if client.try_publish(topic, QoS::AtLeastOnce, false, body).is_err() {
                self.waiting.push_front(ack);
                return;
            }
            self.handed.push_back(ack);
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8], schema: &str) -> Option<T> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    (value.get("schema")?.as_str()? == schema).then(|| serde_json::from_value(value).ok())?
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    First,
    Before,
    Acknowledged,
}

/// Which alerts were shown, and which of them a person has seen. Remembers the last [`SEEN_MAX`].
#[derive(Default)]
struct Inbox {
    seen: BTreeMap<String, bool>,
    order: VecDeque<String>,
}

impl Inbox {
    fn take(&mut self, alert_id: &str) -> Seen {
        match self.seen.get(alert_id) {
            Some(true) => Seen::Acknowledged,
            Some(false) => Seen::Before,
            None => {
                if self.order.len() >= SEEN_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.seen.remove(&oldest);
                }
                self.order.push_back(alert_id.into());
                self.seen.insert(alert_id.into(), false);
                Seen::First
            }
        }
    }

    fn acknowledge(&mut self, alert_id: &str) {
        if let Some(acknowledged) = self.seen.get_mut(alert_id) {
            *acknowledged = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_new_once_and_known_until_it_is_pushed_out() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.take("a"), Seen::First);
        assert_eq!(inbox.take("a"), Seen::Before);
        inbox.acknowledge("a");
        assert_eq!(inbox.take("a"), Seen::Acknowledged);
        for n in 0..SEEN_MAX {
            inbox.take(&n.to_string());
        }
        assert_eq!(inbox.take("a"), Seen::First);
    }

    #[test]
    fn foreign_messages_are_unreadable_and_harm_nobody() {
        let mut station = Station::new("ward".parse().unwrap());
        let mut hear =
            |topic: &str, body: &str| station.read(&Publish::new(topic, QoS::AtLeastOnce, body.to_owned(), None));
        for body in ["", "{", "[]", r#"{"schema":"metwatch.alert/2"}"#, r#"{"schema":"metwatch.alert/1"}"#] {
            assert!(matches!(hear("metwatch/s/b/alert/a", body), Some(Received::Unreadable { .. })), "{body}");
        }
        assert!(hear("metwatch/s/b/status", "").is_none());
        assert!(hear("metwatch", "").is_none());
    }
}
