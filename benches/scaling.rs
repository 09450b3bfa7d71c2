//! How time grows with the work: `cargo bench --bench scaling [-- --svg FILE --json FILE]`.
//!
//! Sampling and training use the seed model's shape, on one thread and on all. A dashed line goes from
//! the origin to the last point: time in proportion to the work. Figures are the best of
//! [`REPETITIONS`]; all take a few minutes. For writing to a store, with trajectories of five thoughts,
//! a figure is the mean since the point before it.

#[path = "plot/mod.rs"]
mod plot;
#[path = "measure/results.rs"]
mod results;
#[path = "trees/mod.rs"]
mod trees;

use std::time::Instant;

use anyhow::{Context, Result};
use autodidact::config::Config;
use autodidact::domain::{Address, Generate, Purpose, Request, Sampling, Stops, Tree};
use autodidact::engine::native::Native;
use autodidact::model::{ModelConfig, Packed, Weights};
use autodidact::store::{TrajectoryFilter, Window};
use autodidact::train::{Group, Hyper, Trainer, example_from_solution};
use plot::{Line, Panel, svg};
use rayon::ThreadPoolBuilder;
use results::{Results, figure};
use serde_json::json;

const REPETITIONS: u32 = 3;
const VOCABULARY: u32 = 149;
const BATCH_TOKENS: usize = 65_536;
/// Tokens of a prompt and of its completion, where they don't vary.
const PROMPT: usize = 64;
const DRAWN: usize = 128;
/// Tokens of an update.
const UPDATE: usize = 8192;
/// Trajectories of a unit that is stored, and units between two points.
const UNIT: u32 = 1000;
const WINDOW: u32 = 20;

#[allow(unsafe_code, reason = "the first statement of the process prepares it")]
fn main() -> Result<()> {
    // SAFETY: the first statement of the process.
    unsafe { autodidact::cli::prepare() };
    let mut args = std::env::args().skip_while(|arg| arg != "--svg").skip(1);
    let all = rayon::current_num_threads();
    println!("{:<44} {:>12}  seconds at each", "", "at");
    let results = &mut Results::of("scaling");
    let panels = [
        drawing(results, "drawing: tasks, 8 trajectories each", &[40, 80, 120, 160, 200], all, |tasks| {
            (tasks, 8, DRAWN)
        })?,
        drawing(results, "drawing: trajectories of each of 40 tasks", &[8, 16, 24, 32, 40], all, |each| {
            (40, each, DRAWN)
        })?,
        drawing(
            results,
            "drawing: tokens of each of 160 trajectories",
            &[128, 256, 384, 512, 640],
            all,
            |drawn| (160, 1, drawn),
        )?,
        training(results, &[256, 512, 1024, 2048], all)?,
    ];
    let store =
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(storing(results))?;
    if let Some(path) = args.next() {
        let panels: Vec<Panel> = panels.into_iter().chain(store).collect();
        std::fs::write(&path, svg(&panels, 2)).with_context(|| format!("can't write {path}"))?;
    }
    results.write_if_asked()
}

/// The least of a few measurements.
fn best(mut seconds: impl FnMut() -> Result<f64>) -> Result<f64> {
    (0..REPETITIONS).try_fold(f64::INFINITY, |best, _| Ok(seconds()?.min(best)))
}

/// Runs `work(x)` for every x, on one thread and on all.
fn by_threads(
    results: &mut Results,
    title: &str,
    x_title: &str,
    xs: &[usize],
    threads: usize,
    work: impl Fn(usize) -> Result<f64> + Sync,
) -> Result<Panel> {
    let mut legend = Vec::new();
    let mut series = Vec::new();
    for threads in if threads > 1 { vec![threads, 1] } else { vec![1] } {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let points = xs.iter().map(|&x| Ok((x as f64, pool.install(|| best(|| work(x)))?)));
        let points: Vec<(f64, f64)> = points.collect::<Result<_>>()?;
        legend.push(format!("{threads} thread{}", if threads > 1 { "s" } else { "" }));
        report(results, &format!("{title}, {}", legend[legend.len() - 1]), &points);
        series.push(points);
    }
    if let [all, one] = &series[..] {
        let ratios = all.iter().zip(one).map(|((_, all), (_, one))| one / all);
        let (least, most) =
            ratios.fold((f64::INFINITY, 0f64), |(least, most), r| (least.min(r), most.max(r)));
        println!("{:<44} {threads} threads are {least:.2} to {most:.2} times as fast as one", "");
    }
    Ok(panel(title, x_title, legend, series, true))
}

/// Prints and records one series.
fn report(results: &mut Results, name: &str, points: &[(f64, f64)]) {
    let at: Vec<String> = points.iter().map(|(x, _)| x.to_string()).collect();
    let seconds: Vec<String> = points.iter().map(|(_, s)| format!("{s:.3}")).collect();
    println!("{name:<44} {:>12}  {}", at.join(" "), seconds.join(" "));
    for (x, s) in points {
        results.row("", &[("what", json!(name)), ("at", figure(*x)), ("seconds", figure(*s))]);
    }
}

/// Each series of (x, seconds) as a line, with a dashed one from the origin to its last point.
fn panel(
    title: &str,
    x_title: &str,
    legend: Vec<String>,
    series: Vec<Vec<(f64, f64)>>,
    is_proportional: bool,
) -> Panel {
    let most = series.iter().flatten().map(|(_, s)| *s).fold(0.0, f64::max);
    // A round number at the top, and four steps below it.
    let unit = 10f64.powf(most.log10().floor());
    let top = (most / unit / 2.0).ceil() * 2.0 * unit;
    let (factor, name) = if top < 1.0 { (1e3, "ms") } else { (1.0, "s") };
    let digits = (1.0 - (factor * top / 4.0).log10().floor()).max(0.0) as usize;
    let label = |s: f64| format!("{:.digits$} {name}", factor * s);
    let mut x_ticks = vec![0.0];
    x_ticks.extend(series[0].iter().map(|(x, _)| *x));
    let mut lines = Vec::new();
    for (entry, points) in series.into_iter().enumerate() {
        if is_proportional {
            let last = points[points.len() - 1];
            lines.push(Line { entry, points: vec![(0.0, 0.0), last], is_dashed: true });
        }
        lines.push(Line { entry, points, is_dashed: false });
    }
    Panel {
        title: title.into(),
        x_title: x_title.into(),
        x_ticks,
        y_ticks: (0..=4).map(|i| top * f64::from(i) / 4.0).map(|s| (s, label(s))).collect(),
        legend,
        lines,
    }
}

fn address(branches: &[u32]) -> Address {
    Address::new(0, Purpose::Rollout, 0, "bench", branches)
}

fn weights() -> Result<Weights> {
    Weights::init(ModelConfig::seed(VOCABULARY as usize), &address(&[]))
}

fn ids(n: u32, count: usize) -> Vec<u32> {
    (0..count as u32).map(|p| 3 + (p * p * 31 + p * 7 + n * 13 + n * p) % (VOCABULARY - 3)).collect()
}

/// `size` gives tasks, trajectories of each, and tokens of these.
fn drawing(
    results: &mut Results,
    title: &str,
    xs: &[usize],
    threads: usize,
    size: impl Fn(usize) -> (usize, usize, usize) + Sync,
) -> Result<Panel> {
    let engine = Native::new(Packed::new(&weights()?)?, BATCH_TOKENS)?.remembering(0);
    let x_title = title.split(": ").nth(1).unwrap_or_default();
    by_threads(results, title, x_title, xs, threads, |x| {
        let (tasks, each, tokens_max) = size(x);
        let one = |n: usize| Request {
            context_ids: ids((n / each) as u32, PROMPT),
            address: address(&[n as u32]),
            sampling: Sampling { temperature: 0.6, top_k: 0, top_p: 1.0, min_p: 0.0 },
            tokens_max,
            stop_at_boundary: false,
        };
        let requests: Vec<Request> = (0..tasks * each).map(one).collect();
        let start = Instant::now();
        let drawn = engine.generate(&requests, &Stops::default(), &|_| ())?;
        anyhow::ensure!(drawn.iter().all(|c| c.token_ids.len() == tokens_max), "a trajectory is too short");
        Ok(start.elapsed().as_secs_f64())
    })
}

/// One update of as many tokens, in sequences of different lengths.
fn training(results: &mut Results, xs: &[usize], threads: usize) -> Result<Panel> {
    let weights = weights()?;
    let title = format!("training: an update of {UPDATE} tokens");
    let panel = by_threads(results, &title, "tokens of each of its sequences", xs, threads, |length| {
        let sequence = |n: usize| {
            let ids = ids(n as u32, length);
            Group::from(example_from_solution(&ids[..length / 2], &ids[length / 2..], "bench"))
        };
        let examples: Vec<Group> = (0..UPDATE / length).map(sequence).collect();
        let batch: Vec<&Group> = examples.iter().collect();
        let mut trainer = Trainer::new(weights.clone(), Hyper::from(&Config::load(None, &[])?.train), 2)?;
        trainer.step(&batch)?;
        let start = Instant::now();
        anyhow::ensure!(trainer.step(&batch)?.tokens == UPDATE, "{length} tokens don't divide an update");
        Ok(start.elapsed().as_secs_f64())
    })?;
    Ok(Panel { lines: panel.lines.into_iter().filter(|line| !line.is_dashed).collect(), ..panel })
}

/// What writing a unit and finding things costs as a store grows.
async fn storing(results: &mut Results) -> Result<[Panel; 2]> {
    let folder = tempfile::tempdir()?;
    let (store, run) = trees::open(folder.path()).await;
    let path = store.reader().path().to_owned();
    let (mut writes, mut pages, mut searches, mut ones) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let filter = TrajectoryFilter { run: Some(run), iteration: Some(1), ..TrajectoryFilter::default() };
    let search = TrajectoryFilter { search: Some("Olaf 16 Pia".into()), ..TrajectoryFilter::default() };
    let mut written = 0.0;
    for unit in 0..5 * WINDOW {
        let tree = |n| trees::chain(1 + unit % 10, unit * UNIT + n, 5, 16);
        let unit_trees: Vec<Tree> = (0..UNIT).map(tree).collect();
        let start = Instant::now();
        store
            .write(run, 1 + unit % 10, async |unit| unit.put_trees(Purpose::Rollout, "p", &unit_trees).await)
            .await?;
        written += start.elapsed().as_secs_f64();
        if unit % WINDOW != WINDOW - 1 {
            continue;
        }
        let size = f64::from((unit + 1) * UNIT);
        writes.push((size, std::mem::take(&mut written) / f64::from(WINDOW)));
        let reader = store.reader();
        for page in [&filter, &search] {
            anyhow::ensure!(
                reader.trajectories(page, Window::first(50)).await?.rows.len() == 50,
                "a page isn't full"
            );
        }
        let mut best = [f64::INFINITY; 3];
        for _ in 0..5 * REPETITIONS {
            let start = Instant::now();
            reader.trajectories(&filter, Window::first(50)).await?;
            best[0] = start.elapsed().as_secs_f64().min(best[0]);
            let start = Instant::now();
            reader.trajectories(&search, Window::first(50)).await?;
            best[1] = start.elapsed().as_secs_f64().min(best[1]);
            let start = Instant::now();
            reader.trajectory(i64::from(unit * UNIT / 2)).await?;
            best[2] = start.elapsed().as_secs_f64().min(best[2]);
        }
        for (series, best) in [&mut pages, &mut searches, &mut ones].into_iter().zip(best) {
            series.push((size, best));
        }
    }
    let bytes = path.metadata()?.len();
    store.close().await?;
    report(results, "storing 1000 trajectories", &writes);
    report(results, "reading a page of 50 of an iteration", &pages);
    report(results, "a page of 50 that have three words", &searches);
    report(results, "reading one trajectory with everything", &ones);
    println!("{:<44} {:.1} MB for 100,000 trajectories", "", bytes as f64 / 1e6);
    let x_title = "trajectories in the store";
    let write =
        panel("store: writing 1000 trajectories", x_title, vec!["writing".into()], vec![writes], false);
    let legend = ["page of 50", "search", "one"].map(String::from).to_vec();
    Ok([write, panel("store: reading", x_title, legend, vec![pages, searches, ones], false)])
}
