//! DICOM nodes around the box: storage commitment, the outbox and its destinations, TLS; pynetdicom, DCMTK and OpenSSL on the other side.

use crate::common::{Folder, metwatch, run};
use crate::line::{Peer, free_port, high, series, wait_for_port, write};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A running `metwatch serve` with its own broker.
pub struct Node {
    pub peer: Peer,
    pub port: u16,
    pub folder: Folder,
}

impl Node {
    /// `dicom`: lines of the `[dicom]` part and tables after it.
    pub fn start(name: &str, dicom: &str) -> Node {
        let (folder, port) = (Folder::new(name), free_port());
        std::fs::create_dir_all(folder.join("clinical")).unwrap();
        let text = format!(
            "[store]\ndirectory = \"{}\"\n[models]\nsegmenter = \"phantom\"\n[alert]\nembedded_port = 0\n[clinical]\ndrop_directory = \"{}\"\n\
             [dicom]\nlisten = \"127.0.0.1:{port}\"\nquiet_s = 1\nincomplete_s = 4\n{dicom}\n",
            folder.text("store"),
            folder.text("clinical"),
        );
        std::fs::write(folder.join("metwatch.toml"), text).unwrap();
        let served = Node { peer: serve(&folder), port, folder };
        wait_for_port(port, "the service");
        served
    }

    /// Kills it as the power would.
    pub fn kill(&mut self) {
        self.peer.0.kill().expect("a child can be killed");
        self.peer.0.wait().expect("a child ends");
    }

    pub fn restart(&mut self) {
        self.kill();
        self.peer = serve(&self.folder);
        wait_for_port(self.port, "the service");
    }

    /// `metwatch outbox list`, once it fits.
    fn outbox(&self, what: &str, fits: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let (code, out, err) = run(&["outbox", "list", "--json", "--dir", &self.folder.text("store")]);
            assert_eq!(code, 0, "{err}");
            let status: Value = serde_json::from_str(&out).expect("JSON");
            let messages = status["messages"].as_array().expect("messages").clone();
            if fits(&messages) {
                return messages;
            }
            assert!(Instant::now() < end, "{what}: the outbox has {messages:#?}; log: {}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

fn serve(folder: &Folder) -> Peer {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let config = folder.text("metwatch.toml");
    Peer(metwatch().args(["serve", "--config", &config]).stderr(log).stdout(Stdio::null()).spawn().expect("it runs"))
}

/// A script of `tests/peers`, its lines as they come.
struct Script {
    lines: Receiver<String>,
    stdin: Option<std::process::ChildStdin>,
    _peer: Peer,
}

impl Script {
    fn start(name: &str, args: &[String]) -> Script {
        let python = std::env::var_os("METWATCH_TEST_PYTHON").map_or(".venv/bin/python".into(), PathBuf::from);
        let mut command = Command::new(python);
        // Debian keeps Orthanc in /usr/sbin.
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        command.arg(format!("tests/peers/{name}.py")).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("METWATCH_TEST_PYTHON has pynetdicom");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (tell, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Script { lines, stdin: child.stdin.take(), _peer: Peer(child) }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().expect("piped"), "{line}").expect("the script listens");
    }

    /// The next line that begins so.
    fn wait(&self, begins: &str) -> String {
        let end = Instant::now() + Duration::from_secs(90);
        let mut seen = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.starts_with(begins) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("{begins:?} was not said; said {seen:?}"),
            }
        }
    }
}

fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(ToString::to_string).collect()
}

// ---- Storage commitment, asked of the box ----------------------------------------------------------------------------------

#[test]
fn a_modality_hears_which_objects_are_kept() {
    let report_port = free_port();
    let served = Node::start(
        "commit",
        &format!("allow = [{{ ae_title = \"CT1\", host = \"127.0.0.1\", report_port = {report_port} }}]"),
    );
    let objects = write(&served.folder.join("ct"), &series(41, "COMMIT")[..5]);
    let ask = |how: &[&str]| {
        let port = served.port.to_string();
        Script::start("modality", &strings(&[&[&port, objects.to_str().unwrap()][..], how].concat()))
    };
    let asked = ask(&["new", &report_port.to_string()]);
    assert_eq!(asked.wait("answered"), "answered 0x0");
    // 0x0112: it was never sent; 0x0119: it is no MR.
    let report = asked.wait("report");
    assert!(report.starts_with("report 2 kept 5 failed 1.2.3.4.5:0x0112 "), "{report}");
    assert!(report.ends_with(":0x0119"), "{report}");
    served.outbox("the report is confirmed", |messages| messages.is_empty());
}

#[test]
fn a_report_goes_over_the_same_association_when_no_port_is_known() {
    let served = Node::start("commit-same", "durability = \"association\"\nallow = [\"CT1\"]");
    let objects = write(&served.folder.join("ct"), &series(42, "COMMIT")[..5]);
    let asked = Script::start("modality", &strings(&[&served.port.to_string(), objects.to_str().unwrap(), "same"]));
    assert!(asked.wait("report").starts_with("report 2 kept 5 failed 1.2.3.4.5:0x0112 "));
    served.outbox("the report is confirmed", |messages| messages.is_empty());
}

#[test]
fn a_report_survives_the_power_and_waits_for_its_requester() {
    let report_port = free_port();
    let mut served = Node::start(
        "commit-kill",
        &format!("allow = [{{ ae_title = \"CT1\", host = \"127.0.0.1\", report_port = {report_port} }}]"),
    );
    let objects = write(&served.folder.join("ct"), &series(43, "COMMIT")[..5]);
    let asked = Script::start("modality", &strings(&[&served.port.to_string(), objects.to_str().unwrap(), "ask"]));
    assert_eq!(asked.wait("answered"), "answered 0x0");
    served.kill();
    served.restart();
    let port = report_port.to_string();
    let hearing = Script::start("modality", &strings(&["0", ".", "hear", &port]));
    hearing.wait("listening");
    assert!(hearing.wait("report").starts_with("report 2 kept 5 failed 1.2.3.4.5:0x0112 "));
}

#[test]
fn a_technician_sends_and_has_the_objects_committed() {
    let served = Node::start("commit-cli", "allow = [\"CT1\", { ae_title = \"MR1\", commit = false }]");
    let objects = write(&served.folder.join("ct"), &series(44, "COMMIT")[..3]);
    let (folder, to) = (objects.to_str().unwrap(), format!("METWATCH@127.0.0.1:{}", served.port));
    let (code, out, err) = run(&["dicom", "echo", "--to", &to, "--from", "CT1"]);
    assert!(code == 0 && out.starts_with("METWATCH answered in "), "{out}{err}");
    let commit = |title: &str| run(&["dicom", "commit", folder, "--to", &to, "--from", title, "--wait", "10"]);
    let (code, _, err) = commit("CT1");
    assert!(code == 1 && err.contains("it has no such object (0x0112)") && err.contains("commit.failed"), "{err}");
    let (code, out, err) = run(&["dicom", "send", folder, "--to", &to, "--from", "CT1"]);
    assert!(code == 0 && out.starts_with("3 of 3 files stored"), "{out}{err}");
    let (code, out, err) = commit("CT1");
    assert!(code == 0 && out.starts_with("3 of 3 objects are kept safe by METWATCH"), "{out}{err}");
    let (code, _, err) = commit("MR1");
    assert!(code == 1 && err.contains("send.not-offered"), "{err}");
}

// ---- Results to archives ----------------------------------------------------------------------------------------------------

/// One result to eleven archives, each with a habit of its own. The box is killed in between.
#[test]
fn results_reach_each_archive_by_its_own_answer() {
    let names = ["PLAIN", "SAME", "NEW", "REFUSE", "BUSY", "IMPLICIT", "LATE", "FAIL", "NEVER", "WARN", "HANG"];
    let ports: Vec<u16> = names.iter().map(|_| free_port()).collect();
    let commits = ["SAME", "NEW", "FAIL", "NEVER"];
    let tables: Vec<String> = names
        .iter()
        .zip(&ports)
        .map(|(name, port)| {
            let commit = commits.contains(name);
            format!("[[dicom.send]]\nae_title = \"{name}\"\nhost = \"127.0.0.1\"\nport = {port}\nobjects = [\"seg\"]\ncommit = {commit}\n")
        })
        .collect();
    // Two that are not meant: one wants low risks only, the other, whom nobody reaches, documents only.
    let (port, closed) = (ports[0], free_port());
    let other = format!(
        "[[dicom.send]]\nae_title = \"OTHER\"\nhost = \"127.0.0.1\"\nport = {port}\ngroups = [\"low\"]\n\
         [[dicom.send]]\nae_title = \"DOCUMENTS\"\nhost = \"127.0.0.1\"\nport = {closed}\nobjects = [\"pdf\"]\n"
    );
    let mut served = Node::start("outbox", &format!("allow = [\"CT1\"]\n{}{other}", tables.concat()));
    let (root, port) = (served.folder.path().to_path_buf(), served.port.to_string());
    let pacs = |name: &str| {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let own = ports[names.iter().position(|n| *n == name).unwrap()].to_string();
        let mode = name.to_lowercase();
        let modes = if name == "FAIL" { vec!["fail", "same"] } else { vec![mode.as_str()] };
        let args = [&[name, &own, folder.to_str().unwrap(), &port][..], &modes].concat();
        let script = Script::start("pacs", &strings(&args));
        script.wait("ready");
        script
    };
    let archives: Vec<(&str, Script)> = names.iter().filter(|n| **n != "LATE").map(|n| (*n, pacs(n))).collect();
    let archive = |name: &str| &archives.iter().find(|(n, _)| *n == name).unwrap().1;
    std::fs::write(served.folder.join("clinical/1.json"), high("PAT-A")).unwrap();
    let objects = write(&served.folder.join("ct"), &series(21, "PAT-A"));
    let to = format!("METWATCH@127.0.0.1:{}", served.port);
    let (code, _, err) = run(&["send", objects.to_str().unwrap(), "--to", &to, "--from", "CT1"]);
    assert_eq!(code, 0, "{err}");

    for name in ["PLAIN", "SAME", "NEW", "IMPLICIT", "NEVER", "WARN"] {
        let stored = archive(name).wait("stored");
        let implicit = stored.ends_with(" 1.2.840.10008.1.2");
        assert_eq!(implicit, name == "IMPLICIT", "{name}: {stored}");
    }
    assert_eq!(archive("SAME").wait("reported"), "reported 1 0x0");
    assert_eq!(archive("NEW").wait("reported"), "reported 1 0x0");
    // The first commitment fails: the object is sent again, and committed then.
    assert_eq!(archive("FAIL").wait("reported"), "reported 2 0x0");
    assert_eq!(archive("FAIL").wait("reported"), "reported 1 0x0");
    archive("BUSY").wait("busy");
    let state = |messages: &[Value], to: &str| {
        let row = messages.iter().find(|m| m["to"] == to);
        row.map_or("none".to_owned(), |m| m["state"]["name"].as_str().unwrap().to_owned())
    };
    let states = |messages: &[Value]| names.map(|n| state(messages, n));
    let left = ["none", "none", "none", "parked", "queued", "none", "queued", "none", "committing", "none", "queued"];
    let messages = served.outbox("the quick ones are done", |messages| states(messages) == left);
    assert!(messages.iter().all(|m| m["to"] != "OTHER"), "{messages:#?}");
    let documents: Vec<&Value> =
        messages.iter().filter(|m| m["to"] == "DOCUMENTS").map(|m| &m["payload"]["object"]).collect();
    assert_eq!(documents, [&Value::from("pdf")]);
    let parked = messages.iter().find(|m| m["to"] == "REFUSE").unwrap();
    let reason = parked["state"]["reason"].as_str().unwrap();
    assert!(reason.contains("status 0x0122"), "{reason}");
    assert_eq!((&parked["payload"]["object"], &parked["study"]), (&"seg".into(), &"S000001".into()));

    served.restart();
    let late = pacs("LATE");
    late.wait("stored");
    for name in ["REFUSE", "BUSY"] {
        std::fs::write(served.folder.join(name).join("free"), b"").unwrap();
    }
    archive("BUSY").wait("stored");
    let (code, out, err) =
        run(&["outbox", "retry", "--peer", "REFUSE", "--config", &served.folder.text("metwatch.toml")]);
    assert!(code == 0 && out.starts_with("1 messages are sent again"), "{out}{err}");
    archive("REFUSE").wait("stored");
    let done = ["none", "none", "none", "none", "none", "none", "none", "none", "committing", "none", "queued"];
    served.outbox("all but one are done", |messages| states(messages) == done);
    // Nothing was delivered twice where once was enough, and the audit names every step.
    for name in ["PLAIN", "SAME", "NEW", "IMPLICIT", "REFUSE", "BUSY"] {
        assert_eq!(objects_in(&served.folder.join(name)), 1, "{name}");
    }
    served.kill();
    let (code, _, err) = run(&["audit", "verify", "--dir", &served.folder.text("store")]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn orthanc_sends_asks_and_keeps() {
    let (dicom, http) = (free_port(), free_port());
    let served = Node::start(
        "orthanc",
        &format!(
            "allow = [{{ ae_title = \"ORTHANC\", report_port = {dicom}, host = \"127.0.0.1\" }}]\n\
             [[dicom.send]]\nae_title = \"ORTHANC\"\nhost = \"127.0.0.1\"\nport = {dicom}\ncommit = true\n"
        ),
    );
    std::fs::write(served.folder.join("clinical/1.json"), high("PAT-A")).unwrap();
    write(&served.folder.join("ct"), &series(21, "PAT-A"));
    let ports = [dicom, http, served.port].map(|p| p.to_string());
    let args = [&[served.folder.path().display().to_string()][..], &ports].concat();
    let mut orthanc = Script::start("orthanc", &args);
    orthanc.wait("ready");
    orthanc.say("go");
    assert_eq!(orthanc.wait("sent"), "sent 0 failed");
    let committed = orthanc.wait("committed");
    assert!(committed.starts_with("committed Failure 60 [") && committed.contains("was not available"), "{committed}");
    assert_eq!(orthanc.wait("received"), "received ['DOC', 'OT', 'SEG', 'SR']");
    served.outbox("Orthanc committed every object", |messages| messages.is_empty());
    orthanc.say("end");
}

fn objects_in(folder: &Path) -> usize {
    let is_object = |e: &std::fs::DirEntry| e.path().extension().is_some_and(|x| x == "dcm");
    std::fs::read_dir(folder).unwrap().filter(|e| is_object(e.as_ref().unwrap())).count()
}

// ---- TLS --------------------------------------------------------------------------------------------------------------------

fn openssl(folder: &Path, args: &str) {
    let out = Command::new("openssl").current_dir(folder).args(args.split(' ')).output().expect("openssl is installed");
    assert!(out.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&out.stderr));
}

/// An authority, a stranger's authority, and certificates of nodes: `box`, `ct1`, `ct2`, `expired`, `foreign`.
fn certificates(folder: &Path) {
    for authority in ["ca", "stranger"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey rsa:2048 -nodes -keyout {authority}.key -out {authority}.pem -days 30 -subj /CN={authority}"
            ),
        );
    }
    for (name, authority, start, end) in [
        ("box", "ca", "", ""),
        ("ct1", "ca", "", ""),
        ("ct2", "ca", "", ""),
        ("foreign", "stranger", "", ""),
        ("expired", "ca", "20200101000000Z", "20200201000000Z"),
    ] {
        openssl(
            folder,
            &format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}.example"),
        );
        std::fs::write(
            folder.join(format!("{name}.ext")),
            format!("subjectAltName=DNS:{name}.hospital.example,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"),
        )
        .unwrap();
        if start.is_empty() {
            openssl(
                folder,
                &format!(
                    "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days 30 -out {name}.pem -extfile {name}.ext"
                ),
            );
        } else {
            let (index, dir) = (folder.join("index.txt"), folder.display());
            std::fs::write(&index, b"").unwrap();
            std::fs::write(folder.join("serial"), b"1000").unwrap();
            std::fs::write(
                folder.join("ca.cnf"),
                format!(
                    "[ca]\ndefault_ca=d\n[d]\ndir={dir}\ndatabase={dir}/index.txt\nserial={dir}/serial\nnew_certs_dir={dir}\n\
                     default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n"
                ),
            )
            .unwrap();
            openssl(
                folder,
                &format!(
                    "ca -batch -config ca.cnf -in {name}.csr -cert {authority}.pem -keyfile {authority}.key -startdate {start} -enddate {end} -out {name}.pem -extfile {name}.ext -notext"
                ),
            );
        }
        set_mode(&folder.join(format!("{name}.key")), 0o600);
    }
}

fn set_mode(file: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

#[test]
fn tls_lets_in_who_has_the_right_certificate_and_goes_out_to_whom_it_believes() {
    let keys = Folder::new("keys");
    certificates(keys.path());
    let port = free_port();
    let tls = |required: &str| {
        format!(
            "allow = [\"CT2\", {{ ae_title = \"CT1\", certificate = \"ct1.example\" }}, {{ ae_title = \"CT3\", certificate = \"ct1.hospital.example\" }}]\n\
             [dicom.tls]\nca_file = \"{}\"\ncertificate_file = \"{}\"\nkey_file = \"{}\"\nlisten = \"127.0.0.1:{port}\"\nclient_certificate = \"{required}\"\n",
            keys.text("ca.pem"),
            keys.text("box.pem"),
            keys.text("box.key")
        )
    };
    let mut served = Node::start("tls", &tls("required"));
    let to = format!("METWATCH@127.0.0.1:{port}");
    let echo = |title: &str, certificate: &str, ca: &str, more: &[&str]| {
        let (ca, cert, key) =
            (keys.text(ca), keys.text(&format!("{certificate}.pem")), keys.text(&format!("{certificate}.key")));
        let mut args = vec!["dicom", "echo", "--to", &to, "--from", title, "--tls-ca", &ca];
        if !certificate.is_empty() {
            args.extend(["--tls-cert", &cert, "--tls-key", &key]);
        }
        args.extend(more);
        let (code, out, err) = run(&args);
        assert_eq!(code == 0, out.contains("answered in"), "{out}{err}");
        let code = err.lines().find_map(|l| l.trim().strip_prefix("code: ")).unwrap_or("good").to_owned();
        (code, err)
    };
    assert_eq!(echo("CT1", "ct1", "ca.pem", &[]).0, "good");
    assert_eq!(echo("CT3", "ct1", "ca.pem", &[]).0, "good", "bound by its DNS name");
    assert_eq!(echo("CT2", "ct2", "ca.pem", &[]).0, "good");
    // The certificate of another node, though of the same authority.
    assert_eq!(echo("CT1", "ct2", "ca.pem", &[]).0, "send.rejected");
    for wrong in ["expired", "foreign", ""] {
        let (code, err) = echo("CT2", wrong, "ca.pem", &[]);
        assert!(["send.tls", "send.association"].contains(&code.as_str()), "{wrong}: {err}");
    }
    // The box shows a certificate that the caller does not believe, or of another name.
    assert_eq!(echo("CT1", "ct1", "stranger.pem", &[]).0, "send.tls");
    assert_eq!(echo("CT1", "ct1", "ca.pem", &["--tls-name", "other.example"]).0, "send.tls");
    assert_eq!(echo("CT1", "ct1", "ca.pem", &["--tls-name", "box.hospital.example"]).0, "good");
    // Over the plain port, a title that is bound to a certificate does not get in.
    let plain = format!("METWATCH@127.0.0.1:{}", served.port);
    assert!(run(&["dicom", "echo", "--to", &plain, "--from", "CT1"]).2.contains("send.rejected"));
    assert_eq!(run(&["dicom", "echo", "--to", &plain, "--from", "CT2"]).0, 0);

    // DCMTK with TLS: verification and storage; OpenSSL: nothing older than TLS 1.2.
    let tool = |name: &str, certificate: &str, more: &[&str]| {
        let (key, cert, ca) =
            (keys.text(&format!("{certificate}.key")), keys.text(&format!("{certificate}.pem")), keys.text("ca.pem"));
        let port = port.to_string();
        let fixed = ["+tls", &key, &cert, "+cf", &ca, "-aet", "CT2", "-aec", "METWATCH", "127.0.0.1", &port];
        Command::new(name).env("TCP_NODELAY", "1").args(fixed).args(more).output().expect("dcmtk is installed")
    };
    let out = tool("echoscu", "ct2", &[]);
    assert!(out.status.success(), "{}", text(&out));
    assert!(!tool("echoscu", "foreign", &[]).status.success());
    let objects = write(&served.folder.join("ct"), &series(45, "TLS")[..4]);
    let out = tool("storescu", "ct2", &["+sd", objects.to_str().unwrap()]);
    assert!(out.status.success(), "{}", text(&out));
    let hello = |version: &str| {
        let to = format!("127.0.0.1:{port}");
        let (cert, key) = (keys.text("ct2.pem"), keys.text("ct2.key"));
        let args = ["s_client", "-connect", &to, version, "-cert", &cert, "-key", &key, "-cipher", "ALL:@SECLEVEL=0"];
        let out = Command::new("openssl").args(args).stdin(Stdio::null()).output().expect("openssl is installed");
        out.status.success()
    };
    assert_eq!([hello("-tls1_1"), hello("-tls1_2"), hello("-tls1_3")], [false, true, true]);

    // Where certificates are optional, one that is shown is still checked.
    let config = std::fs::read_to_string(served.folder.join("metwatch.toml")).unwrap();
    std::fs::write(served.folder.join("metwatch.toml"), config.replace("\"required\"", "\"optional\"")).unwrap();
    served.restart();
    wait_for_port(port, "the TLS port");
    assert_eq!(echo("CT2", "", "ca.pem", &[]).0, "good");
    assert_eq!(echo("CT1", "", "ca.pem", &[]).0, "send.rejected");
    assert!(echo("CT2", "foreign", "ca.pem", &[]).0 != "good");

    // Out with TLS, to DCMTK's archive that asks for our certificate.
    let archive = free_port();
    let received = served.folder.join("received");
    std::fs::create_dir_all(&received).unwrap();
    let (key, cert, ca) = (keys.text("box.key"), keys.text("box.pem"), keys.text("ca.pem"));
    let scp = Command::new("storescp")
        .env("TCP_NODELAY", "1")
        .args(["+tls", &key, &cert, "+cf", &ca, "-od", received.to_str().unwrap(), &archive.to_string()])
        .spawn();
    let _scp = Peer(scp.expect("dcmtk is installed"));
    wait_for_port(archive, "storescp");
    let to = format!("ARCHIVE@127.0.0.1:{archive}");
    let (cert, key) = (keys.text("ct1.pem"), keys.text("ct1.key"));
    let args =
        ["send", objects.to_str().unwrap(), "--to", &to, "--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    let (code, out, err) = run(&args);
    assert!(code == 0 && out.starts_with("4 of 4 files stored"), "{out}{err}");
    assert!(run(&args[..6]).0 != 0, "storescp wants a certificate");
}

#[test]
fn tls_that_cannot_work_is_told_before_the_start() {
    let keys = Folder::new("keys-bad");
    openssl(keys.path(), "req -x509 -newkey rsa:2048 -nodes -keyout a.key -out a.pem -days 30 -subj /CN=a");
    openssl(keys.path(), "req -x509 -newkey rsa:2048 -nodes -keyout b.key -out b.pem -days 30 -subj /CN=b");
    let check = |certificate: &str, key: &str, more: &str| {
        let config = format!(
            "[store]\ndirectory = \"{}\"\n[alert]\nembedded_port = 0\n[dicom]\nlisten = \"127.0.0.1:0\"\nallow = [\"CT1\"]\n{more}\n[dicom.tls]\n\
             ca_file = \"{}\"\ncertificate_file = \"{}\"\nkey_file = \"{}\"\nlisten = \"127.0.0.1:0\"\n",
            keys.text("store"),
            keys.text("a.pem"),
            keys.text(certificate),
            keys.text(key)
        );
        std::fs::write(keys.join("metwatch.toml"), config).unwrap();
        let (code, out, err) = run(&["check", "--config", &keys.text("metwatch.toml")]);
        (code, out + &err)
    };
    set_mode(&keys.join("a.key"), 0o644);
    let (code, said) = check("a.pem", "a.key", "");
    assert!(code == 1 && said.contains("tls.open-key"), "{said}");
    set_mode(&keys.join("a.key"), 0o600);
    set_mode(&keys.join("b.key"), 0o600);
    let (code, said) = check("a.pem", "a.key", "");
    assert_eq!(code, 0, "{said}");
    for (certificate, key, expected) in
        [("a.pem", "b.key", "tls.unusable"), ("a.key", "a.key", "tls.pem"), ("none", "a.key", "tls.file")]
    {
        let (code, said) = check(certificate, key, "");
        assert!(code == 1 && said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn the_conformance_statement_is_current() {
    let (code, out, err) = run(&["dicom", "conformance"]);
    assert_eq!(code, 0, "{err}");
    let kept = std::fs::read_to_string("docs/conformance.md").expect("docs/conformance.md");
    assert!(kept == out, "docs/conformance.md is old: metwatch dicom conformance > docs/conformance.md");
    assert!(!out.contains("{{") && !out.contains("| ? |"), "a part is missing");
}
