//! `docs/performance.md`: the benches' results, section by section, each with its machine and date; and
//! the table of the gain in the README.
//!
//! It copies figures and computes none.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::results::{Results, Table};
use super::{anchor, cell};

/// Name of a bench, heading of its section, and how its figures are to be read.
const SECTIONS: [(&str, &str, &str); 19] = [
    (
        "recipe",
        "The gain and its control arms",
        "Greedy pass@1 of each iteration's candidate on 600 held-out tasks of 14 to 19 hops. The gain is \
         that of the last promoted policy over the base, with the 95 % interval of a paired bootstrap. \
         The kept trajectories are compared with gold answers for this audit only.\n\n\
         ![Held-out pass@1 per iteration for the loop and its control arms](../assets/gain.svg)",
    ),
    (
        "nights",
        "Published models on published tasks",
        "Each file has the same hours, which the loop and its control arms share. `constant` is what the \
         commonest gold answer scores as the answer to everything. A gain is that of the last promoted policy \
         over the base on held-out tasks, with the 95 % interval of a paired bootstrap, and its parts: readable \
         answers (format), and the rest (substance). The table of votes compares what the loop kept with all \
         that it drew, by gold answers that only this audit reads.",
    ),
    ("critic", "What the critique head adds to the vote", ""),
    ("run", "The default run", "`autodidact run` in an empty folder."),
    (
        "profile",
        "Where the time of the default run goes",
        "[How to read a profile](inspector.md#where-the-time-goes).",
    ),
    ("generate", "Sampling", "The seed model's shape. A ratio compares with its baseline in the same run."),
    ("train", "Training", "The seed model's shape. A ratio compares with its baseline in the same run."),
    ("lora", "Training an adapter", "Rank 16 on every linear layer, with random token ids."),
    ("ops", "Operators", "The fused operators, and the same composed of candle's, in the same run."),
    ("store", "The store", "Each figure stands next to its baseline in the same run."),
    (
        "scaling",
        "How time grows",
        "![Time against tasks, trajectories, lengths and the size of the store](../assets/scaling.svg)",
    ),
    (
        "peers/generate",
        "Sampling compared with transformers and llama.cpp",
        "The same weights and the same prompts. The script's header states how each program is set up.",
    ),
    (
        "peers/lora",
        "Training an adapter compared with PEFT",
        "The same checkpoint, rank 16 on every linear layer.",
    ),
    ("peers/train", "Full fine-tuning compared with PyTorch", ""),
    ("peers/loop", "The whole loop compared with PyTorch", "A PyTorch reference of the same recipe."),
    ("memory", "Memory of full fine-tuning", ""),
    ("gsm8k", "An iteration of GSM8K", ""),
    ("agreement", "Agreement with other programs", ""),
    ("build", "Building and checking", "What a developer waits for."),
];

const HEADER: &str = "# Performance

<!-- Written by `cargo bench --bench pages` from docs/performance/*.json. Don't edit it here. -->

Everything that was measured is on this page, and nothing else is. Each section names the machine, the date and
the command. *Not recorded* means that the figure was kept without them.

To measure on your machine, pass `--json FILE` to a bench; `cargo bench --bench pages` then renders this page
from the files in `docs/performance/`, one for each machine and bench:

```sh
cargo bench --bench generate -- --json docs/performance/generate-laptop.json
cargo bench --bench pages
```
";

/// The whole page.
pub(super) fn page(results: &[Results]) -> Result<String> {
    let known = |r: &&Results| !SECTIONS.iter().any(|(bench, ..)| *bench == r.bench);
    if let Some(stranger) = results.iter().find(known) {
        bail!("no section for the bench `{}`: add it to SECTIONS in benches/pages", stranger.bench);
    }
    let mut out = HEADER.to_owned() + "\n";
    let sections = SECTIONS.iter().map(|(bench, title, text)| {
        let of_bench: Vec<&Results> = results.iter().filter(|r| r.bench == *bench).collect();
        (title, text, of_bench)
    });
    let sections: Vec<_> = sections.filter(|(_, _, results)| !results.is_empty()).collect();
    for (title, ..) in &sections {
        writeln!(out, "- [{title}](#{})", anchor(title))?;
    }
    for (title, text, results) in sections {
        write!(out, "\n## {title}\n")?;
        if !text.is_empty() {
            write!(out, "\n{text}\n")?;
        }
        for results in results {
            document(&mut out, results)?;
        }
    }
    Ok(out)
}

fn document(out: &mut String, results: &Results) -> Result<()> {
    let or_not = |text: &Option<String>| text.clone().unwrap_or_else(|| "not recorded".to_owned());
    write!(out, "\n*Machine: {}. Date: {}.*", or_not(&results.machine), or_not(&results.date))?;
    match &results.command {
        Some(command) => writeln!(out, " `{command}`")?,
        None => out.push('\n'),
    }
    for part in &results.tables {
        out.push('\n');
        if !part.title.is_empty() {
            write!(out, "{}:\n\n", part.title)?;
        }
        table(out, part)?;
    }
    for note in &results.notes {
        write!(out, "\n{note}\n")?;
    }
    Ok(())
}

fn table(out: &mut String, table: &Table) -> Result<()> {
    let is_number = |column: usize| {
        let mut values = table.rows.iter().map(|row| &row[column]).filter(|v| !v.is_null()).peekable();
        values.peek().is_some() && values.all(Value::is_number)
    };
    let rules: Vec<&str> =
        (0..table.columns.len()).map(|c| if is_number(c) { "--:" } else { "---" }).collect();
    let names: Vec<String> = table.columns.iter().map(|name| cell(name)).collect();
    writeln!(out, "| {} |\n|{}|", names.join(" | "), rules.join("|"))?;
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(shown).collect();
        writeln!(out, "| {} |", cells.join(" | "))?;
    }
    Ok(())
}

/// A text as it is, a number with its thousands apart, nothing for null.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => cell(text),
        Value::Number(number) => {
            let text = number.to_string();
            // Large numbers are rounded to whole ones; in small ones a zero is a digit that was measured.
            let is_large = number.as_f64().is_some_and(|number| number.abs() >= 1000.0);
            let text = text.strip_suffix(".0").filter(|_| is_large).unwrap_or(&text);
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let dot = if fraction.is_empty() { "" } else { "." };
            format!("{}{dot}{fraction}", grouped(whole))
        }
        other => cell(&other.to_string()),
    }
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut out = String::from(sign);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What each arm trains on.
const ARMS: [(&str, &str); 4] = [
    ("reward", "the best by reward: the loop"),
    ("random", "as many, chosen at random"),
    ("easy-only", "the labelled easy tasks only"),
    ("oracle", "the right ones, by gold answers"),
];
const GAIN_FROM: &str = "<!-- gain: written by `cargo bench --bench pages` -->\n";
const GAIN_TO: &str = "<!-- /gain -->\n";

/// The README with the table of the gain as it was measured last: the embedded model, run seed 0.
pub(super) fn with_gain(readme: &str, results: &[Results]) -> Result<String> {
    let marks = readme.split_once(GAIN_FROM).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(GAIN_TO)?;
        Some((before, after))
    });
    let (before, after) = marks.context("README.md has no place for the table of the gain")?;
    let recipe = results.iter().rfind(|r| r.bench == "recipe");
    let table = recipe.and_then(|r| r.tables.first()).context("no results of the bench `recipe`")?;
    let of_arm = |arm: &str| {
        let is_it = |row: &&Vec<Value>| row[0] == "embedded" && row[1] == 0 && row[2] == arm;
        table.rows.iter().find(is_it).with_context(|| format!("no results of the arm {arm}"))
    };
    let mut out = format!("{before}{GAIN_FROM}");
    writeln!(out, "| arm | trains on | {} | {} |\n|---|---|---|---|", table.columns[3], table.columns[4])?;
    for (arm, what) in ARMS {
        let row = of_arm(arm)?;
        writeln!(out, "| {arm} | {what} | {} | {} |", shown(&row[3]), shown(&row[4]))?;
    }
    Ok(out + GAIN_TO + after)
}
