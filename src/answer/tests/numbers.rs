//! Numbers by their value.

use super::*;

#[test]
fn numbers_are_read_in_every_writing() {
    reads(
        TaskKind::Number,
        &[
            ("\\boxed{2{,}500}", "2500"),
            ("The answer is $2,\\!500$.", "2500"),
            ("2 500", "2500"),
            ("The answer is 2\\,500", "2500"),
            ("The answer is 1 000 000", "1000000"),
            ("The answer is 12,34,567", "1234567"),
            ("The answer is 1'234'567", "1234567"),
            ("The answer is 1\u{202f}234", "1234"),
            ("The answer is 1_000", "1000"),
            ("The answer is 1.234.567", "1234567"),
            ("1e-1", "0.1"),
            ("The answer is 1.5e6", "1500000"),
            ("The answer is 6.02E23", "602000000000000000000000"),
            ("The answer is 3 \\times 10^5", "300000"),
            ("The answer is $3 \\times 10^{5}$ m.", "300000"),
            ("The answer is 2.5 × 10^{-3}", "0.0025"),
            ("The answer is 2.5 x 10^3", "2500"),
            ("The answer is 10^3", "1000"),
            ("10^3", "1000"),
            ("The answer is 10³", "1000"),
            ("The answer is 2^{10}", "1024"),
            ("The answer is 2**10", "1024"),
            ("½", "0.5"),
            ("The answer is 2½", "2.5"),
            ("The answer is ¾ of it", "0.75"),
            ("１８", "18"),
            ("The answer is １，２３４", "1234"),
            ("–3", "-3"),
            ("The answer is −3", "-3"),
            ("The answer is -$3.", "-3"),
            ("The answer is 2.5 million", "2500000"),
            ("The answer is $3 billion.", "3000000000"),
            ("The answer is 12 thousand people", "12000"),
            ("The answer is $5k", "5000"),
            ("\\frac12", "0.5"),
            ("The answer is \\dfrac{3}{4}", "0.75"),
            ("The answer is $-\\frac{6}{8}$", "-0.75"),
            ("The answer is 1/3", "1/3"),
            ("The answer is 3 1/2", "3.5"),
            ("The answer is $3\\frac{1}{2}$", "3.5"),
            ("The answer is \\sqrt{16}", "4"),
            ("The answer is $\\sqrt{2.25}$", "1.5"),
            ("The answer is 50%.", "50"),
            ("The answer is 50\\%", "50"),
            ("The answer is 5th", "5"),
            ("The answer is the 3rd one", "3"),
            ("The answer is 5kg", "5"),
            ("The answer is 60 km/h", "60"),
            ("The answer is 60 km per hour", "60"),
            ("The answer is $30^\\circ$", "30"),
            ("The answer is 30°C", "30"),
            ("The answer is $15\\text{ cm}^2$", "15"),
            ("The answer is €1,234.50 per year.", "1234.5"),
            ("The answer is +5", "5"),
            ("The answer is .5", "0.5"),
            ("The answer is 007", "7"),
            ("The answer is (42)", "42"),
            ("The answer is approximately 42", "42"),
            ("The answer is ≈ 42", "42"),
            (
                "The answer is 12345678901234567890123456789012345678901234567890",
                "12345678901234567890123456789012345678901234567890",
            ),
        ],
    );
}

#[test]
fn the_claim_is_read_up_to_its_reasons() {
    reads(
        TaskKind::Number,
        &[
            ("The answer is 5 when x = 2.", "5"),
            ("Answer: 12 (since 3 * 4 = 12 and 12 / 2 = 6)", "12"),
            ("The answer is 5, because 2 + 3 = 5.", "5"),
            ("The answer is 5, which is 3 more than 2.", "5"),
            ("The answer is 42 apples, not 7", "42"),
            ("I first thought the answer is 3.\n…\n**Final Answer:**\n\n5", "5"),
            ("The answer is 3. No, the answer is 5.", "5"),
            ("The answer is x = 5.", "5"),
            ("The answer is 6*7 = 42.", "42"),
            ("The answer is 3 * 4 = 12 eggs.", "12"),
            ("The answer is 10/4 = 2.5", "2.5"),
            ("The answer is 9 * 2 = $18", "18"),
            ("The answer is 7 - 3", "4"),
            ("The answer is 1/3 ≈ 0.33", "1/3"),
            ("The answer is \\boxed{3}.", "3"),
            ("**Answer:** 42", "42"),
            ("**Final Answer:** 42", "42"),
            ("**Final Answer**: **42**", "42"),
            ("### Answer: 42", "42"),
            ("- Answer: 42", "42"),
            ("> Answer: 42", "42"),
            ("Answer:\n42", "42"),
            ("Answer = 42", "42"),
            ("Ans: 42", "42"),
            ("Final answer → 42", "42"),
            ("*Answer*: 42", "42"),
            ("\\textbf{Answer: 42}", "42"),
            ("<b>Answer:</b> 42", "42"),
            ("<answer>42</answer>", "42"),
            ("<answer>The answer is 42.</answer>", "42"),
            ("The final answer is\n$$\n42\n$$", "42"),
            ("The answer to the question is 42.", "42"),
            ("She makes 9 * 2 = $18.\nThe answer is 18.", "18"),
            ("x\n#### 70,000", "70000"),
            ("#### Step 2: add\nThe answer is 8\n", "8"),
            ("The answer is 42<|im_end|>", "42"),
            ("The answer is 5. Let me know if you want another answer.", "5"),
            ("The answer is not 5 but 6", "6"),
        ],
    );
}

#[test]
fn without_a_claim_the_last_number_counts() {
    reads(
        TaskKind::Number,
        &[
            ("<think>\nMaybe the answer is 5.\n</think>\n\nShe has **7** apples.", "7"),
            ("Thus 6*7 = 42", "42"),
            ("First 5, then 7 - 3", "3"),
            ("It falls to -3 degrees.", "-3"),
            ("so 3.\n", "3"),
            ("I count 3 cats and 2 dogs", "2"),
            ("The total is 1/3", "1/3"),
        ],
    );
}

#[test]
fn what_is_no_single_value_is_no_answer() {
    reads(
        TaskKind::Number,
        &[
            ("The answer is 7, or 3 or 9.", ""),
            ("The answer is 7 or 8", ""),
            ("The answer is 7 (or 8)", ""),
            ("The answer is either 7 or 8", ""),
            ("The answer is 5 and 7", ""),
            ("The answer is 2, 4, 6", ""),
            ("The answer is between 3 and 5", ""),
            ("The answer is 3 to 5", ""),
            ("The answer is 3-5", ""),
            ("The answer is 3–5", ""),
            ("The answer is not 5.", ""),
            ("The answer isn't 5.", ""),
            ("The answer cannot be determined from 3 numbers.", ""),
            ("The answer is unknown", ""),
            ("The answer is \\sqrt{2}", ""),
            ("The answer is 2\\pi", ""),
            ("The answer is 2π", ""),
            ("The answer is 5x", ""),
            ("The answer is \\frac{x}{2}", ""),
            ("The answer is n = 5, m = 6", ""),
            ("The answer is 5 x", ""),
            ("The answer is x + 3", ""),
            ("The answer is 5 + 3i", ""),
            ("The answer is 1/0", ""),
            ("The answer is 1,2", ""),
            ("The answer is 0,250", ""),
            ("The answer is 3/4/2025", ""),
            ("The answer is 9:40", ""),
            ("The answer is 5 feet 6 inches", ""),
            ("The answer is more than 5", ""),
            ("The answer is > 5", ""),
            ("The answer is 5 ± 1", ""),
            ("\\boxed{3} or \\boxed{4}", ""),
            ("The answer is blue", ""),
            ("no number", ""),
            ("#### ", ""),
            ("", ""),
            ("on 3/4/2025", ""),
            ("12,34 and 1,2", ""),
            ("<think>\nSo the answer is 7. But wait,", ""),
        ],
    );
}

#[test]
fn golds_keep_their_value() {
    for (text, value) in [
        ("6.02e23", Some("602000000000000000000000")),
        ("1e-5", Some("0.00001")),
        ("2.5e-6", Some("0.0000025")),
        ("0.0000025", Some("0.0000025")),
        ("1,000", Some("1000")),
        ("5 apples", Some("5")),
        ("$18.00", Some("18")),
        ("72 clips.\n#### 72", Some("72")),
        ("-1.5E3", Some("-1500")),
        ("unknown", None),
        ("", None),
        ("3 or 4", None),
    ] {
        assert_eq!(gold(TaskKind::Number, text).as_deref(), value, "{text:?}");
    }
    for kind in [TaskKind::Text, TaskKind::Math] {
        assert_eq!(gold(kind, "1e-5").as_deref(), Some("0.00001"), "{kind}");
        assert_eq!(gold(kind, "6.02e23").as_deref(), Some("602000000000000000000000"), "{kind}");
    }
}
