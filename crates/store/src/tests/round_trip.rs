//! What goes in comes out.

use super::*;

#[test]
fn runs_and_tasks() {
    block_on(async {
        let (_dir, store, run) = store().await;
        let stored = store.runs().await.unwrap();
        assert_eq!(stored.len(), 1);
        assert_eq!((stored[0].id, stored[0].seed, stored[0].state), (run, u64::MAX - 1, RunState::Running));
        store.set_run_state(run, RunState::Stopped, Some("time"), "later").await.unwrap();
        store.set_run_iterations(run, 9).await.unwrap();
        let stored = store.run_of_arm(Arm::Reward).await.unwrap().unwrap();
        assert_eq!((stored.state, stored.iterations), (RunState::Stopped, 9));
        assert_eq!(store.run_of_arm(Arm::Random).await.unwrap(), None);

        let train: Vec<_> = (0..4).map(|n| task(n, Split::Train)).collect();
        assert_eq!(store.tasks(Split::Train).await.unwrap(), train);
        store.put_tasks(&train).await.unwrap();
        let changed = Task { question: "?".into(), ..train[1].clone() };
        let error = store.put_tasks(&[task(9, Split::Train), changed]).await.unwrap_err().to_string();
        assert!(error.contains("relations/train/000001"), "{error}");
        assert_eq!(store.tasks(Split::Train).await.unwrap(), train, "nothing half-written");
    });
}

#[test]
fn trees() {
    block_on(async {
        let (_dir, store, run) = store().await;
        let trees: Vec<_> = (0..3).map(|n| chain(Purpose::Rollout, 1, n, 5)).chain([bushy(1, 3)]).collect();
        let ids = store
            .write(run, 1, async |unit| unit.put_trees(Purpose::Rollout, "p1", &trees).await)
            .await
            .unwrap();
        assert_eq!(ids, [vec![1], vec![2], vec![3], vec![4, 5, 6]]);
        let stored = store.trees(run, 1, Purpose::Rollout).await.unwrap();
        assert_eq!(stored.iter().map(|s| &s.tree).collect::<Vec<_>>(), trees.iter().collect::<Vec<_>>());
        assert_eq!(stored[3].trajectory_ids, [4, 5, 6]);
        assert_eq!(stored[3].policy_hash, "p1");
        let keys = store.tree_keys(run, 1, Purpose::Rollout).await.unwrap();
        assert_eq!(keys, trees.iter().map(|t| t.address.to_string()).collect());
        let detail = store.trajectory(5).await.unwrap().unwrap();
        assert_eq!((detail.leaf, &detail.tree.tree), (1, &trees[3]));
        let digest = store.digest().await.unwrap();
        assert_eq!(digest.len(), 64);
        store.close().await.unwrap();
    });
}

#[test]
fn scores_and_rewards() {
    block_on(async {
        let (_dir, path) = drive::finished().await;
        let store = Store::open(&path).await.unwrap();
        let scores = store.scores(1, 1).await.unwrap();
        assert_eq!(scores.len(), 32);
        assert!(scores.is_sorted_by_key(|(id, s)| (*id, s.scorer.clone())));
        let rewards = store.rewards(1, 1).await.unwrap();
        let given = scores.iter().filter(|(_, s)| s.scorer == ScorerName::REWARD);
        assert!(given.clone().count() > 0 && given.clone().count() == rewards.len());
        assert!(given.clone().all(|(id, s)| rewards[id] == s.value));
        assert!(store.rewards(1, 7).await.unwrap().is_empty());
        let (id, again) = (scores[0].0, Score::new(ScorerName::REWARD, 0.125));
        store.write(1, 1, async |unit| unit.put_scores("h2", &[(id, again)]).await).await.unwrap();
        let repeated = store.rewards(1, 1).await.unwrap();
        assert_eq!((repeated.len(), repeated[&id]), (rewards.len(), Ok(0.125)), "the last counts");
        // Who is scored is asked by name and by hash; a failed score is one.
        let scored = async |scorer, hash: &str| store.scored(1, 1, &scorer, hash).await.unwrap();
        assert_eq!(scored(ScorerName::REWARD, "h1").await, rewards.keys().copied().collect());
        assert_eq!(scored(ScorerName::REWARD, "h2").await, [id].into());
        assert!(scored(ScorerName::VOTE, "h1").await.is_empty());
        assert!(scored(ScorerName::REWARD, "h3").await.is_empty());
        // Another spec covers nothing, except what was scored before there were specs.
        let by = async |scorer, spec: &ScorerSpec| {
            let scoring = Scoring { spec: Some(spec), ..Scoring::from("h1") };
            store.scored(1, 1, &scorer, scoring).await.unwrap()
        };
        assert_eq!(by(ScorerName::REWARD, &drive::spec("vote")).await, rewards.keys().copied().collect());
        assert!(by(ScorerName::REWARD, &drive::spec("head")).await.is_empty());
        assert_eq!(by(ScorerName::HEAD, &drive::spec("head")).await.len(), 16);
        let unscorable: Vec<_> =
            scores.iter().filter(|(_, s)| s.value == Err(ScoreError::NoAnswer)).collect();
        assert!(unscorable.len() == 4 && unscorable.iter().all(|(id, _)| id % 4 == 0));
    });
}

#[test]
fn a_later_scoring_is_a_regrade_with_a_number() {
    block_on(async {
        let (dir, path) = drive::finished().await;
        let store = Store::open(&path).await.unwrap();
        let spec = drive::spec("vote");
        assert_eq!(store.specs().await.unwrap(), std::slice::from_ref(&spec));
        assert_eq!((store.regrades(1, 1).await.unwrap(), store.regrades(1, 0).await.unwrap()), (1, 0));
        let id = store.scores(1, 1).await.unwrap()[0].0;
        let put = async |scoring: Scoring<'_>, value: f64| {
            store
                .write(1, 1, async |unit| {
                    unit.put_scores(scoring, &[(id, Score::new(ScorerName::REWARD, value))]).await
                })
                .await
        };
        // A phase that resumes may not score twice, nor may a regrade.
        let own = Scoring { spec: Some(&spec), ..Scoring::from("h1") };
        for regrade in [None, Some(1)] {
            let error = put(Scoring { regrade, ..own }, 0.5).await.unwrap_err().to_string();
            assert!(error.contains("already stored"), "{error}");
        }
        let other = drive::spec("head");
        for (scoring, value) in [
            (Scoring { regrade: Some(2), ..own }, 0.5),
            (Scoring { spec: Some(&other), ..own }, 0.25),
            (Scoring { spec: None, ..own }, 0.125),
        ] {
            put(scoring, value).await.unwrap();
            assert_eq!(store.rewards(1, 1).await.unwrap()[&id], Ok(value), "the last counts");
            let scores = store.scores(1, 1).await.unwrap();
            let found: Vec<_> =
                scores.iter().filter(|(t, s)| *t == id && s.scorer == ScorerName::REWARD).collect();
            assert_eq!(found, [&(id, Score::new(ScorerName::REWARD, value))]);
        }
        let error = put(Scoring { regrade: Some(0), ..own }, 0.5).await.unwrap_err().to_string();
        assert!(error.contains("numbered from 1"), "{error}");
        let false_hash = ScorerSpec { json: "{}".into(), ..other.clone() };
        let error = put(Scoring { spec: Some(&false_hash), ..own }, 0.5).await.unwrap_err().to_string();
        assert!(error.contains("the hash of its JSON is"), "{error}");
        let renamed = ScorerSpec { name: ScorerName::HEAD, ..other.clone() };
        let error = put(Scoring { spec: Some(&renamed), ..own }, 0.5).await.unwrap_err().to_string();
        assert!(error.contains("already stored, for the scorer `reward`"), "{error}");
        assert_eq!(store.specs().await.unwrap().len(), 2);
        store.close().await.unwrap();
        assert_eq!(verify(&path, dir.path()).await.unwrap().problems, Vec::<String>::new());
    });
}

#[test]
fn visits_pairs_losses_and_alarms() {
    block_on(async {
        let (_dir, path) = drive::finished().await;
        let store = Store::open(&path).await.unwrap();
        let trees = store.trees(1, 1, Purpose::Rollout).await.unwrap();
        assert!(trees.iter().all(|t| t.replayable && t.logprobs == LogprobKind::Raw));
        let searched: Vec<_> = trees.iter().filter(|t| t.tree.strategy == Strategy::Tot).collect();
        assert_eq!(searched.len(), 2);
        assert!(searched.iter().flat_map(|t| &t.tree.thoughts).all(|t| t.visits.is_some_and(|v| v < 3)));
        let measured = store.trees(1, 1, Purpose::Evaluation).await.unwrap();
        assert!(measured.iter().all(|t| !t.replayable && t.logprobs == LogprobKind::Processed));

        let selections = store.selections(1, 1).await.unwrap();
        let [a, b, c] = searched[0].trajectory_ids[..] else { panic!() };
        let of = |id: i64| selections.iter().find(|s| s.trajectory == id).unwrap();
        assert_eq!([a, b, c].map(|id| of(id).pair_of), [None, Some(a), Some(a)]);
        assert!(selections.iter().all(|s| s.advantage == Some(s.trajectory as f64 / 8.0 - 1.0)));
        assert!(selections.iter().all(|s| s.weight == s.reason.is_kept().then_some(0.75)));

        let steps = store.steps(1, 1).await.unwrap();
        assert_eq!(steps[1].losses, [("kl".to_owned(), 0.125), ("sft".to_owned(), 0.375)]);

        let alarms = store.alarms(1).await.unwrap();
        assert_eq!(alarms.iter().map(|a| a.iteration).collect::<Vec<_>>(), [None, Some(1)]);
        assert_eq!(alarms[1].phase, Some(Phase::Critique));
        let head_auc = drive::alarm(AlarmRule::HeadAuc, Some(0.5));
        assert_eq!((&alarms[1].alarm, alarms[1].at.as_str()), (&head_auc, NOW));
        let put = async |iteration, alarm: &Alarm| {
            store.put_alarm(1, iteration, Some(Phase::Critique), alarm, "later").await.unwrap()
        };
        assert!(!put(Some(1), &head_auc).await, "only its time differs");
        assert!(put(Some(2), &head_auc).await);
        assert!(put(Some(2), &Alarm { value: Some(f64::NAN), ..head_auc.clone() }).await);
        assert_eq!(store.alarms(1).await.unwrap()[3].alarm.value, None);
        let error = store.put_alarm(7, None, None, &head_auc, NOW).await.unwrap_err().to_string();
        assert!(error.contains("there is no run 7"), "{error}");
    });
}

#[test]
fn everything_else() {
    block_on(async {
        let (_dir, path) = drive::finished().await;
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.critic(1, 1, CriticStage::Bootstrap).await.unwrap(), Some(drive::critic("h0")));
        assert_eq!(store.critic(1, 2, CriticStage::Bootstrap).await.unwrap(), None);
        let stages: Vec<_> = store.critics(1).await.unwrap().into_iter().map(|(i, s, _)| (i, s)).collect();
        assert_eq!(stages, [(1, CriticStage::Bootstrap), (1, CriticStage::Annotated)]);

        let evaluations = store.evaluations(1).await.unwrap();
        assert_eq!(evaluations.len(), 4);
        assert_eq!(evaluations[1], (0, drive::evaluation("p0", Some(3))));
        assert_eq!(store.promotions(1).await.unwrap(), [(1, drive::promotion())]);
        assert_eq!(store.parity(1).await.unwrap(), [(1, ParityRow { max_abs_diff: 1e-6, tokens: 99 })]);

        let selections = store.selections(1, 1).await.unwrap();
        assert_eq!(selections.len(), 16);
        let kept: Vec<i64> = selections.iter().filter(|s| s.reason.is_kept()).map(|s| s.trajectory).collect();
        let steps = store.steps(1, 1).await.unwrap();
        assert_eq!(steps.iter().map(|s| s.step).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((&steps[1].examples, &steps[1].replayed), (&kept, &vec![task(0, Split::Easy).id]));
        assert_eq!((steps[1].loss, steps[1].learning_rate, steps[1].tokens), (0.5, 1e-3, 100));
        let detail = store.trajectory(kept[0]).await.unwrap().unwrap();
        assert_eq!(detail.steps, [(1, 1, 1), (1, 1, 2)]);
        assert_eq!((detail.run, detail.iteration, detail.purpose), (1, 1, Purpose::Rollout));
        assert_eq!(store.trajectory(12345).await.unwrap(), None);

        let checkpoints = store.checkpoints(1).await.unwrap();
        assert_eq!(checkpoints.len(), 2);
        assert_eq!(
            checkpoints[1].row,
            drive::checkpoint(path.parent().unwrap(), CheckpointKind::Candidate, 2)
        );
        store.forget_checkpoint(checkpoints[0].id, "retention").await.unwrap();
        store.forget_checkpoint(checkpoints[0].id, "another reason").await.unwrap();
        assert_eq!(store.checkpoints(1).await.unwrap()[0].removed_reason.as_deref(), Some("retention"));
        assert!(store.forget_checkpoint(99, "").await.unwrap_err().to_string().contains("no checkpoint 99"));
        let outside = CheckpointRow { path: "../elsewhere".into(), ..checkpoints[1].row.clone() };
        assert!(
            store
                .write(1, 1, async |unit| unit.put_checkpoint(&outside).await)
                .await
                .unwrap_err()
                .to_string()
                .contains("must be relative")
        );

        let seconds = store.phase_seconds(1).await.unwrap();
        assert_eq!(seconds.len(), 8);
        assert_eq!(seconds[0], (0, Phase::Evaluate, 1.5));
        assert!(seconds.is_sorted());
        assert_eq!(store.phases(1).await.unwrap()[1].detail, "done");

        let answers = store.answers(1, 1, Purpose::Evaluation).await.unwrap();
        assert_eq!(answers.len(), 12);
        assert_eq!(answers[3].address.to_string(), "7/evaluation/1/3/relations/train/000003");
        assert_eq!(answers[3].answer.as_deref(), Some("8"));

        store.put_event(Some(1), "info", "hello", NOW).await.unwrap();
        store.put_event(None, "alarm", "low disk", NOW).await.unwrap();
        assert_eq!(store.events(Some(1), 9).await.unwrap().len(), 1);
        assert_eq!(store.events(None, 9).await.unwrap()[0].message, "low disk");
        store.close().await.unwrap();
    });
}

#[test]
fn plans_and_sessions() {
    block_on(async {
        let (_dir, path) = drive::finished().await;
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.plans(1).await.unwrap(), [(1, drive::PLAN)].into());
        assert_eq!(store.worked_seconds(1).await.unwrap(), 0.0);
        for seconds in [2.0, 3.5] {
            let session = store.begin_session(1, NOW).await.unwrap();
            store.set_session_seconds(session, 1.0).await.unwrap();
            store.set_session_seconds(session, seconds).await.unwrap();
        }
        assert_eq!(store.worked_seconds(1).await.unwrap(), 5.5);
        for (run, session, seconds) in [(1, 2, 3.0), (2, 1, 9.0), (1, 7, 9.0), (1, 1, 4.0)] {
            store.extend_session(run, session, seconds).await.unwrap();
        }
        assert_eq!(store.worked_seconds(1).await.unwrap(), 7.5, "longer, of that run, and there");
    });
}

#[test]
fn a_control_arm_in_the_same_store() {
    block_on(async {
        let (_dir, store, run) = store().await;
        let control = NewRun { of_run: Some(run), ..new_run(Arm::Random) };
        let id = store.begin_run(&control).await.unwrap();
        assert_eq!(store.run_of_arm(Arm::Random).await.unwrap().unwrap().of_run, Some(run));
        assert_eq!(store.run(id).await.unwrap().unwrap().arm, Arm::Random);
        // The same address in another run is another tree.
        let tree = [chain(Purpose::Rollout, 1, 0, 3)];
        let first = store
            .write(run, 1, async |unit| unit.put_trees(Purpose::Rollout, "p0", &tree).await)
            .await
            .unwrap();
        let second = store
            .write(id, 1, async |unit| unit.put_trees(Purpose::Rollout, "p0", &tree).await)
            .await
            .unwrap();
        assert_ne!(first, second);
        let orphan = NewRun { of_run: Some(77), ..new_run(Arm::Random) };
        assert!(store.begin_run(&orphan).await.unwrap_err().to_string().contains("no such run"));
    });
}

mod any {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::{Strategy, any, prop};

    use super::*;

    fn thought() -> impl Strategy<Value = (Thought, prop::sample::Index, bool)> {
        let tokens = vec((any::<u32>(), any::<f32>()), 0..6);
        let value = option::of(any::<f32>().prop_filter("finite", |v| v.is_finite()));
        let pruned = option::of(prop::sample::select(PruneReason::ALL));
        let visits = option::of(any::<u32>());
        let text = ".{0,12}|[\\x00-\\x20'\"]{0,6}";
        let thought = (tokens, text, vec(any::<u16>(), 0..5), value, pruned, visits).prop_map(
            |(tokens, text, hidden_f16, value, pruned, visits)| {
                let (token_ids, logprobs) = tokens.into_iter().unzip();
                Thought { parent: None, token_ids, logprobs, text, hidden_f16, value, pruned, visits }
            },
        );
        (thought, any::<prop::sample::Index>(), any::<bool>())
    }

    /// Any tree that a rollout could give, but for the task, which must be stored.
    pub(super) fn tree() -> impl Strategy<Value = Tree> {
        let leaf =
            (any::<prop::sample::Index>(), prop::sample::select(FinishReason::ALL), option::of(".{0,6}"));
        let parts = (
            vec(thought(), 1..8),
            vec(leaf, 1..4),
            vec(any::<u32>(), 0..9),
            option::of(".{0,20}"),
            any::<u64>(),
            vec(any::<u32>(), 0..3),
        );
        parts.prop_map(|(thoughts, leaves, prompt_ids, question, seed, branch)| {
            let task_id = task(1, Split::Train).id;
            let count = thoughts.len();
            let thoughts = thoughts.into_iter().enumerate().map(|(i, (thought, parent, root))| {
                let parent = (i > 0 && !root).then(|| parent.index(i) as u32);
                Thought { parent, ..thought }
            });
            let variant = question.map(|question| Variant {
                address: Address::new(seed, Purpose::Variant, 3, &task_id, &branch),
                question,
            });
            Tree {
                address: Address::new(seed, Purpose::Rollout, 1, &task_id, &branch),
                strategy: autodidact_domain::Strategy::Tot,
                variant,
                task_id,
                prompt_ids,
                thoughts: thoughts.collect(),
                leaves: leaves
                    .into_iter()
                    .map(|(thought, finish, answer)| Leaf {
                        thought: thought.index(count) as u32,
                        finish,
                        answer,
                    })
                    .collect(),
            }
        })
    }
}

/// Floats as bits, so that NaN equals itself. A value of -0 comes back as 0: SQLite keeps no sign
/// of zero.
fn bits(tree: &Tree) -> String {
    let bits = |t: &Thought| t.logprobs.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let bits: Vec<_> = tree.thoughts.iter().map(bits).collect();
    let mut plain = tree.clone();
    for thought in &mut plain.thoughts {
        thought.logprobs.clear();
        thought.value = thought.value.map(|v| v + 0.0);
    }
    format!("{plain:?} {bits:?}")
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_tree(trees in proptest::collection::vec(any::tree(), 1..5)) {
        block_on(async {
            let (dir, store, run) = store().await;
            let mut seen = std::collections::HashSet::new();
            let trees: Vec<Tree> = trees.into_iter().filter(|t| seen.insert(t.address.to_string())).collect();
            let ids = store.write(run, 1, async |unit| unit.put_trees(Purpose::Rollout, "p0", &trees).await).await.unwrap();
            let stored = store.trees(run, 1, Purpose::Rollout).await.unwrap();
            assert_eq!(stored.len(), trees.len());
            for ((stored, tree), ids) in stored.iter().zip(&trees).zip(ids) {
                assert_eq!(bits(&stored.tree), bits(tree));
                assert_eq!(stored.trajectory_ids, ids);
                for (id, leaf) in ids.iter().zip(&tree.leaves) {
                    let text: String = sqlx::query_scalar("SELECT text FROM trajectory_text WHERE id = ?1")
                        .bind(id)
                        .fetch_one(&store.pool)
                        .await
                        .unwrap();
                    assert_eq!(text, tree.completion_text(leaf));
                }
            }
            assert_eq!(verify(store.path(), dir.path()).await.unwrap().problems, Vec::<String>::new());
        });
    }
}
