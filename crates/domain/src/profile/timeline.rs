//! The totals cut into phases and their parts, as the loop tells of them.

use super::record::{self, Totals};

/// What the counters and clocks said at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Moment {
    pub ns: u64,
    /// Processor time of the whole process; `None` where the system doesn't report it.
    pub cpu_ns: Option<u64>,
    pub totals: Totals,
}

impl Moment {
    fn now(cpu_ns: Option<u64>) -> Self {
        Self { ns: record::now(), cpu_ns, totals: record::totals() }
    }
}

/// A phase's part, or a whole phase that has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// `None` before the first iteration and after the last.
    pub iteration: Option<u32>,
    pub phase: String,
    /// Empty for what a phase does before its first part begins.
    pub part: String,
    pub ns: u64,
    pub cpu_ns: Option<u64>,
    pub totals: Totals,
}

/// Everything from its start to the last cut, without gaps.
#[derive(Debug)]
pub struct Timeline {
    last: Moment,
    part: String,
    /// The open phase's.
    pending: Vec<Segment>,
    segments: Vec<Segment>,
}

impl Timeline {
    /// Begins now. `cpu_ns` is the process's processor time, here and below.
    pub fn start(cpu_ns: Option<u64>) -> Self {
        Self::from(Moment::now(cpu_ns))
    }

    pub(super) fn from(start: Moment) -> Self {
        Self { last: start, part: String::new(), pending: Vec::new(), segments: Vec::new() }
    }

    /// Whether the open phase does `part` already.
    pub fn is_at(&self, part: &str) -> bool {
        self.part == part
    }

    /// From now on the open phase does `part`.
    pub fn part(&mut self, part: &str, cpu_ns: Option<u64>) {
        self.cut(part, Moment::now(cpu_ns));
    }

    /// The open phase ends, and was this one.
    pub fn phase(&mut self, iteration: Option<u32>, phase: &str, cpu_ns: Option<u64>) {
        self.close(iteration, phase, Moment::now(cpu_ns));
    }

    pub(super) fn cut(&mut self, next: &str, now: Moment) {
        let part = std::mem::replace(&mut self.part, next.to_owned());
        let stretch = Segment {
            iteration: None,
            phase: String::new(),
            part,
            ns: now.ns.saturating_sub(self.last.ns),
            cpu_ns: now.cpu_ns.zip(self.last.cpu_ns).map(|(now, last)| now.saturating_sub(last)),
            totals: now.totals.since(&self.last.totals),
        };
        self.last = now;
        // A part may come several times, as checkpoints between updates do.
        match self.pending.iter_mut().find(|s| s.part == stretch.part) {
            Some(known) => {
                known.ns += stretch.ns;
                known.cpu_ns = known.cpu_ns.zip(stretch.cpu_ns).map(|(a, b)| a + b);
                known.totals = known.totals.plus(&stretch.totals);
            }
            None => self.pending.push(stretch),
        }
    }

    pub(super) fn close(&mut self, iteration: Option<u32>, phase: &str, now: Moment) {
        self.cut("", now);
        let named = self.pending.drain(..).map(|s| Segment { iteration, phase: phase.to_owned(), ..s });
        self.segments.extend(named);
    }

    /// Of all closed phases, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
}
