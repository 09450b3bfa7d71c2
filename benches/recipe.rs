//! What the default run gains, over run seeds, control arms and seed models.
//!
//! `cargo bench --bench recipe -- --seeds 0,1,2 [--arms reward,random,easy-only,oracle]
//! [--models DIR,DIR] [--set key=value] [--svg FILE] [--json FILE]` runs the built binary in temporary
//! folders. Without `--seeds` it does nothing, so that a plain `cargo bench` stays short.

#[path = "plot/mod.rs"]
mod plot;
#[path = "measure/results.rs"]
mod results;

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use plot::{Line, Panel, svg};
use results::Results;
use serde_json::{Value, json};

struct Plan {
    seeds: Vec<String>,
    arms: Vec<String>,
    models: Vec<String>,
    settings: Vec<String>,
    svg: Option<String>,
}

const COLUMNS: [&str; 8] = [
    "seed model",
    "run seed",
    "arm",
    "held-out pass@1 per iteration, %",
    "gain, points [95 %]",
    "right among the kept, %",
    "critic AUC (anchor)",
    "seconds",
];

/// Held-out pass@1 per iteration, of one arm's runs.
type Curves = Vec<(String, Vec<Vec<f64>>)>;

fn main() -> Result<()> {
    let Some(plan) = plan() else {
        println!("recipe: skipped; give `-- --seeds 0,1,2` to run it (minutes per seed and arm)");
        return Ok(());
    };
    println!("{}", COLUMNS.join(" | "));
    let mut results = Results::of("recipe");
    let mut curves: Curves = plan.arms.iter().map(|arm| (arm.clone(), Vec::new())).collect();
    for model in &plan.models {
        for seed in &plan.seeds {
            let dir = tempfile::tempdir().expect("a temporary folder");
            for (arm, curves) in &mut curves {
                let report = run(&plan, model, seed, arm, dir.path());
                let row = row(model, seed, arm, &report);
                println!("{}", row.each_ref().map(Value::to_string).join(" | "));
                let row: Vec<_> = COLUMNS.into_iter().zip(row).collect();
                results.row("", &row);
                let iterations = report["iterations"].as_array().cloned().unwrap_or_default();
                curves.push(iterations.iter().filter_map(|i| i["heldout"]["pass1"].as_f64()).collect());
            }
        }
    }
    if let Some(path) = &plan.svg {
        std::fs::write(path, svg(&[panel(&curves)], 1)).expect("the picture can be written");
    }
    results.write_if_asked()
}

fn plan() -> Option<Plan> {
    let mut args = std::env::args().skip(1);
    let mut plan = Plan {
        seeds: Vec::new(),
        arms: ["reward", "random", "easy-only", "oracle"].map(String::from).to_vec(),
        models: vec!["embedded".into()],
        settings: Vec::new(),
        svg: None,
    };
    let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seeds" => plan.seeds = list(args.next()?),
            "--arms" => plan.arms = list(args.next()?),
            "--models" => plan.models = list(args.next()?),
            "--set" => plan.settings.push(args.next()?),
            "--svg" => plan.svg = args.next(),
            _ => {}
        }
    }
    (!plan.seeds.is_empty()).then_some(plan)
}

fn run(plan: &Plan, model: &str, seed: &str, arm: &str, dir: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autodidact"));
    command.args(["run", "--json"]).current_dir(dir);
    if arm != "reward" {
        command.args(["--control", arm]);
    }
    for setting in
        [&format!("run.seed={seed}"), &format!("model.path={model}")].into_iter().chain(&plan.settings)
    {
        command.args(["--set", setting]);
    }
    let output = command.output().expect("the binary starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout);
    let last = lines.lines().last().expect("a line for each event, the report last");
    serde_json::from_str::<Value>(last).expect("the line is JSON")["report"].take()
}

/// A value for each of [`COLUMNS`].
fn row(model: &str, seed: &str, arm: &str, report: &Value) -> [Value; 8] {
    let iterations = report["iterations"].as_array().cloned().unwrap_or_default();
    let each = |pick: &dyn Fn(&Value) -> Option<f64>, scale: f64, digits: usize| {
        let show = |v: &Value| pick(v).map(|x| format!("{:.digits$}", x * scale));
        iterations.iter().filter_map(show).collect::<Vec<_>>().join(" ")
    };
    let gain = &report["gain"];
    let points = |key: &str| gain[key].as_f64().unwrap_or(f64::NAN);
    let name = Path::new(model).file_name().map_or(model.into(), |n| n.to_string_lossy().into_owned());
    let gain = format!("{:+.1} [{:+.1}, {:+.1}]", points("points"), points("lo"), points("hi"));
    [
        json!(name),
        seed.parse::<u64>().map_or(json!(seed), |seed| json!(seed)),
        json!(arm),
        json!(each(&|v| v["heldout"]["pass1"].as_f64(), 100.0, 1)),
        json!(gain),
        json!(each(&|v| v["kept_precision"]["share"].as_f64(), 100.0, 0)),
        json!(each(&|v| v["critic"]["auc"].as_f64(), 1.0, 2)),
        json!(report["seconds"].as_f64().map(f64::round)),
    ]
}

/// One line per run, coloured by arm: iterations to the right, held-out pass@1 upwards.
fn panel(curves: &Curves) -> Panel {
    let last = curves.iter().flat_map(|(_, runs)| runs).map(Vec::len).max().unwrap_or(2).max(2) - 1;
    let line = |entry: usize, run: &Vec<f64>| Line {
        entry,
        points: run.iter().enumerate().map(|(i, v)| (i as f64, 100.0 * v)).collect(),
        is_dashed: false,
    };
    let line = &line;
    Panel {
        title: "held-out pass@1, one line per run".into(),
        x_title: "iteration".into(),
        x_ticks: (0..=last).map(|i| i as f64).collect(),
        y_ticks: (0..=4).map(|i| (25.0 * f64::from(i), format!("{} %", 25 * i))).collect(),
        legend: curves.iter().map(|(arm, _)| arm.clone()).collect(),
        lines: curves
            .iter()
            .enumerate()
            .flat_map(|(i, (_, runs))| runs.iter().map(move |run| line(i, run)))
            .collect(),
    }
}
