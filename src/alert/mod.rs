//! Alerts, results and events over MQTT, until a person has seen them.
//!
//! The outbox of the store is the only source: whoever wants to say something puts a row there (topic suffix and JSON, see
//! [`payload`] and [`topic`]), and [`run`] brings it to the broker, at least once and with a stable id. A broker's receipt never
//! ends an alert, since a broker that dies loses what it acknowledged: only a station's acknowledgement or the alert's expiry
//! does. On the way an unanswered alert is repeated and escalated.
//!
//! - [`payload`]: the versioned JSON of each topic, with schemas.
//! - [`Delivery`]: the rules of delivery as a pure state machine: no clock, no socket.
//! - [`run`]: the client of the box, joining the store, the state machine and the socket.
//! - [`listen`]: a nursing station. [`EmbeddedBroker`]: a broker on loopback for the demo and for sites that name none.
//!
//! Flow: store -> [`Delivery`] -> broker -> station -> `ack/{alert_id}` -> [`Delivery`] -> store.
//!
//! **Invariant:** nothing here reads a study, an image or a patient: what is not in an outbox row cannot be sent.
#![expect(clippy::disallowed_methods, reason = "edge: this room owns the connection to the broker and its clock")]

mod broker;
mod config;
mod delivery;
mod error;
mod health;
mod link;
mod notice;
pub mod payload;
mod probe;
mod session;
mod station;

pub use broker::EmbeddedBroker;
pub use config::{BrokerAddress, Config, Identifiers, Name, Tls, topic};
pub use delivery::{Delivery, Policy, Send, Step};
pub use error::AlertError;
pub use notice::Notice;
pub use probe::probe;
pub use session::run;
pub use station::{Acknowledge, BoxName, Received, StationConfig, listen};
