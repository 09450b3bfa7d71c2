//! Formulas: what is equal, what is not, and where they are claimed.

use super::*;

/// The form of a formula that is boxed.
fn form(formula: &str) -> String {
    read(TaskKind::Math, &format!("so \\boxed{{{formula}}}"))
        .unwrap_or_else(|| panic!("no answer in {formula}"))
}

fn equal(left: &str, right: &str) -> bool {
    let mut task = task(TaskKind::Math, "?", Some(left));
    let one = is_right(&task, Some(&form(right)));
    task.answer = Some(right.to_owned());
    assert_eq!(is_right(&task, Some(&form(left))), one, "{left} and {right}, exchanged");
    one == Some(true)
}

/// Two ways to write one value.
const EQUAL: &[(&str, &str)] = &[
    ("\\frac12", "\\dfrac{1}{2}"),
    ("\\frac{1}{2}", "0.5"),
    ("1/2", ".5"),
    ("-\\frac{1}{3}", "-1/3"),
    ("\\frac{-5}{9}", "-\\frac{5}{9}"),
    ("\\frac{5}{-9}", "-\\frac59"),
    ("y=\\frac{5}{9}", "\\frac{5}{9}"),
    ("\\sqrt3", "\\sqrt{3}"),
    ("2\\sqrt 5", "2\\sqrt{5}"),
    ("\\sqrt{5}/4", "\\frac{\\sqrt5}{4}"),
    ("\\sqrt{12}", "2\\sqrt{3}"),
    ("\\frac{1}{\\sqrt{2}}", "\\frac{\\sqrt{2}}{2}"),
    ("\\frac{1}{1+\\sqrt2}", "\\sqrt{2}-1"),
    ("\\sqrt{3+2\\sqrt2}", "1+\\sqrt2"),
    ("\\sqrt[3]{16}", "2\\sqrt[3]{2}"),
    ("\\sqrt{-4}", "2i"),
    ("(1+2i)(3-i)", "5+5i"),
    ("x = 5", "5"),
    ("5 = x", "5"),
    ("g(2) = 8", "8"),
    ("f(x) = x^2 + 1", "1+x^2"),
    ("6 \\cdot 7 = 42", "42"),
    ("\\text{Area} = 12", "12"),
    ("5\\text{ cm}", "5"),
    ("20\\text{ m}^2", "20"),
    ("15\\text{ cm}^2", "15"),
    ("12\\text{ square units}", "12"),
    ("12\\text{ m/s}", "12"),
    ("42\\text{ apples}", "42"),
    ("5\\mathrm{~cm}", "5"),
    ("90^\\circ", "90"),
    ("90^{\\circ}", "90"),
    ("36 degrees", "36"),
    ("30°", "30"),
    ("\\$1,\\!250", "1250"),
    ("17{,}400", "17400"),
    ("17,400", "17400"),
    ("17\\,400", "17400"),
    ("1,234,567", "1234567"),
    ("50\\%", "50"),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})"),
    ("(2,\\frac{1}{4})", "(2,0.25)"),
    ("\\text{(B)}", "B"),
    ("\\text{(A)}", "A"),
    ("\\text{B}", "(B)"),
    ("\\text{blue}", "blue"),
    ("\\text{Blue}", "\\mathrm{blue}"),
    ("\\text{no solution}", "no solution"),
    ("$3$.", "3"),
    ("3.50", "3.5"),
    ("{5}", "5"),
    ("(5)", "5"),
    ("\\mathbf{5}", "5"),
    ("\\displaystyle 5", "5"),
    ("x^{2}", "x^2"),
    ("31_{4}", "31_4"),
    ("31_{\\text{4}}", "31_4"),
    ("a_{1}", "a_1"),
    ("n \\le 8", "n \\leq 8"),
    ("n <= 8", "n \\le 8"),
    ("8 \\ge n", "n \\le 8"),
    ("x < 5", "5 > x"),
    ("2x < 10", "x < 5"),
    ("-x < 5", "x > -5"),
    ("x \\in (-\\infty, 6]", "(-\\infty,6]"),
    ("x \\le 6", "(-\\infty,6]"),
    ("1 < x \\le 5", "(1,5]"),
    ("5 \\ge x > 1", "(1,5]"),
    ("(-\\infty, 1) \\cup (3, +\\infty)", "(3,\\infty)\\cup(-\\infty,1)"),
    ("x < 1 \\text{ or } x > 3", "(-\\infty,1)\\cup(3,\\infty)"),
    ("+\\infty", "\\infty"),
    ("\\begin{pmatrix} 4 \\\\ 9 \\end{pmatrix}", "\\begin{pmatrix}4\\\\9\\end{pmatrix}"),
    ("\\begin{bmatrix} 1 & 2 \\\\ 3 & 4 \\end{bmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
    ("\\begin{pmatrix} 0.5 \\\\ 1 \\end{pmatrix}", "\\begin{pmatrix} \\frac12 \\\\ 1 \\end{pmatrix}"),
    ("2,6", "6, 2"),
    ("2 \\text{ and } 6", "2,6"),
    ("x = 2 \\text{ or } x = 6", "2,6"),
    ("x = 2, 6", "2, 6"),
    ("\\{2, 6\\}", "\\{6,2\\}"),
    ("\\pm 3", "3,-3"),
    ("x = \\pm 3", "-3, 3"),
    ("2 \\pm \\sqrt{3}", "2+\\sqrt3, 2-\\sqrt3"),
    ("(x+1)(x-1)", "x^2-1"),
    ("x^2+2x+1", "(x+1)^2"),
    ("2(x+3)", "2x+6"),
    ("\\frac{x+1}{2}", "\\frac{1}{2}x+\\frac12"),
    ("\\frac{x^2-1}{x-1}", "x+1"),
    ("x+y", "y+x"),
    ("ab", "b a"),
    ("2 \\times 10^3", "2000"),
    ("2^{10}", "1024"),
    ("2^{1000}", "2^{1000}"),
    ("3\\pi r^2", "3 r^2 \\pi"),
    ("\\frac{\\pi}{4}", "\\frac14\\pi"),
    ("\\pi/4", "\\frac{\\pi}{4}"),
    ("e^{2x}", "e^{x+x}"),
    ("2\\frac{1}{2}", "\\frac52"),
    ("\\sin x", "\\sin(x)"),
    ("\\sin^2 x", "(\\sin x)^2"),
    ("\\log_2 8", "3"),
    ("\\lfloor 3.7 \\rfloor", "3"),
    ("|{-3}|", "3"),
    ("5!", "120"),
    ("\\binom{5}{2}", "10"),
    ("0.\\overline{3}", "\\frac13"),
    ("0.1\\overline{6}", "1/6"),
    ("y = 2x + 1", "y - 2x - 1 = 0"),
    ("2x + 4y = 6", "x + 2y = 3"),
    ("3:4", "3 : 4"),
    ("10\\text{:}30", "10:30"),
    ("\\emptyset", "\\varnothing"),
    ("\\mathbb{R}", "\\mathbb{ R }"),
    ("1.5e3", "1500"),
    ("\\cfrac{1}{2}", "\\tfrac12"),
    ("x\\,\\;\\quad+1", "x+1"),
    ("\\dfrac{3\\sqrt{2}}{2}", "\\frac{3}{\\sqrt2}"),
    ("sqrt(5)", "\\sqrt{5}"),
    ("√5", "\\sqrt5"),
    ("2π", "2\\pi"),
    ("x²", "x^2"),
    ("½", "0.5"),
    ("3\\cdot 2^n", "2^{n} \\times 3"),
    ("2^n 3^m", "3^m 2^n"),
    ("f^{-1}(x) = \\frac{x}{2}", "\\frac{x}{2}"),
    ("a_n = 2n+1", "2n+1"),
    ("(-\\infty,\\infty)", "\\mathbb{R}"),
    ("\\text{6 and -1}", "6, -1"),
    ("\\text{12 students}", "12"),
    ("\\left<1,2\\right>", "\\langle 1,2 \\rangle"),
    ("5 per day", "5"),
    ("\\sin^{-1} x", "\\arcsin x"),
    ("\\frac{3}{2}\\text{ or }1.5", "1.5"),
    ("3×4", "12"),
    ("−3", "-3"),
];

#[test]
fn equal_formulas_are_equal() {
    let pairs = EQUAL;
    let wrong: Vec<_> = pairs
        .iter()
        .filter(|(a, b)| !equal(a, b))
        .map(|(a, b)| format!("{a} is {:?}, {b} is {:?}", form(a), form(b)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} pairs:\n{}", wrong.len(), pairs.len(), wrong.join("\n"));
}

/// Values that are kept apart.
const UNEQUAL: &[(&str, &str)] = &[
    ("n <= 8", "n >= 8"),
    ("n <= 8", "n != 8"),
    ("n <= 8", "8"),
    ("n >= 8", "8"),
    ("n \\ne 8", "8"),
    ("n < 8", "n \\le 8"),
    ("3\\text{ and }8", "38"),
    ("3\\text{ or }8", "38"),
    ("3,8", "38"),
    ("6:15\\text{ a.m.}", "6:15\\text{ p.m.}"),
    ("6:15", "615"),
    ("6:15", "0.4"),
    ("5\\text{ north}", "5\\text{ south}"),
    ("5\\text{ north}", "5"),
    ("5\\text{ million}", "5"),
    ("5\\text{ dozen}", "5"),
    ("2\\text{ heads}", "2\\text{ tails}"),
    ("2\\mathrm{e}", "2"),
    ("2e", "2"),
    ("2, 100", "2100"),
    ("0,250", "250"),
    ("0,250", "0.250"),
    ("(2,100)", "2100"),
    ("15\\text{ cm}^2", "15^2"),
    ("15\\text{ cm}^2", "225"),
    ("\\frac{1}{2}", "\\frac{2}{1}"),
    ("y=2x+1", "2x+1"),
    ("y=2x+1", "y=2x-1"),
    ("(1,2)", "(1,20)"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", "[1,2)"),
    ("(1,2)", "\\{1,2\\}"),
    ("1,2", "12"),
    ("x+1", "x-1"),
    ("x^2", "2x"),
    ("31_4", "31"),
    ("31_4", "31_5"),
    ("31_4", "13"),
    ("\\sqrt{2}", "1.41421356237"),
    ("\\pi", "3.14159265358979"),
    ("\\frac13", "0.333333"),
    ("3", "3.0000000001"),
    ("\\sqrt{x^2}", "x"),
    ("|x|", "x"),
    ("x = 1, y = 2", "x = 2, y = 1"),
    ("\\{5\\}", "6"),
    ("\\text{blue}", "\\text{red}"),
    ("A", "B"),
    ("x", "y"),
    ("\\infty", "-\\infty"),
    ("(-\\infty,6]", "(-\\infty,6)"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1&2\\end{pmatrix}"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}2\\\\1\\end{pmatrix}"),
    ("2^{10}", "2^{11}"),
    ("2^{1000}", "2^{1001}"),
    ("\\sin x", "\\cos x"),
    ("2\\sqrt{3}", "3\\sqrt{2}"),
    ("3\\frac12", "\\frac32"),
    ("5\\%", "0.05"),
    ("-5", "5"),
    ("10", "1"),
    ("1{,}000", "1"),
    ("x > 3 \\text{ and } x < 5", "x > 3 \\text{ or } x < 5"),
    ("2\\pi", "2"),
    ("5x", "5"),
    ("5+3i", "5"),
    ("\\text{odd}", "\\text{even}"),
    ("\\frac{1}{x}", "x"),
    ("2:3", "3:2"),
    ("3 1/2", "31/2"),
    ("a", "A"),
    ("(red, blue)", "(der, blue)"),
    ("3\\cdot 2^n", "32^n"),
    ("\\angle ABC", "\\angle BAC"),
    ("\\text{6 and 1}", "61"),
    ("\\sin^{-1} x", "\\frac{1}{\\sin x}"),
    ("2^{3^2}", "2^3^2"),
];

#[test]
fn unequal_formulas_are_unequal() {
    let pairs = UNEQUAL;
    let wrong: Vec<_> = pairs
        .iter()
        .filter(|(a, b)| equal(a, b))
        .map(|(a, b)| format!("{a} is {:?}, {b} is {:?}", form(a), form(b)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} pairs:\n{}", wrong.len(), pairs.len(), wrong.join("\n"));
}

#[test]
fn formulas_are_found_where_they_are_claimed() {
    reads(
        TaskKind::Math,
        &[
            ("a \\boxed{1} b \\boxed{\\frac{3}{4}}.", "0.75"),
            ("The answer is $2x+1$.", "2x+1"),
            ("The final answer is $18$. I hope it is correct.", "18"),
            ("Final Answer: The final answer is $18$. I hope it is correct.", "18"),
            ("The answer is **9**.", "9"),
            ("**Answer:** $9$", "9"),
            ("\\boxed{2} and \\boxed{6}", "2,6"),
            ("$\\boxed{2}$, $\\boxed{6}$", "2,6"),
            ("The answers are $2$ and $6$.", "2,6"),
            ("First \\boxed{2}. Corrected: \\boxed{6}", "6"),
            ("$\\boxed 5$", "5"),
            ("The answer is\n$$\n\\frac{1}{2}\n$$", "0.5"),
            ("The answer is \\[ \\frac{1}{2} \\]", "0.5"),
            ("The answer is $5$ when $x = 2$.", "5"),
            ("The answer is 42 apples in all.", "42"),
            ("Thus $6 \\cdot 7 = 42$", "42"),
            ("Thus 6*7 = 42", "42"),
            ("<think>\nMaybe the answer is 5.\n</think>\n\nShe has **7** apples.", "7"),
            ("<think>\\boxed{7}. But wait,", ""),
            ("The answer is blue.", "blue"),
            ("\\boxed{\\text{Evelyn}}", "evelyn"),
            ("", ""),
        ],
    );
}

#[test]
fn every_form_is_its_own_form() {
    for formula in [
        "\\text{even integers } n \\ge 2",
        "x^2 + \\frac{1}{x} = 5 \\ {~} 7",
        "\\left\\{ x : x > 0 \\right\\}",
        "a \\equiv 3 \\pmod 7",
        "\\triangle ABC",
        "3 \\text{ R } 2",
        "\\frac{\\sqrt{6} - \\sqrt{2}}{4}",
        "\\frac{1}{x+1}+\\sqrt{x+1}",
        "\\frac{270}7\\text{ degrees}",
        "\\left(\\frac{3}{5},\\frac{8}{3}\\right]",
        "x^3+3x-6",
        "p - q",
        "\\text{Monday, Tuesday}",
        "6 - 5i",
        "-1 \\pm \\sqrt[3]{7}",
        "12_{11}",
        "1 \\frac{4}{5}",
        "10, 2, 100",
        "\\overrightarrow{AB}",
        "\\frac{\\log 3}{\\log 2}",
        "2^{x+1} \\cdot 3^{2/3}",
        "\\sqrt{x}\\sqrt{x}",
        "99999999999999999999999999999999999999999999999999",
        "\\$32,\\!348",
        "((((1))))",
        "{",
        "\\frac{1}{",
        "\\text{",
    ] {
        let Some(gold) = gold(TaskKind::Math, formula) else { continue };
        assert_eq!(gold_of(&gold), gold, "{formula}");
        let task = task(TaskKind::Math, "?", Some(formula));
        assert_eq!(is_right(&task, Some(&gold)), Some(true), "{formula}");
    }
}

fn gold_of(text: &str) -> String {
    gold(TaskKind::Math, text).unwrap_or_default()
}
