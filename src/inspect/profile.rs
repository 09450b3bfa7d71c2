//! Where the time went: a profile as tables, phases over all iterations and operators over all phases.

use comfy_table::Cell;

use super::render::{Style, Tone, cell, duration, line, or_dash, percent};
use crate::domain::Phase;
use crate::profile::{Machine, Operator, PhaseLine, Report, TokenCounts};

/// Operators that are named beside a phase.
const NAMED: usize = 3;
/// Share of the whole time from which a phase's part has a line of its own.
const SHOWN: f64 = 0.005;

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
        line!(out, "{}", style.paint(Tone::Warning, &remark));
    }
    phases(report, style, &mut out);
    operators(report, style, &mut out);
    let note = "share: of threads × time. cores: processor time over time. GFLOP/s: a phase's of all threads, an operator's \
                of one. GB: weights, keys and values read, some of them from caches.\nother: threads without work, and \
                what isn't measured apart. Phases under 0.5 % of the time are left out here";
    line!(out, "{}", style.paint(Tone::Faint, note));
    out
}

/// What a reader could mistake.
fn remarks(report: &Report) -> Vec<String> {
    let mut remarks = Vec::new();
    if report.resumed {
        remarks.push(
            "the run began in an earlier process, whose time is not in here: this is of the last process alone"
                .to_owned(),
        );
    }
    if !report.ended {
        remarks
            .push("the process is at work, or was killed: this is as of its last finished phase".to_owned());
    }
    remarks
}

/// Of all threads' time.
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

/// A phase's part over all iterations.
struct Sum {
    phase: String,
    part: String,
    seconds: f64,
    cpu_seconds: Option<f64>,
    other_seconds: f64,
    tokens: TokenCounts,
    flops: u64,
    least_seconds: Option<f64>,
    operators: Vec<(Operator, f64)>,
}

impl Sum {
    fn of(line: &PhaseLine) -> Self {
        Self {
            phase: line.phase.clone(),
            part: line.part.clone(),
            seconds: line.seconds,
            cpu_seconds: line.cpu_seconds,
            other_seconds: line.other_seconds,
            tokens: line.tokens,
            flops: line.flops,
            least_seconds: line.of_peak.map(|share| share * line.seconds),
            operators: line.operators.iter().map(|o| (o.operator, o.seconds)).collect(),
        }
    }

    fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.cpu_seconds = self.cpu_seconds.zip(other.cpu_seconds).map(|(a, b)| a + b);
        self.other_seconds += other.other_seconds;
        self.tokens = self.tokens.plus(other.tokens);
        self.flops += other.flops;
        self.least_seconds = match (self.least_seconds, other.least_seconds) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        for (operator, seconds) in other.operators {
            match self.operators.iter_mut().find(|(known, _)| *known == operator) {
                Some((_, sum)) => *sum += seconds,
                None => self.operators.push((operator, seconds)),
            }
        }
    }

    /// In the order in which phases come.
    fn rank(&self) -> usize {
        let phase = Phase::ALL.iter().position(|phase| phase.name() == self.phase);
        match phase {
            Some(place) => place + 1,
            None if self.phase == "close" => Phase::ALL.len() + 1,
            None => 0,
        }
    }

    fn cells(&self, machine: &Machine, wall: f64) -> Vec<Cell> {
        let mut most: Vec<(&str, f64)> = self.operators.iter().map(|(o, s)| (o.name(), *s)).collect();
        most.push(("other", self.other_seconds));
        most.sort_by(|a, b| b.1.total_cmp(&a.1));
        let named = most
            .iter()
            .take(NAMED)
            .map(|(name, seconds)| format!("{name} {:.0} %", 100.0 * share(*seconds, machine, self.seconds)));
        let tokens = self.tokens.sum();
        let rate = tokens as f64 / self.seconds.max(1e-9);
        let dashed = |known: bool, text: String| if known { text } else { "–".to_owned() };
        let name =
            if self.part.is_empty() { self.phase.clone() } else { format!("{} {}", self.phase, self.part) };
        [
            name,
            duration(self.seconds),
            percent(self.seconds / wall.max(1e-9)),
            or_dash(self.cpu_seconds, |cpu| format!("{:.1}", cpu / self.seconds.max(1e-9))),
            dashed(tokens > 0, tokens.to_string()),
            dashed(tokens > 0, format!("{rate:.0}")),
            dashed(self.flops > 0, giga(self.flops as f64 / self.seconds.max(1e-9))),
            or_dash(self.least_seconds, |least| percent(least / self.seconds.max(1e-9))),
            named.collect::<Vec<_>>().join(", "),
        ]
        .into_iter()
        .map(|text| cell(text, Tone::Plain))
        .collect()
    }
}

fn phases(report: &Report, style: &Style, out: &mut String) {
    let mut sums: Vec<Sum> = Vec::new();
    for phase in report.phases.iter().map(Sum::of) {
        match sums.iter_mut().find(|sum| (&sum.phase, &sum.part) == (&phase.phase, &phase.part)) {
            Some(sum) => sum.add(phase),
            None => sums.push(phase),
        }
    }
    sums.sort_by_key(Sum::rank);
    let header = [
        "phase",
        "time",
        "time %",
        "cores",
        "tokens",
        "tokens/s",
        "GFLOP/s",
        "of peak %",
        "most of it, by share",
    ];
    let mut table = style.table(&header, 1);
    if let Some(column) = table.column_mut(header.len() - 1) {
        column.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    for sum in sums.iter().filter(|sum| sum.seconds >= SHOWN * report.seconds) {
        table.add_row(sum.cells(&report.machine, report.seconds));
    }
    line!(out);
    line!(out, "{}", table.trim_fmt());
}

fn operators(report: &Report, style: &Style, out: &mut String) {
    let header = ["operator", "thread-s", "share %", "pieces", "GFLOP", "GFLOP/s", "of peak %", "GB", "GB/s"];
    let mut table = style.table(&header, 1);
    let dashed = |known: bool, text: String| if known { text } else { "–".to_owned() };
    for o in &report.operators {
        let (flops, bytes) = (o.flops > 0, o.bytes > 0);
        table.add_row([
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
    table.add_row(["other".to_owned(), format!("{:.2}", report.other_seconds), other]);
    line!(out);
    line!(out, "{}", table.trim_fmt());
}
