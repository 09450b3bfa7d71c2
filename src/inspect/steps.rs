//! The optimizer updates of a run or of an iteration.

use super::grid::{Grid, left, right};
use super::render::{Style, line, whole};
use crate::report::{StepsReport, UpdateLine};

/// The updates as text: at most about `limit` lines, evenly spread over each iteration.
pub fn steps(report: &StepsReport, limit: usize, style: &Style) -> String {
    let mut out = String::new();
    if report.steps.is_empty() {
        line!(out, "run {}: no updates", report.run);
        return out;
    }
    let every = report.steps.len().div_ceil(limit.max(1));
    let mut shown: Vec<&UpdateLine> = Vec::new();
    for iteration in report.steps.chunk_by(|a, b| a.iteration == b.iteration) {
        let last = iteration.len() - 1;
        let spread = iteration.iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last);
        shown.extend(spread.map(|(_, step)| step));
    }
    let has_parts = shown.iter().any(|step| !step.losses.is_empty());
    let parts = has_parts.then(|| left("parts of the loss").rank(4));
    let columns = [right("it"), right("step"), right("loss")].into_iter().chain(parts);
    let mut grid = Grid::new(columns.chain([
        right("learning rate"),
        right("gradient norm").rank(1),
        right("tokens").rank(2),
        right("trained on"),
        right("kept"),
        right("replayed").rank(3),
    ]));
    for step in &shown {
        let head = [step.iteration.to_string(), step.step.to_string(), figure(step.loss)];
        let parts = has_parts.then(|| parts_of(step));
        grid.row(head.into_iter().chain(parts).chain([
            figure(step.learning_rate),
            figure(step.grad_norm),
            whole(step.tokens),
            whole(step.target_tokens),
            step.trajectories.len().to_string(),
            step.replayed.len().to_string(),
        ]));
    }
    out += &grid.draw(style);
    line!(out, "it: iteration · loss in nats · trained on: tokens · kept, replayed: examples");
    let all = report.steps.len();
    match shown.len() < all {
        true => line!(out, "{} of {all} updates, evenly spread; --limit {all} shows all", shown.len()),
        false => line!(out, "{all} {}", if all == 1 { "update" } else { "updates" }),
    }
    out
}

/// `kl 0.0500, sft 0.2000`
fn parts_of(step: &UpdateLine) -> String {
    let part = |(name, value): (&String, &serde_json::Value)| {
        format!("{name} {}", figure(value.as_f64().unwrap_or(f64::NAN)))
    };
    step.losses.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// A figure of any size with four digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (0.001..10_000.0).contains(&size) => {
            let before = size.log10().floor().max(0.0) as usize;
            format!("{value:.*}", 4usize.saturating_sub(before).max(1))
        }
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn figures_read_well() {
        let shown = [0.0, 0.5, 0.00123, 12.3456, 1234.5, 0.0000068, 123456.0].map(figure);
        assert_eq!(shown, ["0", "0.5000", "0.0012", "12.346", "1234.5", "6.80e-6", "1.23e5"]);
    }
}
