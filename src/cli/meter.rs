//! Progress of a command that is no run: a bar on a terminal, a plain line from time to time
//! elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::progress::{PLAIN_EVERY, Shows, grouped, time, time_of_day};
use super::terminal::note;

/// Counts what a command does, and shows it.
pub(super) struct Meter {
    label: &'static str,
    /// What there is to do, if that is known.
    total: Option<u64>,
    bar: Option<ProgressBar>,
    shows: Shows,
    began: Instant,
    counts: Mutex<Counts>,
}

struct Counts {
    done: u64,
    tokens: u64,
    last_line: Instant,
}

impl Meter {
    pub(super) fn new(label: &'static str, total: Option<u64>, shows: Shows) -> Self {
        let now = Instant::now();
        let bar = (shows == Shows::Everything && std::io::stderr().is_terminal()).then(|| {
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template =
                if total.is_some() { "{prefix:<21} {bar:14}  {msg}" } else { "{prefix:<21} {msg}" };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.set_prefix(label);
            bar
        });
        let counts = Mutex::new(Counts { done: 0, tokens: 0, last_line: now });
        Self { label, total, bar, shows, began: now, counts }
    }

    /// Tokens were drawn.
    pub(super) fn tokens(&self, tokens: usize) {
        self.count(0, tokens as u64);
    }

    /// Pieces are done.
    pub(super) fn advance(&self, pieces: usize) {
        self.count(pieces as u64, 0);
    }

    /// The next piece begins; it is called so.
    pub(super) fn begin(&self, piece: &'static str) {
        if let Some(bar) = &self.bar {
            bar.set_prefix(format!("{} {piece}", self.label));
        }
        self.count(1, 0);
    }

    fn count(&self, done: u64, tokens: u64) {
        // A poisoned lock means a panic elsewhere is already being reported.
        let Ok(mut counts) = self.counts.lock() else { return };
        counts.done += done;
        counts.tokens += tokens;
        if let Some(bar) = &self.bar {
            bar.set_position(counts.done);
            bar.set_message(self.figures(&counts));
        } else if self.shows == Shows::Everything && counts.last_line.elapsed() > PLAIN_EVERY {
            counts.last_line = Instant::now();
            note(&format!("{}  {}  {}", time_of_day(), self.label, self.figures(&counts)));
        }
    }

    fn figures(&self, counts: &Counts) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let done = grouped(counts.done);
        let mut parts = vec![self.total.map_or(done.clone(), |total| format!("{done}/{}", grouped(total)))];
        if counts.tokens > 0 {
            let rate = grouped((counts.tokens as f64 / seconds.max(1e-3)) as u64);
            parts.push(format!("{} tokens  {rate} tokens/s", grouped(counts.tokens)));
        }
        parts.push(time(Some(seconds)));
        parts.join("  ")
    }

    /// Takes the bar away: what follows is the result.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
