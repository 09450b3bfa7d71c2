//! The diagnosis as text for the terminal.

use super::diagnosis::{Diagnosis, LeftOut};
use crate::cli::hub::HubReport;
use crate::cli::lengths;
use crate::config::Config;

/// Rows left out that are listed on the terminal; `--json` has them all.
const LEFT_OUT_SHOWN: usize = 10;

/// One fact per line; the last lines are the problems, or that there are none.
pub(super) fn text(config: &Config, d: &Diagnosis) -> String {
    let mut lines = machine(config, d);
    lines.extend(model_and_tasks(d));
    lines.push(format!("generation   {:.0} tokens/s", d.generation_tokens_per_s));
    lines.push(format!("training     {:.0} tokens/s", d.training_tokens_per_s));
    let (seconds, iterations) = (d.estimated_seconds, config.run.iterations);
    lines.push(format!("estimated    {seconds:.0} s for {iterations} iterations"));
    lines.extend(d.notes.iter().map(|note| format!("note         {note}")));
    lines.extend(d.problems.iter().map(|problem| format!("problem: {problem}")));
    if d.problems.is_empty() {
        lines.push("ready: `autodidact run`".to_owned());
    }
    lines.join("\n") + "\n"
}

/// What is shown where the hub's models are not in the cache yet.
pub(super) fn not_cached(hub: &[HubReport]) -> String {
    let mut lines: Vec<String> = hub.iter().flat_map(HubReport::lines).collect();
    lines.push(
        "not measured: `autodidact run` or `autodidact generate` fetches it; then ask again".to_owned(),
    );
    lines.join("\n") + "\n"
}

fn machine(config: &Config, d: &Diagnosis) -> Vec<String> {
    let mut lines = vec![format!("threads      {} ({})", d.threads, d.cpu)];
    if d.matmul.parts().is_some() {
        lines.push(format!("matmul       {}, by tiles of bf16 (model.matmul)", d.matmul.name()));
    }
    lines.push(format!(
        "memory       about {} MiB needed, {} MiB free",
        d.memory_needed_mib, d.memory_free_mib
    ));
    lines.push(format!(
        "disk         about {} MiB needed, {} MiB free in {}",
        d.disk_needed_mib, d.disk_free_mib, config.run.dir
    ));
    lines
}

fn model_and_tasks(d: &Diagnosis) -> Vec<String> {
    let mut lines = vec![format!(
        "model        {} ({} parameters, {} trained, context {} tokens)",
        d.model, d.parameters, d.trained_parameters, d.context_max
    )];
    lines.extend(d.hub.iter().flat_map(HubReport::lines));
    let asked = if d.chat { "through its chat template" } else { "as plain text" };
    lines.push(format!("asked        {asked}"));
    lines.push(format!("tasks        {} (longest prompt {} tokens)", d.tasks, d.prompt_tokens_max));
    lines.extend(left_out(&d.left_out));
    lines.extend(lengths::lines(&d.tokens));
    lines
}

fn left_out(left_out: &LeftOut) -> Vec<String> {
    let mut lines: Vec<String> = left_out.files.iter().map(|file| format!("file         {file}")).collect();
    let kinds =
        [("odd", &left_out.odd), ("overlapping", &left_out.overlaps), ("repeated", &left_out.repeated)];
    for (what, rows) in kinds {
        if !rows.is_empty() {
            lines.push(format!("left out     {} {what} rows, such as:", rows.len()));
            lines.extend(rows.iter().take(LEFT_OUT_SHOWN).map(|row| format!("             {row}")));
        }
    }
    if left_out.beyond_split_max > 0 {
        lines.push(format!("left out     {} rows beyond tasks.split_max", left_out.beyond_split_max));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::diagnosis::tests::healthy;
    use super::*;

    fn shown(d: &Diagnosis) -> String {
        text(&Config::load(None, &[]).unwrap(), d)
    }

    #[test]
    fn a_healthy_machine_is_ready() {
        let text = shown(&healthy());
        assert!(text.contains("memory       about 900 MiB needed, 900 MiB free\n"), "{text}");
        assert!(text.contains("(1000000 parameters, 500 trained, context 100 tokens)\n"), "{text}");
        assert!(text.contains("asked        as plain text\n"), "{text}");
        assert!(text.ends_with("\nready: `autodidact run`\n"), "{text}");
    }

    #[test]
    fn a_problem_is_the_last_word() {
        let sick = Diagnosis { problems: vec!["too little memory".into()], ..healthy() };
        let text = shown(&sick);
        assert!(text.ends_with("\nproblem: too little memory\n") && !text.contains("ready"), "{text}");
    }

    #[test]
    fn many_rows_are_counted_and_some_are_shown() {
        let rows: Vec<String> = (0..12).map(|n| format!("row {n}")).collect();
        let lines = left_out(&LeftOut { repeated: rows, beyond_split_max: 3, ..LeftOut::default() });
        assert_eq!(lines[0], "left out     12 repeated rows, such as:");
        assert_eq!(lines.len(), 1 + LEFT_OUT_SHOWN + 1);
        assert_eq!(lines[10], "             row 9");
        assert_eq!(lines[11], "left out     3 rows beyond tasks.split_max");
    }
}
