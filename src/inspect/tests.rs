//! What is drawn of reports over a store that holds one run and its random control.

use super::*;
use crate::domain::*;
use crate::report;
use crate::report::tests::fixture::{Fixture, VERDICT, block_on, forked};
use crate::report::{RunsReport, TrajectoryReport};

const PLAIN: Style = Style { color: false, width: None };
const COLOR: Style = Style { color: true, width: None };

#[track_caller]
fn shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

/// A trajectory of the fixture, by its place among the rollouts, with or without the tokens' texts.
async fn of_rollouts(place: usize, token_text: Option<report::TokenText<'_>>) -> TrajectoryReport {
    let (fixture, ids) = Fixture::complete().await;
    report::trajectory(&fixture.store, ids[place], token_text, VERDICT).await.unwrap()
}

#[test]
fn a_run_is_a_table_of_its_iterations() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let text = run(&report::run(&fixture.store, fixture.run, VERDICT).await.unwrap(), &PLAIN);
        shows(
            &text,
            &["+50.0 points", "90.0 [", "0.88   0.06       –", "2e-6", "against random", "never reads"],
        );
        shows(&text, &["next: bootstrap of iteration 1"]);
        assert!(!text.contains('\x1b'), "{text:?}");
    });
}

#[test]
fn a_run_that_has_just_begun_can_be_drawn_however_narrow() {
    block_on(async {
        let fixture = Fixture::new().await;
        fixture.evaluate(fixture.run, 0, 16).await;
        let begun = report::run(&fixture.store, fixture.run, VERDICT).await.unwrap();
        let text = run(&begun, &Style { color: true, width: Some(20) });
        assert!(!text.contains("pass@1"), "{text}");
    });
}

#[test]
fn runs_are_listed() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let text = runs(&RunsReport::gather(&fixture.store).await.unwrap(), &PLAIN);
        shows(&text, &["40.0 → 90.0", "random (control of 1)", "2 of 2"]);
        let none = RunsReport { runs: Vec::new() };
        assert_eq!(runs(&none, &PLAIN), "no runs yet; `autodidact run` begins one\n");
    });
}

#[test]
fn an_iteration_shows_why_and_how_well() {
    block_on(async {
        let (fixture, _) = Fixture::complete().await;
        let drawn =
            async |n| iteration(&report::iteration(&fixture.store, 1, n, VERDICT).await.unwrap(), &PLAIN);
        let text = drawn(1).await;
        shows(&text, &["promoted: gate gain +12.5", "9: 90  10: 90", "pass@4", "annotated"]);
        shows(&text, &["1.000", "█        █"]);
        let base = drawn(0).await;
        assert!(!base.contains("trajectories for") && base.contains("held"), "{base}");
    });
}

#[test]
fn a_trajectory_tells_its_story() {
    block_on(async {
        let text = trajectory(&of_rollouts(0, None).await, &PLAIN);
        shows(&text, &["Paul minus 5 is Tina 11", "right (reads gold)", "vote", "0.9000", "kept in"]);
        shows(&text, &["steps 3 of iteration 1"]);
        assert!(!text.contains('\x1b'));
        // Output of a policy can't command the terminal.
        let silent = trajectory(&of_rollouts(2, None).await, &PLAIN);
        shows(&silent, &["A: \\u{1b}[2J", "wrong (reads gold)", "no_answer"]);
    });
}

#[test]
fn heat_is_shown_token_by_token_where_texts_are_known() {
    block_on(async {
        let byte = |id: u32| Some(char::from_u32(id)?.to_string());
        let text = trajectory(&of_rollouts(0, Some(&byte)).await, &COLOR);
        assert!(text.contains("Paul minus \x1b[31m5\x1b[0m is Tina 11\n"), "{text:?}");
        let whole = trajectory(&of_rollouts(0, None).await, &COLOR);
        assert!(whole.contains("Paul minus 5 is Tina 11"), "{whole:?}");
    });
}

#[test]
fn a_tree_is_an_outline_that_indents_only_at_forks() {
    block_on(async {
        let fixture = Fixture::new().await;
        let ids = fixture
            .store
            .write(1, 1, async |unit| unit.put_trees(Purpose::Rollout, "p", &[forked()]).await)
            .await
            .unwrap()
            .concat();
        let report = report::trajectory(&fixture.store, ids[0], None, VERDICT).await.unwrap();
        let text = trajectory(&report, &PLAIN);
        let outline: Vec<&str> = text.lines().filter_map(|line| line.split("0.50  ").nth(1)).collect();
        let other = format!("   A: 12  ↳ trajectory {}", ids[1]);
        assert_eq!(outline, ["root", "├─ left", "│  A: 11", "└─ right  ✗ pruned: beam", &other]);
    });
}

const NARROW: Style = Style { color: false, width: Some(80) };

/// The lists at 80 columns: what they show, and that no line is longer.
#[test]
fn lists_fit_eighty_columns() {
    block_on(async {
        let (fixture, ids) = Fixture::complete().await;
        let store = &fixture.store;
        let filter = crate::store::TrajectoryFilter { run: Some(fixture.run), ..Default::default() };
        let window = crate::store::Window { after: Some(ids[0] - 1), limit: 2 };
        let page = report::trajectories(store, &filter, None, window, VERDICT).await.unwrap();
        let list = trajectories(&page, "again", &NARROW);
        let more = format!("again --after {}", ids[1]);
        shows(&list, &["verdict", " yes ", " no ", "kept", "no room for: text (", &more]);
        let wide = trajectories(&page, "again", &PLAIN);
        shows(&wide, &["Paul minus 5 is Tina 11⏎A: 11"]);
        let task_report = report::task(store, fixture.run, &page.items[0].task, VERDICT).await.unwrap();
        let one = task(&task_report, &NARROW);
        shows(&one, &["gold 11", "1 of 3", "33.3", "–"]);
        let updates = steps(&report::steps(store, fixture.run, None).await.unwrap(), 40, &NARROW);
        shows(&updates, &["0.5000", "loss in nats", "1 update\n"]);
        let happened = events(&report::events(store, fixture.run, None).await.unwrap(), 50, &NARROW);
        shows(
            &happened,
            &["2026-11-21 22:00:00  began", "planned iterations: 2", "what it came to", "promote"],
        );
        for text in [list, one, updates, happened] {
            let long = text.lines().find(|line| line.chars().count() > 80);
            assert_eq!(long, None, "{text}");
        }
    });
}

#[test]
fn updates_are_spread_over_each_iteration() {
    let update = |iteration, step| report::UpdateLine {
        iteration,
        step,
        loss: 0.5,
        losses: Default::default(),
        learning_rate: 1e-4,
        grad_norm: 1.0,
        tokens: 2000,
        target_tokens: 1000,
        trajectories: vec![1],
        replayed: Vec::new(),
    };
    let all = (1..=2).flat_map(|iteration| (1..=10).map(move |step| update(iteration, step))).collect();
    let text = steps(&report::StepsReport { run: 1, steps: all }, 5, &PLAIN);
    let shown: Vec<(u32, u32)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect();
    assert_eq!(shown, [(1, 1), (1, 5), (1, 9), (1, 10), (2, 1), (2, 5), (2, 9), (2, 10)]);
    shows(&text, &["8 of 20 updates, evenly spread; --limit 20 shows all", "2,000"]);
}
