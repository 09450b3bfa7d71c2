//! Words, and texts that may be numbers.

use super::*;

#[test]
fn words_are_read_without_their_dress() {
    reads(
        TaskKind::Exact,
        &[
            ("The answer is \"No\".", "no"),
            ("`No`.", "no"),
            ("\\boxed{\\text{No}}", "no"),
            ("The answer is No, because it is late.", "no"),
            ("The answer is No because it is late.", "no"),
            ("The answer is No. It is late.", "no"),
            ("The answer is No, it is late.", "no"),
            ("Answer: No - it is late", "no"),
            ("$\\boxed{\\text{True}}$", "true"),
            ("\\(\\boxed{\\textbf{True}}\\)", "true"),
            ("The answer is **True**.", "true"),
            ("The answer is *True*", "true"),
            ("The answer is “True”.", "true"),
            ("**Answer:** `True`", "true"),
            ("Answer:\nTrue", "true"),
            ("<answer>True</answer>", "true"),
            ("The answer is apple, fig, pear.", "apple fig pear"),
            ("The answer is apple, since, pear", "apple since pear"),
            ("The answer is St. Louis.", "st. louis"),
            ("The answer is ] ) }.", "] ) }"),
            ("The answer is ] > )", "] > )"),
            ("So the answer is not plausible.", "not plausible"),
            ("<think>No</think>Yes", "yes"),
            ("<think>No", ""),
        ],
    );
}

#[test]
fn free_text_is_a_number_where_it_is_one() {
    reads(
        TaskKind::Text,
        &[
            ("**Answer:** 42", "42"),
            ("**Final Answer:** 42", "42"),
            ("### Answer: 42", "42"),
            ("- Answer: 42", "42"),
            ("Answer:\n42", "42"),
            ("The answer is 42 apples.", "42"),
            ("The answer is $42 per day.", "42"),
            ("The answer is (42)", "42"),
            ("Thus 6*7 = 42", "42"),
            ("The answer is x = 42", "42"),
            ("<think>\nMaybe the answer is 5.\n</think>\n\nShe has **7** apples.", "7"),
            ("<think>\nSo the answer is 7. But wait,", ""),
            ("The answer is 2.5 million", "2500000"),
            ("The answer is 1,234.50", "1234.5"),
            ("\\boxed{\\frac{1}{2}}", "0.5"),
            ("The answer is Paris, because it is the capital.", "paris"),
            ("The answer is **Paris**.", "paris"),
            ("Answer: \"Paris\"", "paris"),
            ("\\boxed{\\text{Paris}}", "paris"),
            ("THE ANSWER IS: (B).", "b"),
            ("first\n  Blue   Whale! \n", "blue whale"),
            ("The answer is (A) or (B).", ""),
            ("The answer is 5 or 6.", ""),
            ("The answer is 12 May 1990.", "12 may 1990"),
        ],
    );
}
