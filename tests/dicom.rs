//! DICOM with real data and real peers: DCMTK, pynetdicom, dciodvfy.
#![allow(clippy::disallowed_methods, reason = "tests own files, sockets, clocks and peers")]

use crate::common::reference;
use metwatch::Explain;
use metwatch::dicom::{
    self, AeTitle, Delivery, Header, PatientInfo, SegInfo, SeriesError, SeriesPlan, Target, assemble_volume,
    parse_header, plan_series,
};
use metwatch::volume::{Geometry, LabelMap, LabelScheme, Region, Volume};
use ndarray::Array3;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

fn plan(folder: &str) -> (Vec<PathBuf>, Result<SeriesPlan, SeriesError>) {
    let files = files(&reference(folder));
    let headers: Vec<Header> = files.iter().map(|f| parse_header(&std::fs::read(f).unwrap()).unwrap()).collect();
    let plan = plan_series(&headers);
    (files, plan)
}

fn assemble(files: &[PathBuf], plan: &SeriesPlan) -> dicom::Assembled {
    assemble_volume(plan, &dicom::Decoder::Here, &|index| std::fs::read(&files[index]), &|_, _| {}).unwrap()
}

/// Expected values by pydicom and numpy: sorted along the normal, slope x stored + intercept, HU <= -1500 to -1000.
#[test]
fn a_feet_first_ct_becomes_the_volume_that_numpy_makes() {
    let (files, plan) = plan("crlm_ct/CRLM-CT-1004");
    let plan = plan.unwrap();
    let made = assemble(&files, &plan);
    let g = &made.volume.geometry;
    assert_eq!(g.size, [512, 512, 41]);
    assert_eq!(g.spacing_mm, [0.796875, 0.796875, 5.0]);
    assert_eq!(g.origin_mm, [-198.199997, -204.0, -375.0]);
    assert_eq!(g.direction, Geometry::IDENTITY);
    let sum: f64 = made.volume.hu.iter().map(|v| f64::from(*v)).sum();
    assert_eq!(sum, -7_321_181_215.0);
    assert_eq!(
        [made.volume.hu[(10, 256, 200)], made.volume.hu[(3, 300, 256)], made.volume.hu[(40, 250, 250)]],
        [497.0, 85.0, 158.0]
    );
    assert!(made.refusals.is_empty(), "{:?}", made.refusals);
    assert!(made.notes.is_empty(), "{:?}", made.notes);
}

#[test]
fn a_short_jpeg_2000_series_becomes_a_volume_that_must_not_be_analyzed() {
    let (files, plan) = plan("totalsegmentator/example_ct_dicom");
    let plan = plan.unwrap();
    let made = assemble(&files, &plan);
    assert_eq!(made.volume.geometry.size, [512, 512, 20]);
    assert_eq!(made.volume.geometry.spacing_mm, [0.9765625, 0.9765625, 2.0]);
    let sum: f64 = made.volume.hu.iter().map(|v| f64::from(*v)).sum();
    assert_eq!(sum, -3_272_217_339.0);
    assert_eq!(
        [made.volume.hu[(10, 256, 200)], made.volume.hu[(3, 300, 256)], made.volume.hu[(19, 250, 250)]],
        [86.0, 148.0, 102.0]
    );
    assert_eq!(made.refusals.iter().map(|n| n.code).collect::<Vec<_>>(), ["series.short-extent"]);
    assert!(made.notes.iter().any(|n| n.code == "series.no-uids"));
}

#[test]
fn a_head_with_changing_spacing_is_refused_with_the_reason() {
    let error = plan("dicom_oddities/ge_head_variable_tilt").1.unwrap_err();
    assert_eq!(error.code(), "series.variable-spacing");
    assert_eq!(
        error.to_string(),
        "the distance of neighboring slices varies from 1.08 to 7.00 mm: they form no regular volume"
    );
}

/// Damaged compressed frames: an error of their slice or odd pixels, never a crash.
#[test]
fn damaged_compressed_frames_do_no_harm() {
    let mut state = 11u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    let originals: Vec<Vec<u8>> =
        files(&reference("totalsegmentator/example_ct_dicom")).iter().map(|f| std::fs::read(f).unwrap()).collect();
    let mut failed = 0;
    for _ in 0..4 {
        let damaged: Vec<Vec<u8>> = originals
            .iter()
            .map(|original| {
                let mut bytes = original.clone();
                // Behind the codestream's beginning: the last tenth of the header up to the end of the frame.
                let pixels = bytes.windows(4).rposition(|w| w == [0xFF, 0x4F, 0xFF, 0x51]).unwrap();
                for _ in 0..1 + random() % 6 {
                    let at = pixels + 4 + random() % [200, bytes.len() - pixels - 16][random() % 2];
                    bytes[at] = random() as u8;
                }
                bytes
            })
            .collect();
        let headers: Vec<Header> = damaged.iter().map(|b| parse_header(b).unwrap()).collect();
        let plan = plan_series(&headers).unwrap();
        for slice in plan.slices.iter() {
            let one = SeriesPlan { slices: vec![slice.clone()], ..plan.clone() };
            failed += usize::from(
                assemble_volume(&one, &dicom::Decoder::Here, &|i| Ok(damaged[i].clone()), &|_, _| {}).is_err(),
            );
        }
    }
    assert!(failed > 0, "no damage was noticed at all");
}

// ---- Our objects, checked by others -------------------------------------------------------------------------------------

/// A folder that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("metwatch-dicom-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Errors that dciodvfy (dicom3tools) finds in an object.
fn dciodvfy_errors(file: &Path) -> Vec<String> {
    let out = Command::new("dciodvfy").arg(file).output().expect("dciodvfy is installed (apt: dicom3tools)");
    let text = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(!text.trim().is_empty(), "dciodvfy said nothing");
    text.lines().filter(|l| l.starts_with("Error")).map(str::to_owned).collect()
}

fn python() -> PathBuf {
    std::env::var_os("METWATCH_TEST_PYTHON").map_or(".venv/bin/python".into(), PathBuf::from)
}

pub fn phantom(slices: usize) -> Vec<(String, Vec<u8>)> {
    let geometry = Geometry {
        size: [24, 20, slices],
        spacing_mm: [0.7, 0.8, 2.5],
        origin_mm: [-10.0, -20.0, 5.0],
        direction: Geometry::IDENTITY,
    };
    let hu = Array3::from_shape_fn((slices, 20, 24), |(k, j, i)| ((k + j + i) as f32 * 17.0) % 1200.0 - 1000.0);
    let patient = PatientInfo {
        patient_id: "PHANTOM-1".into(),
        name: "Phantom^Jürgen".into(),
        birth_date: "19600101".into(),
        sex: "O".into(),
        accession_number: "ACC1".into(),
        study_date: "20260101".into(),
        study_time: "120000".into(),
        study_description: "Phantom".into(),
    };
    dicom::phantom_series(&Volume { hu, geometry }, &patient, 1)
}

fn write_all(folder: &Path, files: &[(String, Vec<u8>)]) {
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
}

#[test]
fn phantom_objects_are_valid_ct() {
    let scratch = Scratch::new("phantom");
    write_all(&scratch.0, &phantom(3));
    assert_eq!(dciodvfy_errors(&scratch.0.join("CT0002.dcm")), Vec::<String>::new());
}

/// The label map that pydicom reads from the SEG, written by the script as raw bytes (z, y, x) on the source's slices.
#[test]
fn a_seg_is_valid_and_read_back_by_pydicom_to_the_same_label_map() {
    let scratch = Scratch::new("seg");
    let (files, plan) = plan("crlm_ct/CRLM-CT-1004");
    let plan = plan.unwrap();
    let mut labels = Array3::<u8>::zeros(plan.geometry.shape_zyx());
    labels.slice_mut(ndarray::s![5..20, 200..300, 100..250]).fill(1);
    labels.slice_mut(ndarray::s![8..12, 220..240, 111..133]).fill(2);
    labels.slice_mut(ndarray::s![30..33, 7..9, 500..512]).fill(4);
    let entries = vec![
        (1, Region::Liver, "10200004".into()),
        (2, Region::LiverLesion, "108369006".into()),
        (3, Region::Colon, "71854001".into()),
        (4, Region::ColorectalTumor, "363406005".into()),
    ];
    let map = LabelMap { labels: labels.clone(), geometry: plan.geometry.clone(), scheme: LabelScheme { entries } };
    let info = SegInfo {
        algorithm: "abdomen-phantom",
        version: "0.1.0",
        date: "20260101",
        time: "120000",
        series_number: 900,
        uid_seed: b"test",
    };
    let seg = dicom::write_seg(&map, &plan, &info).unwrap();
    let file = scratch.0.join("seg.dcm");
    std::fs::write(&file, &seg.bytes).unwrap();
    assert_eq!(dciodvfy_errors(&file), Vec::<String>::new());
    let script = r#"
import sys, glob, numpy as np, pydicom
seg, folder, out = sys.argv[1:]
d = pydicom.dcmread(seg)
z = {}
for f in glob.glob(folder + '/*.dcm'):
    s = pydicom.dcmread(f, stop_before_pixels=True)
    z[s.SOPInstanceUID] = (float(s.ImagePositionPatient[2]), [float(v) for v in s.ImagePositionPatient])
order = sorted(z, key=lambda u: z[u][0])
value = {'Liver': 1, 'Liver lesion': 2, 'Colon': 3, 'Colorectal tumor': 4}
numbers = {int(s.SegmentNumber): value[s.SegmentLabel] for s in d.SegmentSequence}
labels = np.zeros((len(order), d.Rows, d.Columns), np.uint8)
frames = d.pixel_array.reshape(-1, d.Rows, d.Columns)
assert len(frames) == len(d.PerFrameFunctionalGroupsSequence)
for frame, group in zip(frames, d.PerFrameFunctionalGroupsSequence):
    source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
    position = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
    assert np.allclose(position, z[source][1], atol=1e-4), (position, z[source])
    number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    labels[order.index(source)][frame > 0] = numbers[int(number)]
labels.tofile(out)
"#;
    let out = scratch.0.join("labels.raw");
    let ran = Command::new(python()).args(["-c", script]).args([&file, files[0].parent().unwrap(), &out]).output();
    let ran = ran.expect("METWATCH_TEST_PYTHON has pydicom and numpy");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(std::fs::read(&out).unwrap(), labels.into_raw_vec_and_offset().0);
}

// ---- Our receiver, other senders ----------------------------------------------------------------------------------------

/// What a sink was told.
#[derive(Default)]
pub struct Heard {
    pub stored: Vec<dicom::Received>,
    rejected: Vec<dicom::Rejection>,
    ended: Vec<dicom::AssociationEnd>,
    full: bool,
}

#[derive(Default)]
pub struct Memory(Mutex<Heard>);

impl dicom::Sink for Memory {
    fn store(&self, object: dicom::Received) -> Result<(), dicom::StoreFailure> {
        let mut heard = self.0.lock().unwrap();
        if heard.full {
            return Err(dicom::StoreFailure::out_of_resources("no room"));
        }
        heard.stored.push(object);
        Ok(())
    }
    fn rejected(&self, rejection: dicom::Rejection) {
        self.0.lock().unwrap().rejected.push(rejection);
    }
    fn association_released(&self, end: dicom::AssociationEnd) {
        self.0.lock().unwrap().ended.push(end);
    }
}

/// A receiver on a free port of loopback; stops when dropped.
pub struct Receiver {
    pub port: u16,
    sink: Arc<Memory>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    pub fn start(change: impl FnOnce(&mut dicom::Config)) -> Self {
        let mut config = dicom::Config { allow: vec![AeTitle::new("SCANNER").unwrap().into()], ..Default::default() };
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sink, stop) = (Arc::new(Memory::default()), Arc::new(AtomicBool::new(false)));
        let (to, flag) = (Arc::clone(&sink), Arc::clone(&stop));
        let thread = Some(std::thread::spawn(move || {
            dicom::serve(vec![dicom::Door { listener, tls: false }], config, to, flag).unwrap()
        }));
        Self { port, sink, stop, thread }
    }

    pub fn target(&self) -> Target {
        let title = |t| AeTitle::new(t).unwrap();
        Target {
            ae_title: title("METWATCH"),
            host: "127.0.0.1".into(),
            port: self.port,
            calling_ae: title("SCANNER"),
            tls: None,
        }
    }

    pub fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.sink.0.lock().unwrap()
    }

    /// Drops what was heard, for tests that send without end.
    pub fn forget(&self) {
        *self.heard() = Heard::default();
    }

    /// Waits until `n` associations ended.
    pub fn wait_for_end(&self, n: usize) {
        let begun = Instant::now();
        while self.heard().ended.len() < n {
            assert!(begun.elapsed() < Duration::from_secs(20), "the association did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn dcmtk(tool: &str, receiver: &Receiver, args: &[&str]) -> std::process::Output {
    let port = receiver.port.to_string();
    Command::new(tool)
        .env("TCP_NODELAY", "1")
        .args(["-v", "-aet", "SCANNER", "-aec", "METWATCH", "127.0.0.1", &port])
        .args(args)
        .output()
        .expect("dcmtk is installed")
}

#[test]
fn dcmtk_echoes_and_stores_and_every_byte_of_the_data_set_is_kept() {
    let receiver = Receiver::start(|_| {});
    assert!(dcmtk("echoscu", &receiver, &[]).status.success());
    let folder = reference("crlm_ct/CRLM-CT-1004");
    let out = dcmtk("storescu", &receiver, &["+sd", folder.to_str().unwrap()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    receiver.wait_for_end(1);
    let heard = receiver.heard();
    assert_eq!((heard.stored.len(), heard.rejected.len()), (41, 0));
    let end = &heard.ended[0];
    assert_eq!((end.calling_ae.as_str(), end.how, end.series.len()), ("SCANNER", dicom::HowEnded::Released, 1));
    let sent: BTreeMap<_, _> = files(&folder)
        .iter()
        .map(|f| parse_header(&std::fs::read(f).unwrap()).unwrap())
        .map(|h| (h.sop_instance_uid.clone(), h))
        .collect();
    for object in &heard.stored {
        let header = parse_header(&object.bytes).unwrap();
        assert_eq!(header, object.header);
        let original = &sent[&header.sop_instance_uid];
        assert_eq!((&header.position_mm, &header.patient), (&original.position_mm, &original.patient));
    }
    let headers: Vec<Header> = heard.stored.iter().map(|o| o.header.clone()).collect();
    let plan = plan_series(&headers).unwrap();
    let made =
        assemble_volume(&plan, &dicom::Decoder::Here, &|i| Ok(heard.stored[i].bytes.clone()), &|_, _| {}).unwrap();
    assert_eq!(made.volume.hu.iter().map(|v| f64::from(*v)).sum::<f64>(), -7_321_181_215.0);
}

#[test]
fn dcmtk_sends_implicit_rle_and_deflated_and_the_voxels_are_the_same() {
    let scratch = Scratch::new("syntaxes");
    let series = phantom(50);
    write_all(&scratch.0, &series);
    let receiver = Receiver::start(|_| {});
    let from = |folder: &Path| files(folder).iter().map(|f| f.to_str().unwrap().to_owned()).collect::<Vec<_>>();
    let send = |option: &str, folder: &Path| {
        let out = dcmtk("storescu", &receiver, &[&[option, "+sd"][..], &[folder.to_str().unwrap()]].concat());
        assert!(out.status.success(), "{option}: {}", String::from_utf8_lossy(&out.stderr));
    };
    send("-xi", &scratch.0);
    for (tool, option, propose) in [("dcmcrle", "", "-xr"), ("dcmcjpeg", "+e1", "-xs"), ("dcmconv", "+td", "-xd")] {
        let other = Scratch::new(tool);
        for file in from(&scratch.0) {
            let to = other.0.join(Path::new(&file).file_name().unwrap());
            let mut command = Command::new(tool);
            if !option.is_empty() {
                command.arg(option);
            }
            assert!(command.args([&file, to.to_str().unwrap()]).status().unwrap().success(), "{tool}");
        }
        send(propose, &other.0);
    }
    receiver.wait_for_end(4);
    let heard = receiver.heard();
    assert_eq!((heard.stored.len(), heard.rejected.len()), (200, 0));
    let syntaxes: Vec<&str> = heard.stored.chunks(50).map(|c| c[0].header.transfer_syntax.as_str()).collect();
    let expected =
        [dicom::syntax::IMPLICIT_LE, dicom::syntax::RLE, dicom::syntax::JPEG_LOSSLESS_SV1, dicom::syntax::DEFLATED];
    assert_eq!(syntaxes, expected);
    let volume = |objects: &[dicom::Received]| {
        let plan = plan_series(&objects.iter().map(|o| o.header.clone()).collect::<Vec<_>>()).unwrap();
        assemble_volume(&plan, &dicom::Decoder::Here, &|i| Ok(objects[i].bytes.clone()), &|_, _| {}).unwrap().volume.hu
    };
    let first = volume(&heard.stored[..50]);
    assert!(heard.stored.chunks(50).skip(1).all(|chunk| volume(chunk) == first));
}

#[test]
fn pynetdicom_stores_and_strangers_are_turned_away() {
    let scratch = Scratch::new("pynetdicom");
    write_all(&scratch.0, &phantom(5));
    let receiver = Receiver::start(|_| {});
    let script = r#"
import sys, glob
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification
port, folder, title = int(sys.argv[1]), sys.argv[2], sys.argv[3]
ae = AE(ae_title=title)
ae.add_requested_context(CTImageStorage)
ae.add_requested_context(Verification)
assoc = ae.associate('127.0.0.1', port, ae_title='METWATCH')
if not assoc.is_established:
    print('rejected', assoc.is_rejected); sys.exit(3)
print(hex(assoc.send_c_echo().Status))
for f in sorted(glob.glob(folder + '/*.dcm')):
    print(hex(assoc.send_c_store(f).Status))
assoc.release()
"#;
    let send = |title: &str| {
        let args = [&receiver.port.to_string(), scratch.0.to_str().unwrap(), title].map(str::to_owned);
        Command::new(python()).args(["-c", script]).args(args).output().expect("METWATCH_TEST_PYTHON has pynetdicom")
    };
    let out = send("SCANNER");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "0x0\n".repeat(6), "{}", String::from_utf8_lossy(&out.stderr));
    receiver.wait_for_end(1);
    assert_eq!(receiver.heard().stored.len(), 5);
    assert_eq!(String::from_utf8_lossy(&send("STRANGER").stdout), "rejected True\n");
    receiver.heard().full = true;
    assert!(String::from_utf8_lossy(&send("SCANNER").stdout).contains("0xa700"));
}

// ---- Our sender, other receivers; our sender, our receiver, odd input ---------------------------------------------------

#[test]
fn our_sender_delivers_to_storescp_and_reports_each_file() {
    let scratch = Scratch::new("storescp");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut scp = Command::new("storescp")
        .env("TCP_NODELAY", "1")
        .args(["-aet", "ARCHIVE", "-od", scratch.0.to_str().unwrap(), &port.to_string()])
        .spawn()
        .expect("dcmtk is installed");
    let title = |t| AeTitle::new(t).unwrap();
    let target =
        Target { ae_title: title("ARCHIVE"), host: "localhost".into(), port, calling_ae: title("METWATCH"), tls: None };
    let begun = Instant::now();
    while dicom::echo(&target).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "storescp did not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut series = phantom(6);
    series.push(("notes.txt".into(), b"not DICOM".to_vec()));
    let mut seen = 0;
    let sent = dicom::send(7, &|i| Ok(series[i].1.clone()), &target, &mut |_, _| seen += 1);
    scp.kill().unwrap();
    scp.wait().unwrap();
    let sent = sent.unwrap();
    assert_eq!((sent.iter().filter(|d| d.is_stored()).count(), seen), (6, 7));
    assert!(matches!(sent[6], Delivery::Skipped { .. }));
    assert_eq!(files(&scratch.0).len(), 6);
}

#[test]
fn damaged_or_contradictory_objects_are_refused_with_a_status_and_announced() {
    let receiver = Receiver::start(|_| {});
    let good = phantom(1).remove(0).1;
    // The command names another instance than the data set: the file meta says so.
    let send =
        |bytes: &[u8]| dicom::send(1, &|_| Ok(bytes.to_vec()), &receiver.target(), &mut |_, _| {}).unwrap().remove(0);
    assert_eq!(send(&good), Delivery::Stored);
    let at = |needle: &[u8]| good.windows(needle.len()).rposition(|w| w == needle).unwrap();
    let mut no_series = good.clone();
    let series = at(&[0x20, 0, 0x0E, 0, b'U', b'I']) + 8;
    no_series[series..series + 10].copy_from_slice(b"../../etc/");
    assert!(matches!(send(&no_series), Delivery::Refused { status: 0xA900, .. }));
    receiver.wait_for_end(2);
    let heard = receiver.heard();
    assert_eq!(heard.stored.len(), 1);
    assert_eq!(heard.rejected.iter().map(|r| r.code).collect::<Vec<_>>(), ["dicom.uid"]);
    assert!(!heard.rejected[0].sentence.contains("PHANTOM"));
}

#[test]
fn cut_claims_and_bombs_are_refused_on_the_wire() {
    let receiver = Receiver::start(|_| {});
    let file = phantom(1).remove(0).1;
    let meta = 132 + 12 + u32::from_le_bytes(file[140..144].try_into().unwrap()) as usize;
    let data_set = &file[meta..];
    let pixels = data_set.windows(6).rposition(|w| w == [0xE0, 0x7F, 0x10, 0, b'O', b'W']).unwrap();
    let mut claim = data_set.to_vec();
    claim[pixels + 8..pixels + 12].copy_from_slice(&0xF000_0000u32.to_le_bytes());
    let cut = &data_set[..data_set.len() - 100];
    let mut nested = data_set[..pixels].to_vec();
    for _ in 0..10_000 {
        nested.extend([
            0x40, 0x54, 1, 0, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF,
        ]);
    }
    let statuses: Vec<u16> =
        [&claim[..], cut, &nested, &[], &[0xFF; 10]].iter().map(|d| raw_store(receiver.port, d)).collect();
    assert_eq!(statuses, [0xC000, 0xC000, 0xC000, 0xA900, 0xC000]);
    assert_eq!(raw_store(receiver.port, data_set), 0, "the receiver still works");
    receiver.wait_for_end(6);
    let heard = receiver.heard();
    let codes: Vec<_> = heard.rejected.iter().map(|r| r.code).collect();
    assert_eq!(codes, ["dicom.truncated", "dicom.truncated", "dicom.nesting", "dicom.uid", "dicom.truncated"]);
}

/// A hand-made SCU: association, C-STORE with the command set split over two PDVs, status of the answer.
fn raw_store(port: u16, data_set: &[u8]) -> u16 {
    let mut stream = associate(port, "SCANNER");
    let instance = parse_header(&phantom(1).remove(0).1).unwrap().sop_instance_uid.as_str().to_owned();
    let element = |number: u16, value: &[u8]| {
        let mut value = value.to_vec();
        value.resize(value.len().next_multiple_of(2), 0);
        [&[0, 0][..], &number.to_le_bytes(), &(value.len() as u32).to_le_bytes(), &value].concat()
    };
    let command = [
        element(0x0002, dicom::sop_class::CT.as_bytes()),
        element(0x0100, &[1, 0]),
        element(0x0110, &[7, 0]),
        element(0x0700, &[0, 0]),
        element(0x0800, &[1, 0]),
        element(0x1000, instance.as_bytes()),
    ]
    .concat();
    let command = [element(0, &(command.len() as u32).to_le_bytes()), command].concat();
    let pdv = |flags: u8, bytes: &[u8]| [&(bytes.len() as u32 + 2).to_be_bytes()[..], &[1, flags], bytes].concat();
    let pdu = |body: &[u8]| [&[4, 0][..], &(body.len() as u32).to_be_bytes(), body].concat();
    // Both halves of the command in one PDU, the first data in the same one.
    let first = &data_set[..data_set.len().min(10)];
    let body = [pdv(1, &command[..31]), pdv(3, &command[31..]), pdv(0, first)].concat();
    stream.write_all(&pdu(&body)).unwrap();
    for chunk in data_set[first.len()..].chunks(16_000) {
        stream.write_all(&pdu(&pdv(0, chunk))).unwrap();
    }
    stream.write_all(&pdu(&pdv(2, &[]))).unwrap();
    let answer = read_pdu(&mut stream);
    stream.write_all(&[5, 0, 0, 0, 0, 4, 0, 0, 0, 0]).unwrap();
    let status = answer.windows(8).position(|w| w == [0, 0, 0, 9, 2, 0, 0, 0]).expect("a status");
    u16::from_le_bytes([answer[status + 8], answer[status + 9]])
}

fn read_pdu(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 6];
    stream.read_exact(&mut head).unwrap();
    let mut body = vec![0; u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize];
    stream.read_exact(&mut body).unwrap();
    [&head[..], &body].concat()
}

/// An established association with context 1: CT in explicit little endian.
fn associate(port: u16, calling: &str) -> TcpStream {
    let item = |kind: u8, body: &[u8]| [&[kind, 0][..], &(body.len() as u16).to_be_bytes(), body].concat();
    let context = [
        vec![1, 0, 0, 0],
        item(0x30, dicom::sop_class::CT.as_bytes()),
        item(0x40, dicom::syntax::EXPLICIT_LE.as_bytes()),
    ]
    .concat();
    let body = [
        vec![0, 1, 0, 0],
        format!("{:16}{:16}", "METWATCH", calling).into_bytes(),
        vec![0; 32],
        item(0x10, b"1.2.840.10008.3.1.1.1"),
        item(0x20, &context),
        item(0x50, &item(0x51, &16384u32.to_be_bytes())),
    ]
    .concat();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&[&[1, 0][..], &(body.len() as u32).to_be_bytes(), &body].concat()).unwrap();
    assert_eq!(read_pdu(&mut stream)[0], 2, "A-ASSOCIATE-AC");
    stream
}

#[test]
fn too_many_associations_and_silent_ones_are_ended() {
    let receiver = Receiver::start(|config| {
        config.associations_max = 2;
        config.idle_s = 1;
        config.establish_s = 1;
    });
    let (mut first, _second) = (associate(receiver.port, "SCANNER"), associate(receiver.port, "SCANNER"));
    let error = dicom::echo(&receiver.target()).unwrap_err();
    assert_eq!((error.code(), error.to_string().contains("local limit")), ("send.rejected", true), "{error}");
    // Silence for a second: A-ABORT (7), then there is room again, also behind sockets that never say a word.
    assert_eq!(read_pdu(&mut first)[0], 7);
    let _silent: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(("127.0.0.1", receiver.port)).unwrap()).collect();
    let begun = Instant::now();
    while dicom::echo(&receiver.target()).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "silent sockets hold the receiver");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn random_bytes_after_or_instead_of_an_association_do_no_harm() {
    let receiver = Receiver::start(|_| {});
    let mut state = 7u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    for round in 0..60 {
        let mut stream = if round % 2 == 0 {
            TcpStream::connect(("127.0.0.1", receiver.port)).unwrap()
        } else {
            associate(receiver.port, "SCANNER")
        };
        let mut bytes: Vec<u8> = (0..random() % 300).map(|_| random() as u8).collect();
        if let [kind, reserved, a, b, c, ..] = &mut bytes[..] {
            (*kind, *reserved, *a, *b, *c) = (random() as u8 % 8, 0, 0, 0, 0);
        }
        let _ = stream.write_all(&bytes);
    }
    assert!(dicom::echo(&receiver.target()).is_ok(), "the receiver still answers");
}

#[test]
fn stopping_lets_the_object_under_way_end() {
    // A test beside this one may take the freed port, hence three tries.
    let closed = (0..3).any(|_| {
        let mut receiver = Receiver::start(|_| {});
        let stream = associate(receiver.port, "SCANNER");
        receiver.stop.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        receiver.thread.take().unwrap().join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "an idle association holds the stop");
        drop(stream);
        TcpStream::connect(("127.0.0.1", receiver.port)).is_err()
    });
    assert!(closed, "it listens after its end");
}
