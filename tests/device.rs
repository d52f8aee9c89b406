//! The board, its health and the doctor: the shipped binary over folders made after real boards, with peers of others (mosquitto,
//! prometheus_client, jsonschema, openssl).

use crate::common::{Folder, metwatch, run};
use crate::line::{Heard, Peer, free_port, mosquitto, series, storescu, wait_for_port, write};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The tree of an Orin NX as the design page writes it down (platform.md section 6).
const ORIN_NX: &str = r#"set -e; t=$1
g=$t/sys/class/devfreq/17000000.gpu; h=$t/sys/bus/i2c/devices/1-0040/hwmon/hwmon1
mkdir -p $g/device/of_node $t/sys/class/thermal/thermal_zone{0,1,2,8} $h $t/proc/device-tree $t/etc
printf 'gpu\0' >$g/device/of_node/name; echo 437 >$g/device/load; echo 612000000 >$g/cur_freq; echo 1020000000 >$g/max_freq
z() { echo $2 >$t/sys/class/thermal/thermal_zone$1/type; echo $3 >$t/sys/class/thermal/thermal_zone$1/temp; }
z 0 cpu-thermal 48125; z 1 gpu-thermal 46906; z 2 cv0-thermal -256000; z 8 tj-thermal 49500
i=1; for r in VDD_IN:19096:392 VDD_CPU_GPU_CV:19096:88 VDD_SOC:19096:120; do
  IFS=: read n v c <<<$r; echo $n >$h/in${i}_label; echo $v >$h/in${i}_input; echo $c >$h/curr${i}_input; i=$((i+1)); done
printf 'NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0' >$t/proc/device-tree/model
echo '# R36 (release), REVISION: 4.3' >$t/etc/nv_tegra_release
printf 'MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n' >$t/proc/meminfo"#;

fn orin_nx(folder: &Folder) {
    let made = Command::new("bash").args(["-c", ORIN_NX, "tree"]).arg(folder.join("board")).status().unwrap();
    assert!(made.success());
}

fn junction(folder: &Folder, millidegrees: u32) {
    std::fs::write(folder.join("board/sys/class/thermal/thermal_zone8/temp"), millidegrees.to_string()).unwrap();
}

#[test]
fn the_board_is_recognized_and_its_sensors_are_read() {
    let folder = Folder::new("device");
    orin_nx(&folder);
    let root = folder.text("board");
    let (code, out, err) = run(&["device", "--root", &root, "--json"]);
    assert_eq!(code, 0, "{err}");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["board"]["name"], "orin-nx");
    assert_eq!(json["found"]["jetpack"], 6);
    assert!(json["board"]["why"].as_str().unwrap().contains("Orin NX"), "{out}");
    let measured = &json["measured"];
    assert_eq!(measured["hottest"]["celsius"], 49.5);
    assert_eq!(measured["gpus"][0]["load"]["value"], 0.437);
    assert_eq!(measured["power_w"]["value"], 7.485632);
    assert_eq!(measured["zones"][2]["celsius"], Value::Null, "offline is not cold");
    assert_eq!(measured["power_mode"], Value::Null);
    let (code, out, _) = run(&["device", "--root", &root]);
    assert!(code == 0 && out.contains("tj-thermal 49.5 °C") && out.contains("cv0-thermal offline"), "{out}");
    // This machine is one of the generic boards here, and says why.
    let (code, out, _) = run(&["device", "--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert!(code == 0 && json["board"]["name"].as_str().unwrap().starts_with("generic-"), "{out}");
    assert!(json["measured"]["memory_total_bytes"]["value"].as_u64().unwrap() > 100 << 20, "{out}");
}

/// A configuration with everything that the doctor looks at; `more` is appended.
struct TestBox {
    folder: Folder,
    dicom: u16,
    metrics: u16,
    console: u16,
}

impl TestBox {
    fn new(name: &str, broker: u16, more: &str) -> TestBox {
        let folder = Folder::new(name);
        orin_nx(&folder);
        let [dicom, metrics, console] = [free_port(), free_port(), free_port()];
        let text = format!(
            "[store]\ndirectory = \"{}\"\n[dicom]\nlisten = \"127.0.0.1:{dicom}\"\nallow = [\"CT1\", \"STORESCU\"]\nquiet_s = 1\nincomplete_s = 5\n\
             [alert]\nbroker = \"127.0.0.1:{broker}\"\nsite = \"test\"\nbox_id = \"{name}\"\n[console]\nlisten = \"127.0.0.1:{console}\"\n\
             [metrics]\nlisten = \"127.0.0.1:{metrics}\"\n[device]\nroot = \"{}\"\nsample_s = 1\n{more}",
            folder.text("store"),
            folder.text("board")
        );
        std::fs::write(folder.join("metwatch.toml"), text).unwrap();
        TestBox { folder, dicom, metrics, console }
    }

    fn serve(&self) -> Peer {
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let child = metwatch()
            .args(["serve", "--config", &self.folder.text("metwatch.toml")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let peer = Peer(child.unwrap());
        wait_for_port(self.dicom, "the service");
        peer
    }

    /// Exit code and findings of the doctor.
    fn doctor(&self) -> (i32, Value) {
        let (code, out, err) = run(&["doctor", "--config", &self.folder.text("metwatch.toml"), "--json"]);
        (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("no JSON: {out}{err}")))
    }
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Runs a script of the tests' Python with `input` on stdin; what it prints.
fn python(script: &str, input: &str, args: &[&str]) -> String {
    let python = std::env::var("METWATCH_TEST_PYTHON").expect("set METWATCH_TEST_PYTHON, as tests/run does");
    let mut child = Command::new(python)
        .args(["-c", script])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{input}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every sample as `name{labels}` -> value, by Prometheus's own reader.
fn samples(port: u16) -> Value {
    let answer = get(port, "/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("200 OK") && head.contains("text/plain; version=0.0.4"), "{head}");
    let script = "
import json, sys
from prometheus_client.parser import text_string_to_metric_families
found = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.name.startswith('metwatch_') and family.documentation and family.type in ('gauge', 'counter', 'histogram'), family
    for s in family.samples:
        key = s.name + ''.join(f'[{k}={v}]' for k, v in sorted(s.labels.items()) if k != 'source')
        assert key not in found, key
        found[key] = s.value
print(json.dumps(found))";
    serde_json::from_str(&python(script, body, &[])).unwrap()
}

#[test]
fn the_service_tells_its_health_and_announces_heat_until_it_is_over() {
    let broker_port = free_port();
    let _broker = mosquitto(broker_port);
    let mut heard = Heard::listen(broker_port);
    let it = TestBox::new("heat", broker_port, "");
    let _service = it.serve();
    let (_, health) = heard.wait("health", Duration::from_secs(60), |t, _| t == "metwatch/test/heat/health");
    let script = "
import json, sys, jsonschema
schema = json.load(open(sys.argv[1])); value = json.load(sys.stdin)
jsonschema.Draft202012Validator.check_schema(schema); jsonschema.validate(value, schema)
value['machine']['zones'][0]['celsius'] = 'hot'
try: jsonschema.validate(value, schema)
except jsonschema.ValidationError: sys.exit(0)
sys.exit('a wrong message fits')";
    python(script, &health.to_string(), &["src/alert/schemas/health.json"]);
    assert_eq!(health["machine"]["hottest"]["celsius"], 49.5);
    assert_eq!(health["policy"]["postponed"], false);
    let calm = samples(it.metrics);
    assert_eq!(calm["metwatch_hottest_celsius"], 49.5);
    assert_eq!(calm["metwatch_power_watts"], 7.485632);
    assert_eq!(calm["metwatch_temperature_celsius[zone=tj-thermal]"], 49.5);
    assert_eq!(calm["metwatch_temperature_celsius[zone=cv0-thermal]"], Value::Null, "offline: absent");
    assert_eq!(calm["metwatch_condition[condition=device.too-hot]"], 0.0);
    assert_eq!(calm["metwatch_studies_received_total"], 0.0);
    assert_eq!(calm["metwatch_analysis_seconds_count"], 0.0);
    assert_eq!(calm["metwatch_board_info[board=orin-nx]"], 1.0);
    assert!(calm["metwatch_disk_free_bytes"].as_f64().unwrap() > 0.0);
    assert!(!get(it.console, "/").contains("too hot"));

    let config = it.folder.text("metwatch.toml");
    let timer = || run(&["update", "apply", "--timer", "--config", &config]);
    let (code, _, err) = timer();
    assert!(code == 1 && err.contains("update.url"), "it tries, and has no address: {err}");

    junction(&it.folder, 97_250);
    let event = heard.event("device.too-hot");
    assert_eq!((event["kind"].as_str(), event["schema"].as_str()), (Some("degraded"), Some("metwatch.event/1")));
    assert!(event["sentence"].as_str().unwrap().contains("tj-thermal 97.2"), "{event}");
    let hot = |_: &str, v: &Value| v["policy"]["postponed"] == true;
    let (_, health) = heard.wait("health while it is hot", Duration::from_secs(20), hot);
    assert_eq!(health["policy"]["conditions"][0], "device.too-hot");
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(health["policy"]["threads"], (cores / 2).max(1));
    let shown = samples(it.metrics);
    assert_eq!(shown["metwatch_condition[condition=device.too-hot]"], 1.0);
    assert_eq!(shown["metwatch_postponed"], 1.0);
    assert!(get(it.console, "/").contains("The box is too hot"));
    let (code, json) = it.doctor();
    for expected in ["device.too-hot", "device.postponed"] {
        assert!(code == 0 && codes(&json).iter().any(|c| c == expected), "a warning: {json}");
    }

    let (code, _, err) = timer();
    assert!(code == 0 && err.contains("put off") && err.contains("device.too-hot"), "{err}");

    junction(&it.folder, 60_000);
    let event = heard.event("device.cooled");
    assert!(event["sentence"].as_str().unwrap().contains("60.0 °C"), "{event}");
    heard.wait("health when it is over", Duration::from_secs(20), |_, v| v["policy"]["postponed"] == false);
    assert!(std::fs::read_to_string(it.folder.join("log")).unwrap().contains("device.too-hot"));
}

#[test]
fn a_study_is_counted_from_its_first_object_to_its_outcome() {
    let broker_port = free_port();
    let _broker = mosquitto(broker_port);
    let it = TestBox::new("counted", broker_port, "");
    let _service = it.serve();
    storescu(it.dicom, &write(&it.folder.join("dicom"), &series(4, "PAT-4711")));
    let end = Instant::now() + Duration::from_secs(120);
    let shown = loop {
        let answer = get(it.metrics, "/metrics");
        assert!(!answer.contains("PAT-4711") && !answer.contains("Phantom"), "a patient in the metrics: {answer}");
        if answer.contains("metwatch_studies_ended_total{outcome=\"analysed\"} 1") {
            break samples(it.metrics);
        }
        assert!(Instant::now() < end, "no outcome: {answer}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(shown["metwatch_studies_received_total"], 1.0);
    assert_eq!(shown["metwatch_studies[state=analysed]"], 1.0);
    assert_eq!(shown["metwatch_studies_ended_total[outcome=refused]"], 0.0);
    assert_eq!(shown["metwatch_analysis_seconds_count"], 1.0);
    assert!(shown["metwatch_analysis_seconds_sum"].as_f64().unwrap() > 0.0);
    assert_eq!(shown["metwatch_analysis_seconds_bucket[le=+Inf]"], 1.0);
    // Its result and alert wait for receipts that a station without subscription does not give.
    assert!(shown["metwatch_outbox_messages"].as_f64().unwrap() >= 1.0, "{shown}");
    assert_eq!(shown["metwatch_alerts_unacknowledged"], 1.0);
    assert!(shown["metwatch_alert_oldest_age_seconds"].as_f64().is_some());
}

/// Codes of what is not well.
fn codes(json: &Value) -> Vec<String> {
    let findings = json["findings"].as_array().unwrap().iter();
    findings.filter_map(|f| f["code"].as_str().map(Into::into)).collect()
}

#[test]
fn the_doctor_finds_nothing_against_a_running_box() {
    let broker_port = free_port();
    let _broker = mosquitto(broker_port);
    let it = TestBox::new("well", broker_port, "");
    let _service = it.serve();
    let end = Instant::now() + Duration::from_secs(30);
    while !it.folder.join("store/health.json").exists()
        || !std::fs::read_to_string(it.folder.join("store/health.json")).unwrap().contains("\"broker_connected\":true")
    {
        assert!(Instant::now() < end, "the service wrote no health");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (code, json) = it.doctor();
    // What this machine's own clock is set by is not ours.
    let others: Vec<String> =
        codes(&json).into_iter().filter(|c| c != "clock.unsynchronized" && c != "disk.slow").collect();
    assert_eq!((code, others), (0, Vec::<String>::new()), "{json}");
    let text = json.to_string();
    for part in [
        "is open by metwatch",
        "takes the box's login",
        "every alert was acknowledged",
        "hashes and golden vectors right",
    ] {
        assert!(text.contains(part), "{part}: {json}");
    }
}

#[test]
fn the_doctor_names_each_problem_and_what_to_do() {
    let folder = Folder::new("doctor-keys");
    let openssl = |days: &str, name: &str| {
        let args = ["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=box", "-days", days, "-keyout"];
        let made = Command::new("openssl")
            .args(args)
            .arg(folder.join(&format!("{name}.key")))
            .arg("-out")
            .arg(folder.join(&format!("{name}.pem")))
            .output()
            .expect("tests/run installs openssl");
        assert!(made.status.success());
    };
    openssl("20", "soon");
    openssl("400", "later");
    let mode =
        |name: &str, bits| std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(bits)).unwrap();
    mode("soon.key", 0o644);
    let more = format!(
        "[dicom.tls]\nca_file = \"{}\"\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n",
        folder.text("later.pem"),
        folder.text("soon.pem"),
        folder.text("soon.key")
    );
    let it = TestBox::new("ill", free_port(), &more); // nobody listens there
    let taken = TcpListener::bind(("127.0.0.1", it.dicom)).unwrap();
    let (code, json) = it.doctor();
    let found = codes(&json);
    for expected in [
        "service.not-running",
        "service.port-in-use",
        "alert.broker-unreachable",
        "certificate.ends-soon",
        "secret.open",
    ] {
        assert!(found.iter().any(|c| c == expected), "{expected} is missing: {json}");
    }
    assert_eq!((code, json["worst"].as_str()), (1, Some("problem")));
    for finding in json["findings"].as_array().unwrap().iter().filter(|f| f["severity"] != "ok") {
        assert!(finding["advice"].as_str().is_some_and(|a| !a.is_empty()), "{finding}");
    }
    let names_us = json.to_string().contains(&format!("(process {})", std::process::id()));
    assert!(names_us, "who uses the port: {json}");

    // Mended, one by one: warnings alone end with 0, with --strict with 1.
    drop(taken);
    mode("soon.key", 0o600);
    let _broker = {
        let text = std::fs::read_to_string(it.folder.join("metwatch.toml")).unwrap();
        let port: u16 = text.split("broker = \"127.0.0.1:").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        mosquitto(port)
    };
    let (code, json) = it.doctor();
    assert_eq!((code, json["worst"].as_str()), (0, Some("warning")), "{json}");
    let (code, out, err) = run(&["doctor", "--strict", "--config", &it.folder.text("metwatch.toml")]);
    assert!(code == 1 && out.contains("WARNING  certificates") && err.contains("doctor.not-well"), "{out}{err}");
    assert!(!Path::new(&it.folder.text("store/.metwatch-doctor")).exists());
}

#[test]
fn a_wrong_board_in_the_configuration_is_told_before_the_start() {
    let it = TestBox::new("board", free_port(), "board = \"orin-nx-9\"\n");
    let (code, out, _) = run(&["check", "--config", &it.folder.text("metwatch.toml")]);
    assert!(code == 1 && out.contains("device.unknown-board") && out.contains("agx-orin"), "{out}");
    let (code, _, err) = run(&["serve", "--config", &it.folder.text("metwatch.toml")]);
    assert!(code == 1 && err.contains("device.unknown-board"), "{err}");
}
