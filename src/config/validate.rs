//! What makes a configuration wrong, with the value and what to do.

use autodidact_domain::check::{Check, not_negative, temperature};

use super::{AnswerForm, Config, TaskFormat, TaskSource};

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
        self.check_rollout(&mut check);
        self.critic.check(&mut check);
        self.reward.check(&mut check);
        self.select.check(&mut check);
        self.judge.check(&mut check);
        self.check_training(&mut check);
        problems
    }

    fn check_run(&self, check: &mut Check) {
        let (run, tasks) = (&self.run, &self.tasks);
        check(!run.dir.is_empty(), "run.dir", &run.dir, "give a folder");
        // SQLite integers are signed: a larger seed could not be stored as it is.
        check(run.seed <= i64::MAX as u64, "run.seed", &run.seed, "at most 9223372036854775807");
        check((1..=1000).contains(&run.iterations), "run.iterations", &run.iterations, "1 to 1000");
        check(run.threads <= 1024, "run.threads", &run.threads, "at most 1024; 0 uses every core");
        check(run.wall_clock_max_s > 0, "run.wall_clock_max_s", &run.wall_clock_max_s, "at least 1 second");
        check(run.disk_max_mib > 0, "run.disk_max_mib", &run.disk_max_mib, "at least 1 MiB");
        check(
            !self.model.path.is_empty(),
            "model.path",
            &self.model.path,
            "\"embedded\", a folder, a .gguf file or a model of the hub",
        );
        let cpu = run.device == "cpu";
        let matmul_ok = cpu || self.model.matmul.parts().is_none();
        check(matmul_ok, "model.matmul", &self.model.matmul, "tiles of bf16 need run.device = \"cpu\"");
        let file_ok = (tasks.kind == TaskSource::File) != tasks.file.is_empty();
        check(file_ok, "tasks.file", &tasks.file, "needed for kind = \"file\", and only then");
        self.check_files(check);
        for (key, levels) in
            [("tasks.easy_levels", tasks.easy_levels), ("tasks.hard_levels", tasks.hard_levels)]
        {
            let ok = 1 <= levels[0] && levels[0] <= levels[1] && levels[1] <= 64;
            check(ok, key, &levels, "lowest and highest level, from 1 to 64");
        }
        let counts = [
            ("tasks.easy", tasks.easy),
            ("tasks.anchor", tasks.anchor),
            ("tasks.train", tasks.train),
            ("tasks.gate", tasks.gate),
            ("tasks.heldout", tasks.heldout),
        ];
        for (key, count) in counts {
            check((1..=1_000_000).contains(&count), key, &count, "1 to 1000000");
        }
    }

    fn check_files(&self, check: &mut Check) {
        let tasks = &self.tasks;
        let from_file = tasks.kind == TaskSource::File;
        let needs_file = "only for kind = \"file\"";
        check(
            from_file || tasks.heldout_file.is_empty(),
            "tasks.heldout_file",
            &tasks.heldout_file,
            needs_file,
        );
        check(from_file || tasks.format == TaskFormat::Auto, "tasks.format", &tasks.format, needs_file);
        check(from_file || tasks.answer == AnswerForm::Auto, "tasks.answer", &tasks.answer, needs_file);
        check(from_file || tasks.fields.is_empty(), "tasks.fields", &tasks.fields, needs_file);
        let own = matches!(tasks.format, TaskFormat::Auto | TaskFormat::Jsonl);
        check(own || tasks.fields.is_empty(), "tasks.fields", &tasks.fields, "only for format = \"jsonl\"");
        check(
            own || tasks.answer == AnswerForm::Auto,
            "tasks.answer",
            &tasks.answer,
            "only for format = \"jsonl\"",
        );
        let named = tasks.fields.is_empty() || !tasks.fields.question.is_empty();
        check(
            named,
            "tasks.fields.question",
            &tasks.fields.question,
            "name the field that holds the question",
        );
        let words_ok = tasks.overlap_words == 0 || (4..=1000).contains(&tasks.overlap_words);
        check(words_ok, "tasks.overlap_words", &tasks.overlap_words, "4 to 1000 words, or 0");
        let date = self.model.date.as_bytes();
        let date_ok = date.len() == 10
            && date
                .iter()
                .enumerate()
                .all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() });
        check(date_ok, "model.date", &self.model.date, "a day such as 2024-07-26");
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
