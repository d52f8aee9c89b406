//! Segmentations in space, and a folder with its DICOMDIR.

use super::*;
use metwatch::volume::decode_image;

/// A grid turned about all three axes, one from feet to head and one from head to feet.
fn grids() -> [(&'static str, Geometry); 3] {
    let grid = |direction| Geometry {
        size: [24, 20, 50],
        spacing_mm: [0.7, 0.8, 2.5],
        origin_mm: [-10.0, -20.0, 5.0],
        direction,
    };
    let (a, b) = (0.3f64, -0.2f64);
    let (ca, sa, cb, sb) = (a.cos(), a.sin(), b.cos(), b.sin());
    let oblique = [[ca, -sa * cb, sa * sb], [sa, ca * cb, -ca * sb], [0.0, sb, cb]];
    let feet_first = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]];
    [("axial", grid(Geometry::IDENTITY)), ("oblique", grid(oblique)), ("feet first", grid(feet_first))]
}

/// What another reader makes of a SEG, voxel by voxel in patient space.
const COMPARE_SEGMENTS: &str = r#"
import sys, json, numpy as np, highdicom as hd
seg, truth = hd.seg.segread(sys.argv[1]), json.load(open(sys.argv[2]))
labels = np.fromfile(sys.argv[3], np.uint8).reshape(truth['shape'])
volume = seg.get_volume(combine_segments=True, dtype=np.uint8)
# LPS of voxel (slice, row, column), then the index of ours at that place.
own = np.linalg.inv(np.array(truth['affine']))
index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.array.shape], indexing='ij'), -1).reshape(-1, 3)
place = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
found = place @ own[:3, :3].T + own[:3, 3]
assert np.abs(found - np.rint(found)).max() < 1e-3, np.abs(found - np.rint(found)).max()
mine = np.zeros_like(labels)
found = np.rint(found).astype(int)
mine[tuple(found[:, i] for i in (0, 1, 2))] = volume.array.reshape(-1)
expected = np.zeros_like(labels)
for number, value in enumerate(truth['values'], 1): expected[labels == value] = number
assert (mine == expected).all() and expected.max() == len(truth['values'])
for frame in seg.PerFrameFunctionalGroupsSequence:
    source = frame.DerivationImageSequence[0].SourceImageSequence[0]
    assert source.SpatialLocationsPreserved == truth['preserved'] and source.ReferencedSOPInstanceUID in truth['slices']
assert seg.SegmentationType == 'BINARY' and {s.SegmentAlgorithmType for s in seg.SegmentSequence} == {'AUTOMATIC'}
assert len({s.TrackingUID for s in seg.SegmentSequence}) == len(truth['values'])
print(seg.NumberOfFrames)
"#;

/// Voxels of the labels 1, 2 and 4.
fn count(labels: &LabelMap) -> Vec<usize> {
    [1, 2, 4].map(|value| labels.labels.iter().filter(|v| **v == value).count()).to_vec()
}

/// Voxels of each segment of `seg.dcm`, as dcmqi writes them.
fn dcmqi_counts(folder: &Folder) -> Vec<usize> {
    let out = Command::new(beside_python("segimage2itkimage"))
        .args(["--inputDICOM", &folder.text("seg.dcm"), "--outputDirectory", &folder.text(""), "--outputType", "nrrd"])
        .output()
        .expect("dcmqi is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let voxels = |segment: usize| {
        let image = decode_image(&std::fs::read(folder.join(&format!("{segment}.nrrd"))).unwrap()).unwrap();
        image.to_labels().unwrap().iter().filter(|v| **v != 0).count()
    };
    (1..=3).map(voxels).collect()
}

#[test]
fn segmentations_of_any_orientation_come_back_voxel_by_voxel() {
    let folder = Folder::new("seg-orientations");
    let mut cases: Vec<(&str, Vec<Header>)> = Vec::new();
    for (name, geometry) in grids() {
        let hu = Array3::zeros(geometry.shape_zyx());
        let series = dicom::phantom_series(&Volume { hu, geometry }, &PatientInfo::default(), 3);
        cases.push((name, series.iter().map(|(_, bytes)| parse_header(bytes).unwrap()).collect()));
    }
    // A gantry tilted by atan(0.5 / 2.5) = 11 degrees: each slice 0.5 mm further back.
    let mut tilted = cases[0].1.clone();
    for (k, header) in tilted.iter_mut().enumerate() {
        header.position_mm.as_mut().unwrap()[1] += 0.5 * k as f64;
    }
    cases.push(("tilted", tilted));
    for (name, headers) in cases {
        let plan = plan_series(&headers).unwrap();
        assert_eq!(plan.resampled, name == "tilted");
        let (labels, seg) = label(&plan);
        let file = write(&folder, "seg.dcm", &seg.bytes);
        assert_eq!(dciodvfy_errors(&file), Vec::<String>::new(), "{name}");
        let g = &plan.geometry;
        // Columns: a step along slices, rows, columns; then the origin.
        let column = |axis: usize, row: usize| g.direction[row][axis] * g.spacing_mm[axis];
        let affine: Vec<Vec<f64>> = (0..3)
            .map(|row| vec![column(2, row), column(1, row), column(0, row), g.origin_mm[row]])
            .chain([vec![0.0, 0.0, 0.0, 1.0]])
            .collect();
        let slices: Vec<&str> = plan.slices.iter().map(|s| s.header.sop_instance_uid.as_str()).collect();
        let truth = serde_json::json!({
            "shape": [g.size[2], g.size[1], g.size[0]],
            "affine": affine,
            "values": [1, 2, 4],
            "preserved": if plan.resampled { "NO" } else { "YES" },
            "slices": slices,
        });
        let truth = write(&folder, "truth.json", truth.to_string().as_bytes());
        let raw: Vec<u8> = labels.labels.iter().copied().collect();
        let raw = write(&folder, "labels.bin", &raw);
        // 15 slices of liver, 2 of lesion, 3 of tumor; the rest is left out.
        assert_eq!(python(COMPARE_SEGMENTS, &[&file, &truth, &raw]).trim(), "20", "{name}");
        if !left_out("DCMQI") {
            assert_eq!(dcmqi_counts(&folder), count(&labels), "{name}");
        }
    }
}

#[test]
fn a_folder_with_its_directory_is_read_by_others_as_the_same_instances() {
    let folder = Folder::new("directory");
    let (study, report) = (study(), report());
    let source = study.headers();
    let info = info(&source, &report);
    let page = dicom::write_page(&report, &source, &[]).unwrap();
    let mut files: Vec<(String, Vec<u8>)> =
        study.slices.iter().enumerate().map(|(i, (_, bytes))| (format!("CT{:06}", i + 1), bytes.clone())).collect();
    files.push(("SG000001".into(), study.seg.bytes.clone()));
    files.push(("SR000001".into(), dicom::write_sr(&info, Some(&study.seg.bytes), None).unwrap().bytes));
    files.push(("SC000001".into(), dicom::write_captures(&info, &[picture("Axial", None)]).unwrap()[0].bytes.clone()));
    files.push(("PD000001".into(), dicom::write_document(&info, &page).unwrap().bytes));
    std::fs::create_dir_all(folder.join("S000007")).unwrap();
    let mut entries = Vec::new();
    for (name, bytes) in &files {
        write(&folder, &format!("S000007/{name}"), bytes);
        entries.push(dicom::DirectoryEntry::new(&format!("S000007/{name}"), bytes).unwrap());
    }
    let directory = write(&folder, "DICOMDIR", &dicom::write_directory(&entries).unwrap());
    let script = r#"
import sys, glob, pydicom
from pydicom.fileset import FileSet
root = sys.argv[1]
found = FileSet(root + '/DICOMDIR')
there = {str(p): pydicom.dcmread(p).SOPInstanceUID for p in glob.glob(root + '/S000007/*')}
listed = {i.path: i.SOPInstanceUID for i in found}
assert listed == there and len(there) == 54, (len(listed), len(there))
assert len(found.find_values('PatientID')) == len(found.find_values('StudyInstanceUID')) == 1
assert len(found.find_values('SeriesInstanceUID')) == 5
for i in found:
    d = i.load()
    assert d.file_meta.TransferSyntaxUID == i.ReferencedTransferSyntaxUIDInFile and d.StudyInstanceUID == i.StudyInstanceUID
    assert d.PatientName == i.PatientName and d.SeriesInstanceUID == i.SeriesInstanceUID
kinds = [r.DirectoryRecordType for r in pydicom.dcmread(root + '/DICOMDIR').DirectoryRecordSequence]
print(sorted(set(kinds)))
"#;
    let kinds = python(script, &[folder.path()]);
    assert_eq!(kinds.trim(), "['ENCAP DOC', 'IMAGE', 'PATIENT', 'SERIES', 'SR DOCUMENT', 'STUDY']");
    assert_eq!(dciodvfy_errors(&directory), Vec::<String>::new());
    let (content, dump) = tool("dcmdump", &[&directory]);
    assert!(content && complaints(&dump).is_empty(), "{dump}");
    assert!(dump.contains(r"S000007\SR000001"), "{dump}");
    // The objects agree on patient and study. (The validator is at odds with itself on where the accession number belongs.)
    let out =
        Command::new("dcentvfy").args(entries.iter().map(|e| folder.join("S000007").join(e.file_name()))).output();
    let said = String::from_utf8_lossy(&out.expect("dcentvfy is installed (apt: dicom3tools)").stderr).into_owned();
    let odd = "Different information entities for attribute - Element=<AccessionNumber>";
    let complaints: Vec<&str> = said.lines().filter(|l| !l.contains(odd)).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    // DCMTK takes it as its own: it adds an object to it, and finds all records in place.
    let extra = dicom::write_captures(&info, &[picture("Axial", None), picture("Coronal", None)]).unwrap();
    write(&folder, "S000007/SC000002", &extra[1].bytes);
    let out = Command::new("dcmmkdir")
        .args(["--append", "--general-purpose", "S000007/SC000002"])
        .current_dir(folder.path())
        .output()
        .expect("dcmmkdir is installed (apt: dcmtk)");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && !said.contains("E: "), "{said}");
    write(&folder, "S000007/SC000002", &extra[1].bytes);
    let all = "import sys; from pydicom.fileset import FileSet; print(len(list(FileSet(sys.argv[1]))))";
    assert_eq!(python(all, &[&directory]).trim(), "55");
}
