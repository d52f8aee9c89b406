//! Secondary captures, the page and its capsule.

use super::*;

#[test]
fn captures_are_valid_images_of_the_study_with_the_same_pixels() {
    let folder = Folder::new("captures");
    let (study, report) = (study(), report());
    let source = study.headers();
    let pictures = [picture("Axial, largest cross-section of the tumor", Some(31)), picture("Coronal", None)];
    let captures = dicom::write_captures(&info(&source, &report), &pictures).unwrap();
    assert_eq!(captures.len(), 2);
    for (index, (capture, picture)) in captures.iter().zip(&pictures).enumerate() {
        let file = write(&folder, "sc.dcm", &capture.bytes);
        let raw = write(&folder, "rgb", &picture.rgb);
        let slice = write(&folder, "slice.dcm", &study.slices[31].1);
        assert_eq!(dciodvfy_errors(&file), Vec::<String>::new());
        let script = r#"
import sys, pydicom
capture, source = pydicom.dcmread(sys.argv[1]), pydicom.dcmread(sys.argv[3])
assert capture.pixel_array.shape == (10, 20, 3) and capture.pixel_array.tobytes() == open(sys.argv[2], 'rb').read()
for name in ['StudyInstanceUID', 'PatientID', 'PatientName', 'PatientBirthDate', 'AccessionNumber', 'StudyDate', 'StudyID']:
    assert capture[name].value == source[name].value, name
assert capture.SeriesInstanceUID != source.SeriesInstanceUID and capture.BurnedInAnnotation == 'NO'
assert capture.file_meta.MediaStorageSOPClassUID == '1.2.840.10008.5.1.4.1.1.7' and capture.ConversionType == 'WSD'
assert 'not for clinical use' in capture.ImageComments and list(capture.PatientOrientation) == ['L', 'P']
shown = [i.ReferencedSOPInstanceUID for i in capture.get('SourceImageSequence', [])]
assert shown in ([], [source.SOPInstanceUID])
print(capture.InstanceNumber, len(shown), capture.SeriesInstanceUID)
"#;
        let said = python(script, &[&file, &raw, &slice]);
        let expected = format!("{} {} {}", index + 1, 1 - index, captures[0].series_instance_uid);
        assert_eq!(said.trim(), expected);
    }
    let short = Picture { rgb: vec![0; 5], ..pictures[0].clone() };
    let refused = dicom::write_captures(&info(&source, &report), &[short]).unwrap_err();
    assert!(matches!(refused, ResultError::Picture { .. }));
}

#[test]
fn the_page_says_what_the_result_says_and_is_encapsulated_unchanged() {
    let folder = Folder::new("page");
    let (study, report) = (study(), report());
    let source = study.headers();
    let pdf = dicom::write_page(&report, &source, &[picture("Axial (tumor)", None)]).unwrap();
    let page = write(&folder, "page.pdf", &pdf);
    let document = dicom::write_document(&info(&source, &report), &pdf).unwrap();
    let file = write(&folder, "page.dcm", &document.bytes);
    assert_eq!(dciodvfy_errors(&file), Vec::<String>::new());
    let script = r#"
import sys, pydicom
document = pydicom.dcmread(sys.argv[1])
assert document.EncapsulatedDocument[:document.EncapsulatedDocumentLength] == open(sys.argv[2], 'rb').read()
assert document.MIMETypeOfEncapsulatedDocument == 'application/pdf' and document.Modality == 'DOC'
assert len(document.SourceInstanceSequence) == 50 and document.BurnedInAnnotation == 'YES'
"#;
    python(script, &[&file, &page]);
    // poppler reads it without a complaint: one page of A4.
    let (content, said) = tool("pdfinfo", &[&page]);
    assert!(
        content && said.contains("Pages:           1\n") && said.contains("(A4)") && !said.contains("rror"),
        "{said}"
    );
    let (_, text) = tool("pdftotext", &[Path::new("-layout"), &page, Path::new("-")]);
    for expected in [
        "DEMONSTRATION, NOT FOR CLINICAL USE",
        "Phantom, Jürgen",
        "PHANTOM-1",
        "23.1 %",
        "intermediate risk",
        "Alpha-fetoprotein",
        "4.2 ng/mL",
        "+0.61",
        "Not known: perineural invasion.",
        "Free of metastasis at 12, 36, 60 months: 97, 85, 77 %",
        "Axial (tumor)",
        "series.jitter",
        "not found",
        "mlm-phantom 0.1.0",
        "S000007 revision 2",
    ] {
        assert!(text.contains(expected), "{expected} is missing: {text}");
    }
    let reason = RemarkReport {
        code: "gate.liver-volume".into(),
        sentence: "the liver has 200 mL".into(),
        advice: "send the whole abdomen".into(),
    };
    let notes = (0..200).map(|_| report.notes[0].clone()).collect();
    let refused = Report { risk: None, reasons: vec![reason], notes, ..report };
    let page = write(&folder, "refused.pdf", &dicom::write_page(&refused, &[], &[]).unwrap());
    let (_, text) = tool("pdftotext", &[Path::new("-layout"), &page, Path::new("-")]);
    for expected in [
        "No risk is given",
        "The liver has 200 mL",
        "What to do: send the whole abdomen",
        "more in the structured report",
    ] {
        assert!(text.contains(expected), "{expected} is missing: {text}");
    }
    assert!(!text.contains("23.1 %"));
    let (_, said) = tool("pdfinfo", &[&page]);
    assert!(said.contains("Pages:           1\n"), "{said}");
}
