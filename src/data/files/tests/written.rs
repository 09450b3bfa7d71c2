//! Rows as people write them: odd targets, several lines, bare boxes, repetitions.

use super::*;

#[test]
fn an_odd_target_costs_one_row_and_not_the_kind_of_all() {
    let example = |index: usize, target: &str| {
        let input = format!("Which film is number {index}?\nOptions:\n(A) Heat\n(B) Jaws\n(C) Jaws");
        serde_json::json!({ "input": input, "target": target })
    };
    let mut examples: Vec<_> = (0..60).map(|i| example(i, ["(A)", "(B)", "(C)"][i % 3])).collect();
    examples[7] = example(7, "Heat");
    examples[8] = example(8, "Jaws");
    examples[9] = example(9, "Alien");
    let contents = serde_json::json!({ "examples": examples });
    let (tasks, report) = read_files(&config(&[]), vec![file("films.json", contents.to_string())]).unwrap();
    assert_eq!(tasks.len(), 58);
    assert!(tasks.iter().all(|task| task.kind == TaskKind::Choice));
    let seven = tasks.iter().find(|task| task.question.contains("number 7?")).unwrap();
    assert_eq!(seven.answer.as_deref(), Some("A"), "the text of one option");
    assert_eq!(report.odd.len(), 2, "{:?}", report.odd);
    assert!(
        report.odd[0].contains("example 9: the target \"Jaws\" is none of its options"),
        "{:?}",
        report.odd
    );
}

#[test]
fn objects_may_go_over_several_lines_and_levels_be_written_in_several_ways() {
    let row = |i: usize, level: &str| {
        let level = if level.is_empty() { String::new() } else { format!(",\n  \"level\": {level}") };
        format!("{{\n  \"question\": \"What is {i}?\",\n  \"answer\": \"{i}\"{level}\n}}\n")
    };
    let levels = ["", "null", "2", "3.0", "\"4\"", "\"Level 5\""];
    let text: String = (0..60).map(|i| row(i, levels[i % 6])).collect();
    let tasks = read(&text, "tasks.jsonl", 1).unwrap();
    let expected = |question: &str| {
        let i: usize = question.trim_start_matches("What is ").trim_end_matches('?').parse().unwrap();
        [1, 1, 2, 3, 4, 5][i % 6]
    };
    assert_eq!(tasks.len(), 60);
    assert!(tasks.iter().all(|task| task.level == expected(&task.question)));
    let error = problem(&(row(0, "") + &row(1, "\"high\"")));
    assert!(error.contains("line 5: the level is \"high\""), "{error}");
    let broken = row(0, "") + "{ \"question\": ";
    assert!(problem(&broken).contains("line 1"), "{}", problem(&broken));
}

#[test]
fn a_box_without_braces_is_an_answer() {
    for (solution, answer) in [
        ("so $\\boxed 2$", "2"),
        ("so $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("first $\\boxed{1}$, then $\\boxed 3$", "3"),
    ] {
        let row =
            |i: usize| serde_json::json!({ "problem": format!("p {i}?"), "solution": solution }).to_string();
        let text: String = (0..60).map(|i| row(i) + "\n").collect();
        let tasks = read(&text, "math.jsonl", 1).unwrap();
        assert!(tasks.iter().all(|task| task.answer.as_deref() == Some(answer)), "{solution}");
    }
}

#[test]
fn a_repeated_question_with_another_answer_is_named_by_line() {
    let row = |question: &str, answer: &str| serde_json::json!({ "question": question, "answer": answer });
    let rows = [row("1 + 1?", "2"), row("2 + 2?", "4"), row("1 + 1?", "3"), row("2 + 2?", "4")];
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let error = problem(&text);
    assert!(
        error.contains("line 3: the same question as line 1, with the answer \"3\" instead of \"2\""),
        "{error}"
    );
    assert!(error.contains("line 4: the same question as line 2: "), "{error}");
}

#[test]
fn a_small_packed_file_of_many_rows_is_refused() {
    use std::io::Write as _;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let rows = "{}\n".repeat(1000);
    (0..=lines::ROWS_MAX / 1000).for_each(|_| packed.write_all(rows.as_bytes()).unwrap());
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 1 << 20);
    let packed = SourceFile { name: "bomb.gz".into(), contents: packed, heldout: false, rows: Vec::new() };
    let error = format!("{:#}", read_files(&config(&[]), vec![packed]).unwrap_err());
    assert!(error.contains("bomb.gz") && error.contains("more than 1000000 rows"), "{error}");
    let list = format!("[{}{{}}]", "{},".repeat(lines::ROWS_MAX));
    let error = format!("{:#}", read_files(&config(&[]), vec![file("list.json", list)]).unwrap_err());
    assert!(error.contains("list.json") && error.contains("more than 1000000 rows"), "{error}");
}
