//! The arithmetic of phases and shares. Nothing here starts recording: what is recorded is tested in a process of its
//! own, so that these tests also show that nothing is without a clock.

use super::timeline::Moment;
use super::*;

fn totals(operator: Operator, ns: u64, flops: u64) -> Totals {
    let mut totals = Totals::default();
    totals.operators[operator as usize] = Count { ns, spans: 1, flops: [flops, 0], bytes: 8 };
    totals
}

fn machine() -> Machine {
    let peak = Peak { unit: Unit::F32, one_thread_flops_per_s: 150.0, all_threads_flops_per_s: 200.0 };
    let memory = Bandwidth { one_thread_bytes_per_s: 1.0, all_threads_bytes_per_s: 2.0 };
    Machine { threads: 2, instruction_set: "paper".to_owned(), peaks: vec![peak], memory }
}

#[test]
fn without_a_clock_nothing_is_recorded() {
    {
        let _outer = span(Operator::Text);
        let _name = named(Operator::Optimizer);
        let product = product(|| unreachable!("work is not computed, either"));
        let _piece = product.pieces().span();
        work(Operator::Norm, || unreachable!("nor here"));
        tokens(Tokens::Drawn, 7);
    }
    assert!(!is_on() && now() == 0);
    assert!(super::totals() == Totals::default() && thread_totals() == Totals::default());
}

#[test]
fn work_follows_its_formula() {
    let work = Work::product(Unit::F32, [3, 7, 5], 140);
    assert_eq!((work.flops, work.bytes), (2 * 3 * 7 * 5, 140));
    // Scores and values of 6 keys by 4 heads of 8; keys and values of 2 heads.
    let work = Work::attention(2, [4, 2, 8], 6, 4);
    assert_eq!((work.flops, work.bytes), (4 * 4 * 8 * 6, 2 * 4 * 2 * 8 * 6));
}

#[test]
fn a_timeline_has_no_gaps_and_merges_what_comes_again() {
    let at = |ns, totals| Moment { ns, cpu_ns: Some(2 * ns), totals };
    let mut timeline = Timeline::from(at(100, Totals::default()));
    timeline.close(None, "open", at(110, Totals::default()));
    timeline.cut("update", at(115, Totals::default()));
    timeline.cut("checkpoint", at(135, totals(Operator::Norm, 6, 0)));
    timeline.cut("update", at(136, totals(Operator::Norm, 6, 0)));
    timeline.close(Some(1), "train", at(150, totals(Operator::Norm, 9, 4)));
    let seen: Vec<_> = timeline
        .segments()
        .iter()
        .map(|s| (s.iteration, s.phase.as_str(), s.part.as_str(), s.ns, s.totals.of(Operator::Norm).ns))
        .collect();
    let expected = [
        (None, "open", "", 10, 0),
        (Some(1), "train", "", 5, 0),
        (Some(1), "train", "update", 34, 9),
        (Some(1), "train", "checkpoint", 1, 0),
    ];
    assert_eq!(seen, expected);
    assert_eq!(timeline.segments().iter().map(|s| s.cpu_ns.unwrap()).sum::<u64>(), 100);
}

#[test]
fn shares_are_of_all_threads_and_of_their_peak() {
    let second = 1_000_000_000;
    let segment = |phase: &str, ns, totals| Segment {
        iteration: Some(1),
        phase: phase.to_owned(),
        part: String::new(),
        ns,
        cpu_ns: None,
        totals,
    };
    let segments = [
        segment("rollout", second, totals(Operator::LinearForward, second, 50)),
        segment("store", second, totals(Operator::Store, second / 2, 0)),
    ];
    let report = Report::of(&machine(), &segments);
    assert_eq!((report.seconds, report.flops, report.other_seconds), (2.0, 50, 2.5));
    // 50 operations in 2 seconds of a machine that does 200 a second.
    assert_eq!(report.of_peak, Some(0.125));
    let [rollout, store] = &report.phases[..] else { panic!("{report:?}") };
    assert_eq!((rollout.other_seconds, rollout.of_peak), (1.0, Some(0.25)));
    // One of two threads, at half of its 100 a second.
    let linear = rollout.operators[0];
    assert_eq!((linear.share, linear.flops_per_s, linear.of_peak), (0.5, 50.0, Some(0.5)));
    assert_eq!((store.of_peak, store.operators[0].share), (None, 0.25));
    assert!(report.operators.is_sorted_by(|a, b| a.seconds >= b.seconds));
    let json = serde_json::to_string(&report).unwrap();
    assert!(serde_json::from_str::<Report>(&json).unwrap() == report, "as it was written");
}
