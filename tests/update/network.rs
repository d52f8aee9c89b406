//! Web servers that are slow, lie or break off, and disks that are full.

use super::*;
use crate::line::free_port;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a server does to targets.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// As it should be, Range included.
    Good,
    /// Ends each connection after so many bytes.
    BreaksOff(usize),
    /// Answers every Range with the whole file.
    IgnoresRange,
    /// Accepts and says nothing.
    Silent,
    /// A byte in 100 ms, for metadata too.
    Drips,
    /// Announces more than it sends.
    AnnouncesMore,
    /// Sends more than was signed for, without an announcement.
    SendsMore,
    Status(u16),
}

struct Web {
    url: String,
    manner: Arc<Mutex<Manner>>,
    /// The `Range` of each request for a target.
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Web {
    fn serve(folder: PathBuf, manner: Manner) -> Web {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (manner, ranges) = (Arc::new(Mutex::new(manner)), Arc::new(Mutex::new(Vec::new())));
        let web = Web { url: format!("http://127.0.0.1:{port}"), manner: manner.clone(), ranges: ranges.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (folder, manner, ranges) = (folder.clone(), *manner.lock().unwrap(), ranges.clone());
                std::thread::spawn(move || answer(stream, &folder, manner, &ranges));
            }
        });
        web
    }

    fn turn(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
        self.ranges.lock().unwrap().clear();
    }
}

/// One request. A client that went away ends it.
fn answer(stream: TcpStream, folder: &Path, manner: Manner, ranges: &Mutex<Vec<Option<usize>>>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.trim_start_matches('/').to_string();
    let range =
        |l: &String| l.to_lowercase().strip_prefix("range: bytes=")?.trim_end_matches('-').parse::<usize>().ok();
    let mut from = lines.take_while(|l| !l.is_empty()).filter_map(|l| range(&l)).last();
    let is_target = path.starts_with("targets/");
    let manner = if is_target || manner == Manner::Drips { manner } else { Manner::Good };
    if is_target {
        ranges.lock().unwrap().push(from);
    }
    let mut out = stream;
    let Ok(bytes) = std::fs::read(folder.join(&path)) else {
        return out.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
    };
    if manner == Manner::IgnoresRange {
        from = None;
    }
    let body = &bytes[from.unwrap_or(0).min(bytes.len())..];
    let status = match (manner, from) {
        (Manner::Status(status), _) => status,
        (_, Some(_)) => 206,
        _ => 200,
    };
    let announced = if manner == Manner::AnnouncesMore { body.len() + 1000 } else { body.len() };
    let length = if manner == Manner::SendsMore { String::new() } else { format!("content-length: {announced}\r\n") };
    let range = from.map(|f| format!("content-range: bytes {f}-{}/{}\r\n", bytes.len() - 1, bytes.len()));
    if manner == Manner::Silent {
        std::thread::sleep(Duration::from_secs(60));
    }
    out.write_all(
        format!("HTTP/1.1 {status} x\r\n{length}{}connection: close\r\n\r\n", range.unwrap_or_default()).as_bytes(),
    )
    .ok()?;
    match manner {
        Manner::BreaksOff(after) => out.write_all(&body[..after.min(body.len())]).ok(),
        Manner::Drips => body.iter().try_for_each(|b| {
            std::thread::sleep(Duration::from_millis(100));
            out.write_all(&[*b]).ok()
        }),
        Manner::SendsMore => out.write_all(body).and_then(|()| out.write_all(&[0; 100_000])).ok(),
        _ => out.write_all(body).ok(),
    }
}

/// A box and a server with version 1.2.0 of the segmenter (600 kB packed).
fn site(name: &str, manner: Manner) -> (Site, Web) {
    let site = Site::new(name);
    site.publish(&spread(&site.0.join("s2"), &segmenter("1.2.0")));
    let web = Web::serve(site.0.join("repo"), manner);
    (site, web)
}

fn apply(site: &Site, web: &Web) -> Result<Value, String> {
    site.update_from("apply", &["--repo", &web.url, "--root", &site.root(), "--timeout-s", "1"])
}

fn part(site: &Site) -> Option<(PathBuf, u64)> {
    let entries = std::fs::read_dir(site.0.join("box/downloads")).ok()?;
    entries.map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "part")).map(|p| {
        let length = p.metadata().unwrap().len();
        (p, length)
    })
}

#[test]
fn a_broken_download_goes_on_where_it_stopped_in_this_run_and_in_the_next() {
    let (site, web) = site("breaks", Manner::BreaksOff(60_000));
    assert_eq!(code(apply(&site, &web)), "update.fetch");
    let starts: Vec<usize> = web.ranges.lock().unwrap().iter().map(|r| r.unwrap_or(0)).collect();
    assert_eq!(starts, [0, 60_000, 120_000, 180_000]);
    assert_eq!(part(&site).expect("what came is kept").1, 240_000);
    assert_eq!(site.active("segmenter").1, "built-in");
    web.turn(Manner::Good);
    apply(&site, &web).unwrap();
    assert_eq!(*web.ranges.lock().unwrap(), [Some(240_000)], "the next run asks for the rest");
    assert_eq!(site.active("segmenter").0, "1.2.0");
    assert_eq!(part(&site), None);
}

#[test]
fn a_server_without_range_sends_it_from_the_beginning() {
    let (site, web) = site("no-range", Manner::BreaksOff(60_000));
    apply(&site, &web).expect_err("it breaks off");
    web.turn(Manner::IgnoresRange);
    apply(&site, &web).unwrap();
    assert_eq!(site.active("segmenter").0, "1.2.0");
}

#[test]
fn bytes_that_were_changed_on_the_disk_meanwhile_are_fetched_again() {
    let (site, web) = site("rot", Manner::BreaksOff(60_000));
    apply(&site, &web).expect_err("it breaks off");
    let (path, _) = part(&site).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    web.turn(Manner::Good);
    assert_eq!(code(apply(&site, &web)), "update.altered");
    apply(&site, &web).expect("from the beginning");
    assert_eq!(site.active("segmenter").0, "1.2.0");
}

#[test]
fn servers_that_are_silent_drip_or_lie_end_in_an_error_within_their_time() {
    let (site, web) = site("faults", Manner::Good);
    for (manner, expected) in [
        (Manner::Silent, "update.fetch"),
        (Manner::Drips, "update.fetch"),
        (Manner::SendsMore, "update.too-large"),
        (Manner::Status(500), "update.fetch"),
        (Manner::Status(404), "update.not-found"),
        // The last, since it may end well.
        (Manner::AnnouncesMore, "update.fetch"),
    ] {
        let _ = std::fs::remove_dir_all(site.0.join("box/downloads"));
        web.turn(manner);
        let (began, refused) = (Instant::now(), apply(&site, &web));
        // AnnouncesMore may have brought everything before it broke: then the hash decides, and it is right.
        match refused {
            Ok(_) if manner == Manner::AnnouncesMore => return assert_eq!(site.active("segmenter").0, "1.2.0"),
            refused => assert_eq!(code(refused), expected),
        }
        assert!(began.elapsed() < Duration::from_secs(120), "it waited for ever");
        assert_eq!(site.active("segmenter").1, "built-in");
    }
    web.turn(Manner::Good);
    apply(&site, &web).unwrap();
    assert_eq!(site.active("segmenter").0, "1.2.0");
}

#[test]
fn a_server_that_is_not_there_is_told_by_its_name() {
    let site = Site::new("nobody");
    let url = format!("http://127.0.0.1:{}", free_port());
    let refused = site.update_from("check", &["--repo", &url, "--root", &site.root()]).expect_err("nobody listens");
    assert!(
        refused.contains(&url) && refused.contains("refused") && refused.contains("code: update.fetch"),
        "{refused}"
    );
}

#[test]
fn https_with_the_hospitals_own_authority() {
    let (site, _) = site("https", Manner::Good);
    let (port, folder) = (free_port(), site.0.text("repo"));
    let pem = |name: &str| site.0.text(name);
    let made = "openssl req -x509 -newkey ed25519 -nodes -days 2 -subj /CN=hospital -keyout ca-key.pem -out ca.pem && \
                openssl req -newkey ed25519 -nodes -subj /CN=localhost -keyout key.pem -out csr.pem && \
                echo subjectAltName=DNS:localhost > extensions && \
                openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile extensions -out server.pem";
    let made = Command::new("sh").args(["-c", made]).current_dir(site.0.path()).output().expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let script = "import http.server, ssl, sys, functools\n\
        h = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[2])\n\
        s = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), h)\n\
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(sys.argv[4], sys.argv[3])\n\
        s.socket = c.wrap_socket(s.socket, server_side=True); s.serve_forever()";
    let server = Command::new("python3")
        .args(["-c", script, &port.to_string(), &folder, &pem("key.pem"), &pem("server.pem")])
        .stderr(std::process::Stdio::null())
        .spawn();
    let _server = crate::line::Peer(server.expect("python3"));
    crate::line::wait_for_port(port, "the HTTPS server");
    let url = format!("https://localhost:{port}");
    let root = site.root();
    let with = |more: &[&str]| site.update_from("apply", &[&["--repo", &url, "--root", &root], more].concat());
    let refused = with(&[]).expect_err("the system does not know this authority");
    assert!(refused.contains("certificate") && refused.contains("code: update.fetch"), "{refused}");
    with(&["--ca-file", &pem("ca.pem")]).unwrap();
    assert_eq!(site.active("segmenter").0, "1.2.0");
}

#[test]
fn a_full_disk_leaves_everything_as_it_was_and_the_next_run_succeeds() {
    let (site, _web) = site("full", Manner::Good);
    std::fs::create_dir_all(site.0.join("box")).unwrap();
    let program = metwatch().get_program().display().to_string();
    let (slots, from, root) = (site.0.text("box"), site.0.text("repo"), site.root());
    let update = format!("{program} update apply --slots {slots} --from {from} --root {root}");
    // A disk of its own: first too small by its free space, then filled to the last byte behind the check's back, then large.
    let script = format!(
        "mount -t tmpfs -o size=12m tmpfs {slots} && ! {update} && {program} model list --slots {slots} \
         && mount -o remount,size=64m {slots} && {update} && {program} model verify --slots {slots}"
    );
    let output = Command::new("unshare").args(["-rm", "sh", "-c", &script]).output().expect("util-linux");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(err.contains("code: update.no-space"), "{err}");
    assert!(out.contains("* segmenter  built-in"), "{out}");
    assert!(out.contains("1.2.0 is active"), "{out}");
}

#[test]
fn a_disk_that_fills_while_writing_is_an_error_and_no_damage() {
    let (site, _web) = site("limit", Manner::Good);
    let program = metwatch().get_program().display().to_string();
    let (slots, from, root) = (site.0.text("box"), site.0.text("repo"), site.root());
    // A limit on the size of a file stands for the last free byte: 594 kB of the 608 kB network fit.
    let script =
        format!("trap '' XFSZ; ulimit -f 580; {program} update apply --slots {slots} --from {from} --root {root}");
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && err.contains("code: update.no-space"), "{err}");
    assert_eq!(site.active("segmenter").1, "built-in");
    site.update("apply", &[]).unwrap();
    assert_eq!(site.active("segmenter").0, "1.2.0");
}
