//! What happened in a run: alarms and messages in order of time, then the phases that are complete.

use super::render::{Style, Tone, acts_on_terminals, duration, hung, line, visible};
use crate::report::{EventLine, EventsReport};

/// What happened as text: at most `limit` events, the latest ones, and every phase.
pub fn events(report: &EventsReport, limit: usize, style: &Style) -> String {
    let mut out = String::new();
    line!(out, "run {} · {} · {}", report.run, report.arm, report.state);
    let earlier = report.events.len().saturating_sub(limit);
    if earlier > 0 {
        let all = report.events.len();
        line!(out, "{earlier} earlier events are left out; --limit {all} shows all");
    }
    for event in &report.events[earlier..] {
        line!(out, "{}", drawn(event, style).trim_end());
    }
    if !report.phases.is_empty() {
        line!(out);
        line!(out, "{}", style.paint(Tone::Faint, " it  phase           time  what it came to"));
        for phase in &report.phases {
            let head =
                format!("{:>3}  {:<9}  {:>9}  ", phase.iteration, phase.phase, duration(phase.seconds));
            line!(out, "{}", hung(&head, head.chars().count(), &visible(&phase.note), style));
        }
    }
    out
}

/// `2026-11-21 22:00:00  alarm     iteration 1, critique · head_auc …`, the message in lines of its width.
fn drawn(event: &EventLine, style: &Style) -> String {
    let at: String = event.at.replacen('T', " ", 1).chars().take("2026-11-21 22:00:00".len()).collect();
    let tone = match event.kind.as_str() {
        "alarm" | "warning" | "stopped" => Tone::Warning,
        "error" => Tone::Bad,
        "done" => Tone::Good,
        _ => Tone::Plain,
    };
    let mut parts: Vec<String> = Vec::new();
    match (event.iteration, event.phase) {
        (Some(iteration), Some(phase)) => parts.push(format!("iteration {iteration}, {phase}")),
        (Some(iteration), None) => parts.push(format!("iteration {iteration}")),
        (None, _) => {}
    }
    if let (Some(rule), Some(action)) = (event.rule, event.action) {
        parts.push(format!("{rule} → {action}"));
    }
    if !event.message.is_empty() {
        parts.push(visible(&event.message));
    }
    let kind: String = event.kind.chars().filter(|c| !acts_on_terminals(*c)).collect();
    let head = format!("{}  {}  ", visible(&at), style.paint(tone, &format!("{kind:<7}")));
    let margin = at.chars().count() + 2 + kind.chars().count().max(7) + 2;
    hung(&head, margin, &parts.join(" · "), style)
}
