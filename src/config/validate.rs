//! What makes a configuration wrong, with the value and what to do.

use autodidact_domain::check::{Check, not_negative, temperature};

use super::Config;

impl Config {
    /// Every problem, each naming its key and value; empty when the configuration can be used.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, key: &str, value: &dyn std::fmt::Debug, rule: &str| {
            if !ok {
                problems.push(format!("{key} = {value:?}: {rule}"));
            }
        };
        self.check_run(&mut check);
        self.model.check(&mut check);
        self.tasks.check(&mut check);
        self.check_rollout(&mut check);
        self.critic.check(&mut check);
        self.reward.check(&mut check);
        self.select.check(&mut check);
        self.judge.check(&mut check);
        self.check_training(&mut check);
        problems
    }

    fn check_run(&self, check: &mut Check) {
        let run = &self.run;
        check(!run.dir.is_empty(), "run.dir", &run.dir, "give a folder");
        // SQLite integers are signed: a larger seed could not be stored as it is.
        check(run.seed <= i64::MAX as u64, "run.seed", &run.seed, "at most 9223372036854775807");
        check((1..=1000).contains(&run.iterations), "run.iterations", &run.iterations, "1 to 1000");
        check(run.hours >= 0.0 && run.hours.is_finite(), "run.hours", &run.hours, "0 or more");
        let limit = run.wall_clock_max_s as f64 / 3600.0;
        check(run.hours <= limit, "run.hours", &run.hours, "more than run.wall_clock_max_s allows; raise it");
        check(run.threads <= 1024, "run.threads", &run.threads, "at most 1024; 0 uses every core");
        check(run.wall_clock_max_s > 0, "run.wall_clock_max_s", &run.wall_clock_max_s, "at least 1 second");
        check(run.disk_max_mib > 0, "run.disk_max_mib", &run.disk_max_mib, "at least 1 MiB");
        let cpu = run.device == "cpu";
        let matmul_ok = cpu || self.model.matmul.parts().is_none();
        check(matmul_ok, "model.matmul", &self.model.matmul, "tiles of bf16 need run.device = \"cpu\"");
    }

    fn check_rollout(&self, check: &mut Check) {
        temperature(check, "eval.temperature", self.eval.temperature);
        self.rollout.check(check);
        self.tree.check(check);
        self.engine.check(check);
        check(self.eval.samples <= 1024, "eval.samples", &self.eval.samples, "at most 1024");
    }

    fn check_training(&self, check: &mut Check) {
        self.train.check(check);
        self.lora.check(check);
        self.pretrain.check(check);
        let gate = &self.gate;
        check(
            gate.regression_points.is_finite(),
            "gate.regression_points",
            &gate.regression_points,
            "finite",
        );
        let confidence_ok = gate.confidence > 0.0 && gate.confidence < 1.0;
        check(confidence_ok, "gate.confidence", &gate.confidence, "above 0, below 1");
        check(self.checkpoints.keep >= 1, "checkpoints.keep", &self.checkpoints.keep, "at least 1");
        not_negative(check, "checkpoints.logprob_tolerance", self.checkpoints.logprob_tolerance);
    }
}
