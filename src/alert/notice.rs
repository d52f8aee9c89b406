//! What happened on the way of an alert that somebody beside the broker has to know.

use super::error::AlertError;
use crate::Explain;

/// Told to the service, which logs it, shows it, and makes an event of it where that helps.
#[derive(Debug)]
pub enum Notice {
    /// Connected; `resumed` if the broker still had the session.
    Connected {
        /// The broker kept the session.
        resumed: bool,
    },
    /// Not connected. Told once per cause, not at every attempt.
    Down(AlertError),
    /// The broker took an alert that nobody has subscribed to. Told once, until somebody listens again.
    NobodyListens {
        /// Message id.
        id: String,
    },
    /// The broker refused a message; it is tried again.
    Refused {
        /// Message id.
        id: String,
        /// The reason code's name.
        reason: String,
    },
    /// No station acknowledged the alert in time: another way to a person has to be used now.
    Escalated {
        /// Alert id.
        id: String,
        /// Box-local study number.
        study: Option<String>,
    },
    /// The validity of an alert ended without an acknowledgement.
    Expired {
        /// Alert id.
        id: String,
        /// Box-local study number.
        study: Option<String>,
    },
    /// A station acknowledged the alert.
    Acknowledged {
        /// Alert id.
        id: String,
        /// The station's name.
        by: String,
    },
}

impl Notice {
    /// Stable code for logs and events.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "alert.connected",
            Self::Down(error) => error.code(),
            Self::NobodyListens { .. } => "alert.nobody-listens",
            Self::Refused { .. } => "alert.refused",
            Self::Escalated { .. } => "alert.escalated",
            Self::Expired { .. } => "alert.expired",
            Self::Acknowledged { .. } => "alert.acknowledged",
        }
    }

    /// What happened and what it means; no patient data.
    pub fn sentence(&self) -> String {
        match self {
            Self::Connected { resumed: true } => "connected to the broker again, the session goes on".into(),
            Self::Connected { resumed: false } => "connected to the broker with a new session".into(),
            Self::Down(error) => error.to_string(),
            Self::NobodyListens { id } => {
                format!("the broker took alert {id}, but no station has subscribed: nobody sees it")
            }
            Self::Refused { id, reason } => format!("the broker refused message {id} ({reason}); it is tried again"),
            Self::Escalated { id, .. } => format!("no station acknowledged alert {id} in time"),
            Self::Expired { id, .. } => format!("alert {id} ended without any acknowledgement: its validity is over"),
            Self::Acknowledged { id, by } => format!("alert {id} was acknowledged at station {by}"),
        }
    }

    /// What to do about it; empty where nothing is to be done.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Connected { .. } | Self::Acknowledged { .. } => "",
            Self::Down(error) => error.advice(),
            Self::NobodyListens { .. } => "start a station, or check the topics it subscribes to",
            Self::Refused { .. } => "check the broker's access list and limits for this box",
            Self::Escalated { .. } => "tell the ward by telephone, and check that its station is running",
            Self::Expired { .. } => "look at the study in the console and tell the ward",
        }
    }
}
