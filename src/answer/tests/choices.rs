//! Options by their letter.

use super::*;

#[test]
fn the_letter_that_stands_first_is_claimed() {
    reads(
        TaskKind::Choice,
        &[
            ("The answer is B, since (A) is too small.", "B"),
            ("The answer is (B) since A is too small.", "B"),
            ("The answer is B. A is too small.", "B"),
            ("Answer: C, not (A) or (B).", "C"),
            ("Answer: C rather than A", "C"),
            ("The answer is C (A and B are too small).", "C"),
            ("The answer is D because it is the largest.", "D"),
            ("The answer is D as it is the largest.", "D"),
            ("Answer: B - mitochondria", "B"),
            ("Answer: B – mitochondria", "B"),
            ("Answer: B: mitochondria", "B"),
            ("Answer: B) mitochondria", "B"),
            ("Answer: (B) vitamin C", "B"),
            ("Answer: [B] a cell", "B"),
            ("The correct option is C.", "C"),
            ("Correct option: C", "C"),
            ("The right choice is (C).", "C"),
            ("The correct alternative is C.", "C"),
            ("So the answer must be C.", "C"),
            ("The answer should be C.", "C"),
            ("The answer has to be option C.", "C"),
            ("So B is correct.", "B"),
            ("Therefore, (B) is the correct answer.", "B"),
            ("Thus option B is the best.", "B"),
            ("Hence B must be correct.", "B"),
            ("The best choice is B.", "B"),
            ("I choose (B).", "B"),
            ("I would go with B.", "B"),
            ("The answer is: \n(C)", "C"),
            ("The answer is\n\nC", "C"),
            ("**Final Answer**\n\n(C) Paris", "C"),
            ("b. 4", "B"),
            ("b) 4", "B"),
            ("B: 4", "B"),
            ("\\(B\\)", "B"),
            ("$B$", "B"),
            ("$\\text{B}$", "B"),
            ("[B]", "B"),
            ("**B**", "B"),
            ("`B`", "B"),
            ("*B*", "B"),
            ("\"B\"", "B"),
            ("B.", "B"),
            ("<answer>B</answer>", "B"),
            ("$\\boxed{\\textbf{(B) } 5}$", "B"),
            ("\\boxed{\\mathrm{B}}", "B"),
            ("\\boxed{(B)}", "B"),
            ("The answer is **(B)**, the boot.", "B"),
            ("The answer is \"B\".", "B"),
            ("The answer is option (B).", "B"),
            ("The answer is not A but B.", "B"),
            ("The answer is A. Wait, the answer is B.", "B"),
            ("Answer: A\nOn reflection, B is correct.", "B"),
            ("The final answer is $\\boxed{D}$.", "D"),
            ("ANSWER: b", "B"),
            ("The answer is （B）", "B"),
            ("So the correct answer is B. Hope that helps!", "B"),
            ("The answer is B, i.e., Paris", "B"),
            ("Answer: I", "I"),
            ("Answer: (D) both A and B", "D"),
            ("The answer is (D) A and B.", "D"),
            ("The answer is D) all of A, B and C", "D"),
        ],
    );
}

#[test]
fn several_letters_or_none_are_no_answer() {
    reads(
        TaskKind::Choice,
        &[
            ("The answer is (A) or (B).", ""),
            ("The answer is A or B.", ""),
            ("The answer is either A or B.", ""),
            ("The answer is (A) Paris or (B) London.", ""),
            ("The answer is A/B.", ""),
            ("The answer is (A) vitamin C or (B) vitamin D.", ""),
            ("The answer is A, B and C.", ""),
            ("The answer is A and C", ""),
            ("The answer is A (or B).", ""),
            ("Answer: A & B", ""),
            ("both (A) and (C)", ""),
            ("The answer is both (A) and (C)", ""),
            ("Both A and C are correct.", ""),
            ("A and C are correct.", ""),
            ("The answer is \\boxed{A} or \\boxed{B}", ""),
            ("\\boxed{A, B}", ""),
            ("The answer is not (A).", ""),
            ("The answer isn't A.", ""),
            ("The answer is neither A nor B.", ""),
            ("The answer is all of the above.", ""),
            ("The answer cannot be determined.", ""),
            ("The answer cannot be B.", ""),
            ("A bus is long (b) and wide.", ""),
            ("First look at (A), then at", ""),
            ("I like option A and", ""),
            ("(A) 3\n(B) 4", ""),
            ("A. 3\nB. 4\nC. 5", ""),
            ("The answer is A car boot", ""),
            ("The answer is a car boot", ""),
            ("A car is fast.", ""),
            ("I am not sure.", ""),
            ("The answer is", ""),
            ("", ""),
            ("<think>So the answer is B. But wait,", ""),
        ],
    );
}

#[test]
fn golds_are_letters_or_unreadable() {
    for (text, letter) in [
        ("B", Some("B")),
        ("b", Some("B")),
        ("(B)", Some("B")),
        ("B.", Some("B")),
        ("B)", Some("B")),
        ("(B) Paris", Some("B")),
        ("Paris", None),
        ("A car", None),
        ("A or B", None),
        ("", None),
        ("1", None),
    ] {
        assert_eq!(gold(TaskKind::Choice, text).as_deref(), letter, "{text:?}");
    }
}

#[test]
fn an_option_may_be_named_by_its_text() {
    let options = ["Paris".to_owned(), "Rome".to_owned(), "rome".to_owned()];
    assert_eq!(option_named("The answer is Paris.", &options).as_deref(), Some("A"));
    assert_eq!(option_named("The answer is Rome.", &options), None);
    assert_eq!(option_named("The answer is Oslo.", &options), None);
}
