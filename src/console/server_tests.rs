//! The server as a browser meets it: over a socket, with a source that remembers what it was asked.

use super::super::testing::{refused_study, scored_study, summaries};
use super::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

#[derive(Default)]
struct Fake {
    viewed: Mutex<Vec<(String, Viewed)>>,
    commands: Mutex<Vec<(String, Command)>>,
    audit_is_broken: bool,
}

impl Source for Fake {
    fn list(&self) -> Result<Vec<StudySummary>, String> {
        Ok(summaries())
    }
    fn notices(&self) -> Vec<String> {
        vec!["the box is too hot".into()]
    }
    fn study(&self, number: &str) -> Result<Option<StudyPage>, String> {
        Ok([scored_study(), refused_study()].into_iter().find(|s| s.number == number))
    }
    fn file(&self, _: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(Some(format!("bytes of {name}").into_bytes()))
    }
    fn viewed(&self, user: &str, what: &Viewed) -> Result<(), String> {
        self.viewed.lock().unwrap().push((user.into(), what.clone()));
        if self.audit_is_broken { Err("the audit cannot be written".into()) } else { Ok(()) }
    }
    fn command(&self, user: &str, command: Command) -> Result<(), String> {
        self.commands.lock().unwrap().push((user.into(), command));
        Ok(())
    }
}

struct Running {
    address: SocketAddr,
    source: Arc<Fake>,
    stop: watch::Sender<bool>,
    ended: std::thread::JoinHandle<Result<(), ConsoleError>>,
}

fn start(users: Option<&str>, source: Fake) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let source = Arc::new(source);
    let config = Config { listen: address, users_file: users.map(Into::into) };
    let served = source.clone();
    let ended = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(serve(listener, config, served, stopped))
    });
    Running { address, source, stop, ended }
}

impl Running {
    /// Sends a request and returns the whole answer as text.
    fn ask(&self, line: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.address) };
        let length = format!("Content-Length: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n", body.len());
        write!(stream, "{line} HTTP/1.1\r\n{host}{headers}{length}Connection: close\r\n\r\n{body}").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path}"), "", "")
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> String {
        self.ask(&format!("POST {path}"), headers, body)
    }
}

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0)
}

#[test]
fn pages_are_shown_audited_and_protected() {
    let running = start(None, Fake::default());
    let list = running.get("/");
    assert_eq!(status(&list), 200);
    for expected in ["default-src 'none'", "nosniff", "no-store", "text/html; charset=utf-8"] {
        assert!(list.contains(expected), "{expected}");
    }
    assert!(running.get("/study/S000041").contains("High risk"));
    running.get("/study/S000041"); // again at once: one view
    assert_eq!(status(&running.get("/study/S999999")), 404);
    let picture = running.get("/study/S000041/file/overlay_axial_liver.png");
    assert!(
        picture.contains("content-type: image/png")
            && picture.contains("inline")
            && picture.ends_with("bytes of overlay_axial_liver.png")
    );
    assert!(running.get("/study/S000041/file/features.csv").contains("attachment; filename=\"S000041-features.csv\""));
    let (number, local) = ("S000041".to_owned(), "local".to_owned());
    let file = |name: &str| (local.clone(), Viewed::File { number: number.clone(), name: name.into() });
    let expected = vec![
        (local.clone(), Viewed::List),
        (local.clone(), Viewed::Study { number: number.clone() }),
        file("overlay_axial_liver.png"),
        file("features.csv"),
    ];
    assert_eq!(*running.source.viewed.lock().unwrap(), expected);
    assert!(running.get("/healthz").ends_with("ok\n"));
}

#[test]
fn no_name_leads_out_of_a_study() {
    let running = start(None, Fake::default());
    for path in [
        "/study/S000041/file/..%2Fsecret",
        "/study/S000041/file/%2e%2e",
        "/study/S000041/file/unlisted.csv",
        "/study/S000041/file/../../etc/passwd",
        "/study/..%2f..%2fetc/file/passwd",
        "/study/%00",
        "/study/S000041/file/features.csv%00.png",
        "/other",
    ] {
        assert_eq!(status(&running.get(path)), 404, "{path}");
    }
    assert!(running.source.viewed.lock().unwrap().is_empty());
    assert_eq!(status(&running.get("/study/%FF")), 400);
}

#[test]
fn a_page_that_cannot_be_audited_is_not_shown() {
    let running = start(None, Fake { audit_is_broken: true, ..Fake::default() });
    let answer = running.get("/study/S000041");
    assert_eq!(status(&answer), 500);
    assert!(answer.contains("The audit cannot be written") && !answer.contains("High risk"));
}

#[test]
fn clinical_values_reach_the_source_from_the_own_page_only() {
    let running = start(None, Fake::default());
    let body = "afp=10&afp_unit=IU%2FmL&dissected_lymph_nodes=14&perineural_invasion=yes&tumor_nodules=";
    let path = "/study/S000041/clinical";
    let own = "Sec-Fetch-Site: same-origin\r\n";
    assert_eq!(status(&running.post(path, "", body)), 403);
    assert_eq!(status(&running.post(path, "Origin: http://evil.example\r\n", body)), 403);
    let answer = running.post(path, own, "afp=abc");
    assert!(status(&answer) == 422 && answer.contains("Alpha-fetoprotein is not a number"), "{answer}");
    assert_eq!(status(&running.post(path, own, "afp=1&drop=table")), 400);
    assert_eq!(status(&running.post(path, own, &format!("afp={}", "1".repeat(9000)))), 400);
    assert_eq!(status(&running.post("/study/S000042/clinical", own, body)), 409);
    assert_eq!(status(&running.get(path)), 405);
    assert!(running.source.commands.lock().unwrap().is_empty());

    let origin = format!("Origin: http://{}\r\n", running.address);
    let answer = running.post(path, &origin, body);
    assert!(status(&answer) == 303 && answer.contains("location: /study/S000041"), "{answer}");
    let commands = running.source.commands.lock().unwrap();
    let [(user, Command::EnterClinical { number, values, json })] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((user.as_str(), number.as_str()), ("local", "S000041"));
    assert_eq!((values.afp_ng_per_ml, values.tumor_nodules), (Some(12.1), None));
    assert!(json.contains("IU/mL"));
}

#[test]
fn a_foreign_name_for_loopback_is_refused() {
    let running = start(None, Fake::default());
    assert_eq!(status(&running.ask("GET /", "Host: evil.example\r\n", "")), 421);
    assert_eq!(status(&running.ask("GET /", "Host: localhost:1\r\n", "")), 200);
}

#[test]
fn with_users_nobody_sees_anything_without_login() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("metwatch-console-users-{}", std::process::id()));
    std::fs::write(&path, "nurse:correct horse\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let running = start(path.to_str(), Fake::default());
    for authorization in ["", "Authorization: Basic bnVyc2U6d3JvbmcgaG9yc2U=\r\n", "Authorization: Bearer x\r\n"] {
        let answer = running.ask("GET /study/S000041", authorization, "");
        assert_eq!(status(&answer), 401);
        assert!(
            answer.contains("www-authenticate: Basic") && answer.contains("nosniff") && !answer.contains("High risk")
        );
    }
    let right = "Authorization: Basic bnVyc2U6Y29ycmVjdCBob3JzZQ==\r\nHost: box.example\r\n";
    assert!(running.ask("GET /study/S000041", right, "").contains("High risk"));
    assert_eq!(running.source.viewed.lock().unwrap()[0].0, "nurse");
    assert_eq!(status(&running.get("/healthz")), 200);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn it_stops_while_a_browser_holds_a_connection() {
    let running = start(None, Fake::default());
    assert_eq!(status(&running.get("/healthz")), 200);
    let mut slow = TcpStream::connect(running.address).unwrap();
    slow.write_all(b"GET / HTT").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    running.stop.send(true).unwrap();
    assert!(running.ended.join().unwrap().is_ok());
    assert!(began.elapsed() < STOP_GRACE + Duration::from_secs(5));
}
