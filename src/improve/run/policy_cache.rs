//! The policy in memory: loaded from its checkpoint or the base when another one is needed.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::Run;
use crate::policy::{Policy, PolicyKind, Use};
use crate::store::CheckpointKind;

/// Holds one policy, the one that was needed last.
pub(in crate::improve) struct PolicyCache {
    kind: PolicyKind,
    loaded: Arc<Policy>,
}

impl PolicyCache {
    /// Holds `base` first.
    pub(super) fn new(kind: PolicyKind, base: Policy) -> Self {
        Self { kind, loaded: Arc::new(base) }
    }

    /// The policy with this hash. Frozen weights that the one in memory has are shared.
    ///
    /// # Errors
    /// No checkpoint of it is stored, or its files are missing, damaged or changed.
    pub(crate) async fn load(&mut self, run: &Run<'_>, hash: &str) -> Result<Arc<Policy>> {
        if self.loaded.hash() != hash {
            let frozen = self.loaded.frozen();
            let policy = if hash == run.base_policy_hash {
                self.kind.base(run.config, &run.text, Use::Train, frozen)?
            } else {
                let folder = checkpoint_folder(run, hash).await?;
                self.kind.load(&folder, run.config, &run.text, Use::Train, frozen)?
            };
            ensure!(
                policy.hash() == hash,
                "the weights of policy {hash:.16} have changed on disk (they now hash to {:.16}); restore the file \
                 or start again in another folder",
                policy.hash()
            );
            self.loaded = Arc::new(policy);
        }
        Ok(self.loaded.clone())
    }
}

/// The folder of a candidate that retention has not removed.
async fn checkpoint_folder(run: &Run<'_>, hash: &str) -> Result<PathBuf> {
    let all = run.store.checkpoints(run.id).await?;
    let found = all.into_iter().find(|c| {
        c.row.policy_hash == hash && c.row.kind == CheckpointKind::Candidate && c.removed_reason.is_none()
    });
    let found = found.with_context(|| format!("no checkpoint of policy {hash:.16} is stored"))?;
    Ok(run.dir.join(&found.row.path))
}

#[cfg(test)]
mod tests {
    use crate::domain::Arm;
    use crate::improve::run::Session;
    use crate::improve::tests::{World, block_on};
    use crate::policy::PolicyKind;

    #[test]
    fn the_policy_that_is_asked_for_is_the_one_that_was_stored() {
        let world = World::new(&[]);
        world.run();
        let host = world.host();
        block_on(async {
            let mut session =
                Session::open(&host, &world.config, PolicyKind::Scripted, Arm::Reward).await.unwrap();
            let (base, candidate) =
                (session.run.base_policy_hash.clone(), session.run.candidate_hash(1).await.unwrap());
            for hash in [&candidate, &base, &candidate] {
                let policy = session.policies.load(&session.run, hash).await.unwrap();
                assert_eq!(policy.hash(), hash);
            }
            let unknown = session.policies.load(&session.run, "0123456789abcdef").await.map(drop);
            assert!(unknown.unwrap_err().to_string().contains("no checkpoint of policy 0123456789abcdef"));

            // A script with another skill is another policy.
            let row = session.run.candidate(1).await.unwrap().unwrap();
            let file = session.run.dir.join(&row.row.path).join("script.json");
            std::fs::write(file, "{\"skill\":0.5,\"version\":1}").unwrap();
            let same = session.policies.load(&session.run, &candidate).await.unwrap();
            assert_eq!(same.hash(), candidate, "it is in memory");
            session.policies.load(&session.run, &base).await.unwrap();
            let changed = session.policies.load(&session.run, &candidate).await.map(drop);
            assert!(changed.unwrap_err().to_string().contains("have changed on disk"));

            session.run.store.forget_checkpoint(row.id, "retention").await.unwrap();
            let removed = session.policies.load(&session.run, &candidate).await.map(drop);
            assert!(removed.unwrap_err().to_string().contains("no checkpoint of policy"));
        });
    }
}
