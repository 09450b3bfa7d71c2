//! Who was right, asked of the caller: the only place where the room needs a verdict on an attempt.

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;

use crate::domain::Task;
use crate::store::{Reader, TrajectoryFilter, TrajectoryLine, Window};

/// Whether an attempt at the task is right, by the answer it claims; `None` if the task has nothing
/// to compare with.
///
/// It reads the gold answer. The room that grades is the caller's to choose.
pub type Verdict<'a> = &'a (dyn Fn(&Task, Option<&str>) -> Option<bool> + Sync);

/// Trajectories that are read at a time: bounds memory, whatever an iteration holds. Tests read few
/// at a time, so that they need several chunks.
const CHUNK: u32 = if cfg!(test) { 7 } else { 2000 };

/// Passes every trajectory of the filter to `each`, with its verdict, in order of insertion.
///
/// The verdict is computed when `each` asks for it.
pub(super) async fn each_attempt(
    reader: &Reader,
    verdict: Verdict<'_>,
    filter: &TrajectoryFilter,
    mut each: impl FnMut(&TrajectoryLine, &dyn Fn() -> Option<bool>),
) -> Result<()> {
    let mut window = Window::first(CHUNK);
    loop {
        let chunk = reader.trajectories(filter, window).await?;
        let ids: BTreeSet<&str> = chunk.rows.iter().map(|line| line.task_id.as_str()).collect();
        let tasks: HashMap<String, Task> = reader.tasks_by_id(ids).await?;
        for line in &chunk.rows {
            each(line, &|| verdict(tasks.get(&line.task_id)?, line.answer.as_deref()));
        }
        match chunk.next {
            Some(last) => window.after = Some(last),
            None => return Ok(()),
        }
    }
}
