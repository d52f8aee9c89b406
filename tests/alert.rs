//! Alerts over a real mosquitto: killed, away, with and without persistence, with login and TLS; and over the embedded broker.
#![expect(clippy::disallowed_methods, reason = "tests use files, processes and the clock")]

use metwatch::DISCLAIMER;
use metwatch::alert::payload::{ALERT_SCHEMA, AlertV1, IdentifiersV1, PackagesV1, StatusOfRisk, StatusV1, rfc3339};
use metwatch::alert::{
    Acknowledge, BrokerAddress, Config, EmbeddedBroker, Received, StationConfig, Tls, listen, run, topic,
};
use metwatch::store::{AuditNote, NewOutbox, OutboxKind, OutboxState, Store};
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Nothing here takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("metwatch-alert-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the folder for temporary files is writable");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A real mosquitto on a port of its own.
struct Mosquitto {
    folder: Folder,
    port: u16,
    child: Option<Child>,
}

impl Mosquitto {
    /// `lines` are its configuration below `listener`; `{}` stands for its folder.
    fn new(lines: &str) -> Mosquitto {
        let folder = Folder::new();
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback has free ports").port();
        let lines = lines.replace("{}", &folder.0.display().to_string());
        let text = format!("user root\nper_listener_settings false\nlistener {port} 127.0.0.1\n{lines}\n");
        std::fs::write(folder.0.join("mosquitto.conf"), text).expect("the folder is writable");
        Mosquitto { folder, port, child: None }
    }

    fn started(lines: &str) -> Mosquitto {
        let mut broker = Mosquitto::new(lines);
        broker.start();
        broker
    }

    fn start(&mut self) {
        let program =
            ["/usr/sbin/mosquitto", "mosquitto"].into_iter().find(|p| !p.starts_with('/') || Path::new(p).exists());
        let log = std::fs::File::create(self.folder.0.join("log")).expect("the folder is writable");
        let child = Command::new(program.expect("one of two"))
            .arg("-c")
            .arg(self.folder.0.join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mosquitto is installed: apt-get install mosquitto mosquitto-clients");
        self.child = Some(child);
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || std::fs::read_to_string(self.folder.0.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "mosquitto does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().and_then(|()| child.wait().map(drop)).expect("our own child");
        }
    }

    fn address(&self) -> BrokerAddress {
        format!("127.0.0.1:{}", self.port).parse().unwrap()
    }

    /// `mosquitto_sub` as a process; what it prints comes with `wait_with_output`.
    fn subscribe(&self, arguments: &[&str]) -> Child {
        mosquitto_sub(self.port, arguments)
    }

    fn publish(&self, topic: &str, body: &str) {
        let port = self.port.to_string();
        let status =
            Command::new("mosquitto_pub").args(["-V", "5", "-q", "1", "-p", &port, "-t", topic, "-m", body]).status();
        assert!(status.expect("mosquitto-clients are installed").success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

fn mosquitto_sub(port: u16, arguments: &[&str]) -> Child {
    Command::new("mosquitto_sub")
        .args(["-q", "1", "-W", "20", "-p", &port.to_string()])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto-clients are installed")
}

fn text(output: std::io::Result<Output>) -> String {
    String::from_utf8(output.expect("the process ran").stdout).expect("UTF-8")
}

const OPEN: &str = "allow_anonymous true";
const PERSISTENT: &str = "allow_anonymous true\npersistence true\npersistence_location {}/\nautosave_interval 1";

type Running = JoinHandle<Result<(), metwatch::alert::AlertError>>;

/// A box: a store and the client on it, which can be stopped or cut off.
struct TestBox {
    store: Arc<Store>,
    config: Config,
    notices: Arc<Mutex<Vec<&'static str>>>,
    health: watch::Sender<String>,
    running: Option<(watch::Sender<bool>, Running)>,
    _folder: Folder,
}

impl TestBox {
    fn new(broker: BrokerAddress) -> TestBox {
        let folder = Folder::new();
        let (store, _) = Store::open(&folder.0.join("store"), now_ms()).expect("a new store");
        let config = Config { broker: Some(broker), resend_s: 1, will_delay_s: 1, ..Config::default() };
        let health = watch::Sender::new(String::new());
        TestBox { store: Arc::new(store), config, notices: Arc::default(), health, running: None, _folder: folder }
    }

    fn start(&mut self) {
        let (stop, stopped) = watch::channel(false);
        let notices = self.notices.clone();
        let note = move |n: &metwatch::alert::Notice| notices.lock().unwrap().push(n.code());
        let session = run(self.config.clone(), self.store.clone(), self.health.subscribe(), stopped, note);
        self.running = Some((stop, tokio::spawn(session)));
    }

    /// As if the process had been killed: no goodbye.
    async fn cut_off(&mut self) {
        let (_stop, task) = self.running.take().expect("it runs");
        task.abort();
        let _ = task.await;
    }

    async fn stop(&mut self) {
        let (stop, task) = self.running.take().expect("it runs");
        stop.send_replace(true);
        task.await.expect("no panic").expect("a clean end");
    }

    fn add(&self, alert_id: &str) {
        self.add_until(alert_id, now_ms() + 3_600_000);
    }

    fn add_until(&self, alert_id: &str, expires_at_ms: i64) {
        let alert = alert(alert_id, expires_at_ms);
        self.add_row(
            alert_id,
            OutboxKind::Alert,
            topic::alert(alert_id),
            serde_json::to_string(&alert).unwrap(),
            expires_at_ms,
        );
    }

    fn add_row(&self, id: &str, kind: OutboxKind, topic: String, payload: String, expires_at_ms: i64) {
        let (id, study, expires_at_ms) = (id.into(), Some("S000001".into()), Some(expires_at_ms));
        let new = NewOutbox { id, kind, topic, payload, study, expires_at_ms, file: None };
        self.store.outbox_add(&[new], &AuditNote::new("test", "test.add"), now_ms()).expect("a sound store");
    }

    fn state(&self, id: &str) -> OutboxState {
        self.store.outbox_entry(id).expect("a sound store").expect("it was added").state
    }

    fn acked_by(&self, id: &str) -> Option<String> {
        match self.state(id) {
            OutboxState::StationAcked { by, .. } => Some(by),
            _ => None,
        }
    }

    fn told(&self, code: &str) -> usize {
        self.notices.lock().unwrap().iter().filter(|c| **c == code).count()
    }

    fn all_acked(&self, ids: &[String]) -> bool {
        ids.iter().all(|id| self.acked_by(id).is_some())
    }
}

/// A nursing station; counts how often each alert was new to it.
struct TestStation {
    heard: Arc<Mutex<BTreeMap<String, u32>>>,
    up: Arc<Mutex<Vec<&'static str>>>,
    stop: watch::Sender<bool>,
    _task: JoinHandle<()>,
}

impl TestStation {
    fn start(broker: BrokerAddress) -> TestStation {
        Self::start_with(StationConfig {
            broker,
            name: "ward".parse().unwrap(),
            username: None,
            password_file: None,
            tls: None,
        })
    }

    fn start_with(config: StationConfig) -> TestStation {
        let (heard, up) = (Arc::<Mutex<BTreeMap<String, u32>>>::default(), Arc::<Mutex<Vec<&'static str>>>::default());
        let (stop, stopped) = watch::channel(false);
        let (acks, acks_received) = mpsc::unbounded_channel();
        let (counts, ups) = (heard.clone(), up.clone());
        let session = listen(config, acks_received, stopped, move |received| match received {
            Received::Alert { from, alert, again } => {
                *counts.lock().unwrap().entry(alert.alert_id.clone()).or_default() += u32::from(!again);
                let _ = acks.send(Acknowledge { from, alert_id: alert.alert_id });
            }
            Received::Up => ups.lock().unwrap().push("up"),
            Received::Down(error) => ups.lock().unwrap().push(metwatch::Explain::code(&error)),
            _ => {}
        });
        let task = tokio::spawn(async move { session.await.expect("a good configuration") });
        TestStation { heard, up, stop, _task: task }
    }

    async fn is_up(&self) {
        until("the station is connected", || self.up.lock().unwrap().contains(&"up")).await;
    }
}

fn alert(alert_id: &str, expires_at_ms: i64) -> AlertV1 {
    AlertV1 {
        schema: ALERT_SCHEMA.into(),
        alert_id: alert_id.into(),
        study: "S000001".into(),
        revision: 1,
        group: "high".into(),
        probability: 0.731,
        variant: "image only".into(),
        status: StatusOfRisk::Provisional,
        survival: vec![],
        notes: vec![],
        issued_at: rfc3339(now_ms()),
        expires_at: rfc3339(expires_at_ms),
        attempt: 1,
        packages: PackagesV1::default(),
        identifiers: IdentifiersV1::None,
        disclaimer: DISCLAIMER.into(),
    }
}

fn ack(alert_id: &str, station: &str) -> String {
    format!(
        r#"{{"schema":"metwatch.ack/1","alert_id":"{alert_id}","station":"{station}","at":"2026-11-25T00:00:00Z"}}"#
    )
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_reaches_a_foreign_receiver_and_ends_with_its_acknowledgement() {
    let broker = Mosquitto::started(OPEN);
    let filters = ["-V", "5", "-t", "metwatch/#", "-C", "4", "-F", "%t %P %p"];
    let receiver = broker.subscribe(&filters);
    pause(300).await;
    let mut test_box = TestBox::new(broker.address());
    test_box.config.resend_s = 60;
    test_box.start();
    test_box.add("a1");
    let is_acked = |b: &TestBox| matches!(b.state("a1"), OutboxState::BrokerAcked { .. });
    until("the broker has it", || is_acked(&test_box)).await;
    test_box.add_row("e1", OutboxKind::Event, "event/degraded".into(), "{}".into(), now_ms() + 60_000);
    until("the event is delivered", || matches!(test_box.state("e1"), OutboxState::Delivered { .. })).await;
    test_box.health.send_replace(r#"{"load":0.1}"#.into());
    let heard = text(receiver.wait_with_output());
    let lines: Vec<_> = heard.lines().collect();
    assert!(lines[0].starts_with("metwatch/site/box/status ") && lines[0].contains("\"online\""), "{heard}");
    assert!(lines[1].starts_with("metwatch/site/box/alert/a1 message_id:a1 attempt:1 {"), "{heard}");
    assert!(lines[1].contains(DISCLAIMER) && lines[1].contains("\"identifiers\":\"none\""), "{heard}");
    assert!(lines[2].starts_with("metwatch/site/box/event/degraded "), "{heard}");
    assert!(lines[3].starts_with("metwatch/site/box/health"), "{heard}");
    // Only a proper acknowledgement on its own topic ends it.
    broker.publish("metwatch/site/box/ack/a1", "seen");
    broker.publish("metwatch/site/box/ack/a2", &ack("a1", "ward"));
    broker.publish("metwatch/site/box/ack/a2", &ack("a2", "ward"));
    pause(300).await;
    assert!(is_acked(&test_box));
    broker.publish("metwatch/site/box/ack/a1", &ack("a1", "ward 3"));
    until("it is acknowledged", || test_box.acked_by("a1").as_deref() == Some("ward 3")).await;
    until("that is told", || test_box.told("alert.acknowledged") == 1).await;
    test_box.stop().await;
}

/// Alerts before, while and after the broker is killed twice: each arrives, and each ends by the station.
async fn survive_a_killed_broker(lines: &str) {
    let mut broker = Mosquitto::started(lines);
    let station = TestStation::start(broker.address());
    station.is_up().await;
    let mut test_box = TestBox::new(broker.address());
    test_box.start();
    let ids: Vec<String> = (0..60).map(|n| format!("a{n:02}")).collect();
    for (n, id) in ids.iter().enumerate() {
        test_box.add(id);
        match n {
            15 | 40 => broker.kill(),
            25 | 45 => broker.start(),
            _ => pause(10).await,
        }
    }
    until("all alerts are acknowledged", || test_box.all_acked(&ids)).await;
    let heard = station.heard.lock().unwrap();
    assert!(ids.iter().all(|id| heard.get(id) == Some(&1)), "each alert is shown once: {heard:?}");
    assert!(test_box.told("alert.connected") >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_without_persistence_loses_no_alert() {
    survive_a_killed_broker(OPEN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_with_persistence_loses_no_alert() {
    survive_a_killed_broker(PERSISTENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_receiver_hears_every_alert_over_a_killed_broker() {
    let mut broker = Mosquitto::started(PERSISTENT);
    // MQTT 3.1.1, as an old receiver would.
    let filters = ["-V", "311", "-t", "metwatch/+/+/alert/+", "-c", "-i", "receiver", "-F", "%t", "-C", "60"];
    let first = broker.subscribe(&filters);
    pause(300).await;
    let mut test_box = TestBox::new(broker.address());
    test_box.start();
    for n in 0..10 {
        test_box.add(&format!("a{n}"));
    }
    pause(400).await;
    broker.kill();
    for n in 10..20 {
        test_box.add(&format!("a{n}"));
    }
    broker.start();
    // It repeats what nobody acknowledged, so 60 messages come; mosquitto_sub connects again by itself.
    let heard = text(tokio::task::spawn_blocking(move || first.wait_with_output()).await.expect("no panic"));
    for n in 0..20 {
        assert!(heard.lines().any(|l| l == format!("metwatch/site/box/alert/a{n}")), "a{n} is missing in {heard}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_wait_for_a_broker_that_is_away() {
    let mut broker = Mosquitto::new(OPEN);
    let mut test_box = TestBox::new(broker.address());
    test_box.start();
    let ids: Vec<String> = (0..20).map(|n| format!("a{n}")).collect();
    ids.iter().for_each(|id| test_box.add(id));
    pause(1500).await;
    assert_eq!((test_box.told("alert.broker-unreachable"), test_box.told("alert.connected")), (1, 0));
    broker.start();
    let _station = TestStation::start(broker.address());
    until("all alerts are acknowledged", || test_box.all_acked(&ids)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_that_is_killed_again_and_again_loses_no_alert() {
    let broker = Mosquitto::started(OPEN);
    let station = TestStation::start(broker.address());
    station.is_up().await;
    let mut test_box = TestBox::new(broker.address());
    let ids: Vec<String> = (0..60).map(|n| format!("a{n:02}")).collect();
    for part in ids.chunks(10) {
        test_box.start();
        part.iter().for_each(|id| test_box.add(id));
        pause(60).await;
        test_box.cut_off().await;
    }
    test_box.start();
    until("all alerts are acknowledged", || test_box.all_acked(&ids)).await;
    let heard = station.heard.lock().unwrap();
    assert!(ids.iter().all(|id| heard.get(id) == Some(&1)), "each alert is shown once: {heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_waits_for_a_box_that_is_away() {
    let broker = Mosquitto::started(OPEN);
    let mut test_box = TestBox::new(broker.address());
    test_box.config.resend_s = 60;
    test_box.start();
    test_box.add("a1");
    until("the broker has it", || matches!(test_box.state("a1"), OutboxState::BrokerAcked { .. })).await;
    test_box.cut_off().await;
    broker.publish("metwatch/site/box/ack/a1", &ack("a1", "ward"));
    test_box.start();
    until("it is acknowledged", || test_box.acked_by("a1").is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_is_retained_and_the_last_will_tells_a_lost_box() {
    let broker = Mosquitto::started(OPEN);
    let status = |broker: &Mosquitto, n: &str| {
        let heard = text(broker.subscribe(&["-t", "metwatch/site/box/status", "-C", n]).wait_with_output());
        let last = heard.lines().last().expect("a status").to_owned();
        let status: StatusV1 = serde_json::from_str(&last).expect("a status");
        format!("{:?}: {}", status.state, status.reason)
    };
    let mut test_box = TestBox::new(broker.address());
    test_box.start();
    until("it is connected", || test_box.told("alert.connected") == 1).await;
    pause(200).await;
    assert_eq!(status(&broker, "1"), "Online: connected");
    test_box.cut_off().await;
    // The first is the retained one, the second the will, after its delay.
    assert_eq!(status(&broker, "2"), "Offline: connection lost");
    test_box.start();
    until("it is connected again", || test_box.told("alert.connected") == 2).await;
    test_box.stop().await;
    assert_eq!(status(&broker, "1"), "Offline: stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listening_is_told_and_then_escalated_and_then_over() {
    let broker = Mosquitto::started(OPEN);
    let mut test_box = TestBox::new(broker.address());
    test_box.config.escalate_s = 2;
    test_box.start();
    test_box.add_until("a1", now_ms() + 4_000);
    until("it is told", || test_box.told("alert.nobody-listens") == 1).await;
    until("it is escalated", || matches!(test_box.state("a1"), OutboxState::Escalated { .. })).await;
    until("it is over", || matches!(test_box.state("a1"), OutboxState::Expired { .. })).await;
    until("the end is told", || test_box.told("alert.expired") == 1).await;
    assert_eq!((test_box.told("alert.nobody-listens"), test_box.told("alert.escalated")), (1, 1));
    assert!(test_box.store.outbox_entry("a1").unwrap().unwrap().attempts >= 3, "repeated until then");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_refuses_is_told_and_stays_in_the_outbox() {
    let mut broker = Mosquitto::new("allow_anonymous true\nacl_file {}/acl");
    let acl = "topic write metwatch/site/box/status\ntopic write metwatch/site/box/alert/#\ntopic read metwatch/#\n";
    std::fs::write(broker.folder.0.join("acl"), acl).unwrap();
    broker.start();
    let mut test_box = TestBox::new(broker.address());
    test_box.config.resend_s = 60;
    test_box.add_row("e1", OutboxKind::Event, "event/degraded".into(), "{}".into(), now_ms() + 60_000);
    test_box.start();
    until("it is told", || test_box.told("alert.refused") == 1).await;
    // The birth message was taken just before: its receipt must not count for the event.
    assert_eq!(test_box.state("e1"), OutboxState::Queued);
    test_box.add("a1");
    until("the broker has it", || matches!(test_box.state("a1"), OutboxState::BrokerAcked { .. })).await;
    assert_eq!((test_box.state("e1"), test_box.told("alert.refused")), (OutboxState::Queued, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_costs_nothing() {
    let mut broker = Mosquitto::new("allow_anonymous false\npassword_file {}/passwords");
    let passwords = broker.folder.0.join("passwords");
    let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&passwords).args(["box", "right"]).status();
    assert!(made.expect("mosquitto is installed").success());
    broker.start();
    let file = broker.folder.0.join("password");
    let password = |text: &str| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    };
    password("wrong\n");
    let mut test_box = TestBox::new(broker.address());
    (test_box.config.username, test_box.config.password_file) = (Some("box".into()), Some(file.clone()));
    test_box.start();
    test_box.add("a1");
    until("it is told", || test_box.told("alert.login-refused") == 1).await;
    assert_eq!(test_box.state("a1"), OutboxState::Queued);
    test_box.stop().await;
    password("right\n");
    test_box.start();
    until("the broker has it", || matches!(test_box.state("a1"), OutboxState::BrokerAcked { .. })).await;
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let error = test_box.config.verify().expect_err("others may read it");
    assert_eq!(metwatch::Explain::code(&error), "alert.open-secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_checks_the_broker() {
    let lines =
        "allow_anonymous true\ncafile {}/ca.pem\ncertfile {}/broker.pem\nkeyfile {}/broker.key\ntls_version tlsv1.3";
    let mut broker = Mosquitto::new(lines);
    let script = "set -e
        new() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=$1 -keyout $1.key -out $1.pem; }
        new ca; new other
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=broker -keyout broker.key -out broker.csr
        echo subjectAltName=IP:127.0.0.1 > san
        openssl x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out broker.pem";
    let made = Command::new("bash").args(["-c", script]).current_dir(&broker.folder.0).stderr(Stdio::null()).status();
    assert!(made.expect("openssl is installed").success());
    broker.start();
    let tls = |ca: &str| Some(Tls { ca_file: broker.folder.0.join(ca), client_cert_file: None, client_key_file: None });
    let mut test_box = TestBox::new(broker.address());
    for (tls, code) in [(tls("other.pem"), "alert.tls"), (None, "alert.not-accepted")] {
        test_box.config.tls = tls;
        test_box.start();
        until(code, || test_box.told(code) == 1).await;
        test_box.stop().await;
    }
    test_box.config.tls = tls("ca.pem");
    let _station = TestStation::start_with(StationConfig {
        broker: broker.address(),
        name: "ward".parse().unwrap(),
        username: None,
        password_file: None,
        tls: tls("ca.pem"),
    });
    test_box.start();
    test_box.add("a1");
    until("it is acknowledged", || test_box.acked_by("a1").is_some()).await;
    test_box.config.tls = tls("broker.key");
    let error = test_box.config.verify().expect_err("a key is no certificate");
    assert_eq!(metwatch::Explain::code(&error), "alert.bad-pem");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_no_broker_is_told_and_survived() {
    let mut broker = Mosquitto::new(OPEN);
    let mut test_box = TestBox::new(broker.address());
    {
        let hostile = tokio::net::TcpListener::bind(("127.0.0.1", broker.port)).await.expect("a free port");
        test_box.start();
        test_box.add("a1");
        // HTTP; a CONNACK and then noise; a CONNACK that is cut; silence that ends.
        let connack = b"\x20\x03\x00\x00\x00";
        for answer in [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            [&connack[..], &[0xf3; 64]].concat(),
            connack[..4].to_vec(),
            vec![],
        ] {
            let (mut stream, _) = hostile.accept().await.expect("the box connects again");
            tokio::io::AsyncWriteExt::write_all(&mut stream, &answer).await.expect("it listens");
            pause(100).await;
        }
    }
    until("it is told", || test_box.told("alert.not-accepted") >= 1).await;
    broker.start();
    let _station = TestStation::start(broker.address());
    until("it is acknowledged", || test_box.acked_by("a1").is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_boxes_under_one_id_are_told() {
    let broker = Mosquitto::started(OPEN);
    let (mut one, mut two) = (TestBox::new(broker.address()), TestBox::new(broker.address()));
    one.start();
    until("the first is connected", || one.told("alert.connected") == 1).await;
    two.start();
    until("the first is told", || one.told("alert.connection-unstable") >= 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_serves_box_station_and_a_foreign_receiver() {
    let broker = EmbeddedBroker::start(0).expect("loopback has free ports");
    let foreign = mosquitto_sub(broker.address().port, &["-V", "5", "-t", "metwatch/+/+/alert/+", "-C", "1"]);
    let station = TestStation::start(broker.address());
    station.is_up().await;
    pause(300).await;
    let mut test_box = TestBox::new(broker.address());
    test_box.start();
    let ids: Vec<String> = (0..40).map(|n| format!("a{n}")).collect();
    ids.iter().for_each(|id| test_box.add(id));
    until("all alerts are acknowledged", || test_box.all_acked(&ids)).await;
    let heard: AlertV1 = serde_json::from_str(text(foreign.wait_with_output()).trim()).expect("an alert");
    assert_eq!(heard.disclaimer, DISCLAIMER);
    // A station that was away hears later what came meanwhile.
    station.stop.send_replace(true);
    pause(300).await;
    test_box.add("late");
    pause(300).await;
    let _again = TestStation::start(broker.address());
    until("the late one is acknowledged", || test_box.acked_by("late").is_some()).await;
    test_box.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_station_command_prints_an_alert_and_acknowledges_it() {
    let broker = Mosquitto::started(OPEN);
    let station = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_metwatch"))
            .args(["station", "--broker", &broker.address().to_string(), "--name", "ward", "--once"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the shipped binary")
    };
    let mut test_box = TestBox::new(broker.address());
    test_box.start();
    let auto = station(&["--ack", "auto", "--json"]);
    test_box.add("a1");
    until("it is acknowledged", || test_box.acked_by("a1").as_deref() == Some("ward")).await;
    let printed = text(auto.wait_with_output());
    let alert = printed.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON lines"));
    let alert = alert.into_iter().find(|v| v["type"] == "alert").expect("an alert");
    assert_eq!((alert["payload"]["alert_id"].as_str(), alert["box"].as_str()), (Some("a1"), Some("box")));
    let mut ask = station(&["--ack", "ask"]);
    test_box.add("a2");
    pause(1500).await;
    assert_eq!(test_box.acked_by("a2"), None, "nobody pressed Enter");
    use std::io::Write;
    ask.stdin.take().expect("piped").write_all(b"\n").expect("it reads");
    until("it is acknowledged", || test_box.acked_by("a2").is_some()).await;
    let printed = text(ask.wait_with_output());
    assert!(printed.contains("ALERT   study S000001") && printed.contains(&DISCLAIMER.to_uppercase()), "{printed}");
}
