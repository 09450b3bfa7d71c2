use autodidact_testing::assert_refused;

use super::*;
use crate::domain::{Address, Purpose, Sampling};

const EOS: u32 = 2;
const NEWLINE: u32 = 9;

fn play() -> Play {
    Play {
        solution: vec![10, 11, NEWLINE, 12, 13, NEWLINE, 14, EOS],
        wrong: vec![vec![10, 11, NEWLINE, 20, 13, NEWLINE, 15, EOS], vec![30, NEWLINE, 16, EOS]],
    }
}

fn policy(skill: f64) -> Scripted {
    Scripted::new(Script::table([(vec![1, 5, 6], play())].into()), skill).unwrap()
}

fn stops() -> Stops {
    Stops { eos_ids: vec![EOS], boundary_ids: vec![NEWLINE], ..Stops::default() }
}

fn request(context: &[u32], branch: u32) -> Request {
    Request {
        context_ids: context.to_vec(),
        address: Address::new(3, Purpose::Rollout, 1, "t", &[branch]),
        sampling: Sampling { temperature: 1.0, ..Sampling::GREEDY },
        tokens_max: 100,
        stop_at_boundary: false,
    }
}

fn draw(policy: &Scripted, requests: &[Request]) -> Vec<Completion> {
    policy.generate(requests, &stops(), &|_| ()).unwrap()
}

#[test]
fn skill_is_the_share_of_right_completions() {
    let requests: Vec<_> = (0..2000).map(|i| request(&[1, 5, 6], i)).collect();
    let drawn = draw(&policy(0.3), &requests);
    let right = drawn.iter().filter(|c| c.token_ids == play().solution).count();
    assert!((540..660).contains(&right), "{right}");
    assert_eq!(drawn, draw(&policy(0.3), &requests));
    assert!(draw(&policy(1.0), &requests).iter().all(|c| c.token_ids == play().solution));
    assert!(draw(&policy(0.0), &requests).iter().all(|c| c.token_ids != play().solution));
}

#[test]
fn greedy_accuracy_over_prompts_is_the_skill() {
    let plays = (0..2000u32).map(|i| (vec![1, 1000 + i], play())).collect();
    let policy = Scripted::new(Script::table(plays), 0.25).unwrap();
    let greedy = |i: u32| Request { sampling: Sampling::GREEDY, ..request(&[1, 1000 + i], 0) };
    let drawn = draw(&policy, &(0..2000).map(greedy).collect::<Vec<_>>());
    let right = drawn.iter().filter(|c| c.token_ids == play().solution).count();
    assert!((440..560).contains(&right), "{right}");
}

#[test]
fn thought_by_thought_has_the_same_law_as_in_one_go() {
    let policy = policy(0.4);
    let mut right = 0;
    for i in 0..1000 {
        let mut context = vec![1, 5, 6];
        let mut round = 0;
        loop {
            let step = Request { stop_at_boundary: true, ..request(&context, i * 10 + round) };
            let drawn = draw(&policy, &[step]).remove(0);
            context.extend(&drawn.token_ids);
            round += 1;
            assert_eq!(drawn.boundaries.len(), 1);
            match drawn.finish {
                FinishReason::Boundary => assert_eq!(context.last(), Some(&NEWLINE)),
                FinishReason::Eos => break,
                other => panic!("{other}"),
            }
        }
        right += usize::from(context[3..] == play().solution);
    }
    assert!((350..450).contains(&right), "{right}");
}

#[test]
fn reading_gives_what_generating_gave() {
    let policy = policy(0.3);
    for branch in 0..20 {
        let drawn = draw(&policy, &[request(&[1, 5, 6], branch)]).remove(0);
        let ids = [&[1, 5, 6], drawn.token_ids.as_slice()].concat();
        let hidden_at = drawn.boundaries.iter().map(|b| 3 + b.end - 1).collect();
        let reading = policy.read(&[ReadRequest { ids, from: 3, hidden_at }]).unwrap().remove(0);
        assert_eq!(reading.logprobs, drawn.logprobs);
        let hidden: Vec<_> = drawn.boundaries.iter().map(|b| b.hidden_f16.clone()).collect();
        assert_eq!(reading.hidden_f16, hidden);
        assert_eq!(drawn.boundaries.last().unwrap().end, drawn.token_ids.len());
        assert!(hidden.iter().all(|h| h.len() == 8));
    }
    assert_eq!(policy.capabilities(), Capabilities::ALL);
    let blind = policy.with_hidden_size(0);
    assert_eq!(blind.capabilities(), Capabilities { hidden: false, ..Capabilities::ALL });
    let drawn = draw(&blind, &[request(&[1, 5, 6], 0)]).remove(0);
    assert!(drawn.boundaries.iter().all(|b| b.hidden_f16.is_empty()));
}

#[test]
fn log_probs_of_all_completions_sum_to_one() {
    let policy = policy(0.3);
    let play = play();
    let total: f64 = std::iter::once(&play.solution)
        .chain(&play.wrong)
        .map(|line| {
            let ids = [&[1, 5, 6], line.as_slice()].concat();
            let reading = policy.read(&[ReadRequest { ids, from: 3, hidden_at: vec![] }]).unwrap().remove(0);
            reading.logprobs.iter().map(|&l| f64::from(l)).sum::<f64>().exp()
        })
        .sum();
    assert!((total - 1.0).abs() < 1e-5, "{total}");
}

#[test]
fn limits_and_stops_are_honoured() {
    let policy = policy(1.0);
    let short = Request { tokens_max: 4, ..request(&[1, 5, 6], 0) };
    let drawn = draw(&policy, std::slice::from_ref(&short)).remove(0);
    assert_eq!((drawn.token_ids.len(), drawn.finish), (4, FinishReason::TokensMax));
    assert_eq!(drawn.boundaries.iter().map(|b| b.end).collect::<Vec<_>>(), [3, 4]);

    let full = draw(&policy.clone().with_context_max(8), &[request(&[1, 5, 6], 0)]).remove(0);
    assert_eq!((full.token_ids.len(), full.finish), (5, FinishReason::ContextFull));

    let bytes = (0..40u8).map(|i| vec![b'a' + i % 26]).collect();
    let with_string = Stops { strings: vec![b"lj".to_vec()], token_bytes: Arc::new(bytes), ..stops() };
    let drawn = policy.generate(&[request(&[1, 5, 6], 0)], &with_string, &|_| ()).unwrap().remove(0);
    assert_eq!((drawn.token_ids, drawn.finish), (vec![10, 11, NEWLINE], FinishReason::StopString));
    let unknown = policy.generate(&[request(&[7], 0)], &stops(), &|_| ());
    assert_refused(unknown, "the script has no play for this context");
}

#[test]
fn unforeseen_text_is_improbable_and_ends() {
    let policy = policy(0.5);
    let ids = vec![1, 5, 6, 77, 78];
    let reading = policy.read(&[ReadRequest { ids: ids.clone(), from: 3, hidden_at: vec![4] }]).unwrap();
    assert_eq!(reading[0].logprobs, [LOGPROB_FLOOR; 2]);
    assert_eq!(draw(&policy, &[request(&ids, 0)])[0].token_ids, [EOS]);
}

#[test]
fn improving_raises_the_skill_and_changes_the_hash() {
    let base = policy(0.3);
    let better = base.improved(200);
    assert!(better.skill() > 0.5 && better.skill() < 1.0, "{}", better.skill());
    assert_eq!(better.version(), 1);
    assert_ne!(base.policy_hash(), better.policy_hash());
    assert_ne!(base.policy_hash(), base.improved(0).policy_hash());
    assert_eq!(base.policy_hash(), policy(0.3).policy_hash());
}

#[test]
fn a_play_without_wrong_lines_is_cut_in_the_middle() {
    let play = Play { wrong: vec![], ..play() };
    let policy = Scripted::new(Script::table([(vec![1], play)].into()), 0.0).unwrap();
    assert_eq!(draw(&policy, &[request(&[1], 0)])[0].token_ids, [10, 11, NEWLINE, EOS]);
}
