//! What the user sees of a fetch.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::terminal::{note, safe};
use crate::hub::Event;

/// Between two plain lines of one file.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Shows on standard error what is fetched: a bar for each file on a terminal, plain lines otherwise.
pub(super) struct FetchProgress {
    quiet: bool,
    file: RefCell<Option<Fetching>>,
}

/// The file that is being fetched.
struct Fetching {
    name: String,
    bytes: u64,
    here: u64,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl FetchProgress {
    /// `quiet` shows nothing (`--json`).
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, file: RefCell::new(None) }
    }

    pub(super) fn line(&self, text: &str) {
        if !self.quiet {
            note(text);
        }
    }

    pub(super) fn on_event(&self, event: Event) {
        let mut file = self.file.borrow_mut();
        match event {
            _ if self.quiet => {}
            Event::Fetching { file: name, bytes, here } => {
                let bar = std::io::stderr().is_terminal().then(|| bar(&name, bytes, here));
                if bar.is_none() {
                    note(&format!("fetching {name} ({})", mebibytes(bytes)));
                }
                *file = Some(Fetching { name, bytes, here, bar, last_line: Instant::now() });
            }
            Event::Received { bytes } => file.iter_mut().for_each(|file| file.received(bytes)),
            Event::Fetched { .. } => {
                file.take().and_then(|file| file.bar).iter().for_each(ProgressBar::finish);
            }
            Event::Note { message } => match file.as_ref().and_then(|file| file.bar.as_ref()) {
                Some(bar) => bar.println(safe(&message, false)),
                None => note(&message),
            },
        }
    }
}

impl Fetching {
    fn received(&mut self, bytes: u64) {
        self.here += bytes;
        match &self.bar {
            Some(bar) => bar.set_position(self.here),
            None if self.last_line.elapsed() > PLAIN_EVERY => {
                self.last_line = Instant::now();
                let (here, bytes) = (mebibytes(self.here), mebibytes(self.bytes));
                note(&format!("  {}: {here} of {bytes}", self.name));
            }
            None => {}
        }
    }
}

fn bar(name: &str, bytes: u64, here: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let template = "  {prefix} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(safe(name, false).into_owned());
    bar.set_position(here);
    bar
}

/// A size for messages.
pub(super) fn mebibytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
