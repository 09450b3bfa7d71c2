//! Where the time went: a profile as two tables, of phases over all iterations and of operators
//! over all phases.

use comfy_table::Cell;

use super::grid::{Grid, left, right};
use super::render::{Style, Tone, cell, duration, line, or_dash, percent};
use crate::profile::{Machine, Report};
use crate::report::{PhaseSum, phase_sums};

/// Operators that are named in a phase's row.
const NAMED: usize = 3;
/// Least share of the whole time that gets a row.
const SHOWN: f64 = 0.005;

/// What the columns mean.
const NOTE: &str = "share: of threads × time. cores: processor time over time. GFLOP/s: a phase's of all threads, \
                    an operator's of one. GB: weights, keys and values read, some of them from caches.\n\
                    other: threads without work, and code that isn't measured separately. Phases under 0.5 % of the \
                    time are left out here";

/// A profile as text for a terminal or a file.
pub fn profile(report: &Report, style: &Style) -> String {
    let mut out = String::new();
    let machine = &report.machine;
    let other = share(report.other_seconds, machine, report.seconds);
    line!(
        out,
        "profile · {} × {} threads ({}) · {} % in operators, {} % other · {} GFLOP/s, {} % of the measured peak",
        duration(report.seconds),
        machine.threads,
        machine.instruction_set,
        percent(1.0 - other),
        percent(other),
        giga(report.flops as f64 / report.seconds.max(1e-9)),
        or_dash(report.of_peak, percent)
    );
    for peak in &machine.peaks {
        line!(
            out,
            "peak: {} GFLOP/s of {} ({} on one thread)",
            giga(peak.all_threads_flops_per_s),
            peak.unit,
            giga(peak.one_thread_flops_per_s)
        );
    }
    let memory = machine.memory;
    let (all, one) = (giga(memory.all_threads_bytes_per_s), giga(memory.one_thread_bytes_per_s));
    line!(out, "peak: {all} GB/s of memory ({one} on one thread)");
    for remark in remarks(report) {
        line!(out, "{}", style.paint(Tone::Warning, remark));
    }
    phases(report, style, &mut out);
    operators(report, style, &mut out);
    line!(out, "{}", style.paint(Tone::Faint, NOTE));
    out
}

/// What a reader could misread.
fn remarks(report: &Report) -> Vec<&'static str> {
    let mut remarks = Vec::new();
    if report.resumed {
        remarks.push(
            "the run began in an earlier process, whose time is not in here: these figures are of the last process \
             only",
        );
    }
    if !report.ended {
        remarks.push(
            "the process is still running, or was killed: these figures end with its last finished phase",
        );
    }
    remarks
}

/// Share of all threads' time.
fn share(seconds: f64, machine: &Machine, wall: f64) -> f64 {
    if wall > 0.0 { seconds / (wall * machine.threads as f64) } else { 0.0 }
}

/// Billions, with three digits.
fn giga(n: f64) -> String {
    let n = n / 1e9;
    match n {
        100.0.. => format!("{n:.0}"),
        10.0..100.0 => format!("{n:.1}"),
        _ => format!("{n:.2}"),
    }
}

/// A row of the table of phases.
fn phase_cells(sum: &PhaseSum, machine: &Machine, wall: f64) -> Vec<Cell> {
    let tokens = sum.tokens.sum();
    let seconds = sum.seconds.max(1e-9);
    let dashed = |known: bool, text: String| if known { text } else { "–".to_owned() };
    let name = match sum.part.is_empty() {
        true => sum.phase.clone(),
        false => format!("{} {}", sum.phase, sum.part),
    };
    [
        name,
        duration(sum.seconds),
        percent(sum.seconds / wall.max(1e-9)),
        or_dash(sum.cpu_seconds, |cpu| format!("{:.1}", cpu / seconds)),
        dashed(tokens > 0, tokens.to_string()),
        dashed(tokens > 0, format!("{:.0}", tokens as f64 / seconds)),
        dashed(sum.flops > 0, giga(sum.flops as f64 / seconds)),
        or_dash(sum.seconds_at_peak, |at_peak| percent(at_peak / seconds)),
        longest(sum, machine),
    ]
    .into_iter()
    .map(|text| cell(text, Tone::Plain))
    .collect()
}

/// The operators that most of the phase's time went to, with their shares.
fn longest(sum: &PhaseSum, machine: &Machine) -> String {
    let mut times: Vec<(&str, f64)> = sum.operators.iter().map(|(o, s)| (o.name(), *s)).collect();
    times.push(("other", sum.other_seconds));
    times.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named = times.iter().take(NAMED).map(|(name, seconds)| {
        let share = share(*seconds, machine, sum.seconds);
        format!("{name} {:.0} %", 100.0 * share)
    });
    named.collect::<Vec<_>>().join(", ")
}

fn phases(report: &Report, style: &Style, out: &mut String) {
    let mut grid = Grid::new([
        left("phase"),
        right("time"),
        right("time %"),
        right("cores").rank(3),
        right("tokens").rank(2),
        right("tokens/s"),
        right("GFLOP/s").rank(1),
        right("of peak %"),
        left("most of it, by share").cut_to(20).rank(4),
    ]);
    for sum in phase_sums(report).iter().filter(|sum| sum.seconds >= SHOWN * report.seconds) {
        grid.row(phase_cells(sum, &report.machine, report.seconds));
    }
    line!(out);
    out.push_str(&grid.draw(style));
}

fn operators(report: &Report, style: &Style, out: &mut String) {
    let mut grid = Grid::new([
        left("operator"),
        right("thread-s"),
        right("share %"),
        right("pieces").rank(3),
        right("GFLOP").rank(2),
        right("GFLOP/s"),
        right("of peak %"),
        right("GB").rank(2),
        right("GB/s").rank(1),
    ]);
    let dashed = |known: bool, text: String| if known { text } else { "–".to_owned() };
    for o in &report.operators {
        let (flops, bytes) = (o.flops > 0, o.bytes > 0);
        grid.row([
            o.operator.name().to_owned(),
            format!("{:.2}", o.seconds),
            percent(o.share),
            o.pieces.to_string(),
            dashed(flops, giga(o.flops as f64)),
            dashed(flops, giga(o.flops_per_s)),
            or_dash(o.of_peak, percent),
            dashed(bytes, giga(o.bytes as f64)),
            dashed(bytes, giga(o.bytes_per_s)),
        ]);
    }
    let other = percent(share(report.other_seconds, &report.machine, report.seconds));
    let none = std::iter::repeat_n(String::new(), 6);
    grid.row(["other".to_owned(), format!("{:.2}", report.other_seconds), other].into_iter().chain(none));
    line!(out);
    out.push_str(&grid.draw(style));
}
