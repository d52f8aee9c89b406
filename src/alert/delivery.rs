//! The rules of an outbox that loses no alert, as a state machine: no clock, no socket, no store.
//!
//! `queued -> handed over -> broker acked -> (station acked | expired)`; results and events end at `broker acked`. `publish` gives
//! no packet id, so ids of what was handed over wait in a queue until the client tells the packet id it sent next.

use crate::store::{OutboxKind, OutboxState, OutboxV1};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// How patient the delivery is. Times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Messages at the broker without its receipt; well under a broker's receive maximum (mosquitto: 20).
    pub window: usize,
    /// A message without an answer is published again after this long.
    pub resend_ms: i64,
    /// An alert without a station's answer is escalated this long after it was made.
    pub escalate_ms: i64,
}

/// What the caller has to do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Write the new state of a message.
    Advance {
        /// Message id.
        id: String,
        /// Its new state.
        state: OutboxState,
    },
    /// Tell that nobody has subscribed to alerts.
    NobodyListens {
        /// The alert that met nobody.
        id: String,
    },
    /// Tell that the broker refused a message.
    Refused {
        /// Message id.
        id: String,
        /// The reason code's name.
        reason: String,
    },
    /// Use the other way to a person.
    Escalate {
        /// Alert id.
        id: String,
        /// Box-local study number.
        study: Option<String>,
    },
    /// Tell that an alert ended unanswered.
    Expired {
        /// Alert id.
        id: String,
        /// Box-local study number.
        study: Option<String>,
    },
    /// Tell that a station answered.
    Acknowledged {
        /// Alert id.
        id: String,
        /// The station's name.
        by: String,
    },
}

/// A message to hand over now.
#[derive(Debug, PartialEq, Eq)]
pub struct Send {
    /// Message id.
    pub id: String,
    /// Topic suffix.
    pub topic: String,
    /// JSON.
    pub payload: String,
    /// An alert carries its attempt in the payload.
    pub kind: OutboxKind,
    /// 1 for the first publication.
    pub attempt: u32,
    /// End of its validity, unix ms.
    pub expires_at_ms: Option<i64>,
}

/// The broker's receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// Taken, and somebody has subscribed.
    Taken,
    /// Taken, but nobody has subscribed.
    NobodyListens,
    /// Not taken.
    Refused(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued { not_before_ms: i64 },
    HandedOver,
    BrokerAcked { at_ms: i64 },
}

#[derive(Debug)]
struct Entry {
    row: OutboxV1,
    phase: Phase,
    attempts: u32,
    escalated: bool,
}

/// What was handed over to the client: a message of the outbox, or another one of QoS 1 (the status).
type Handed = Option<String>;

/// All open messages of the outbox and where they are.
#[derive(Debug)]
pub struct Delivery {
    policy: Policy,
    entries: BTreeMap<String, Entry>,
    connected: bool,
    handed: VecDeque<Handed>,
    in_flight: HashMap<u16, Handed>,
    somebody_listens: bool,
}

impl Delivery {
    /// Nothing to deliver yet, not connected.
    pub fn new(policy: Policy) -> Self {
        Delivery {
            policy,
            entries: BTreeMap::new(),
            connected: false,
            handed: VecDeque::new(),
            in_flight: HashMap::new(),
            somebody_listens: true,
        }
    }

    /// The open rows of the outbox, all of them. New ones are queued, whatever their state says (rule 5: packet ids do not outlive
    /// the process); what is open no longer is forgotten. DICOM objects are another room's.
    pub fn load(&mut self, rows: Vec<OutboxV1>) {
        let mut old = std::mem::take(&mut self.entries);
        for row in rows.into_iter().filter(|r| !r.kind.is_dicom() && r.state.is_open()) {
            let entry = old.remove(&row.id).unwrap_or(Entry {
                phase: Phase::Queued { not_before_ms: i64::MIN },
                attempts: row.attempts,
                escalated: matches!(row.state, OutboxState::Escalated { .. }),
                row,
            });
            self.entries.insert(entry.row.id.clone(), entry);
        }
    }

    /// CONNACK. `resumed`: the broker kept the session *and* the client still has its own part (rule 4).
    pub fn connected(&mut self, resumed: bool) -> Vec<Step> {
        self.connected = true;
        if resumed {
            return Vec::new();
        }
        self.handed.clear();
        self.in_flight.clear();
        let mut steps = Vec::new();
        for (id, entry) in &mut self.entries {
            if matches!(entry.phase, Phase::BrokerAcked { .. }) && !entry.escalated {
                steps.push(Step::Advance { id: id.clone(), state: OutboxState::Queued });
            }
            if !matches!(entry.phase, Phase::Queued { .. }) {
                entry.phase = Phase::Queued { not_before_ms: i64::MIN };
            }
        }
        steps
    }

    /// The connection went: nothing is handed over until the next CONNACK (rule 3).
    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// The next message to hand over: alerts first, then by age; `None` while not connected or while the window is full.
    /// The caller hands it over at once, or calls [`Delivery::not_handed`].
    pub fn next(&mut self, now_ms: i64) -> Option<Send> {
        let waiting = self.entries.values().filter(|e| e.phase == Phase::HandedOver).count();
        if !self.connected || waiting >= self.policy.window {
            return None;
        }
        let due = |e: &&mut Entry| matches!(e.phase, Phase::Queued { not_before_ms } if not_before_ms <= now_ms);
        let entry =
            self.entries.values_mut().filter(due).min_by_key(|e| (e.row.kind != OutboxKind::Alert, e.row.sequence))?;
        entry.phase = Phase::HandedOver;
        entry.attempts += 1;
        self.handed.push_back(Some(entry.row.id.clone()));
        Some(Send {
            id: entry.row.id.clone(),
            topic: entry.row.topic.clone(),
            payload: entry.row.payload.clone(),
            kind: entry.row.kind,
            attempt: entry.attempts,
            expires_at_ms: entry.row.expires_at_ms,
        })
    }

    /// What [`Delivery::next`] gave last could not be handed over: it is queued again, until `not_before_ms`.
    pub fn not_handed(&mut self, not_before_ms: i64) {
        let entry = self.handed.pop_back().flatten().and_then(|id| self.entries.get_mut(&id));
        if let Some(entry) = entry {
            entry.phase = Phase::Queued { not_before_ms };
            entry.attempts = entry.attempts.saturating_sub(1);
        }
    }

    /// A QoS 1 message that is not of the outbox was handed over (the status).
    pub fn other_handed(&mut self) {
        self.handed.push_back(None);
    }

    /// The client sent a publish under this packet id. 0 is QoS 0; a known id is a repetition by the client.
    pub fn sent(&mut self, packet_id: u16) {
        if packet_id == 0 || self.in_flight.contains_key(&packet_id) {
            return;
        }
        if let Some(handed) = self.handed.pop_front() {
            self.in_flight.insert(packet_id, handed);
        }
    }

    /// PUBACK: moves an alert on, never ends it (rule 2).
    pub fn broker_acked(&mut self, packet_id: u16, receipt: Receipt, now_ms: i64) -> Vec<Step> {
        let Some(id) = self.in_flight.remove(&packet_id).flatten() else { return Vec::new() };
        let Some(entry) = self.entries.get_mut(&id) else { return Vec::new() };
        if let Receipt::Refused(reason) = receipt {
            entry.phase = Phase::Queued { not_before_ms: now_ms.saturating_add(self.policy.resend_ms) };
            return vec![Step::Refused { id, reason }];
        }
        if entry.row.kind != OutboxKind::Alert {
            self.entries.remove(&id);
            return vec![Step::Advance { id, state: OutboxState::Delivered { at_ms: now_ms } }];
        }
        entry.phase = Phase::BrokerAcked { at_ms: now_ms };
        let mut steps = Vec::new();
        if !entry.escalated {
            steps.push(Step::Advance { id: id.clone(), state: OutboxState::BrokerAcked { at_ms: now_ms } });
        }
        let told = !std::mem::replace(&mut self.somebody_listens, receipt == Receipt::Taken);
        if !self.somebody_listens && !told {
            steps.push(Step::NobodyListens { id });
        }
        steps
    }

    /// A station acknowledged. Empty if there is no such open alert.
    pub fn station_acked(&mut self, id: &str, by: &str, now_ms: i64) -> Vec<Step> {
        if self.entries.get(id).is_none_or(|e| e.row.kind != OutboxKind::Alert) {
            return Vec::new();
        }
        self.entries.remove(id);
        let (id, by) = (id.to_owned(), by.to_owned());
        let state = OutboxState::StationAcked { by: by.clone(), at_ms: now_ms };
        vec![Step::Advance { id: id.clone(), state }, Step::Acknowledged { id, by }]
    }

    /// Time passed: repeats, escalates, ends.
    pub fn tick(&mut self, now_ms: i64) -> Vec<Step> {
        let mut steps = Vec::new();
        let policy = self.policy;
        self.entries.retain(|id, entry| {
            let row = &entry.row;
            if row.expires_at_ms.is_some_and(|end| end <= now_ms) {
                steps.push(Step::Advance { id: id.clone(), state: OutboxState::Expired { at_ms: now_ms } });
                if row.kind == OutboxKind::Alert {
                    steps.push(Step::Expired { id: id.clone(), study: row.study.clone() });
                }
                return false;
            }
            if row.kind == OutboxKind::Alert && !entry.escalated && past(row.created_at_ms, policy.escalate_ms, now_ms) {
                entry.escalated = true;
                steps.push(Step::Advance { id: id.clone(), state: OutboxState::Escalated { at_ms: now_ms } });
                steps.push(Step::Escalate { id: id.clone(), study: row.study.clone() });
            }
            // A clock that was set back must not keep an alert waiting for hours.
            if matches!(entry.phase, Phase::BrokerAcked { at_ms } if now_ms < at_ms || past(at_ms, policy.resend_ms, now_ms)) {
                entry.phase = Phase::Queued { not_before_ms: i64::MIN };
            }
            true
        });
        steps
    }

    /// A step for this message could not be written: it is forgotten here. What the outbox still holds comes back with the next
    /// [`Delivery::load`] and is sent again, as if nothing had been heard of it.
    pub fn not_written(&mut self, id: &str) {
        self.entries.remove(id);
    }
}

fn past(since_ms: i64, wait_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(since_ms) >= wait_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { window: 8, resend_ms: 1_000, escalate_ms: 10_000 };

    fn row(n: u64, kind: OutboxKind) -> OutboxV1 {
        OutboxV1 {
            id: format!("m{n:02}"),
            sequence: n,
            kind,
            topic: format!("x/m{n:02}"),
            payload: "{}".into(),
            study: Some("S000001".into()),
            created_at_ms: 0,
            expires_at_ms: Some(100_000),
            file: None,
            failure: None,
            retried_at_ms: None,
            attempts: 0,
            state: OutboxState::Queued,
        }
    }

    fn with_alerts(n: u64) -> Delivery {
        let mut delivery = Delivery::new(POLICY);
        delivery.load((1..=n).map(|n| row(n, OutboxKind::Alert)).collect());
        delivery
    }

    fn ids(delivery: &mut Delivery, now_ms: i64) -> Vec<String> {
        std::iter::from_fn(|| delivery.next(now_ms).map(|s| s.id)).collect()
    }

    fn advanced(id: &str, state: OutboxState) -> Step {
        Step::Advance { id: id.into(), state }
    }

    #[test]
    fn rule_1_the_message_id_is_the_rows_and_stays_over_repetitions() {
        let mut delivery = with_alerts(1);
        delivery.connected(false);
        let first = delivery.next(0).unwrap();
        delivery.sent(1);
        delivery.broker_acked(1, Receipt::Taken, 10);
        delivery.tick(1_010);
        let second = delivery.next(1_010).unwrap();
        assert_eq!((first.id.as_str(), first.attempt), ("m01", 1));
        assert_eq!((second.id.as_str(), second.attempt), ("m01", 2));
    }

    #[test]
    fn rule_2_a_puback_moves_an_alert_on_and_only_a_station_ends_it() {
        let mut delivery = with_alerts(1);
        delivery.connected(false);
        delivery.next(0);
        delivery.sent(1);
        assert_eq!(
            delivery.broker_acked(1, Receipt::Taken, 10),
            [advanced("m01", OutboxState::BrokerAcked { at_ms: 10 })]
        );
        let steps = delivery.station_acked("m01", "ward", 20);
        assert_eq!(steps[0], advanced("m01", OutboxState::StationAcked { by: "ward".into(), at_ms: 20 }));
        assert_eq!(steps[1], Step::Acknowledged { id: "m01".into(), by: "ward".into() });
        assert_eq!(delivery.station_acked("m01", "ward", 30), [], "the second acknowledgement changes nothing");
        assert_eq!(delivery.station_acked("unknown", "ward", 30), []);
        assert_eq!(delivery.tick(99_999), []);
    }

    #[test]
    fn rule_2_results_and_events_end_at_the_broker() {
        let mut delivery = Delivery::new(POLICY);
        delivery.load(vec![row(1, OutboxKind::Result), row(2, OutboxKind::DicomSend)]);
        delivery.connected(false);
        assert_eq!(ids(&mut delivery, 0), ["m01"], "DICOM objects are not ours");
        delivery.sent(1);
        assert_eq!(delivery.broker_acked(1, Receipt::Taken, 5), [advanced("m01", OutboxState::Delivered { at_ms: 5 })]);
        assert_eq!(delivery.station_acked("m01", "ward", 6), []);
    }

    #[test]
    fn rule_3_the_window_is_eight_and_opens_with_each_puback() {
        let mut delivery = with_alerts(20);
        assert_eq!(ids(&mut delivery, 0).len(), 0, "not connected");
        delivery.connected(false);
        assert_eq!(ids(&mut delivery, 0).len(), 8);
        for pkid in 1..=8 {
            delivery.sent(pkid);
        }
        delivery.broker_acked(3, Receipt::Taken, 1);
        assert_eq!(ids(&mut delivery, 1), ["m09"]);
    }

    #[test]
    fn rule_3_packet_ids_come_in_the_order_of_handing_over() {
        let mut delivery = with_alerts(2);
        delivery.connected(false);
        delivery.other_handed(); // the birth message
        delivery.next(0);
        delivery.next(0);
        for pkid in [1, 0, 2, 2, 3] {
            delivery.sent(pkid); // 0: QoS 0; the second 2: a repetition by the client
        }
        assert_eq!(delivery.broker_acked(1, Receipt::Taken, 1), []);
        assert_eq!(
            delivery.broker_acked(3, Receipt::Taken, 1),
            [advanced("m02", OutboxState::BrokerAcked { at_ms: 1 })]
        );
        assert_eq!(
            delivery.broker_acked(2, Receipt::Taken, 1),
            [advanced("m01", OutboxState::BrokerAcked { at_ms: 1 })]
        );
        assert_eq!(delivery.broker_acked(9, Receipt::Taken, 1), []);
    }

    #[test]
    fn rule_3_what_the_channel_did_not_take_is_queued_again() {
        let mut delivery = with_alerts(1);
        delivery.connected(false);
        delivery.next(0);
        delivery.not_handed(i64::MIN);
        assert_eq!(delivery.next(0).unwrap().attempt, 1);
        delivery.sent(5);
        assert_eq!(delivery.broker_acked(5, Receipt::Taken, 1).len(), 1);
    }

    #[test]
    fn rule_4_a_new_session_queues_sent_and_broker_acked() {
        let mut delivery = with_alerts(3);
        delivery.connected(false);
        assert_eq!(ids(&mut delivery, 0).len(), 3);
        delivery.sent(1);
        delivery.sent(2);
        delivery.broker_acked(1, Receipt::Taken, 1);
        delivery.disconnected();
        assert_eq!(delivery.connected(false), [advanced("m01", OutboxState::Queued)]);
        assert_eq!(ids(&mut delivery, 2), ["m01", "m02", "m03"]);
        // The old packet ids mean nothing now.
        assert_eq!(delivery.broker_acked(2, Receipt::Taken, 3), []);
    }

    #[test]
    fn rule_4_a_resumed_session_keeps_the_map() {
        let mut delivery = with_alerts(2);
        delivery.connected(false);
        ids(&mut delivery, 0);
        delivery.sent(1);
        delivery.disconnected();
        assert_eq!(delivery.connected(true), []);
        assert_eq!(ids(&mut delivery, 1).len(), 0, "both are still on their way");
        delivery.sent(1); // sent again by the client
        delivery.sent(2); // sent for the first time
        assert_eq!(
            delivery.broker_acked(1, Receipt::Taken, 2),
            [advanced("m01", OutboxState::BrokerAcked { at_ms: 2 })]
        );
        assert_eq!(
            delivery.broker_acked(2, Receipt::Taken, 2),
            [advanced("m02", OutboxState::BrokerAcked { at_ms: 2 })]
        );
    }

    #[test]
    fn rule_5_after_a_restart_everything_open_is_queued() {
        let mut delivery = Delivery::new(POLICY);
        let states = [OutboxState::Queued, OutboxState::BrokerAcked { at_ms: 1 }, OutboxState::Escalated { at_ms: 1 }];
        let ended = OutboxState::StationAcked { by: "ward".into(), at_ms: 1 };
        let rows = states.into_iter().chain([ended]).zip(1..);
        delivery.load(rows.map(|(state, n)| OutboxV1 { state, attempts: 2, ..row(n, OutboxKind::Alert) }).collect());
        delivery.connected(true);
        assert_eq!(delivery.next(5).unwrap().attempt, 3);
        assert_eq!(ids(&mut delivery, 5), ["m02", "m03"]);
        // Once escalated stays escalated: neither a second call nor a step back.
        delivery.sent(1);
        delivery.sent(2);
        delivery.sent(3);
        assert_eq!(delivery.broker_acked(3, Receipt::Taken, 6), []);
        assert!(!delivery.tick(20_000).iter().any(|s| matches!(s, Step::Escalate { id, .. } if id == "m03")));
    }

    #[test]
    fn rule_5_a_row_that_ended_elsewhere_is_forgotten() {
        let mut delivery = with_alerts(2);
        delivery.load(vec![row(2, OutboxKind::Alert)]);
        delivery.connected(false);
        assert_eq!(ids(&mut delivery, 0), ["m02"]);
    }

    #[test]
    fn rule_6_an_unanswered_alert_is_repeated_then_escalated_then_expires() {
        let mut delivery = with_alerts(1);
        delivery.connected(false);
        delivery.next(0);
        delivery.sent(1);
        delivery.broker_acked(1, Receipt::Taken, 100);
        assert_eq!(delivery.tick(1_099), []);
        assert_eq!(delivery.next(1_099), None);
        delivery.tick(1_100);
        assert_eq!(delivery.next(1_100).unwrap().attempt, 2);
        let steps = delivery.tick(10_000);
        assert_eq!(steps[0], advanced("m01", OutboxState::Escalated { at_ms: 10_000 }));
        assert_eq!(steps[1], Step::Escalate { id: "m01".into(), study: Some("S000001".into()) });
        assert_eq!(delivery.tick(10_001), [], "escalated once");
        // A late answer still ends it; without one its validity does.
        assert_eq!(delivery.tick(100_000)[0], advanced("m01", OutboxState::Expired { at_ms: 100_000 }));
        assert_eq!(delivery.next(100_000), None);
    }

    #[test]
    fn rule_6_an_alert_is_escalated_even_if_no_broker_is_there() {
        let mut delivery = with_alerts(1);
        assert_eq!(delivery.tick(10_000).len(), 2);
        assert_eq!(delivery.station_acked("m01", "ward", 10_001).len(), 2);
    }

    #[test]
    fn rule_6_a_clock_set_back_does_not_stop_repetitions() {
        let mut delivery = with_alerts(1);
        delivery.connected(false);
        delivery.next(50_000);
        delivery.sent(1);
        delivery.broker_acked(1, Receipt::Taken, 50_000);
        delivery.tick(5);
        assert!(delivery.next(5).is_some());
    }

    #[test]
    fn rule_7_the_validity_goes_with_the_message() {
        let mut delivery = with_alerts(1);
        delivery.connected(false);
        assert_eq!(delivery.next(0).unwrap().expires_at_ms, Some(100_000));
    }

    #[test]
    fn rule_8_the_status_takes_no_place_in_the_window() {
        let mut delivery = with_alerts(9);
        delivery.connected(false);
        delivery.other_handed();
        delivery.sent(1);
        assert_eq!(ids(&mut delivery, 0).len(), 8);
    }

    #[test]
    fn nobody_listening_is_told_once_until_somebody_does() {
        let mut delivery = with_alerts(3);
        delivery.connected(false);
        ids(&mut delivery, 0);
        for pkid in 1..=3 {
            delivery.sent(pkid);
        }
        let told = |steps: Vec<Step>| steps.iter().any(|s| matches!(s, Step::NobodyListens { .. }));
        assert!(told(delivery.broker_acked(1, Receipt::NobodyListens, 1)));
        assert!(!told(delivery.broker_acked(2, Receipt::NobodyListens, 1)));
        assert!(!told(delivery.broker_acked(3, Receipt::Taken, 1)));
        delivery.tick(2_000);
        ids(&mut delivery, 2_000);
        delivery.sent(4);
        assert!(told(delivery.broker_acked(4, Receipt::NobodyListens, 2_001)));
    }

    #[test]
    fn what_the_broker_refused_waits_and_is_tried_again() {
        let mut delivery = with_alerts(1);
        delivery.connected(false);
        delivery.next(0);
        delivery.sent(1);
        let refused = Step::Refused { id: "m01".into(), reason: "QuotaExceeded".into() };
        assert_eq!(delivery.broker_acked(1, Receipt::Refused("QuotaExceeded".into()), 10), [refused]);
        assert_eq!(delivery.next(1_009), None);
        assert!(delivery.next(1_010).is_some());
    }

    #[test]
    fn what_could_not_be_written_is_sent_again() {
        let mut delivery = with_alerts(1);
        delivery.connected(false);
        delivery.next(0);
        delivery.station_acked("m01", "ward", 5);
        delivery.not_written("m01");
        assert_eq!(delivery.next(6), None);
        delivery.load(vec![row(1, OutboxKind::Alert)]);
        assert_eq!(ids(&mut delivery, 1_005), ["m01"]);
    }

    #[test]
    fn alerts_go_before_results() {
        let mut delivery = Delivery::new(POLICY);
        delivery.load(vec![row(1, OutboxKind::Result), row(2, OutboxKind::Alert), row(3, OutboxKind::Event)]);
        delivery.connected(false);
        assert_eq!(ids(&mut delivery, 0), ["m02", "m01", "m03"]);
    }
}
