//! The diagnosis as text for the terminal: a mark and a fact a line, what to do, and the verdict
//! last.

use super::diagnosis::{Diagnosis, LeftOut};
use crate::cli::hub::HubReport;
use crate::cli::lengths;
use crate::config::Config;
use crate::inspect::{Style, duration, folded};

/// Column at which a fact begins, after its mark and name.
const FACT_AT: usize = 13;

/// Rows left out that are listed on the terminal; `--json` has them all.
const LEFT_OUT_SHOWN: usize = 10;

/// One fact per line; `verbose` adds the token lengths of every split.
pub(super) fn text(config: &Config, d: &Diagnosis, verbose: bool, style: &Style) -> String {
    let facts = [machine(config, d), model_and_tasks(d, verbose), speed(d)].concat();
    let mut lines: Vec<String> = facts.iter().map(|fact| folded(fact, FACT_AT, style)).collect();
    for (mark, texts) in [('!', &d.notes), ('✗', &d.problems), ('→', &d.suggestions)] {
        lines.extend(texts.iter().map(|text| folded(&format!("{mark} {text}"), 2, style)));
    }
    lines.push(folded(&verdict(config, d), 0, style));
    lines.join("\n") + "\n"
}

/// The last line: whether a run can start, and how long it would take.
fn verdict(config: &Config, d: &Diagnosis) -> String {
    let estimate = &d.estimate;
    let range = match duration(estimate.least_seconds) == duration(estimate.most_seconds) {
        true => String::new(),
        false => format!(" ({} to {})", duration(estimate.least_seconds), duration(estimate.most_seconds)),
    };
    let iterations = config.run.iterations;
    let time = match config.run.hours > 0.0 {
        true => duration(config.run.hours * 3600.0),
        false => format!("about {}{range} for {iterations} iterations", duration(d.estimated_seconds)),
    };
    match d.problems.len() {
        0 => format!("ready: `autodidact run` takes {time}"),
        1 => format!("not ready, for the reason marked ✗; a run would take {time}"),
        n => format!("not ready, for the {n} reasons marked ✗; a run would take {time}"),
    }
}

/// What is shown where the hub's models are not in the cache yet.
pub(super) fn not_cached(hub: &[HubReport]) -> String {
    let mut lines: Vec<String> = hub.iter().flat_map(HubReport::lines).collect();
    lines.push(
        "not measured: `autodidact run` or `autodidact generate` fetches it; then ask again".to_owned(),
    );
    lines.join("\n") + "\n"
}

/// A line that is in order, or not.
fn fact(holds: bool, name: &str, text: &str) -> String {
    format!("{} {name:<10} {text}", if holds { '✓' } else { '✗' })
}

fn machine(config: &Config, d: &Diagnosis) -> Vec<String> {
    let matmul = match d.matmul.parts() {
        Some(_) => format!(", products by tiles of {}", d.matmul.name()),
        None => String::new(),
    };
    vec![
        fact(true, "processor", &format!("{} threads ({}){matmul}", d.threads, d.cpu)),
        fact(
            d.memory_needed_mib <= d.memory_free_mib,
            "memory",
            &format!("{} of {} free", mebibytes(d.memory_needed_mib), mebibytes(d.memory_free_mib)),
        ),
        fact(
            d.disk_needed_mib <= d.disk_free_mib,
            "disk",
            &format!(
                "{} of {} free in {}",
                mebibytes(d.disk_needed_mib),
                mebibytes(d.disk_free_mib),
                config.run.dir
            ),
        ),
    ]
}

fn model_and_tasks(d: &Diagnosis, verbose: bool) -> Vec<String> {
    let trained = match d.trained_parameters == d.parameters {
        true => "all trained".to_owned(),
        false => format!("{} trained", count(d.trained_parameters)),
    };
    let asked = if d.chat { "through its chat template" } else { "as plain text" };
    let mut lines = vec![fact(
        true,
        "model",
        &format!(
            "{} · {} parameters, {trained} · context {} tokens · asked {asked}",
            d.model,
            count(d.parameters),
            d.context_max
        ),
    )];
    lines.extend(d.hub.iter().flat_map(HubReport::lines));
    let splits: Vec<String> =
        d.tokens.iter().map(|split| format!("{} {}", split.tasks, split.split)).collect();
    lines.push(fact(
        true,
        "tasks",
        &format!("{} ({}), prompts up to {} tokens", d.tasks, splits.join(", "), d.prompt_tokens_max),
    ));
    lines.extend(left_out(&d.left_out));
    if verbose {
        lines.extend(lengths::lines(&d.tokens));
    }
    lines
}

/// What the probe measured, and what of it is extrapolated.
fn speed(d: &Diagnosis) -> Vec<String> {
    let estimate = &d.estimate;
    let whole = |value: f64| format!("{value:.0}");
    vec![
        format!(
            "  speed      {} tokens/s drawn, {} read, {} trained{}",
            whole(d.generation_tokens_per_s),
            whole(estimate.reading_tokens_per_s),
            whole(d.training_tokens_per_s),
            if estimate.update_tokens_tried == 0 { " (computed, not tried)" } else { "" }
        ),
        format!(
            "  length     {:.0} tokens a trajectory, {:.0} to {:.0}: {} of {} ended while they were watched",
            estimate.tokens_mean,
            estimate.tokens_least,
            estimate.tokens_most,
            estimate.trajectories_ended,
            estimate.trajectories
        ),
    ]
    .into_iter()
    .chain(d.plan.as_ref().map(|plan| format!("  plan       {}", plan.line())))
    .collect()
}

fn left_out(left_out: &LeftOut) -> Vec<String> {
    let mut lines: Vec<String> = left_out.files.iter().map(|file| format!("  file       {file}")).collect();
    let kinds =
        [("odd", &left_out.odd), ("overlapping", &left_out.overlaps), ("repeated", &left_out.repeated)];
    for (what, rows) in kinds {
        if !rows.is_empty() {
            lines.push(format!("  left out   {} {what} rows, such as:", rows.len()));
            lines.extend(rows.iter().take(LEFT_OUT_SHOWN).map(|row| format!("             {row}")));
        }
    }
    if left_out.beyond_split_max > 0 {
        lines.push(format!("  left out   {} rows beyond tasks.split_max", left_out.beyond_split_max));
    }
    lines
}

/// `292 MiB`, `22.5 GiB`.
fn mebibytes(mib: u64) -> String {
    if mib < 4096 { format!("{mib} MiB") } else { format!("{:.1} GiB", mib as f64 / 1024.0) }
}

/// `800 k`, `135 M`, `1.2 B`: as models are called.
fn count(n: usize) -> String {
    match n as f64 {
        n if n < 1e4 => format!("{n:.0}"),
        n if n < 1e6 => format!("{:.0} k", n / 1e3),
        n if n < 1e9 => format!("{:.0} M", n / 1e6),
        n => format!("{:.1} B", n / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::super::diagnosis::tests::healthy;
    use super::*;

    fn shown(d: &Diagnosis) -> String {
        text(&Config::load(None, &[]).unwrap(), d, false, &Style::default())
    }

    #[test]
    fn a_healthy_machine_is_ready() {
        let text = shown(&healthy());
        assert!(text.contains("✓ memory     900 MiB of 900 MiB free\n"), "{text}");
        assert!(
            text.contains("· 1 M parameters, 500 trained · context 100 tokens · asked as plain text\n"),
            "{text}"
        );
        let last = "\nready: `autodidact run` takes about 1 min 01 s (50 s to 1 min 15 s) for 3 iterations\n";
        assert!(text.ends_with(last), "{text}");
        assert!(!text.contains('✗'), "{text}");
    }

    #[test]
    fn a_problem_is_marked_and_counted() {
        let sick = Diagnosis {
            problems: vec!["too little memory".into()],
            suggestions: vec!["more".into()],
            ..healthy()
        };
        let text = shown(&sick);
        assert!(
            text.contains("\n✗ too little memory\n→ more\nnot ready, for the reason marked ✗;"),
            "{text}"
        );
        let worse = Diagnosis { problems: vec!["a".into(), "b".into()], ..healthy() };
        assert!(shown(&worse).contains("not ready, for the 2 reasons"), "{}", shown(&worse));
    }

    #[test]
    fn many_rows_are_counted_and_some_are_shown() {
        let rows: Vec<String> = (0..12).map(|n| format!("row {n}")).collect();
        let lines = left_out(&LeftOut { repeated: rows, beyond_split_max: 3, ..LeftOut::default() });
        assert_eq!(lines[0], "  left out   12 repeated rows, such as:");
        assert_eq!(lines.len(), 1 + LEFT_OUT_SHOWN + 1);
        assert_eq!(lines[10], "             row 9");
        assert_eq!(lines[11], "  left out   3 rows beyond tasks.split_max");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!([292, 23_059].map(mebibytes), ["292 MiB", "22.5 GiB"]);
        assert_eq!([500, 800_512, 134_515_008, 1_240_000_000].map(count), ["500", "801 k", "135 M", "1.2 B"]);
    }
}
