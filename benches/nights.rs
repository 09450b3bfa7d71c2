//! What a night gives: published models on published task files, the loop and its control arms, each
//! for the same hours.
//!
//! `cargo bench --bench nights -- --models FILE,FILE --tasks FILE,FILE [--hours 0.1]
//! [--arms random,format,oracle] [--set key=value] [--json FILE]` runs the built binary in temporary
//! folders, one night after the other. Without `--models` it does nothing, so that a plain
//! `cargo bench` stays short. The hours are those of a file: the loop and its arms share them.

#[path = "measure/results.rs"]
mod results;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use results::Results;
use serde_json::{Value, json};

struct Plan {
    models: Vec<String>,
    tasks: Vec<String>,
    hours: String,
    arms: String,
    settings: Vec<String>,
}

fn main() -> Result<()> {
    let Some(plan) = plan() else {
        println!("nights: skipped; give `-- --models FILE,FILE --tasks FILE,FILE --hours H` to run it");
        return Ok(());
    };
    let mut results = Results::of("nights");
    for model in &plan.models {
        for tasks in &plan.tasks {
            for (title, row) in night(&plan, model, tasks)? {
                println!(
                    "{}",
                    row.iter().map(|(_, value)| value.to_string()).collect::<Vec<_>>().join(" | ")
                );
                results.row(title, &row);
            }
            // A long bench that is interrupted leaves what it has.
            results.write_if_asked()?;
        }
    }
    Ok(())
}

fn plan() -> Option<Plan> {
    let mut args = std::env::args().skip(1);
    let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut plan = Plan {
        models: Vec::new(),
        tasks: Vec::new(),
        hours: "0.1".into(),
        arms: "random,format,oracle".into(),
        settings: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--models" => plan.models = list(args.next()?),
            "--tasks" => plan.tasks = list(args.next()?),
            "--hours" => plan.hours = args.next()?,
            "--arms" => plan.arms = args.next()?,
            "--set" => plan.settings.push(args.next()?),
            _ => {}
        }
    }
    (!plan.models.is_empty() && !plan.tasks.is_empty()).then_some(plan)
}

type Row = Vec<(&'static str, Value)>;

/// Runs a model on a file; the rows of its arms, and of what its votes kept.
fn night(plan: &Plan, model: &str, tasks: &str) -> Result<Vec<(&'static str, Row)>> {
    let dir = tempfile::tempdir().context("no temporary folder")?;
    let mut settings = vec![
        format!("model.path={model}"),
        "tasks.kind=file".into(),
        format!("tasks.file={tasks}"),
        "train.method=lora".into(),
    ];
    settings.extend(plan.settings.iter().cloned());
    let ask = |command: &[&str]| -> Result<Value> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_autodidact"));
        process.args(command).arg("--json").current_dir(dir.path());
        for setting in &settings {
            process.args(["--set", setting]);
        }
        let output = process.output().context("the binary doesn't start")?;
        // 3: the hours were too few for an iteration. The base is measured then.
        let ended = matches!(output.status.code(), Some(0 | 3));
        ensure!(ended, "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = lines.lines().last().unwrap_or_default();
        serde_json::from_str(&lines).or_else(|_| serde_json::from_str(last)).context("no JSON")
    };
    let mut run = vec!["run", "--hours", &plan.hours];
    if !plan.arms.is_empty() {
        run.extend(["--control", &plan.arms]);
    }
    ask(&run)?;
    let name = |path: &str| Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let runs = ask(&["inspect", "runs"])?;
    let mut rows = Vec::new();
    for line in runs["runs"].as_array().context("no runs")? {
        let id = line["run"].to_string();
        let report = ask(&["inspect", "run", "--run", &id])?;
        let first = [("model", json!(name(model))), ("tasks", json!(name(tasks)))];
        rows.push(("gains", first.iter().cloned().chain(gains(&report)).collect()));
        if line["arm"] == "reward" {
            rows.push(("votes", first.iter().cloned().chain(votes(&ask, &report)?).collect()));
        }
    }
    Ok(rows)
}

/// Base, constant answer, end, and the parts of the gain.
fn gains(report: &Value) -> Row {
    let iterations = report["iterations"].as_array().cloned().unwrap_or_default();
    let base = iterations.first().map(|line| line["heldout"].clone()).unwrap_or_default();
    let last = iterations.iter().rev().find(|line| line["promoted"] == json!(true));
    let end = last.map_or(base.clone(), |line| line["heldout"].clone());
    let percent = |value: &Value| value.as_f64().map_or(Value::Null, |value| json!(round(100.0 * value)));
    let interval = |part: &Value| match part["points"].as_f64() {
        Some(points) => {
            let bound = |key: &str| part[key].as_f64().unwrap_or(f64::NAN);
            json!(format!("{points:+.1} [{:+.1}, {:+.1}]", bound("lo"), bound("hi")))
        }
        None => Value::Null,
    };
    let gain = &report["gain"];
    vec![
        ("arm", report["arm"].clone()),
        ("iterations", json!(iterations.len().saturating_sub(1))),
        ("base, %", percent(&base["pass1"])),
        ("constant, %", percent(&base["constant"]["pass1"])),
        ("end, %", percent(&end["pass1"])),
        (
            "readable, % before → after",
            json!(format!("{} → {}", percent(&base["readable"]), percent(&end["readable"]))),
        ),
        ("gain, points", interval(gain)),
        ("of it format", interval(&gain["format"])),
        ("of it substance", interval(&gain["substance"])),
        ("minutes", json!(round(report["seconds"].as_f64().unwrap_or(0.0) / 60.0))),
    ]
}

/// What was kept, next to what was drawn: over all iterations of the loop proper.
fn votes(ask: &dyn Fn(&[&str]) -> Result<Value>, report: &Value) -> Result<Row> {
    let query = "SELECT count(*) AS drawn, avg(\"right\") AS base, sum(kept) AS kept, \
                 avg(CASE WHEN kept THEN \"right\" END) AS precision FROM trajectory_text \
                 WHERE run = 1 AND purpose = 'rollout'";
    let answer = ask(&["inspect", "sql", query])?;
    let row = answer[0].clone();
    let cell = |name: &str| row[name].as_f64();
    let percent = |name: &str| cell(name).map_or(Value::Null, |value| json!(round(100.0 * value)));
    let ratio =
        cell("precision").zip(cell("base")).filter(|(_, base)| *base > 0.0).map(|(kept, base)| kept / base);
    let trained =
        report["iterations"].as_array().into_iter().flatten().filter(|line| line["kept"] != json!(0));
    Ok(vec![
        ("drawn", row["drawn"].clone()),
        ("right, %", percent("base")),
        ("kept", row["kept"].clone()),
        ("right among the kept, %", percent("precision")),
        ("ratio", ratio.map_or(Value::Null, |ratio| json!(round(ratio)))),
        ("iterations that trained", json!(trained.count())),
    ])
}

fn round(value: f64) -> f64 {
    (10.0 * value).round() / 10.0
}
