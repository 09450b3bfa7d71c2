//! Lists over the fixture's store: trajectories by verdict, tasks, updates, events.

use super::*;
use crate::store::{StepRow, Store};

const NOW: &str = "2026-11-21T22:00:00Z";

#[test]
fn verdicts_choose_trajectories_in_pages() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let filter =
            TrajectoryFilter { run: Some(fixture.run), kept: Some(true), ..TrajectoryFilter::default() };
        let page = async |right, window| {
            trajectories(&fixture.store, &filter, Some(right), window, VERDICT).await.unwrap()
        };
        let wrong = page(false, Window::first(3)).await;
        let found = |page: &Page<TrajectoryLine>| page.items.iter().map(|l| l.trajectory).collect::<Vec<_>>();
        assert_eq!((found(&wrong), wrong.total, wrong.next), (vec![ids[1], ids[4], ids[7]], 4, Some(ids[7])));
        let rest = page(false, Window { after: wrong.next, limit: 3 }).await;
        assert_eq!((found(&rest), rest.total, rest.next), (vec![ids[10]], 4, None));
        let right = page(true, Window::first(4)).await;
        assert_eq!((found(&right), right.next), (vec![ids[0], ids[3], ids[6], ids[9]], None));
        assert_eq!(right.items[0].text, "Paul minus 5 is Tina 11\nA: 11");
        let unseen = TrajectoryFilter { kept: Some(false), ..filter.clone() };
        let dropped = trajectories(&fixture.store, &unseen, None, Window::first(99), VERDICT).await.unwrap();
        assert_eq!(dropped.total, 4, "what selection has seen only");
    });
}

#[test]
fn a_task_has_shares_of_answers() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let id = super::fixture::task(Split::Train, 1).id;
        let report = crate::report::task(&fixture.store, fixture.run, &id, VERDICT).await.unwrap();
        let [group] = &report.attempts[..] else { panic!("{:?}", report.attempts) };
        assert_eq!((group.iteration, group.purpose, group.n), (1, Purpose::Rollout, 3));
        assert_eq!((group.right, group.kept), (Some(1), 2));
        assert_eq!(group.trajectories, ids[3..6]);
        let answers: Vec<_> =
            group.answers.iter().map(|a| (a.answer.as_deref(), a.n, a.kept, a.example)).collect();
        assert_eq!(answers, [(Some("11"), 1, 1, ids[3]), (Some("12"), 1, 1, ids[4]), (None, 1, 0, ids[5])]);
        let verdicts: Vec<_> = group.answers.iter().map(|answer| answer.correct).collect();
        assert_eq!(verdicts, [Some(true), Some(false), Some(false)]);
        let error = known_task(&fixture.store, "000001").await.unwrap_err().to_string();
        assert!(error.contains("did you mean relations/heldout/000001, "), "{error}");
    });
}

#[test]
fn updates_have_their_figures() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let step = StepRow {
            step: 4,
            loss: 0.25,
            losses: vec![("kl".into(), 0.05), ("sft".into(), 0.2)],
            tokens: 20,
            target_tokens: 10,
            grad_norm: 1.5,
            learning_rate: 1e-4,
            examples: vec![ids[0], ids[1]],
            replayed: vec![super::fixture::task(Split::Train, 0).id],
        };
        fixture.store.write(fixture.run, 1, async |unit| unit.put_steps(&[step]).await).await.unwrap();
        let report = steps(&fixture.store, fixture.run, None).await.unwrap();
        assert_eq!(report.steps.len(), 2);
        let expected = json!({
            "iteration": 1, "step": 4, "loss": 0.25, "losses": {"kl": 0.05, "sft": 0.2},
            "learning_rate": 1e-4, "grad_norm": 1.5, "tokens": 20, "target_tokens": 10,
            "trajectories": [ids[0], ids[1]], "replayed": ["relations/train/000000"],
        });
        assert_eq!(json(&report)["steps"][1], expected);
        assert_eq!(steps(&fixture.store, fixture.run, Some(1)).await.unwrap(), report);
        assert!(steps(&fixture.store, fixture.run, Some(0)).await.unwrap().steps.is_empty());
        let error = steps(&fixture.store, fixture.run, Some(5)).await.unwrap_err().to_string();
        assert!(error.contains("its last is 2"), "{error}");
    });
}

async fn raise(store: &Store, run: i64, message: &str, at: &str) {
    let alarm = Alarm {
        rule: AlarmRule::HeadAuc,
        value: Some(0.5),
        threshold: Some(0.6),
        action: AlarmAction::HeadMuted,
        message: message.into(),
    };
    store.put_alarm(run, Some(1), Some(Phase::Critique), &alarm, at).await.unwrap();
    // As the loop does.
    store.put_event(Some(run), "warning", message, at).await.unwrap();
}

#[test]
fn events_come_in_order_of_time_and_alarms_once() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let (store, run) = (&fixture.store, fixture.run);
        raise(store, run, "The head has no vote.", "2026-11-21T22:10:00Z").await;
        store.put_event(Some(run), "info", "3 rows were removed", "2026-11-21T22:05:00Z").await.unwrap();
        store.put_event(Some(fixture.control), "info", "another run's", NOW).await.unwrap();
        let report = events(store, run, None).await.unwrap();
        let kinds: Vec<&str> = report.events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["began", "info", "alarm"]);
        let alarm = &report.events[2];
        assert_eq!((alarm.iteration, alarm.phase), (Some(1), Some(Phase::Critique)));
        assert_eq!((alarm.value, alarm.threshold), (Some(0.5), Some(0.6)));
        let phases: Vec<_> = report.phases.iter().map(|p| (p.iteration, p.phase)).collect();
        assert_eq!(phases[..2], [(0, Phase::Evaluate), (1, Phase::Evaluate)]);
        let one = events(store, run, Some(1)).await.unwrap();
        assert_eq!((one.events.len(), one.phases.len()), (1, 2), "{one:?}");
        store
            .set_run_state(run, RunState::Stopped, Some("out of time"), "2026-11-21T23:00:00Z")
            .await
            .unwrap();
        let last = events(store, run, None).await.unwrap().events.pop().unwrap();
        assert_eq!((last.kind.as_str(), last.message.as_str()), ("stopped", "out of time"));
    });
}
