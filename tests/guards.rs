//! What the receiver survives: mutated conversations, aborts, slow and many connections, a full disk (dicom.md section 6).
//!
//! Short here. `METWATCH_FUZZ_S` sets the seconds of fuzzing (600 for an issue), `METWATCH_TRIALS=full` the length of the others;
//! `METWATCH_FUZZ_SEED` repeats a run.

use crate::common::{Folder, metwatch};
use crate::dicom::{Receiver, phantom};
use crate::line::{Peer, free_port, wait_for_port};
use metwatch::dicom::{
    self, AeTitle, CommitReport, CommitRequest, Delivery, Identifier, Reference, Target, sop_class, syntax,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn is_full() -> bool {
    std::env::var("METWATCH_TRIALS").is_ok_and(|v| v == "full")
}

/// xorshift: a failure can be run again from its printed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

// ---- A conversation as bytes, written by hand from PS3.8 and PS3.7 ----------------------------------------------------------

fn item(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0][..], &(body.len() as u16).to_be_bytes(), body].concat()
}

fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0][..], &(body.len() as u32).to_be_bytes(), body].concat()
}

fn pdv(context: u8, flags: u8, bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32 + 2).to_be_bytes()[..], &[context, flags], bytes].concat()
}

fn associate(n_contexts: u8) -> Vec<u8> {
    let context = |id: u8, class: &str, syntaxes: &[&str]| {
        let syntaxes: Vec<u8> = syntaxes.iter().flat_map(|s| item(0x40, s.as_bytes())).collect();
        item(0x20, &[vec![id, 0, 0, 0], item(0x30, class.as_bytes()), syntaxes].concat())
    };
    let mut contexts = vec![
        context(1, sop_class::CT, &[syntax::EXPLICIT_LE]),
        context(3, sop_class::VERIFICATION, &[syntax::IMPLICIT_LE, syntax::EXPLICIT_LE]),
        context(5, sop_class::STORAGE_COMMITMENT, &[syntax::EXPLICIT_LE]),
    ];
    contexts.extend((3..n_contexts).map(|k| context(k.wrapping_mul(2) + 1, sop_class::CT, &[syntax::RLE])));
    let class = sop_class::STORAGE_COMMITMENT.as_bytes();
    let role = [&(class.len() as u16).to_be_bytes()[..], class, &[1, 1]].concat();
    let user =
        [item(0x51, &16384u32.to_be_bytes()), item(0x52, b"1.2.3"), item(0x54, &role), item(0x55, b"FUZZ")].concat();
    let head = format!("{:16}{:16}", "METWATCH", "SCANNER").into_bytes();
    let body = [
        vec![0, 1, 0, 0],
        head,
        vec![0; 32],
        item(0x10, b"1.2.840.10008.3.1.1.1"),
        contexts.concat(),
        item(0x50, &user),
    ];
    pdu(1, &body.concat())
}

fn command(elements: &[(u16, &[u8])]) -> Vec<u8> {
    let element = |(number, value): &(u16, &[u8])| {
        let mut value = value.to_vec();
        value.resize(value.len().next_multiple_of(2), 0);
        [&[0, 0][..], &number.to_le_bytes(), &(value.len() as u32).to_le_bytes(), &value].concat()
    };
    let body: Vec<u8> = elements.iter().flat_map(element).collect();
    [element(&(0, &(body.len() as u32).to_le_bytes())), body].concat()
}

/// PDUs from the request of the association to its release: echo, store, commitment asked and reported.
fn conversation() -> Vec<Vec<u8>> {
    let file = phantom(1).remove(0).1;
    let header = dicom::parse_header(&file).unwrap();
    let meta = 132 + 12 + u32::from_le_bytes(file[140..144].try_into().unwrap()) as usize;
    let (data_set, instance) = (&file[meta..], header.sop_instance_uid.as_str());
    let echo =
        command(&[(2, sop_class::VERIFICATION.as_bytes()), (0x100, &[0x30, 0]), (0x110, &[1, 0]), (0x800, &[1, 1])]);
    let store = command(&[
        (2, sop_class::CT.as_bytes()),
        (0x100, &[1, 0]),
        (0x110, &[2, 0]),
        (0x700, &[0, 0]),
        (0x800, &[1, 0]),
        (0x1000, instance.as_bytes()),
    ]);
    let reference = Reference { sop_class_uid: sop_class::CT.into(), sop_instance_uid: Identifier::new(instance) };
    let request = CommitRequest { transaction_uid: "1.2.3".into(), objects: vec![reference.clone(); 3] };
    let report = CommitReport {
        transaction_uid: "1.2.3".into(),
        committed: vec![reference.clone()],
        failed: vec![(reference, 0x0112)],
    };
    let service = |field: [u8; 2], [class, at]: [u16; 2], type_at: u16| {
        command(&[
            (class, sop_class::STORAGE_COMMITMENT.as_bytes()),
            (0x100, &field),
            (0x110, &[3, 0]),
            (0x800, &[1, 0]),
            (at, sop_class::STORAGE_COMMITMENT_INSTANCE.as_bytes()),
            (type_at, &[1, 0]),
        ])
    };
    let (action, event) = (service([0x30, 1], [3, 0x1001], 0x1008), service([0, 1], [2, 0x1000], 0x1002));
    let (half, rest) = data_set.split_at(data_set.len() / 2);
    vec![
        associate(3),
        pdu(4, &pdv(3, 3, &echo)),
        pdu(4, &[pdv(1, 1, &store[..20]), pdv(1, 3, &store[20..])].concat()),
        pdu(4, &pdv(1, 0, half)),
        pdu(4, &pdv(1, 2, rest)),
        pdu(4, &[pdv(5, 3, &action), pdv(5, 2, &request.to_bytes(syntax::EXPLICIT_LE))].concat()),
        pdu(4, &[pdv(5, 3, &event), pdv(5, 2, &report.to_bytes(syntax::EXPLICIT_LE))].concat()),
        pdu(5, &[0; 4]),
    ]
}

fn abort() -> Vec<u8> {
    pdu(7, &[0; 4])
}

/// Sends bytes and reads whatever comes until the receiver closes; false when it does not close in time.
fn talk(port: u16, bytes: &[u8], finish: bool) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = stream.write_all(bytes);
    if finish {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let closed = match stream.read_to_end(&mut answer) {
        Ok(_) => true,
        Err(e) => !matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    };
    (answer, closed)
}

/// Kinds of the PDUs in an answer.
fn kinds(mut answer: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some(head) = answer.get(..6) {
        let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize;
        kinds.push(head[0]);
        answer = answer.get(6 + length..).unwrap_or_default();
    }
    kinds
}

// ---- Fuzzing ----------------------------------------------------------------------------------------------------------------

const INTERESTING: [u32; 10] = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF];

/// One conversation, damaged in one to four places.
fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut pdus = corpus.to_vec();
    for _ in 0..1 + random.below(4) {
        // Mostly behind the association, so that the damage gets further.
        let k = if random.below(4) == 0 { 0 } else { random.below(pdus.len()) };
        let (n, other) = (pdus[k].len(), pdus[random.below(corpus.len()).min(pdus.len() - 1)].clone());
        let at = random.below(n);
        // The heads of PDU, item and command are near the front.
        let near = random.below(n.min(120));
        match random.below(12) {
            0 => pdus[k][near] ^= 1 << random.below(8),
            1 => pdus[k][at] = random.below(256) as u8,
            2 => {
                let value = INTERESTING[random.below(INTERESTING.len())].to_be_bytes();
                let size = [1, 2, 4][random.below(3)];
                pdus[k].iter_mut().skip(near).zip(&value[4 - size..]).for_each(|(to, from)| *to = *from);
            }
            3 => {
                let value = INTERESTING[random.below(INTERESTING.len())].to_le_bytes();
                let size = [1, 2, 4][random.below(3)];
                pdus[k].iter_mut().skip(near).zip(&value[..size]).for_each(|(to, from)| *to = *from);
            }
            4 => pdus[k].truncate(at.max(1)),
            5 => drop(pdus[k].drain(at..(at + 1 + random.below(16)).min(n))),
            6 => {
                let more: Vec<u8> = (0..random.below(64)).map(|_| random.below(256) as u8).collect();
                pdus[k].splice(at..at, more);
            }
            7 => pdus.insert(k, other),
            8 => drop(pdus.remove(k)),
            9 => pdus.insert(k, abort()),
            10 => {
                // A whole and consistent PDU with other contents: the damage is behind its length.
                let body: Vec<u8> = other.iter().skip(6).copied().collect();
                pdus[k] = pdu(random.below(9) as u8, &body);
            }
            _ => {
                let (a, b) = (random.below(pdus.len()), random.below(pdus.len()));
                pdus.swap(a, b);
            }
        }
        pdus.retain(|p| !p.is_empty());
        if pdus.is_empty() {
            pdus.push(abort());
        }
    }
    pdus.concat()
}

/// CPU time of this process, s: user and system.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |k: usize| fields[k].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn resident_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

#[test]
fn mutated_conversations_do_no_harm() {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name().is_some_and(|n| n.starts_with("dicom-")) {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        before(info);
    }));
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let (budget, seed) = (number("METWATCH_FUZZ_S").unwrap_or(5), number("METWATCH_FUZZ_SEED").unwrap_or(1));
    let receiver = Receiver::start(|config| (config.idle_s, config.establish_s, config.object_mb_max) = (2, 2, 8));
    let (port, corpus) = (receiver.port, conversation());
    let (answer, closed) = talk(port, &corpus.concat(), false);
    // Associated, echoed, stored, asked (refused here), reported (refused here), released.
    assert_eq!((kinds(&answer), closed), (vec![2, 4, 4, 4, 4, 6], true));
    let (begun, memory) = (cpu_s(), resident_mb(std::process::id()));
    let mut executions = 0;
    std::thread::scope(|scope| {
        let fuzz = |thread: u64| {
            let (corpus, receiver) = (&corpus, &receiver);
            move || {
                let mut n = 0;
                let mut state = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (thread + 1));
                while cpu_s() - begun < budget as f64 {
                    let bytes = mutated(corpus, &mut state);
                    let (_, closed) = talk(port, &bytes, true);
                    assert!(
                        closed,
                        "the receiver keeps a connection that its peer has closed; seed {seed}, thread {thread}, {n}"
                    );
                    n += 1;
                    if n % 256 == 0 {
                        receiver.forget();
                    }
                }
                n
            }
        };
        let threads: Vec<_> = (0..4).map(|k| scope.spawn(fuzz(k))).collect();
        executions = threads.into_iter().map(|t| t.join().unwrap()).sum::<u64>();
    });
    let panics = PANICS.load(Ordering::Relaxed);
    let grown = resident_mb(std::process::id()).saturating_sub(memory);
    println!(
        "{executions} mutated associations in {:.0} s of CPU, seed {seed}: {panics} panics, {grown} MiB more",
        cpu_s() - begun
    );
    assert_eq!(panics, 0);
    assert!(grown < 256, "memory grew by {grown} MiB");
    let (answer, _) = talk(port, &corpus.concat(), false);
    assert_eq!(kinds(&answer), [2, 4, 4, 4, 4, 6], "the receiver still works");
}

// ---- Trials -----------------------------------------------------------------------------------------------------------------

#[test]
fn an_abort_or_a_break_at_each_edge_leaves_the_receiver_whole() {
    let receiver = Receiver::start(|_| {});
    let whole = conversation();
    for cut in 0..whole.len() {
        let begin = whole[..cut].concat();
        let half = [&begin[..], &whole[cut][..whole[cut].len() / 2]].concat();
        for (bytes, finish) in [([&begin[..], &abort()].concat(), false), (begin.clone(), true), (half, true)] {
            assert!(talk(receiver.port, &bytes, finish).1, "cut {cut}");
        }
    }
    let (answer, _) = talk(receiver.port, &whole.concat(), false);
    assert_eq!(kinds(&answer), [2, 4, 4, 4, 4, 6]);
    // Whole objects were kept, halves were not: three cuts after the object in three forms each, and the last conversation.
    let stored = receiver.heard().stored.len();
    assert_eq!(stored, 3 * 3 + 1);
}

#[test]
fn hundreds_of_slow_sockets_keep_nobody_out() {
    let receiver = Receiver::start(|config| config.establish_s = 3);
    let n = 500;
    let mut slow: Vec<TcpStream> =
        (0..n).filter_map(|_| TcpStream::connect(("127.0.0.1", receiver.port)).ok()).collect();
    assert_eq!(slow.len(), n);
    let hello = associate(128);
    let begun = Instant::now();
    for round in 0..4 {
        slow.iter_mut().for_each(|s| drop(s.write_all(&hello[round..round + 1])));
        let asked = Instant::now();
        dicom::echo(&receiver.target()).unwrap();
        assert!(asked.elapsed() < Duration::from_secs(2), "an honest node waited {:?}", asked.elapsed());
    }
    // Each has its time to establish, and no more.
    for socket in &mut slow {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut left = Vec::new();
        let ended = socket.read_to_end(&mut left);
        assert!(
            !ended.is_err_and(|e| matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_sender_that_falls_silent_or_trickles_is_given_up() {
    let receiver = Receiver::start(|config| config.idle_s = 2);
    let whole = conversation();
    // Half-open: silence in the middle of an object, the connection never closed.
    let begun = Instant::now();
    let (answer, closed) = talk(receiver.port, &whole[..4].concat(), false);
    assert!(closed && begun.elapsed() < Duration::from_secs(10));
    assert_eq!(kinds(&answer), [2, 4, 7]);
    if is_full() {
        // A byte now and then is never idle, but below the minimum rate.
        let mut stream = TcpStream::connect(("127.0.0.1", receiver.port)).unwrap();
        stream.write_all(&whole[..3].concat()).unwrap();
        let small = pdu(4, &pdv(1, 0, &[0; 2]));
        let begun = Instant::now();
        while stream.write_all(&small).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(60), "a trickle holds an association");
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    dicom::echo(&receiver.target()).unwrap();
}

#[test]
fn two_hundred_senders_at_once_are_served_or_told_to_come_again() {
    let receiver = Receiver::start(|_| {});
    let (n, series) = (200, phantom(4));
    let target = receiver.target();
    let retries = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..n {
            scope.spawn(|| {
                let end = Instant::now() + Duration::from_secs(60);
                loop {
                    match dicom::send(series.len(), &|k| Ok(series[k].1.clone()), &target, &mut |_, _| ()) {
                        Ok(sent) => return assert!(sent.iter().all(|d| *d == Delivery::Stored), "{sent:?}"),
                        // All are in use: temporary, as it says.
                        Err(dicom::SendError::Rejected { permanent: false, .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                    retries.fetch_add(1, Ordering::Relaxed);
                    assert!(Instant::now() < end, "a sender starved");
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
    });
    receiver.wait_for_end(n);
    assert_eq!(receiver.heard().stored.len(), n * 4);
    println!("{} were told to come again", retries.load(Ordering::Relaxed));
}

#[test]
fn a_hundred_and_twenty_eight_contexts_are_answered() {
    let receiver = Receiver::start(|_| {});
    let (answer, _) = talk(receiver.port, &[associate(128), pdu(5, &[0; 4])].concat(), false);
    assert_eq!(kinds(&answer), [2, 6]);
    // Items 21H with a length; context 33 (21H) has the same beginning, but zeros behind it.
    assert_eq!(answer.windows(4).filter(|w| w[..3] == [0x21, 0, 0] && w[3] > 0).count(), 128);
}

/// A disk of its own (a tmpfs in a mount namespace) that is filled and freed while objects come.
#[test]
fn a_full_disk_is_answered_with_a700_and_recovers_alone() {
    let (folder, port) = (Folder::new("disk-full"), free_port());
    let store = folder.join("store");
    std::fs::create_dir_all(&store).unwrap();
    let config = format!(
        "[store]\ndirectory = \"{}\"\n[alert]\nembedded_port = 0\n[dicom]\nlisten = \"127.0.0.1:{port}\"\nallow = [\"SCANNER\"]\nfree_mb_min = 24\n",
        store.display()
    );
    std::fs::write(folder.join("metwatch.toml"), config).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=48m tmpfs {} && exec {} serve --config {}",
        store.display(),
        metwatch().get_program().display(),
        folder.text("metwatch.toml")
    );
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = std::process::Command::new("unshare");
    let child = command.args(["-rm", "sh", "-c", &script]).stderr(log).stdout(Stdio::null()).spawn();
    let served = Peer(child.expect("unshare (util-linux) is there"));
    wait_for_port(port, "the service in its own mount namespace");
    let title = |t: &str| AeTitle::new(t).unwrap();
    let target =
        Target { ae_title: title("METWATCH"), host: "127.0.0.1".into(), port, calling_ae: title("SCANNER"), tls: None };
    let series = phantom(8);
    let send = |k: usize| {
        let sent = dicom::send(1, &|_| Ok(series[k].1.clone()), &target, &mut |_, _| ()).unwrap();
        match &sent[0] {
            Delivery::Stored => 0,
            Delivery::Refused { status, .. } => *status,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(send(0), 0);
    let filler = format!("/proc/{}/root{}/filler", served.0.id(), store.display());
    std::fs::write(&filler, vec![1; 36 << 20]).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!([send(1), send(2)], [0xA700; 2]);
    // Filled to the last byte: still an answer, and nothing that was promised is lost.
    let mut rest = std::fs::OpenOptions::new().append(true).open(&filler).unwrap();
    while rest.write_all(&[1; 4096]).is_ok() {}
    assert_eq!(send(3), 0xA700);
    drop(rest);
    std::fs::remove_file(&filler).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!([send(1), send(2), send(3)], [0; 3]);
    assert_eq!(send(0), 0, "the first one is still there");
}
