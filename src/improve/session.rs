//! One process's hold on a run: the lock, the store, the tasks and the policy in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::checkpoints::{self, ensure_space};
use super::lock::RunLock;
use super::policy::{Policy, PolicyKind, Use};
use super::recall::Recall;
use super::{Event, Host, Outcome, aux_models, memory, orphans, tasks};
use crate::config::{Config, Difference};
use crate::data;
use crate::domain::{Arm, Phase, Progress, RunState, Split, Task};
use crate::score::{AuxModels, Formula};
use crate::store::{Checkpoint, CheckpointKind, NewRun, Run, Store};
use crate::text::Text;

/// The store's file within the run's folder.
pub const STORE_FILE: &str = "store.sqlite";

/// Least free space to start a unit with, in bytes.
const SPACE_MIN: u64 = 64 << 20;

/// Bytes of the program's own files in the run's folder. Other files come and go, and are none of
/// its business.
fn own_bytes(dir: &Path) -> Result<u64> {
    let mut total = checkpoints::own_bytes(&dir.join(checkpoints::FOLDER))?;
    for suffix in ["", "-wal", "-shm"] {
        total += checkpoints::bytes(&dir.join(format!("{STORE_FILE}{suffix}")))?;
    }
    Ok(total)
}

/// Everything a phase works with.
pub struct Session<'a> {
    pub(super) host: &'a Host<'a>,
    pub(super) config: &'a Config,
    pub(super) store: Store,
    pub(super) run: Run,
    pub(super) arm: Arm,
    pub(super) text: Text,
    pub(super) kind: PolicyKind,
    pub(super) dir: PathBuf,
    pub(super) referees: AuxModels,
    pub(super) recall: Recall,
    tasks: BTreeMap<&'static str, Vec<Task>>,
    loaded: Option<Arc<Policy>>,
    started: f64,
    phase_started: f64,
    _lock: Arc<RunLock>,
}

impl<'a> Session<'a> {
    /// Takes the lock, opens or creates the store and the run, and checks that they belong together.
    pub async fn open(host: &'a Host<'a>, config: &'a Config, kind: PolicyKind, arm: Arm) -> Result<Self> {
        let dir = PathBuf::from(&config.run.dir);
        // Before anything is created: what is refused is left as it is.
        orphans::ensure_explained(&dir).await?;
        std::fs::create_dir_all(dir.join(checkpoints::FOLDER))
            .with_context(|| format!("cannot create the run's folder {}", dir.display()))?;
        let lock = Arc::new(RunLock::take(&dir, &|message| (host.on_event)(Event::Waiting { message }))?);
        ensure_space(&dir, SPACE_MIN)?;
        for formula in [&config.critic.annotation, &config.reward.formula, &config.reward.without_head] {
            Formula::parse(formula)?;
        }
        let text = kind.text(config)?;
        let base = kind.base(config, &text, Use::Train, None)?;
        let data::Dataset { tasks: dataset, report } = tasks::dataset(config)?;
        tasks::check_tasks(&dataset, &text, base.engine().context_max())?;
        let referees = aux_models::load(config, &base, &text)?;
        let referees_hash = referees.identity(&text);
        let shortage = match (host.memory_free)() {
            Some(free) => memory::shortage(config, &base, &text, &dataset, free)?,
            None => None,
        };
        let store = Store::open(&dir.join(STORE_FILE)).await?;
        let held = lock.clone();
        store.hold(move || held.check());
        let tasks_hash = &tasks_hash(&dataset)?;
        let identity =
            Identity { config, text: &text, base: &base, tasks_hash, referees_hash: &referees_hash };
        let (run, resumed) = find_or_begin(host, &store, &identity, arm).await?;
        store.put_tasks(&dataset).await?;
        let notice = tasks::replay_notice(config, &dataset);
        if run.iterations != config.run.iterations {
            store.set_run_iterations(run.id, config.run.iterations).await?;
        }
        if run.state != RunState::Running {
            store.set_run_state(run.id, RunState::Running, None, &(host.now)()).await?;
        }
        let mut tasks: BTreeMap<&'static str, Vec<Task>> = BTreeMap::new();
        for task in dataset {
            tasks.entry(task.split.name()).or_default().push(task);
        }
        (host.on_event)(Event::Started { run: run.id, arm, resumed });
        if !resumed {
            tell(host, &store, run.id, &report, notice).await?;
        }
        let started = (host.seconds)();
        let session = Self {
            host,
            config,
            store,
            run,
            arm,
            text,
            kind,
            dir,
            referees,
            recall: Recall::default(),
            tasks,
            loaded: Some(Arc::new(base)),
            started,
            phase_started: started,
            _lock: lock,
        };
        orphans::sweep(&session.dir).await?;
        if let Some(shortage) = shortage {
            session.warn(shortage).await?;
        }
        Ok(session)
    }

    pub(super) fn tasks(&self, split: Split) -> &[Task] {
        self.tasks.get(split.name()).map_or(&[], Vec::as_slice)
    }

    /// The task with this id, whatever its split.
    pub(super) fn task(&self, id: &str) -> Result<&Task> {
        let found = self.tasks.values().flatten().find(|t| t.id == id);
        found.with_context(|| format!("the store names the task `{id}`, which the dataset no longer has"))
    }

    pub(super) async fn progress(&self) -> Result<Progress> {
        let done = self.store.done_phases(self.run.id).await?;
        Ok(Progress { arm: self.arm, iterations: self.config.run.iterations, done })
    }

    pub(super) fn begin_phase(&mut self) {
        self.phase_started = (self.host.seconds)();
    }

    pub(super) async fn finish_phase(&mut self, iteration: u32, phase: Phase, note: String) -> Result<()> {
        let seconds = (self.host.seconds)() - self.phase_started;
        let detail = serde_json::json!({ "note": note }).to_string();
        self.host.milestone();
        self.store
            .write(self.run.id, iteration, async |unit| unit.finish_phase(phase, seconds, &detail).await)
            .await?;
        self.host.milestone();
        (self.host.on_event)(Event::PhaseDone { iteration, phase, seconds, note });
        if Phase::plan(self.arm, iteration).last() == Some(&phase) {
            (self.host.on_event)(Event::IterationDone { iteration });
        }
        Ok(())
    }

    /// Tells the watcher how many units the phase has.
    pub(super) fn announce(&self, iteration: u32, phase: Phase, units: usize) {
        (self.host.on_event)(Event::PhaseStarted { iteration, phase, units: units as u64 });
    }

    /// Stores and shows a warning.
    pub(super) async fn warn(&self, message: String) -> Result<()> {
        self.store.put_event(Some(self.run.id), "warning", &message, &(self.host.now)()).await?;
        (self.host.on_event)(Event::Warning { message });
        Ok(())
    }

    /// Why no further unit may start now, if so. A full disk is an error: it needs someone.
    pub(super) fn limit_reached(&self) -> Result<Option<String>> {
        if self.host.stop_requested() {
            return Ok(Some("stopped on request".into()));
        }
        let (seconds, max) = ((self.host.seconds)() - self.started, self.config.run.wall_clock_max_s);
        if seconds > max as f64 {
            return Ok(Some(format!("run.wall_clock_max_s = {max} is used up")));
        }
        ensure_space(&self.dir, SPACE_MIN)?;
        let (held, max) = (own_bytes(&self.dir)? >> 20, self.config.run.disk_max_mib);
        if held > max {
            return Ok(Some(format!(
                "the run's folder holds {held} MiB, more than run.disk_max_mib = {max}"
            )));
        }
        Ok(None)
    }

    pub(super) async fn stop(self, reason: String) -> Result<Outcome> {
        let now = (self.host.now)();
        self.store.set_run_state(self.run.id, RunState::Stopped, Some(&reason), &now).await?;
        let run = self.run.id;
        self.store.close().await?;
        Ok(Outcome { run, state: RunState::Stopped, stopped: Some(reason) })
    }

    pub(super) async fn finish(self) -> Result<Outcome> {
        let now = (self.host.now)();
        self.store.set_run_state(self.run.id, RunState::Done, None, &now).await?;
        let run = self.run.id;
        self.store.close().await?;
        Ok(Outcome { run, state: RunState::Done, stopped: None })
    }

    /// Hash of the policy that iteration `iteration` starts from: the last promoted candidate before it.
    pub(super) async fn incumbent_hash(&self, iteration: u32) -> Result<String> {
        let promotions = self.store.promotions(self.run.id).await?;
        let last = promotions.into_iter().rfind(|(i, p)| *i < iteration && p.promoted);
        Ok(last.map_or_else(|| self.run.base_policy_hash.clone(), |(_, p)| p.candidate_hash))
    }

    /// Hash of the policy that training gave in `iteration`.
    pub(super) async fn candidate_hash(&self, iteration: u32) -> Result<String> {
        let all = self.store.checkpoints(self.run.id).await?;
        let found =
            all.into_iter().find(|c| c.iteration == iteration && c.row.kind == CheckpointKind::Candidate);
        Ok(found
            .with_context(|| format!("iteration {iteration} has no candidate checkpoint"))?
            .row
            .policy_hash)
    }

    /// Brings the policy with this hash into memory, from its checkpoint or the base.
    pub(super) async fn load(&mut self, hash: &str) -> Result<Arc<Policy>> {
        if self.loaded.as_ref().is_none_or(|p| p.hash() != hash) {
            let beside = self.loaded.as_ref().and_then(|policy| policy.frozen());
            let policy = if hash == self.run.base_policy_hash {
                self.kind.base(self.config, &self.text, Use::Train, beside)?
            } else {
                let folder = self.checkpoint_path(hash).await?;
                self.kind.load(&folder, self.config, &self.text, Use::Train, beside)?
            };
            ensure!(
                policy.hash() == hash,
                "the weights of policy {hash:.16} have changed on disk (they now hash to {:.16}); restore the file \
                 or start anew in another folder",
                policy.hash()
            );
            self.loaded = Some(Arc::new(policy));
        }
        self.loaded.clone().context("no policy is loaded")
    }

    async fn checkpoint_path(&self, hash: &str) -> Result<PathBuf> {
        let all = self.store.checkpoints(self.run.id).await?;
        let usable = |c: &Checkpoint| c.row.kind == CheckpointKind::Candidate && c.removed_reason.is_none();
        let found = all.into_iter().find(|c| c.row.policy_hash == hash && usable(c));
        let found = found.with_context(|| format!("no checkpoint of policy {hash:.16} is stored"))?;
        Ok(self.dir.join(&found.row.path))
    }
}

/// Stores what was left out of the files, and shows how much; and whatever else is to be known of the tasks.
async fn tell(
    host: &Host<'_>,
    store: &Store,
    run: i64,
    report: &data::Report,
    notice: Option<String>,
) -> Result<()> {
    if let Some(message) = notice {
        store.put_event(Some(run), "warning", &message, &(host.now)()).await?;
        (host.on_event)(Event::Warning { message });
    }
    for (level, message) in tasks::events(report) {
        store.put_event(Some(run), level, &message, &(host.now)()).await?;
    }
    let (repeated, overlaps) = (report.repeated.len(), report.overlaps.len());
    if repeated + overlaps > 0 {
        let message = format!(
            "{overlaps} rows were removed because they overlap with measuring ones, {repeated} because they repeat \
             others; which ones is stored as events of run {run}"
        );
        (host.on_event)(Event::Warning { message });
    }
    Ok(())
}

/// The stored run of this arm, checked against the configuration, or a new one.
async fn find_or_begin(
    host: &Host<'_>,
    store: &Store,
    identity: &Identity<'_>,
    arm: Arm,
) -> Result<(Run, bool)> {
    let Identity { config, text, base, .. } = identity;
    if let Some(run) = store.run_of_arm(arm).await? {
        identity.check(&run)?;
        return Ok((run, true));
    }
    let of_run = match arm {
        Arm::Reward => None,
        _ => {
            let main = store.run_of_arm(Arm::Reward).await?.with_context(|| {
                format!("the control arm `{arm}` needs the loop proper in the same folder: run without --control first")
            })?;
            identity.check(&main)?;
            Some(main.id)
        }
    };
    let new = NewRun {
        arm,
        of_run,
        seed: config.run.seed,
        iterations: config.run.iterations,
        config_json: config.to_json(),
        config_hash: identity.hash(),
        tokenizer_hash: text.hash().to_owned(),
        base_policy_hash: base.hash().to_owned(),
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: (host.now)(),
    };
    host.milestone();
    let id = store.begin_run(&new).await?;
    host.milestone();
    let run = store.runs().await?.into_iter().find(|r| r.id == id);
    Ok((run.context("the run that was just begun is missing from the store")?, false))
}

/// What a run is tied to: settings, tasks, tokenizer, prompts and base weights.
struct Identity<'a> {
    config: &'a Config,
    text: &'a Text,
    base: &'a Policy,
    tasks_hash: &'a str,
    /// Of judge, reference and the prompts they and a search are asked with; empty without any.
    referees_hash: &'a str,
}

impl Identity<'_> {
    /// Hash of the settings, of the tasks, and of the models and prompts beside the policy if there are any, in one text.
    fn hash(&self) -> String {
        let beside = if self.referees_hash.is_empty() { "" } else { "-" };
        format!("{}-{}{beside}{}", self.config.hash(), self.tasks_hash, self.referees_hash)
    }

    /// Refuses to go on with other tasks, settings or weights than the run began with.
    fn check(&self, run: &Run) -> Result<()> {
        let dir = &self.config.run.dir;
        let (_, rest) = run.config_hash.split_once('-').unwrap_or((&run.config_hash, ""));
        let (tasks, referees) = rest.split_once('-').unwrap_or((rest, ""));
        let differences = self.config.differences(&run.config_json);
        if !differences.is_empty() {
            let said = |d: &Difference| format!("{}: {} then, {} now", d.key, d.stored, d.given);
            bail!(
                "{dir} holds a run with another configuration ({}); resume it with the same settings, or choose another \
                 folder with --set run.dir=…",
                differences.iter().map(said).collect::<Vec<_>>().join("; ")
            );
        }
        ensure!(
            tasks == self.tasks_hash,
            "the tasks have changed since the run in {dir} began; restore them, or choose another folder with \
             --set run.dir=…"
        );
        ensure!(
            referees == self.referees_hash,
            "the judge, the reference or the prompts they are asked with have changed since the run in {dir} began; \
             restore them, or choose another folder with --set run.dir=…"
        );
        ensure!(
            run.base_policy_hash == self.base.hash(),
            "the base model has changed since the run began: it hashed to {:.16} and now to {:.16}",
            run.base_policy_hash,
            self.base.hash()
        );
        ensure!(
            run.tokenizer_hash == self.text.hash(),
            "the tokenizer or the prompts have changed since the run began; restore them, or choose another folder \
             with --set run.dir=…"
        );
        Ok(())
    }
}

fn tasks_hash(tasks: &[Task]) -> Result<String> {
    let bytes = serde_json::to_vec(tasks).context("the tasks cannot be hashed")?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
