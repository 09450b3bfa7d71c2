//! Opening a session: everything that is refused is refused before the first row is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::identity::{Identity, tasks_hash};
use super::limits::{Limits, SPACE_MIN};
use super::lock::RunLock;
use super::phase_cache::PhaseCache;
use super::policy_cache::PolicyCache;
use super::session::Worked;
use super::{Event, Host, Plan, Run, STORE_FILE, Session, aux_models, orphans, tasks};
use crate::config::Config;
use crate::data;
use crate::domain::{Alarm, AlarmAction, AlarmRule, Arm, Phase, RunState, Split, Task};
use crate::policy::checkpoints::{self, ensure_space};
use crate::policy::{Policy, PolicyKind, Shortage, Use, shortage};
use crate::score::{AuxModels, Formula};
use crate::store::{self, NewRun, Store};
use crate::text::Text;

impl<'a> Session<'a> {
    /// Takes the lock, loads what the configuration names, and finds or begins the run of this arm.
    ///
    /// # Errors
    /// The folder's checkpoints are later than its store, another process has the lock, something the configuration names can't be used, or the folder
    /// holds a run of another identity.
    pub(crate) async fn open(
        host: &'a Host<'a>,
        config: &'a Config,
        kind: PolicyKind,
        arm: Arm,
    ) -> Result<Self> {
        let probe = host.expected.filter(|_| arm == Arm::Reward).map_or(0.0, |expected| expected.probe);
        let began = (host.seconds)() - probe;
        // Before anything is created: a folder that is refused is left as it is.
        orphans::ensure_explained(Path::new(&config.run.dir)).await?;
        // A configuration that can't be used makes no folder.
        let early = match Path::new(&config.run.dir).exists() {
            true => None,
            false => Some(Loaded::new(host, config, kind)?),
        };
        let dir = create_folder(config)?;
        let waiting = |message| (host.on_event)(Event::Waiting { message });
        let lock = Arc::new(RunLock::take(&dir, &waiting)?);
        ensure_space(&dir, SPACE_MIN)?;
        let loaded = early.map_or_else(|| Loaded::new(host, config, kind), Ok)?;
        let identity = loaded.identity(config)?;
        let store = Store::open(&dir.join(STORE_FILE)).await?;
        let held = lock.clone();
        store.hold(move || held.check());
        let (row, resumed) = find_or_begin(host, &store, &identity, arm).await?;
        let Loaded { text, base, dataset, report, aux_models, shortage } = loaded;
        let iterations = planned(&store, &row, config).await?;
        let timed = row.of_run.is_none() && config.run.hours > 0.0;
        // Without a time, those are all. With one, the stored number is what was expected last.
        let shown = if timed { row.iterations.max(iterations) } else { iterations };
        store_current(host, &store, &row, shown, &dataset).await?;
        let worked = Worked::begin(host, &store, &lock, (row.id, began)).await?;
        let plan = announced(config, &dataset, shown);
        (host.on_event)(Event::Started { run: row.id, arm, resumed, plan });
        let notices = [tasks::replay_notice(config, &dataset), tasks::special_notice(&dataset, &text)];
        let run = Run {
            store,
            config,
            text,
            arm,
            id: row.id,
            of_run: row.of_run,
            iterations,
            base_policy_hash: row.base_policy_hash,
            dir,
            tasks: by_split(dataset),
        };
        let session = Self {
            host,
            run,
            limits: Limits::new(host, &config.run),
            aux_models,
            worked,
            policies: PolicyCache::new(kind, base),
            cache: PhaseCache::default(),
            _lock: lock,
        };
        if !resumed {
            session.report_tasks(&report, notices).await?;
        }
        orphans::sweep(&session.run.dir).await?;
        if let Some(shortage) = shortage {
            session.raise(None, memory_alarm(&shortage)).await?;
        }
        Ok(session)
    }

    /// Stores what was left out of the files, and shows how much; and whatever else there is to
    /// know about the tasks.
    async fn report_tasks(&self, report: &data::Report, notices: [Option<String>; 2]) -> Result<()> {
        for message in notices.into_iter().flatten() {
            self.warn(message).await?;
        }
        let (store, run) = (&self.run.store, self.run.id);
        for (level, message) in tasks::events(report) {
            store.put_event(Some(run), level, &message, &(self.host.now)()).await?;
        }
        let (repeated, overlaps) = (report.repeated.len(), report.overlaps.len());
        let odd = report.odd.len();
        if repeated + overlaps + odd > 0 {
            let message = format!(
                "{overlaps} rows were removed because they overlap with measuring ones, {repeated} because they repeat \
                 others, {odd} because their target is none of their options; which ones is stored as events of run \
                 {run}"
            );
            (self.host.on_event)(Event::Warning { message });
        }
        Ok(())
    }
}

/// What the run is to do, for whoever watches.
fn announced(config: &Config, dataset: &[Task], iterations: u32) -> Plan {
    let of_split = |split| dataset.iter().filter(|task| task.split == split).count();
    Plan {
        seed: config.run.seed,
        iterations,
        practice: of_split(Split::Train),
        gate: of_split(Split::Gate),
        heldout: of_split(Split::HeldOut),
        dir: config.run.dir.clone(),
    }
}

/// The run's folder, with the one for checkpoints in it.
fn create_folder(config: &Config) -> Result<PathBuf> {
    let dir = Path::new(&config.run.dir);
    let context = || format!("cannot create the run's folder {}", dir.display());
    if !dir.exists() {
        if let Some(parent) = dir.parent() {
            std::fs::create_dir_all(parent).with_context(context)?;
        }
        let mut folder = std::fs::DirBuilder::new();
        // Trajectories may hold what nobody else should read. A folder that is there keeps its mode.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.create(dir).with_context(context)?;
    }
    std::fs::create_dir_all(dir.join(checkpoints::FOLDER)).with_context(context)?;
    Ok(dir.to_owned())
}

/// What the configuration names, loaded and checked before the store is opened.
struct Loaded {
    text: Text,
    base: Policy,
    dataset: Vec<Task>,
    report: data::Report,
    aux_models: AuxModels,
    shortage: Option<Shortage>,
}

impl Loaded {
    fn new(host: &Host<'_>, config: &Config, kind: PolicyKind) -> Result<Self> {
        for formula in [&config.critic.annotation, &config.reward.formula, &config.reward.without_head] {
            Formula::parse(formula)?;
        }
        let text = kind.text(config)?;
        let base = kind.base(config, &text, Use::Train, None)?;
        let data::Dataset { tasks: dataset, report } = tasks::dataset(config)?;
        tasks::check_tasks(&dataset, &text, base.engine().context_max())?;
        let aux_models = aux_models::load(config, &base, &text)?;
        let shortage = match (host.memory_free)() {
            Some(free) => shortage(config, &base, &text, &dataset, free)?,
            None => None,
        };
        Ok(Self { text, base, dataset, report, aux_models, shortage })
    }

    fn identity<'a>(&self, config: &'a Config) -> Result<Identity<'a>> {
        Ok(Identity {
            config,
            tokenizer: self.text.hash().to_owned(),
            base_policy: self.base.hash().to_owned(),
            tasks: tasks_hash(&self.dataset)?,
            aux_models: self.aux_models.identity(&self.text),
        })
    }
}

/// The stored run of this arm, if it has this identity, or a new one; and whether it was stored.
async fn find_or_begin(
    host: &Host<'_>,
    store: &Store,
    identity: &Identity<'_>,
    arm: Arm,
) -> Result<(store::Run, bool)> {
    if let Some(run) = store.run_of_arm(arm).await? {
        identity.check(&run)?;
        return Ok((run, true));
    }
    let main = match arm {
        Arm::Reward => None,
        _ => {
            let main = store.run_of_arm(Arm::Reward).await?.with_context(|| {
                format!("the control arm `{arm}` needs the loop proper in the same folder: run without --control first")
            })?;
            identity.check(&main)?;
            Some(main)
        }
    };
    let config = identity.config;
    let new = NewRun {
        arm,
        of_run: main.as_ref().map(|main| main.id),
        seed: config.run.seed,
        iterations: main.as_ref().map_or(config.run.iterations, |main| main.iterations),
        config_json: config.to_json(),
        config_hash: identity.config_hash(),
        tokenizer_hash: identity.tokenizer.clone(),
        base_policy_hash: identity.base_policy.clone(),
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: (host.now)(),
    };
    let id = host.durable(store.begin_run(&new)).await?;
    let run = store.runs().await?.into_iter().find(|r| r.id == id);
    Ok((run.context("the run that was just begun is missing from the store")?, false))
}

/// The iterations that a run is to have: as many as the run it is a control of; with hours, those
/// that were begun; else the configured ones, but not fewer than it has.
async fn planned(store: &Store, run: &store::Run, config: &Config) -> Result<u32> {
    if let Some(main) = run.of_run {
        let all = store.runs().await?;
        let main = all.iter().find(|run| run.id == main);
        return Ok(main
            .context("the run that this arm is a control of is missing from the store")?
            .iterations);
    }
    let done = store.done_phases(run.id).await?;
    let promoted = done.iter().filter(|(_, phase)| *phase == Phase::Promote).map(|(iteration, _)| *iteration);
    let least = promoted.max().unwrap_or(0);
    if config.run.hours > 0.0 {
        let begun = store.plans(run.id).await?.into_keys().max();
        return Ok(least.max(begun.unwrap_or(0)));
    }
    Ok(least.max(config.run.iterations))
}

/// Stores the tasks, the planned iterations, and that the run is running.
async fn store_current(
    host: &Host<'_>,
    store: &Store,
    run: &store::Run,
    iterations: u32,
    dataset: &[Task],
) -> Result<()> {
    store.put_tasks(dataset).await?;
    if run.iterations != iterations {
        store.set_run_iterations(run.id, iterations).await?;
    }
    if run.state != RunState::Running {
        store.set_run_state(run.id, RunState::Running, None, &(host.now)()).await?;
    }
    Ok(())
}

fn by_split(dataset: Vec<Task>) -> BTreeMap<&'static str, Vec<Task>> {
    let mut tasks: BTreeMap<&'static str, Vec<Task>> = BTreeMap::new();
    for task in dataset {
        tasks.entry(task.split.name()).or_default().push(task);
    }
    tasks
}

fn memory_alarm(shortage: &Shortage) -> Alarm {
    Alarm {
        rule: AlarmRule::Memory,
        value: Some(shortage.needed as f64),
        threshold: Some(shortage.free as f64),
        action: AlarmAction::Warned,
        message: shortage.to_string(),
    }
}
