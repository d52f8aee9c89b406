//! The cohort's statistics against R, in one run and by turns: `cargo bench --bench cohort`.
//!
//! `METWATCH_RSCRIPT` names an Rscript with glmnet, survival, rms and pROC; it runs `benches/cohort.R` as a child that measures
//! itself, so neither R's start nor the files between count. Without it only metwatch is timed. `METWATCH_BENCH=text` runs the
//! rows whose name contains the text. `METWATCH_TEST_DATA` names the shared data.
//!
//! glmnet runs at its default threshold and at [`TIGHT`]; "KKT" is the largest violation of the optimality conditions relative
//! to lambda, computed here from the coefficients of either side in the same way, largest and median over the path.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock, starts its peer and prints")]

use metwatch::cohort::{EXAMPLE_SPEC, Frame, Spec, Texts, fit};
use metwatch::statistics::penalized::{self, Measure, Options, Outcome};
use ndarray::{Array2, ArrayView2, ShapeBuilder};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

/// glmnet's default.
const DEFAULT: f64 = 1e-7;
/// Where its solutions come near ours in convergence, as far as they do.
const TIGHT: f64 = 1e-14;
/// Set in the child that fits the large table, so that its peak of memory is its own.
const LARGE: &str = "METWATCH_BENCH_LARGE";

/// Seconds.
#[derive(Clone, Copy, Default)]
struct Time {
    wall: f64,
    cpu: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn median_time(times: &[Time]) -> Time {
    let of = |of: fn(&Time) -> f64| median(times.iter().map(of).collect());
    Time { wall: of(|t| t.wall), cpu: of(|t| t.cpu) }
}

/// CPU seconds of all living threads of this process (Linux; 0 elsewhere).
fn cpu_s() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let text = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    text.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() * 1e-9
}

fn timed<T: Send>(pool: &rayon::ThreadPool, run: impl FnOnce() -> T + Send) -> (Time, T) {
    let (wall, cpu) = (Instant::now(), cpu_s());
    let value = pool.install(run);
    (Time { wall: wall.elapsed().as_secs_f64(), cpu: cpu_s() - cpu }, value)
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}

/// A line of `/proc/self/status` in kB, such as `VmHWM`.
fn status_kb(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(f64::NAN)
}

fn data(file: &str) -> PathBuf {
    std::env::var_os("METWATCH_TEST_DATA").map_or("../shared/data".into(), PathBuf::from).join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(data(file)).unwrap_or_else(|e| panic!("{file}: {e}; set METWATCH_TEST_DATA"))
}

fn reference() -> Json {
    serde_json::from_str(&text("cohort/reference_R.json")).expect("JSON")
}

fn list(value: &Json) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// Numbers that look like noise, the same in every run.
struct Noise(u64);

impl Noise {
    /// 0..1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (12 uniforms).
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// What is fitted.
struct Case {
    x: Array2<f64>,
    /// 0 or 1.
    y: Vec<f64>,
    /// Of the Cox family.
    time: Option<Vec<f64>>,
    folds: Vec<usize>,
    /// Smallest over largest lambda, unless it is the default.
    ratio: Option<f64>,
}

impl Case {
    /// The simulated cohort's training rows; features after the filters, or all stable ones.
    fn cohort(cox: bool, filtered: bool) -> Case {
        let expected = reference();
        let (clinical, radiomics) = (text("cohort/clinical.csv"), text("cohort/radiomics.csv"));
        let clinical = Frame::parse("clinical.csv", &clinical).expect("CSV");
        let radiomics = Frame::parse("radiomics.csv", &radiomics).expect("CSV");
        let split = clinical.texts("split").expect("split").values;
        let train: Vec<usize> = (0..split.len()).filter(|i| split[*i].as_deref() == Some("train")).collect();
        let wanted: Vec<&str> = if filtered {
            expected["after_spearman"].as_array().expect("a list").iter().filter_map(Json::as_str).collect()
        } else {
            expected["mannwhitney_p_of_stable"].as_object().expect("by name").keys().map(String::as_str).collect()
        };
        let x = radiomics.matrix(|name| wanted.contains(&name)).expect("numbers").1.select(ndarray::Axis(0), &train);
        let of = |name: &str| -> Vec<f64> {
            let values = clinical.numbers(name).expect("a column").values;
            train.iter().map(|i| values[*i].expect("a value")).collect()
        };
        let folds = list(&expected["foldid_train_rows_in_file_order"]).iter().map(|f| *f as usize - 1).collect();
        let ratio = filtered.then_some(if cox { 0.05 } else { 0.01 });
        Case { x, y: of("mlm"), time: cox.then(|| of("time_months")), folds, ratio }
    }

    /// A case of `../shared/data/stats`.
    fn reference(name: &str) -> Case {
        let (x, y) = (text(&format!("stats/{name}/x.csv")), text(&format!("stats/{name}/y.csv")));
        let outcome = Frame::parse("y.csv", &y).expect("CSV");
        let of = |name: &str| -> Vec<f64> {
            outcome.numbers(name).expect("a column").values.into_iter().map(|v| v.expect("a value")).collect()
        };
        let cox = name.contains("cox");
        let x = Frame::parse("x.csv", &x).expect("CSV").matrix(|_| true).expect("numbers").1;
        let folds = of("foldid").iter().map(|f| *f as usize - 1).collect();
        Case { x, y: of(if cox { "status" } else { "y" }), time: cox.then(|| of("time")), folds, ratio: None }
    }

    /// 20,000 patients, 1,500 features of 40 latent factors and their own noise, 30 with an effect; a fifth has the event.
    fn large(n: usize, p: usize) -> Case {
        let mut noise = Noise(2026);
        let loadings = Array2::from_shape_fn((p, 3), |_| noise.normal());
        // Columns lie contiguously, as in R.
        let mut x = Array2::zeros((n, p).f());
        let (mut y, mut time) = (Vec::new(), Vec::new());
        for mut row in x.rows_mut() {
            let factors: Vec<f64> = (0..40).map(|_| noise.normal()).collect();
            for (j, value) in row.iter_mut().enumerate() {
                let of = |k: usize| loadings[[j, k]] * factors[(7 * j + 13 * k) % 40];
                *value = 5.0 + of(0) + of(1) + of(2) + 1.5 * noise.normal();
            }
            let effect: f64 = (0..30).map(|k| (row[k * p / 30] - 5.0) * [0.12, -0.1, 0.08][k % 3]).sum();
            y.push(f64::from(u8::from(noise.uniform() < 1.0 / (1.0 + (1.8 - effect).exp()))));
            time.push((-noise.uniform().ln() * 40.0 * (-effect).exp()).clamp(0.1, 60.0));
        }
        Case { x, y, time: Some(time), folds: vec![], ratio: None }
    }

    fn events(&self) -> Vec<bool> {
        self.y.iter().map(|y| *y == 1.0).collect()
    }

    /// Writes the case for the peer.
    fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("the temporary folder is writable");
        let write = |name: &str, values: &mut dyn Iterator<Item = f64>| {
            let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join(name)).expect("writable"));
            values.for_each(|v| file.write_all(&v.to_le_bytes()).expect("written"));
        };
        write("x.f64", &mut self.x.t().iter().copied());
        write("y.f64", &mut self.y.iter().copied());
        write("folds.f64", &mut self.folds.iter().map(|f| *f as f64));
        write("time.f64", &mut self.time.iter().flatten().copied());
    }

    /// Lambdas, intercepts and coefficients (each shape (lambdas, columns)) to the violations of optimality at each lambda.
    /// The first lambda of a grid is above which nothing enters, and has no violation.
    fn optimality(&self, lambdas: &[f64], intercepts: &[f64], coefficients: ArrayView2<f64>) -> Vec<f64> {
        let n = self.x.nrows() as f64;
        let mean = self.x.mean_axis(ndarray::Axis(0)).expect("rows");
        let sd = self.x.std_axis(ndarray::Axis(0), 0.0);
        let at = |k: usize| {
            let beta = coefficients.row(k);
            let eta = self.x.dot(&beta) + intercepts[k];
            let residual = ndarray::Array1::from(match &self.time {
                Some(time) => cox_residuals(time, &self.events(), eta.as_slice().expect("contiguous")),
                None => self.y.iter().zip(&eta).map(|(y, eta)| y - 1.0 / (1.0 + (-eta).exp())).collect(),
            });
            let own = if self.time.is_some() { 0.0 } else { residual.sum().abs() / n };
            // Centered here, not by subtracting mean times sum: sums of large numbers would cost the digits that are sought.
            let gradient = ndarray::Array1::from_shape_fn(beta.len(), |j| {
                let column = self.x.column(j);
                column.iter().zip(&residual).map(|(x, r)| (x - mean[j]) * r).sum::<f64>() / (n * sd[j])
            });
            let violation = |(g, b): (&f64, &f64)| {
                if *b == 0.0 { (g.abs() - lambdas[k]).max(0.0) } else { (g - lambdas[k] * b.signum()).abs() }
            };
            gradient.iter().zip(&beta).map(violation).fold(own, f64::max) / lambdas[k]
        };
        (1..lambdas.len()).map(at).collect()
    }
}

/// Derivative of Breslow's partial likelihood by each linear predictor.
fn cox_residuals(time: &[f64], event: &[bool], eta: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..time.len()).collect();
    order.sort_by(|&a, &b| time[b].total_cmp(&time[a]));
    let mut at_risk = vec![0.0; time.len()];
    let mut sum = 0.0;
    for group in order.chunk_by(|&a, &b| time[a] == time[b]) {
        sum += group.iter().map(|&i| eta[i].exp()).sum::<f64>();
        group.iter().for_each(|&i| at_risk[i] = sum);
    }
    let mut residuals = vec![0.0; time.len()];
    let mut hazard = 0.0;
    order.reverse();
    for group in order.chunk_by(|&a, &b| time[a] == time[b]) {
        hazard += group.iter().filter(|&&i| event[i]).map(|&i| 1.0 / at_risk[i]).sum::<f64>();
        group.iter().for_each(|&i| residuals[i] = f64::from(u8::from(event[i])) - eta[i].exp() * hazard);
    }
    residuals
}

/// The part of [`penalized::Path`] that is judged.
struct Solutions {
    lambdas: Vec<f64>,
    index_min: usize,
    violations: Vec<f64>,
}

impl Solutions {
    fn of(case: &Case, path: &penalized::Path, index_min: usize) -> Solutions {
        let mut coefficients = Array2::zeros((path.lambdas.len(), path.columns));
        for (k, row) in path.coefficients.iter().enumerate() {
            row.iter().for_each(|(j, b)| coefficients[[k, *j]] = *b);
        }
        let violations = case.optimality(&path.lambdas, &path.intercepts, coefficients.view());
        Solutions { lambdas: path.lambdas.clone(), index_min, violations }
    }

    fn kkt(&self) -> String {
        let largest = self.violations.iter().copied().fold(0.0, f64::max);
        format!("{largest:.0e} ({:.0e})", median(self.violations.clone()))
    }
}

/// R beside us.
struct Peer {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Peer {
    fn start() -> Option<Peer> {
        let program = std::env::var_os("METWATCH_RSCRIPT")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/cohort.R");
        let mut command = Command::new(program);
        command.arg("--vanilla").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.envs([("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1")]);
        let mut child = command.spawn().expect("METWATCH_RSCRIPT names Rscript");
        let ask = child.stdin.take().expect("it is piped");
        let answer = BufReader::new(child.stdout.take().expect("it is piped"));
        Some(Peer { child, ask, answer })
    }

    fn ask(&mut self, words: &[&str]) -> Vec<f64> {
        writeln!(self.ask, "{}", words.join("\t")).expect("R listens");
        let mut line = String::new();
        self.answer.read_line(&mut line).expect("R answers");
        let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(!numbers.is_empty(), "R could not answer {words:?}: {line}");
        numbers
    }

    /// Time, solutions, and memory (before and peak, kB).
    fn penalized(&mut self, what: &str, case: &Case, folder: &Path, threshold: f64) -> (Time, Solutions, [f64; 2]) {
        let (n, p) = case.x.dim();
        let family = if case.time.is_some() { "cox" } else { "binomial" };
        let ratio = case.ratio.unwrap_or(0.0);
        let folder_text = folder.display().to_string();
        let numbers = [n as f64, p as f64, ratio, threshold].map(|v| format!("{v:e}"));
        let [n_text, p_text, ratio, threshold] = numbers.each_ref().map(String::as_str);
        let answer = self.ask(&[what, family, &folder_text, n_text, p_text, ratio, threshold]);
        let bytes = std::fs::read(folder.join("coefficients.f64")).expect("R wrote it");
        let values: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
        let count = answer[2] as usize;
        let lambdas = values[..count].to_vec();
        let coefficients = ArrayView2::from_shape((count, p), &values[2 * count..]).expect("all coefficients");
        let violations = case.optimality(&lambdas, &values[count..2 * count], coefficients);
        let solutions = Solutions { lambdas, index_min: answer[3] as usize, violations };
        (Time { wall: answer[0], cpu: answer[1] }, solutions, [answer[5], answer[6]])
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Bench {
    peer: Option<Peer>,
    folder: PathBuf,
    only: Option<String>,
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.*}", if seconds < 0.1 { 1 } else { 0 }, seconds * 1e3)
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Cross-validation on one thread, with glmnet at both thresholds, by turns.
    fn cross_validation(&mut self, name: &str, make: impl Fn() -> Case) {
        if !self.wants(name) {
            return;
        }
        let case = make();
        let event = case.events();
        let outcome = match &case.time {
            Some(time) => Outcome::Survival { time, event: &event },
            None => Outcome::Binary(&case.y),
        };
        let options = Options { lambda_min_ratio: case.ratio, ..Options::default() };
        let run = || {
            penalized::cross_validate(case.x.view(), &outcome, &options, &case.folds, Measure::Deviance, true)
                .expect("a fit")
        };
        let folder = self.folder.join("cv");
        case.write(&folder);
        let one = pool(1);
        let (mut ours, mut theirs) = (Vec::new(), [Vec::new(), Vec::new()]);
        let mut solutions = [None, None];
        let mut own = None;
        for round in 0..5 {
            let (time, found) = timed(&one, run);
            ours.push(time);
            own.get_or_insert_with(|| Solutions::of(&case, &found.path, found.index_min));
            for (k, threshold) in [DEFAULT, TIGHT].into_iter().enumerate() {
                // Tight takes long, so that once is enough.
                if let Some(peer) = self.peer.as_mut().filter(|_| k == 0 || round == 0) {
                    let (time, found, _) = peer.penalized("cv", &case, &folder, threshold);
                    theirs[k].push(time);
                    solutions[k].get_or_insert(found);
                }
            }
        }
        let own = own.expect("it ran");
        let ours = median_time(&ours);
        let theirs = theirs.map(|times| median_time(&times));
        let kkt = solutions.each_ref().map(|s| s.as_ref().map_or(String::new(), Solutions::kkt));
        let same = |s: &Option<Solutions>| {
            s.as_ref().map_or(String::new(), |s| {
                format!("{}/{} {}", s.lambdas.len(), own.lambdas.len(), s.index_min as f64 - own.index_min as f64)
            })
        };
        let (n, p) = case.x.dim();
        println!(
            "| {name}, {n} x {p} | {} / {} | {} | {} / {} | {} | {} / {} | {} | {:.2} | {:.2} | {} |",
            milliseconds(theirs[0].wall),
            milliseconds(theirs[0].cpu),
            kkt[0],
            milliseconds(theirs[1].wall),
            milliseconds(theirs[1].cpu),
            kkt[1],
            milliseconds(ours.wall),
            milliseconds(ours.cpu),
            own.kkt(),
            ours.cpu / theirs[0].cpu,
            ours.cpu / theirs[1].cpu,
            same(&solutions[1]),
        );
    }

    /// The path of the large table; ours in a child.
    fn large(&mut self, family: &str) {
        let name = format!("large table, {family}");
        if !self.wants(&name) {
            return;
        }
        let table_kb = (LARGE_SIZE.0 * LARGE_SIZE.1 * 8) as f64 / 1024.0;
        let child = |threads: usize| {
            let program = std::env::current_exe().expect("this program");
            let setting = format!("{family} {threads} {}", self.folder.display());
            let output =
                Command::new(program).env(LARGE, setting).stderr(Stdio::inherit()).output().expect("it starts");
            println!("| {name}, metwatch, {threads} threads{}", String::from_utf8_lossy(&output.stdout).trim_end());
        };
        child(1);
        child(2);
        let mut case = Case::large(LARGE_SIZE.0, LARGE_SIZE.1);
        if family == "binomial" {
            case.time = None;
        }
        let folder = self.folder.join("large");
        case.write(&folder);
        for threshold in [DEFAULT, 1e-12] {
            if let Some(peer) = &mut self.peer {
                let (time, found, [before, peak]) = peer.penalized("path", &case, &folder, threshold);
                println!(
                    "| {name}, glmnet, thresh {threshold:e} | {:.1} / {:.1} | {} | {} | {:.2} | {:.2} |",
                    time.wall,
                    time.cpu,
                    found.lambdas.len(),
                    found.kkt(),
                    before / table_kb,
                    peak / table_kb
                );
            }
        }
    }

    fn spec(&self, bootstrap: usize) -> (String, Texts) {
        let folds = list(&reference()["foldid_train_rows_in_file_order"]);
        let mut folds = folds.iter();
        let clinical = text("cohort/clinical.csv");
        let rows = clinical.lines().enumerate().map(|(line, row)| {
            let fold = match row.split(',').nth(2) {
                _ if line == 0 => "fold".into(),
                Some("train") => folds.next().expect("a fold for each training row").to_string(),
                _ => String::new(),
            };
            format!("{row},{fold}\n")
        });
        let texts = Texts::from([
            ("clinical.csv".to_owned(), rows.collect()),
            ("radiomics.csv".to_owned(), text("cohort/radiomics.csv")),
            ("stability.csv".to_owned(), text("cohort/stability.csv")),
        ]);
        let spec = EXAMPLE_SPEC
            .replace("# fold_column = \"fold\"", "fold_column = \"fold\"")
            .replace("bootstrap = 200", &format!("bootstrap = {bootstrap}"))
            .replace("learning_curve = true", "learning_curve = false");
        (spec, texts)
    }

    /// A folder with the cohort, its specification without repeats, and the folds for R.
    fn cohort_folder(&self) -> PathBuf {
        let (spec, texts) = self.spec(0);
        let folder = self.folder.join("cohort");
        std::fs::create_dir_all(&folder).expect("writable");
        texts.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).expect("written"));
        std::fs::write(folder.join("spec.toml"), spec).expect("written");
        let folds = list(&reference()["foldid_train_rows_in_file_order"]);
        let bytes: Vec<u8> = folds.iter().flat_map(|f| (f - 1.0).to_le_bytes()).collect();
        std::fs::write(folder.join("folds.f64"), bytes).expect("written");
        folder
    }

    /// `metwatch cohort fit`, from the start of the program to its last file, without bootstrap and learning curve.
    fn pipeline(&mut self) {
        if !self.wants("pipeline") {
            return;
        }
        let folder = self.cohort_folder();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let (wall, before) = (Instant::now(), children_cpu_s());
            let status = Command::new(env!("CARGO_BIN_EXE_metwatch"))
                .args(["cohort", "fit", "--spec"])
                .arg(folder.join("spec.toml"))
                .arg("--out")
                .arg(folder.join("out"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .expect("metwatch starts");
            assert!(status.success(), "metwatch cohort fit failed");
            ours.push(Time { wall: wall.elapsed().as_secs_f64(), cpu: children_cpu_s() - before });
            if let Some(peer) = &mut self.peer {
                let at = folder.display().to_string();
                let answer = peer.ask(&["pipeline", &at, &at]);
                theirs.push(Time { wall: answer[0], cpu: answer[1] });
            }
        }
        let (ours, theirs) = (median_time(&ours), median_time(&theirs));
        println!("| whole pipeline | {:.2} / {:.2} | {:.2} / {:.2} |", theirs.wall, theirs.cpu, ours.wall, ours.cpu);
    }

    /// Bootstraps of the whole procedure on two threads; R computes a few.
    fn bootstrap(&mut self) {
        const OURS: usize = 1000;
        const THEIRS: usize = 10;
        if !self.wants("bootstrap") {
            return;
        }
        let two = pool(2);
        let run = |count: usize| {
            let (text, texts) = self.spec(count);
            let spec = Spec::parse(&text).expect("a specification");
            timed(&two, || fit(&spec, &text, &texts, &|_, _| ()).expect("a fit")).0
        };
        let (without, with) = (run(0), run(OURS));
        let ours = Time { wall: with.wall - without.wall, cpu: with.cpu - without.cpu };
        let folder = self.cohort_folder().display().to_string();
        let theirs = self
            .peer
            .as_mut()
            .map_or(f64::NAN, |peer| peer.ask(&["bootstrap", &folder, &folder, &THEIRS.to_string()])[1] * OURS as f64);
        println!(
            "| {OURS} bootstraps of the whole procedure, two threads | {theirs:.0} CPU, from {THEIRS} | {:.1} / {:.1} |",
            ours.wall, ours.cpu
        );
    }
}

/// CPU seconds of children that have ended (Linux; 0 elsewhere).
fn children_cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |k: usize| fields.get(k).and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(13) + ticks(14)) / 100.0
}

/// Patients and features of the large table.
const LARGE_SIZE: (usize, usize) = (20_000, 1_500);

/// The child: fits the large table and prints its row.
fn fit_large(setting: &str) {
    let mut words = setting.split(' ');
    let family = words.next().unwrap_or_default();
    let threads = words.next().and_then(|v| v.parse().ok()).unwrap_or(1);
    let mut case = Case::large(LARGE_SIZE.0, LARGE_SIZE.1);
    if family == "binomial" {
        case.time = None;
    }
    let event = case.events();
    let outcome = match &case.time {
        Some(time) => Outcome::Survival { time, event: &event },
        None => Outcome::Binary(&case.y),
    };
    let before = status_kb("VmRSS");
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let pool = pool(threads);
    let (time, path) = timed(&pool, || penalized::fit(case.x.view(), &outcome, &Options::default()).expect("a path"));
    let peak = status_kb("VmHWM");
    let table_kb = (LARGE_SIZE.0 * LARGE_SIZE.1 * 8) as f64 / 1024.0;
    let kkt = if threads == 1 { Solutions::of(&case, &path, 0).kkt() } else { String::new() };
    let active = path.counts().last().copied().unwrap_or(0);
    println!(
        " ({active} features at the end) | {:.1} / {:.1} | {} | {kkt} | {:.2} | {:.2} |",
        time.wall,
        time.cpu,
        path.lambdas.len(),
        before / table_kb,
        peak / table_kb
    );
}

fn main() {
    if let Ok(setting) = std::env::var(LARGE) {
        return fit_large(&setting);
    }
    let folder = std::env::temp_dir().join(format!("metwatch-bench-cohort-{}", std::process::id()));
    let mut bench = Bench { peer: Peer::start(), folder, only: std::env::var("METWATCH_BENCH").ok() };
    println!("Seconds, wall / CPU; medians of 5 by turns.\n\n| row | R | metwatch |\n| --- | --- | --- |");
    bench.pipeline();
    bench.bootstrap();
    println!(
        "\nCross-validation on one thread: milliseconds, wall / CPU, medians of 5 by turns; KKT: largest (median). Last: \
         lambdas of glmnet and of metwatch, difference of the index of lambda.min, at thresh {TIGHT:e}.\n\n| cross-validation | glmnet, thresh \
         {DEFAULT:e} | KKT | glmnet, {TIGHT:e} | KKT | metwatch | KKT | CPU ratio | CPU ratio, tight | path |"
    );
    println!("|{}", " --- |".repeat(10));
    bench.cross_validation("binomial, cohort after filters", || Case::cohort(false, true));
    bench.cross_validation("binomial, cohort all stable", || Case::cohort(false, false));
    bench.cross_validation("cox, cohort after filters", || Case::cohort(true, true));
    bench.cross_validation("binomial, breast cancer", || Case::reference("lasso_binomial_wdbc"));
    bench.cross_validation("binomial, liver metastases", || Case::reference("lasso_binomial_crlm_radiomics"));
    bench.cross_validation("cox, colon cancer", || Case::reference("lasso_cox_colon"));
    println!(
        "\nPath of {} x {}: seconds, wall / CPU; memory in tables (before, with the data there; peak of the fit, the data \
         included).\n\n| path | seconds | lambdas | KKT | before | peak |\n|{}",
        LARGE_SIZE.0,
        LARGE_SIZE.1,
        " --- |".repeat(6)
    );
    bench.large("binomial");
    bench.large("cox");
    let _ = std::fs::remove_dir_all(&bench.folder);
}
