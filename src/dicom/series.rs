//! A verdict on a set of headers: a plan for one volume, with notes and refusals, or the reason why there is none
//! (dicom.md section 3).

use super::frames::slice_headers;
use super::{Header, Identifier, SeriesError, SeriesRules, sop_class, syntax};
use crate::Explain;
use crate::volume::Geometry;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// Fewest slices of a volume.
pub const SLICES_MIN: usize = 20;
/// Least extent along the normal that may be analyzed, mm.
pub const EXTENT_MM_MIN: f64 = 120.0;
/// Thickest slices and widest spacing that may be analyzed, mm.
pub const SLICE_MM_MAX: f64 = 7.5;
/// Angle between the normal and the step from slice to slice from which on the volume is sheared, degrees.
pub const TILT_DEG_MIN: f64 = 0.5;
/// Greatest angle between the normal and the step, degrees.
pub const TILT_DEG_MAX: f64 = 30.0;
/// Farthest that a slice may lie beside the line through all slices, mm.
const SIDESTEP_MM_MAX: f64 = 2.0;
/// Sidestep from which on slices are resampled by true position, mm.
const SIDESTEP_MM_MIN: f64 = 0.1;

/// Fewest slices of equal spacing that are a way of scanning and not an accident.
const RUN_SLICES_MIN: usize = 5;

/// Least cosine between the normal and the patient's long axis: what is steeper is a coronal or sagittal reformat.
const AXIAL_COSINE_MIN: f64 = 0.7;

/// Something that a reader of the result should know: a stable code and a sentence without patient data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Stable code, such as `series.short-extent`.
    pub code: &'static str,
    /// What was found and what was done about it.
    pub sentence: String,
}

impl Note {
    pub(super) fn new(code: &'static str, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }
}

/// One slice of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedSlice {
    /// Index into the headers that were given to [`plan_series`]; [`super::assemble_volume`] loads by it.
    pub index: usize,
    /// Frame of the object, from 0; 0 for classic objects.
    pub frame: usize,
    /// Its header; for Enhanced CT what the object and the frame say together.
    pub header: Header,
    /// Projection of its position on the normal, mm.
    pub along_normal_mm: f64,
}

/// How one volume is made of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesPlan {
    /// The slices, sorted along the normal.
    pub slices: Vec<PlannedSlice>,
    /// The grid of the volume. One slice per plane, in order, also when `resampled`.
    pub geometry: Geometry,
    /// True when slices are resampled by their true positions (gantry tilt, jitter) onto `geometry`.
    pub resampled: bool,
    /// What a reader should know.
    pub notes: Vec<Note>,
    /// Why the volume, though it can be made, must not be analyzed; empty is fit for analysis.
    pub refusals: Vec<Note>,
}

/// Decides what a set of headers is. All of one patient; localizers, derived images and the like are left out with a note.
/// The limits are those of [`SeriesRules::default`].
pub fn plan_series(headers: &[Header]) -> Result<SeriesPlan, SeriesError> {
    let mut notes = Vec::new();
    let plan = plan_by(headers, &SeriesRules::default(), &mut notes)?;
    Ok(SeriesPlan { notes: [notes, plan.notes].concat(), ..plan })
}

/// [`plan_series`] by the rules of a site. `notes` gets what was noticed before a stack was chosen, also when it ends in an error.
pub(super) fn plan_by(
    headers: &[Header],
    rules: &SeriesRules,
    notes: &mut Vec<Note>,
) -> Result<SeriesPlan, SeriesError> {
    check_one_patient(headers, notes)?;
    let unique = without_repeats(headers, notes);
    let images = usable_images(headers, unique, notes)?;
    for image in &images {
        check_cosines(image)?;
    }
    let stacks = split_stacks(images);
    let sizes: Vec<usize> = stacks.iter().map(Vec::len).collect();
    let mut plans = Vec::new();
    let mut errors = Vec::new();
    for stack in stacks {
        let size = stack.len();
        match plan_stack(stack, rules) {
            Ok(plan) => plans.push((size, plan)),
            Err(error) => errors.push((size, error)),
        }
    }
    // Of several volumes that can be made, the only one that may be analyzed is meant.
    if plans.iter().filter(|(_, p)| p.refusals.is_empty()).count() == 1 {
        plans.retain(|(_, p)| p.refusals.is_empty());
    }
    let all: usize = sizes.iter().sum();
    let largest_error = errors.into_iter().max_by_key(|(size, _)| *size);
    match (plans.len(), largest_error) {
        (1, _) => {
            let (size, plan) = plans.remove(0);
            let left_out = all - size;
            if left_out > 0 {
                let sentence = format!("{left_out} slices of other stacks in the series were left out");
                notes.push(Note::new("series.stacks-left-out", sentence));
            }
            Ok(plan)
        }
        (0, None) => Err(SeriesError::Empty),
        // The reason of the stack that is nearly all of the series is the reason.
        (0, Some((size, error))) if size * 5 >= all * 4 => Err(error),
        (0, Some((size, _))) if size < SLICES_MIN => Err(SeriesError::TooFewSlices { count: size }),
        _ => {
            let listed = sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(SeriesError::SeveralStacks { count: sizes.len(), sizes: listed })
        }
    }
}

/// A slice before it has a place: an object, or a frame of one.
struct Image<'a> {
    index: usize,
    frame: usize,
    header: Cow<'a, Header>,
}

fn check_one_patient(headers: &[Header], notes: &mut Vec<Note>) -> Result<(), SeriesError> {
    let first = headers.first().ok_or(SeriesError::Empty)?;
    let identity = |h: &Header| {
        let name = h.patient.name.as_str().trim_end_matches(['^', ' ']).to_uppercase();
        (h.patient.id.clone(), name, h.patient.birth_date.clone(), h.patient.sex.clone())
    };
    let expected = identity(first);
    if headers.iter().any(|h| identity(h) != expected) {
        return Err(SeriesError::MixedPatients);
    }
    if first.patient.id.is_empty() {
        notes.push(Note::new(
            "series.no-patient-id",
            "the objects carry no patient ID: the result cannot be matched to a patient",
        ));
    }
    Ok(())
}

/// Indices of the first object of every SOP Instance UID. The same bytes again are nothing; other bytes are an alarm.
fn without_repeats(headers: &[Header], notes: &mut Vec<Note>) -> Vec<usize> {
    let mut seen: BTreeMap<&Identifier, usize> = BTreeMap::new();
    let mut unique = Vec::new();
    let mut altered = 0;
    for (index, header) in headers.iter().enumerate() {
        if header.sop_instance_uid.is_empty() {
            unique.push(index);
            continue;
        }
        match seen.get(&header.sop_instance_uid) {
            None => {
                seen.insert(&header.sop_instance_uid, index);
                unique.push(index);
            }
            Some(&first) if headers[first].content_sha256 != header.content_sha256 => altered += 1,
            Some(_) => {}
        }
    }
    if altered > 0 {
        let sentence =
            format!("{altered} objects came again with other content under the same UID; the first of each was kept");
        notes.push(Note::new("series.altered-duplicate", sentence));
    }
    unique
}

/// What Image Type says of images that were computed from the slices of a volume instead of being them.
const DERIVED_WORDS: [&str; 14] = [
    "MPR",
    "MIP",
    "MINIP",
    "SCREEN SAVE",
    "SCREENSHOT",
    "PROJECTION",
    "VOLUME RENDERING",
    "VRT",
    "CPR",
    "REFORMATTED",
    "PERFUSION",
    "SUBTRACT",
    "MAT_DECOMP",
    "CSA RESAMPLED",
];

/// Why an object or frame is not a slice of a CT volume, if it is none.
fn unusable(h: &Header) -> Option<SeriesError> {
    let has = |word: &str| h.image_type.iter().any(|t| t.to_uppercase().contains(word));
    let class = [sop_class::CT, sop_class::ENHANCED_CT, ""].contains(&h.sop_class_uid.as_str());
    if h.modality != "CT" || !class {
        let modality =
            if h.modality == "CT" { "of an object class other than CT Image".into() } else { h.modality.clone() };
        return Some(SeriesError::NotCt {
            modality: if modality.is_empty() { "of no modality".into() } else { modality },
        });
    }
    if has("LOCALIZER") || has("SCOUT") {
        return Some(SeriesError::Localizer);
    }
    if h.image_type.first().is_some_and(|t| t == "DERIVED") && DERIVED_WORDS.iter().any(|word| has(word)) {
        return Some(SeriesError::Derived);
    }
    // An object whose frames are described was cut into them before it came here.
    if h.sop_class_uid == sop_class::ENHANCED_CT && h.pixels.frames != 1 {
        return Some(SeriesError::Enhanced);
    }
    if h.position_mm.is_none()
        || h.row_cosines.is_none()
        || !h.pixel_spacing_mm.is_some_and(|s| s.iter().all(|s| *s > 0.0))
    {
        return Some(SeriesError::NoGeometry);
    }
    let p = &h.pixels;
    let bits = p.bits_allocated == 16 && (1..=16).contains(&p.bits_stored) && p.high_bit + 1 == p.bits_stored;
    let one_frame = p.present && p.frames == 1 && p.rows > 0 && p.columns > 0;
    if p.samples != 1 || p.photometric != "MONOCHROME2" || !bits || !one_frame {
        return Some(SeriesError::PixelFormat);
    }
    if lossy_syntax(&h.transfer_syntax) {
        return Some(SeriesError::Lossy);
    }
    if !syntax::is_decoded(&h.transfer_syntax) {
        return Some(SeriesError::Codec(h.transfer_syntax.clone()));
    }
    None
}

/// JPEG baseline and extended, JPEG-LS near-lossless, HTJ2K with loss.
fn lossy_syntax(uid: &str) -> bool {
    let lossy =
        ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.203"];
    lossy.contains(&uid)
}

/// Leaves out what is no slice; when nothing remains, the most frequent reason is the error.
fn usable_images<'a>(
    headers: &'a [Header],
    unique: Vec<usize>,
    notes: &mut Vec<Note>,
) -> Result<Vec<Image<'a>>, SeriesError> {
    let mut reasons: BTreeMap<&'static str, (usize, SeriesError)> = BTreeMap::new();
    let mut usable = Vec::new();
    for index in unique {
        for (frame, header) in slice_headers(&headers[index]).into_iter().enumerate() {
            match unusable(&header) {
                None => usable.push(Image { index, frame, header }),
                Some(error) => reasons.entry(error.code()).or_insert((0, error)).0 += 1,
            }
        }
    }
    if usable.is_empty() {
        let most = reasons.into_values().max_by_key(|(count, _)| *count);
        return Err(most.map_or(SeriesError::Empty, |(_, error)| error));
    }
    for (count, error) in reasons.values() {
        notes.push(Note::new("series.objects-left-out", format!("{count} images were left out: {error}")));
    }
    Ok(usable)
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn unit(a: [f64; 3]) -> [f64; 3] {
    let length = dot(a, a).sqrt();
    a.map(|v| v / length)
}

fn check_cosines(image: &Image<'_>) -> Result<(), SeriesError> {
    let (index, h) = (image.index, &image.header);
    let (Some(row), Some(column)) = (h.row_cosines, h.column_cosines) else { return Err(SeriesError::NoGeometry) };
    let off = (dot(row, row) - 1.0).abs().max((dot(column, column) - 1.0).abs()).max(dot(row, column).abs());
    if off > 2e-3 { Err(SeriesError::Cosines { index }) } else { Ok(()) }
}

/// What must agree within a stack, orientation and pixel spacing compared with a tolerance.
fn same_stack(a: &Header, b: &Header) -> bool {
    let near = |a: Option<[f64; 3]>, b: Option<[f64; 3]>| match (a, b) {
        (Some(a), Some(b)) => a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3),
        _ => false,
    };
    let spacing = match (a.pixel_spacing_mm, b.pixel_spacing_mm) {
        (Some(a), Some(b)) => a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3 * b),
        _ => false,
    };
    // Values 4 and later of Image Type are the maker's: they part slices only where positions repeat.
    let types = |h: &Header| h.image_type.iter().take(3).cloned().collect::<Vec<_>>();
    a.study_instance_uid == b.study_instance_uid
        && a.series_instance_uid == b.series_instance_uid
        && a.frame_of_reference_uid == b.frame_of_reference_uid
        && (a.pixels.rows, a.pixels.columns) == (b.pixels.rows, b.pixels.columns)
        && spacing
        && near(a.row_cosines, b.row_cosines)
        && near(a.column_cosines, b.column_cosines)
        && types(a) == types(b)
}

fn along_normal(h: &Header) -> f64 {
    let row = unit(h.row_cosines.unwrap_or([1.0, 0.0, 0.0]));
    let column = unit(h.column_cosines.unwrap_or([0.0, 1.0, 0.0]));
    dot(cross(row, column), h.position_mm.unwrap_or_default())
}

/// Stacks by [`same_stack`]; where positions repeat within one, again by kernel, acquisition, thickness, phase, image type and
/// compression.
fn split_stacks(images: Vec<Image<'_>>) -> Vec<Vec<Image<'_>>> {
    let mut stacks: Vec<Vec<Image<'_>>> = Vec::new();
    for image in images {
        match stacks.iter_mut().find(|s| same_stack(&s[0].header, &image.header)) {
            Some(stack) => stack.push(image),
            None => stacks.push(vec![image]),
        }
    }
    stacks.into_iter().flat_map(|stack| if repeats(&stack) == 0 { vec![stack] } else { by_kernel(stack) }).collect()
}

fn repeats(stack: &[Image<'_>]) -> usize {
    let mut z: Vec<f64> = stack.iter().map(|i| along_normal(&i.header)).collect();
    z.sort_by(f64::total_cmp);
    z.windows(2).filter(|w| w[1] - w[0] < 0.01).count()
}

fn by_kernel(stack: Vec<Image<'_>>) -> Vec<Vec<Image<'_>>> {
    let mut parts: BTreeMap<_, Vec<Image<'_>>> = BTreeMap::new();
    for image in stack {
        let h = &image.header;
        let thickness = h.slice_thickness_mm.map(|t| (t * 1000.0) as i64);
        let kernel = (h.kernel.clone(), h.kvp.map(|kv| kv as i64), thickness);
        let key = (kernel, h.acquisition_number, h.temporal_position, h.image_type.clone(), h.lossy);
        parts.entry(key).or_default().push(image);
    }
    parts.into_values().collect()
}

/// The plan of one stack: spacing, tilt, HU, extent.
fn plan_stack(stack: Vec<Image<'_>>, rules: &SeriesRules) -> Result<SeriesPlan, SeriesError> {
    let count = repeats(&stack);
    if count > 0 {
        return Err(SeriesError::Duplicates { count });
    }
    if stack.len() < SLICES_MIN {
        return Err(SeriesError::TooFewSlices { count: stack.len() });
    }
    for image in &stack {
        check_hu(image.index, &image.header)?;
    }
    let place = |Image { index, frame, header }: Image<'_>| {
        let along_normal_mm = along_normal(&header);
        PlannedSlice { index, frame, header: header.into_owned(), along_normal_mm }
    };
    let mut slices: Vec<PlannedSlice> = stack.into_iter().map(place).collect();
    slices.sort_by(|a, b| a.along_normal_mm.total_cmp(&b.along_normal_mm));
    if let Some(index) = slices.iter().position(|s| s.header.pixels.short) {
        return Err(SeriesError::ShortPixels { index });
    }
    let mut notes = Vec::new();
    let jitter = match check_spacing(&slices, &mut notes) {
        Err(variable @ SeriesError::VariableSpacing { .. }) => {
            let run = only_run_to_analyze(&slices).ok_or(variable)?;
            let sentence = format!(
                "the slice distance changes within the series: only the {} of {} slices that are {:.2} mm apart and long enough were used",
                run.len(),
                slices.len(),
                spacing_of(&slices[run.clone()])
            );
            notes.push(Note::new("series.run-taken", sentence));
            slices = slices.drain(run).collect();
            false
        }
        other => other?,
    };
    let (geometry, sheared) = lay_grid(&slices, &mut notes)?;
    note_mixtures(&slices, &mut notes);
    let mut refusals = judge(&slices, &geometry);
    if slices.iter().any(|s| s.header.lossy) {
        let lossy = Note::new("series.lossy", SeriesError::Lossy.to_string());
        if rules.allow_lossy { &mut notes } else { &mut refusals }.push(lossy);
    }
    Ok(SeriesPlan { slices, geometry, resampled: jitter || sheared, notes, refusals })
}

fn check_hu(index: usize, h: &Header) -> Result<(), SeriesError> {
    let why = match h {
        h if h.modality_lut => "a Modality LUT instead of slope and intercept",
        h if h.rescale_slope.is_none_or(|s| s == 0.0) => "the rescale slope is missing or 0",
        h if h.rescale_intercept.is_none() => "the rescale intercept is missing",
        h if !matches!(h.rescale_type.as_str(), "" | "HU") => "the rescale type is not HU",
        _ => return Ok(()),
    };
    Err(SeriesError::NoHu { index, why })
}

/// Distances of neighbors: all equal, jitter (true: resample), a hole, or no regular stack at all.
fn check_spacing(slices: &[PlannedSlice], notes: &mut Vec<Note>) -> Result<bool, SeriesError> {
    let gaps: Vec<f64> = slices.windows(2).map(|w| w[1].along_normal_mm - w[0].along_normal_mm).collect();
    let mut sorted = gaps.clone();
    sorted.sort_by(f64::total_cmp);
    let (min_mm, usual, max_mm) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    let within = |gap: f64, expected: f64, tolerance: f64| (gap - expected).abs() <= (tolerance * usual).max(0.01);
    if gaps.iter().all(|g| within(*g, usual, 0.01)) {
        return Ok(false);
    }
    if gaps.iter().all(|g| within(*g, usual, 0.1)) {
        let sentence = format!(
            "slice distances vary from {min_mm:.3} to {max_mm:.3} mm; slices were resampled by their true positions"
        );
        notes.push(Note::new("series.jitter", sentence));
        return Ok(true);
    }
    let steps = |gap: f64| (gap / usual).round();
    let whole = gaps.iter().all(|g| steps(*g) >= 1.0 && within(*g, steps(*g) * usual, 0.1));
    let holes: Vec<usize> = (0..gaps.len()).filter(|i| steps(gaps[*i]) >= 2.0).collect();
    // More than a quarter of the gaps wide is not loss on the way but two ways of scanning.
    match holes.first() {
        Some(&index) if whole && holes.len() * 4 <= gaps.len() => {
            let missing = holes.iter().map(|i| steps(gaps[*i]) as usize - 1).sum();
            Err(SeriesError::MissingSlice { index, gap_mm: gaps[index], usual_mm: usual, missing })
        }
        _ => Err(SeriesError::VariableSpacing { min_mm, max_mm }),
    }
}

fn spacing_of(slices: &[PlannedSlice]) -> f64 {
    match slices {
        [first, .., last] => (last.along_normal_mm - first.along_normal_mm) / (slices.len() - 1) as f64,
        _ => 0.0,
    }
}

/// Of a stack whose spacing changes: the one regular run that may be analyzed by itself, if it is the only one. Whether the
/// liver lies in it completely is seen after the segmentation, as in every volume.
fn only_run_to_analyze(slices: &[PlannedSlice]) -> Option<Range<usize>> {
    let gap = |i: usize| slices[i + 1].along_normal_mm - slices[i].along_normal_mm;
    let mut runs = Vec::new();
    let mut start = 0;
    // A slice where the spacing changes belongs to the runs on both sides.
    while start + 1 < slices.len() {
        let usual = gap(start);
        let same = |i: &usize| (gap(*i) - usual).abs() <= (0.01 * usual).max(0.01);
        let last = (start..slices.len() - 1).take_while(same).last().unwrap_or(start) + 1;
        runs.push(start..last + 1);
        start = last;
    }
    // Two ways of scanning and at most one odd step between them; more pieces are a damaged stack.
    if runs.len() > 3 || runs.iter().filter(|run| run.len() >= RUN_SLICES_MIN).count() != 2 {
        return None;
    }
    runs.retain(|run| {
        let spacing = spacing_of(&slices[run.clone()]);
        run.len() >= SLICES_MIN && run.len() as f64 * spacing >= EXTENT_MM_MIN && spacing <= SLICE_MM_MAX
    });
    if runs.len() == 1 { runs.pop() } else { None }
}

/// The grid of the volume; true when slices have to be shifted in their planes onto it.
fn lay_grid(slices: &[PlannedSlice], notes: &mut Vec<Note>) -> Result<(Geometry, bool), SeriesError> {
    let (first, last) = (&slices[0], &slices[slices.len() - 1]);
    let header = &first.header;
    let row = unit(header.row_cosines.unwrap_or([1.0, 0.0, 0.0]));
    let normal = unit(cross(row, header.column_cosines.unwrap_or([0.0, 1.0, 0.0])));
    let column = cross(normal, row);
    let [between_rows, between_columns] = header.pixel_spacing_mm.unwrap_or([1.0, 1.0]);
    let steps = (slices.len() - 1) as f64;
    let spacing = (last.along_normal_mm - first.along_normal_mm) / steps;
    let origin = header.position_mm.unwrap_or_default();
    let offsets: Vec<[f64; 2]> = slices.iter().map(|s| in_plane(s, origin, row, column)).collect();
    let drift = [offsets[slices.len() - 1][0] / steps, offsets[slices.len() - 1][1] / steps];
    let sidestep = |k: usize| (offsets[k][0] - drift[0] * k as f64).hypot(offsets[k][1] - drift[1] * k as f64);
    let worst = (0..slices.len()).max_by(|a, b| sidestep(*a).total_cmp(&sidestep(*b))).unwrap_or(0);
    if sidestep(worst) > SIDESTEP_MM_MAX {
        return Err(SeriesError::Sidestep { index: worst, off_mm: sidestep(worst) });
    }
    let degrees = drift[0].hypot(drift[1]).atan2(spacing).to_degrees();
    if degrees > TILT_DEG_MAX {
        return Err(SeriesError::Tilt { degrees });
    }
    let mut geometry = Geometry {
        size: [usize::from(header.pixels.columns), usize::from(header.pixels.rows), slices.len()],
        spacing_mm: [between_columns, between_rows, spacing],
        origin_mm: origin,
        direction: std::array::from_fn(|axis| [row[axis], column[axis], normal[axis]]),
    };
    let sheared = degrees > TILT_DEG_MIN || sidestep(worst) > SIDESTEP_MM_MIN;
    if sheared {
        let sentence = format!("the gantry tilt is {degrees:.1} degrees; the slices were shifted onto an upright grid");
        notes.push(Note::new("series.tilt", sentence));
        // The upright grid covers every slice where it really lies.
        for (axis, step) in [(0, between_columns), (1, between_rows)] {
            let low = offsets.iter().map(|o| o[axis]).fold(0.0, f64::min);
            let high = offsets.iter().map(|o| o[axis]).fold(0.0, f64::max);
            geometry.size[axis] += ((high - low) / step).ceil() as usize;
            let direction = [row, column][axis];
            geometry.origin_mm = std::array::from_fn(|i| geometry.origin_mm[i] + direction[i] * low);
        }
    }
    Ok((geometry, sheared))
}

/// Where a slice's first pixel lies from `origin`, along rows and columns, mm.
pub(super) fn in_plane(slice: &PlannedSlice, origin: [f64; 3], row: [f64; 3], column: [f64; 3]) -> [f64; 2] {
    let position = slice.header.position_mm.unwrap_or(origin);
    let away: [f64; 3] = std::array::from_fn(|axis| position[axis] - origin[axis]);
    [dot(away, row), dot(away, column)]
}

/// Notes on what differs within a stack without breaking it.
fn note_mixtures(slices: &[PlannedSlice], notes: &mut Vec<Note>) {
    let first = &slices[0].header;
    if slices.iter().any(|s| s.header.kernel != first.kernel) {
        notes.push(Note::new("series.mixed-kernels", "slices of different reconstruction kernels lie in one stack"));
    }
    if slices.iter().any(|s| s.header.kvp != first.kvp) {
        notes.push(Note::new("series.mixed-kvp", "slices of different tube voltages lie in one stack"));
    }
    if first.frame_of_reference_uid.is_empty() {
        notes.push(Note::new("series.no-frame-of-reference", "the slices name no frame of reference"));
    }
    if first.image_type.first().is_some_and(|t| t == "DERIVED") {
        notes.push(Note::new("series.derived-images", "the slices call themselves derived"));
    }
    if first.study_instance_uid.is_empty() || first.series_instance_uid.is_empty() {
        notes
            .push(Note::new("series.no-uids", "the slices carry no study or series UID; all were taken as one series"));
    }
}

/// Why a volume must not be analyzed although it can be made.
fn judge(slices: &[PlannedSlice], geometry: &Geometry) -> Vec<Note> {
    let mut refusals = Vec::new();
    let extent = geometry.size[2] as f64 * geometry.spacing_mm[2];
    if extent < EXTENT_MM_MIN {
        let sentence =
            format!("the slices cover {extent:.0} mm, at least {EXTENT_MM_MIN:.0} mm are needed to hold the liver");
        refusals.push(Note::new("series.short-extent", sentence));
    }
    let thickest = slices.iter().filter_map(|s| s.header.slice_thickness_mm).fold(geometry.spacing_mm[2], f64::max);
    if thickest > SLICE_MM_MAX {
        let sentence =
            format!("the slices are {thickest:.1} mm thick or apart, at most {SLICE_MM_MAX} mm can be analyzed");
        refusals.push(Note::new("series.thick-slices", sentence));
    }
    let upright = geometry.direction[2][2].abs();
    if upright < AXIAL_COSINE_MIN {
        let degrees = upright.min(1.0).acos().to_degrees();
        let sentence =
            format!("the slices are turned {degrees:.0} degrees from axial: a coronal, sagittal or oblique reformat");
        refusals.push(Note::new("series.not-axial", sentence));
    }
    refusals
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
