//! Whatever dressing is put on a value, it is read; whatever hedge, nothing is.

use super::*;

/// A function that puts something around a value.
type Dress = fn(&str) -> String;

const MARKDOWN: &[Dress] = &[
    |v| v.to_owned(),
    |v| format!("**{v}**"),
    |v| format!("*{v}*"),
    |v| format!("`{v}`"),
    |v| format!("__{v}__"),
    |v| format!("<b>{v}</b>"),
];

const LATEX: &[Dress] = &[
    |v| v.to_owned(),
    |v| format!("${v}$"),
    |v| format!("\\({v}\\)"),
    |v| format!("$\\boxed{{{v}}}$"),
    |v| format!("\\boxed{{{v}}}"),
    |v| format!("$\\text{{{v}}}$"),
    |v| format!("\\textbf{{{v}}}"),
    |v| format!("$\\mathbf{{{v}}}$"),
    |v| format!("\\boxed{{\\text{{{v}}}}}"),
    |v| format!("$\\displaystyle {v}$"),
];

const THINKING: &[Dress] = &[
    |v| v.to_owned(),
    |v| format!("<think>\nThe answer is 99, or (Z). \\boxed{{98}}\n</think>\n{v}"),
    |v| format!("Perhaps 97 or (Y), so the answer is 97.</think>\n\n{v}"),
    |v| format!("[THINK]the answer is Q[/THINK]{v}"),
    |v| format!("◁think▷The answer is 96.◁/think▷{v}"),
    |v| format!("<|begin_of_thought|>\nAnswer: 95\n<|end_of_thought|>\n\n{v}"),
];

const CLAIMS: &[Dress] = &[
    |v| format!("The answer is {v}"),
    |v| format!("First 2 and 3 are added.\nThe final answer is {v}"),
    |v| format!("Some thought.\n\n**Answer:** {v}"),
    |v| format!("**Final Answer**\n\n{v}"),
    |v| format!("### Answer: {v}"),
    |v| format!("- Answer: {v}"),
    |v| format!("Answer:\n{v}"),
    |v| format!("The answer is:\n\n{v}"),
    |v| format!("Let me see. So the correct answer must be {v}"),
    |v| format!("I first thought the answer is 94.\nNo: the answer is {v}"),
    |v| format!("Thus, the answer to this question is {v}"),
    |v| format!("<answer>{v}</answer>"),
];

const ENDS: &[&str] =
    &["", ".", "\n", ".\n\n", " ", ". I hope it is correct.", "\n\nLet me know if that helps!"];

fn of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    (0..all.len()).prop_map(move |at| all[at])
}

#[derive(Clone, Debug)]
struct Dressing {
    inner: (Dress, Dress),
    claim: Dress,
    thinking: Dress,
    end: &'static str,
}

impl Dressing {
    fn put_on(&self, value: &str) -> String {
        let dressed = self.inner.1(&self.inner.0(value));
        format!("{}{}", (self.thinking)(&(self.claim)(&dressed)), self.end)
    }
}

fn dressing() -> impl Strategy<Value = Dressing> {
    (of(MARKDOWN), of(LATEX), of(THINKING), of(CLAIMS), of(ENDS), any::<bool>()).prop_map(
        |(markdown, latex, thinking, claim, end, swapped)| {
            let inner = if swapped { (markdown, latex) } else { (latex, markdown) };
            Dressing { inner, claim, thinking, end }
        },
    )
}

/// Values of every kind, and the form in which they are read.
const VALUES: &[(TaskKind, &str, &str)] = &[
    (TaskKind::Number, "42", "42"),
    (TaskKind::Number, "-1,234.50", "-1234.5"),
    (TaskKind::Number, "3/4", "0.75"),
    (TaskKind::Number, "1e-5", "0.00001"),
    (TaskKind::Choice, "B", "B"),
    (TaskKind::Choice, "(C)", "C"),
    (TaskKind::Exact, "No", "no"),
    (TaskKind::Exact, "blue whale", "blue whale"),
    (TaskKind::Text, "42", "42"),
    (TaskKind::Text, "Paris", "paris"),
    (TaskKind::Math, "42", "42"),
    (TaskKind::Math, "-7", "-7"),
];

/// Hedges around two values, and denials of one.
const HEDGES: &[fn(&str, &str) -> String] = &[
    |a, b| format!("{a} or {b}"),
    |a, b| format!("either {a} or {b}"),
    |a, b| format!("{a}, or perhaps {b}"),
    |a, b| format!("both {a} and {b}"),
    |a, b| format!("{a} and {b}"),
    |a, _| format!("not {a}"),
    |a, b| format!("{a} (or {b})"),
    |a, b| format!("{a}/{b}"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_dressing_leaves_the_value(dress in dressing(), (kind, value, form) in of(VALUES)) {
        let text = dress.put_on(value);
        prop_assert_eq!(explain(kind, &text), Ok(form.to_owned()), "{:?}", text);
    }

    #[test]
    fn any_hedge_is_no_answer(claim in of(CLAIMS), thinking in of(THINKING), end in of(ENDS), hedge in of(HEDGES)) {
        let text = |a, b| format!("{}{end}", thinking(&claim(&hedge(a, b))));
        for (a, b) in [("A", "B"), ("(A)", "(C)"), ("**B**", "**D**")] {
            let text = text(a, b);
            prop_assert_eq!(read(TaskKind::Choice, &text), None, "{:?}", text);
        }
        let quotient = hedge("7", "9").contains('/');
        let text = text("7", "9");
        prop_assert!(quotient || read(TaskKind::Number, &text).is_none(), "{:?}", text);
    }

    #[test]
    fn an_unclosed_block_has_no_answer(claim in of(CLAIMS), (kind, value, _) in of(VALUES)) {
        prop_assert_eq!(explain(kind, &format!("<think>{}", claim(value))), Err(Why::Unclosed));
    }

    #[test]
    fn formulas_have_one_form_and_equality_is_symmetric(left in formula(), right in formula()) {
        let (a, b) = (gold(TaskKind::Math, &left), gold(TaskKind::Math, &right));
        for form in [&a, &b].into_iter().flatten() {
            let again = gold(TaskKind::Math, form);
            prop_assert_eq!(again.as_ref(), Some(form));
        }
        if let (Some(a), Some(b)) = (a, b) {
            prop_assert_eq!(are_equal(TaskKind::Math, &a, &b), are_equal(TaskKind::Math, &b, &a));
        }
    }

    #[test]
    fn soup_of_latex_never_panics(pieces in prop::collection::vec(of(SOUP), 0..30)) {
        let text = pieces.concat();
        for &kind in TaskKind::ALL {
            let _ = read(kind, &text);
            let _ = gold(kind, &text);
        }
    }
}

const SOUP: &[&str] = &[
    "\\frac",
    "{",
    "}",
    "1",
    "23",
    "x",
    "\\sqrt",
    "[",
    "]",
    "(",
    ")",
    "^",
    "_",
    "\\pi",
    "\\text{",
    " and ",
    ",",
    "=",
    "<",
    "\\le",
    "\\cup",
    "|",
    "!",
    "'",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "\\left",
    "\\right.",
    "\\{",
    "\\}",
    "\\pm",
    "-",
    "+",
    "*",
    "/",
    ":",
    "\\boxed{",
    "The answer is ",
    "\n",
    "$",
    "#### ",
    "\\sin",
    "\\log",
    "0.",
    ".5",
    "é",
    "²",
    "\\overline{",
    "<think>",
    "</think>",
    "**",
    "(A)",
    " or ",
    "1e9",
    "%",
    "\\,",
    "999999999999999999999999999999",
];

/// Small formulas.
fn formula() -> impl Strategy<Value = String> {
    let leaf = of(&["1", "2", "12", "0.5", "x", "y", "\\pi", "n", "3"]).prop_map(str::to_owned);
    leaf.prop_recursive(4, 20, 2, |inner| {
        (0..11usize, inner.clone(), inner).prop_map(|(shape, a, b)| match shape {
            0 => format!("{a}+{b}"),
            1 => format!("{a}-({b})"),
            2 => format!("({a})({b})"),
            3 => format!("\\frac{{{a}}}{{{b}}}"),
            4 => format!("\\sqrt{{{a}}}"),
            5 => format!("({a})^{{2}}"),
            6 => format!("({a})^{{{b}}}"),
            7 => format!("({a},{b})"),
            8 => format!("x={a}"),
            9 => format!("{a}\\cdot {b}"),
            _ => format!("[{a},{b})"),
        })
    })
}
