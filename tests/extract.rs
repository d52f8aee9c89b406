//! `metwatch extract` as `pyradiomics` is used: its output line by line (../shared/data/golden/radiomics/cli), lists,
//! interruptions, bad input.

use crate::common::{Folder, reference, run};
use metwatch::radiomics::{Settings, extract};
use metwatch::volume::decode_image;
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    reference("golden/radiomics/cli").join(name)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn input(name: &str) -> String {
    text(&reference("golden/radiomics/inputs").join(name))
}

/// Equal line by line, but for the versions; numbers within 1e-9.
#[track_caller]
fn same_output(ours: &str, theirs: &str) {
    assert_eq!(ours.lines().count(), theirs.lines().count());
    for (a, b) in ours.lines().zip(theirs.lines()) {
        if a == b || (a.contains("diagnostics_Versions_") && a.split(':').next() == b.split(':').next()) {
            continue;
        }
        // Cells of CSV, or name and value.
        let cells = |line: &str| line.split([',', ':', ' ']).map(String::from).collect::<Vec<_>>();
        let (a, b) = (cells(a), cells(b));
        let versions = b.iter().any(|cell| cell == "3.1.0");
        let (a, b) = if versions { (after_versions(&a), after_versions(&b)) } else { (a, b) };
        assert_eq!(a.len(), b.len(), "{a:?} {b:?}");
        for (a, b) in a.iter().zip(&b) {
            let (x, y) = (a.parse::<f64>(), b.parse::<f64>());
            let near = matches!((x, y), (Ok(x), Ok(y)) if (x - y).abs() <= 1e-9 * y.abs());
            assert!(a == b || near, "{a}, PyRadiomics {b}");
        }
    }
}

/// The cells from the settings on; before them stand five versions and the inputs.
fn after_versions(cells: &[String]) -> Vec<String> {
    let start = cells.iter().position(|cell| cell.starts_with("\"{'")).expect("the settings are there");
    cells[start..].to_vec()
}

#[test]
fn a_list_gives_the_lines_of_pyradiomics_in_every_format() {
    let (list, params) = (text(&golden("batch.csv")), text(&golden("params.yaml")));
    for format in ["csv", "json", "txt"] {
        for jobs in ["1", "2"] {
            let arguments = ["extract", &list, "-p", &params, "-f", format, "--format-path", "basename", "-j", jobs];
            let (code, out, err) = run(&arguments);
            assert_eq!(code, 0, "failing cases do not stop a list: {err}");
            same_output(&out, &fs::read_to_string(golden(&format!("batch.{format}.out"))).unwrap());
            assert!(err.contains("case 3: ") && err.contains("case 4: "), "{err}");
        }
    }
}

#[test]
fn overrides_are_read_and_refused_as_pyradiomics_does() {
    let arguments = [
        "extract",
        &input("tiny_image.nii.gz"),
        &input("tiny_ball.nii.gz"),
        "-p",
        &text(&golden("params.yaml")),
        "-s",
        "binWidth:10",
        "-s",
        "distances:1,2",
        "-s",
        "foo:1",
        "-s",
        "binWidth:abc",
        "-s",
        "nocolon",
        "--format",
        "csv",
        "--format-path",
        "basename",
    ];
    let (code, out, err) = run(&arguments);
    assert_eq!(code, 0, "{err}");
    same_output(&out, &fs::read_to_string(golden("single.out")).unwrap());
    let told = |log: &str| log.lines().filter_map(|l| l.split_once("] ")).map(|l| l.1.to_string()).collect::<Vec<_>>();
    assert_eq!(told(&err), told(&fs::read_to_string(golden("single.stderr")).unwrap()));
}

#[test]
fn exit_codes_are_pyradiomics() {
    let folder = Folder::new("extract-codes");
    let put = |name: &str, what: &str| {
        fs::write(folder.join(name), what).unwrap();
        folder.text(name)
    };
    assert_eq!(run(&["extract", &input("tiny_image.nii.gz")]).0, 1, "no mask");
    assert_eq!(run(&["extract", &put("no_mask_column.csv", "Image,Patient\n")]).0, 1);
    assert_eq!(run(&["extract", &put("empty.csv", "Image,Mask\n")]).0, 3, "no case");
    assert_eq!(run(&["extract", &put("a.csv", "Image,Mask\n"), "--foo"]).0, 2);
    assert_eq!(run(&["extract", "x.nii", "y.nii", "-p", &put("bad.yaml", "setting: {binWith: 5}\n")]).0, 3);
    assert_eq!(run(&["extract", "x.nii", "y.nii"]).0, 0, "a case that fails is told and does not stop");
    assert_eq!(run(&["extract", "x.nii", "y.nii", "--json"]).0, 3);
    let (code, _, err) = run(&["extract", &text(&golden("batch.csv")), "--validate"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (code, _, err) = run(&["extract", &put("gone.csv", "Image,Mask\nno.nii,none.nii\n"), "--validate"]);
    assert_eq!(code, 0);
    assert!(err.contains("Image path for case (1/1) does not exist!"), "{err}");
}

#[test]
fn a_parameter_file_is_refused_with_line_and_nearest_name() {
    let folder = Folder::new("extract-params");
    let refused = |yaml: &str| {
        fs::write(folder.join("p.yaml"), yaml).unwrap();
        let (code, _, err) =
            run(&["extract", &input("tiny_image.nii.gz"), &input("tiny_ball.nii.gz"), "-p", &folder.text("p.yaml")]);
        assert_eq!(code, 3, "{err}");
        err
    };
    let err = refused("setting:\n  binwidth: 5\n");
    assert!(err.contains("line 2") && err.contains("binWidth"), "{err}");
    let err = refused("featureClass:\n  glcm:\n  - Contrast\n  - JointEntrpy\n");
    assert!(err.contains("line 4") && err.contains("JointEntropy"), "{err}");
    let err = refused("setting:\n  label: 1\n  binWidth: -5\n");
    assert!(err.contains("line 3") && err.contains("-5"), "{err}");
    let err = refused("setting:\n\tbinWidth: 5\n");
    assert!(err.contains("tab"), "{err}");
}

#[test]
fn an_interrupted_list_goes_on_where_it_stopped() {
    let folder = Folder::new("extract-resume");
    let list = format!(
        "Image,Mask,Label,Patient,setting:binWidth\n{0},{1},1,a,\n{0},{1},1,b,5\n{0},{2},1,c,\n",
        input("tiny_image.nii.gz"),
        input("tiny_ball.nii.gz"),
        input("tiny_onevoxel.nii.gz")
    );
    fs::write(folder.join("list.csv"), list).unwrap();
    let params = text(&golden("params.yaml"));
    let whole = |arguments: &[&str]| {
        let (list, kept) = (folder.text("list.csv"), folder.text("kept"));
        let (code, out, err) =
            run(&[&["extract", &list, "-p", &params, "-f", "csv", "-od", &kept, "-v", "4"][..], arguments].concat());
        assert_eq!(code, 0, "{err}");
        (out, err)
    };
    let (first, err) = whole(&[]);
    assert!(!err.contains("was there already"), "{err}");
    let rows: Vec<&str> = first.lines().collect();
    assert_eq!(rows.len(), 4);
    let entropy = |row: &str| row.split(',').nth_back(1).unwrap().parse::<f64>().unwrap();
    assert!((entropy(rows[1]) - entropy(rows[2])).abs() < 1e-12, "binWidth 5 of the row and of the file are the same");
    assert!(rows[3].ends_with(",,,"), "a failing case keeps its row: {}", rows[3]);
    assert!(!folder.join("kept/features_3.csv").exists(), "and is tried again");
    // As after a kill between two cases.
    fs::remove_file(folder.join("kept/features_2.csv")).unwrap();
    let (second, err) = whole(&[]);
    assert_eq!(second, first);
    assert!(err.contains("Case 1 was there already") && err.contains("Processing case 2"), "{err}");
    // Other settings: nothing old is taken.
    let (_, err) = whole(&["-s", "binWidth:7"]);
    assert!(err.contains("other settings") && !err.contains("was there already"), "{err}");
}

#[test]
fn one_case_is_printed_as_json_with_full_precision() {
    let (image, mask) = (input("tiny_image.nii.gz"), input("tiny_ball.nii.gz"));
    let (code, out, err) = run(&["extract", &image, &mask, "--json"]);
    assert_eq!(code, 0, "{err}");
    let found: Json = serde_json::from_str(&out).unwrap();
    let read = |path: &str| decode_image(&fs::read(path).unwrap()).unwrap();
    let expected = extract(&read(&image), &read(&mask), &Settings::default()).unwrap();
    for row in expected.features.rows {
        assert_eq!(found["features"][&row.name].as_f64().map(f64::to_bits), Some(row.value.to_bits()), "{}", row.name);
    }
}

#[test]
fn the_correlation_of_one_gray_level_is_written_as_an_integer() {
    // PyRadiomics' CSV has `1` there, and `1.0` for floats that happen to be one.
    let (code, out, err) = run(&["extract", &input("flat_image.nii.gz"), &input("tiny_ball.nii.gz"), "-f", "csv"]);
    assert_eq!(code, 0, "{err}");
    let [names, values] = out.lines().collect::<Vec<_>>()[..] else { panic!("{out}") };
    // Cells before this column may hold quoted commas, those after it do not.
    let back = names.split(',').rev().position(|name| name == "original_glcm_MCC").unwrap();
    assert_eq!(values.rsplit(',').nth(back), Some("1"));
    let id = names.split(',').rev().position(|name| name == "original_glcm_Id").unwrap();
    assert_eq!(values.rsplit(',').nth(id), Some("1.0"));
}
