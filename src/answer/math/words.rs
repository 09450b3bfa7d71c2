//! What words, commands and characters mean in a formula, and which words are units.

/// What a word or a command stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Sign(char),
    Symbol(&'static str),
    Function(&'static str),
    Unit(&'static str),
    Nothing,
}

const FUNCTIONS: [&str; 30] = [
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log",
    "ln", "lg", "exp", "max", "min", "gcd", "lcm", "det", "deg", "dim", "arg", "abs", "sgn", "floor", "ceil",
    "mod", "lim",
];

/// Short units that are no product of symbols.
const SHORT_UNITS: [&str; 21] = [
    "cm", "mm", "km", "kg", "mg", "ft", "lb", "lbs", "oz", "min", "mph", "sec", "hr", "hrs", "sq", "mL",
    "ml", "yd", "deg", "rad", "mi",
];

/// What a run of letters, or the letters in `\text{…}`, stand for.
pub(super) fn meaning(word: &str) -> Option<Meaning> {
    Some(match word {
        "and" | "And" | "AND" => Meaning::Sign('∧'),
        "or" | "Or" | "OR" => Meaning::Sign('∨'),
        "in" => Meaning::Sign('∈'),
        "pi" => Meaning::Symbol("\\pi"),
        "inf" | "infty" | "infinity" | "Infinity" | "oo" => Meaning::Symbol("\\infty"),
        "sqrt" => Meaning::Sign('√'),
        "union" | "Union" => Meaning::Sign('∪'),
        word => {
            if let Some(unit) = SHORT_UNITS.iter().find(|unit| **unit == word) {
                return Some(Meaning::Unit(unit));
            }
            return FUNCTIONS.iter().find(|name| **name == word).map(|name| Meaning::Function(name));
        }
    })
}

/// What a command stands for; `None` for a symbol such as `\alpha`.
pub(super) fn command(name: &str) -> Option<Meaning> {
    Some(match name {
        "," | ";" | ":" | "!" | " " | "quad" | "qquad" | "displaystyle" | "textstyle" | "scriptstyle"
        | "limits" | "nolimits" | "$" | "(" | ")" | "[" | "]" | "%" | "degree" | "circ" | "percent"
        | "hfill" | "enspace" | "thinspace" | "mathstrut" | "strut" | "relax" | "noindent" | "hline"
        | "/" | "-" | "\"" | "\n" | "text" | "it" | "bf" | "rm" | "normalsize" | "large" | "Large"
        | "small" | "par" | "textdegree" | "celsius" | "boldmath" | "bigg" | "Bigg" | "biggl" | "biggr"
        | "Biggl" | "Biggr" | "therefore" => Meaning::Nothing,
        "cdot" | "times" | "ast" | "star" => Meaning::Sign('*'),
        "div" => Meaning::Sign('/'),
        "pm" => Meaning::Sign('±'),
        "mp" => Meaning::Sign('∓'),
        "le" | "leq" | "leqslant" | "leqq" => Meaning::Sign('≤'),
        "ge" | "geq" | "geqslant" | "geqq" => Meaning::Sign('≥'),
        "lt" => Meaning::Sign('<'),
        "gt" => Meaning::Sign('>'),
        "ne" | "neq" => Meaning::Sign('≠'),
        "approx" | "sim" | "simeq" | "cong" => Meaning::Sign('≈'),
        "in" => Meaning::Sign('∈'),
        "cup" | "bigcup" => Meaning::Sign('∪'),
        "cap" | "bigcap" => Meaning::Sign('∩'),
        "land" | "wedge" => Meaning::Sign('∧'),
        "lor" | "vee" => Meaning::Sign('∨'),
        "cr" => Meaning::Sign('\n'),
        "colon" => Meaning::Sign(':'),
        "vert" | "mid" => Meaning::Sign('|'),
        "lvert" => Meaning::Sign('‹'),
        "rvert" => Meaning::Sign('›'),
        "lfloor" => Meaning::Sign('⌊'),
        "rfloor" => Meaning::Sign('⌋'),
        "lceil" => Meaning::Sign('⌈'),
        "rceil" => Meaning::Sign('⌉'),
        "langle" => Meaning::Sign('⟨'),
        "rangle" => Meaning::Sign('⟩'),
        "lbrace" => Meaning::Sign('⦃'),
        "rbrace" => Meaning::Sign('⦄'),
        "lbrack" => Meaning::Sign('['),
        "rbrack" => Meaning::Sign(']'),
        "prime" => Meaning::Sign('\''),
        "&" | "#" | "_" => return None,
        "pi" => Meaning::Symbol("\\pi"),
        "infty" | "infinity" => Meaning::Symbol("\\infty"),
        "emptyset" | "varnothing" => Meaning::Symbol("\\emptyset"),
        "R" | "reals" | "Reals" => Meaning::Symbol("\\mathbb{R}"),
        "Z" => Meaning::Symbol("\\mathbb{Z}"),
        name => {
            return FUNCTIONS.iter().find(|known| **known == name).map(|name| Meaning::Function(name));
        }
    })
}

/// What a character outside of ASCII stands for, as LaTeX.
pub(super) fn character(c: char) -> Option<&'static str> {
    Some(match c {
        '−' | '–' | '—' | '‐' | '‑' => "-",
        '×' | '·' | '⋅' | '∙' | '∗' | '•' => "*",
        '÷' => "/",
        '½' => " 1/2",
        '⅓' => " 1/3",
        '⅔' => " 2/3",
        '¼' => " 1/4",
        '¾' => " 3/4",
        '⅕' => " 1/5",
        '⅖' => " 2/5",
        '⅗' => " 3/5",
        '⅘' => " 4/5",
        '⅙' => " 1/6",
        '⅚' => " 5/6",
        '⅛' => " 1/8",
        '⅜' => " 3/8",
        '⅝' => " 5/8",
        '⅞' => " 7/8",
        'π' => "\\pi",
        '∞' => "\\infty",
        '∅' | 'Ø' => "\\emptyset",
        '∧' => "\\land",
        '∨' => "\\lor",
        '⩽' => "≤",
        '⩾' => "≥",
        'ℝ' => "\\mathbb{R}",
        'ℤ' => "\\mathbb{Z}",
        'θ' => "\\theta",
        'α' => "\\alpha",
        'β' => "\\beta",
        'γ' => "\\gamma",
        'λ' => "\\lambda",
        'μ' => "\\mu",
        'σ' => "\\sigma",
        'φ' => "\\phi",
        'ω' => "\\omega",
        '′' | '’' => "'",
        '∶' => ":",
        '，' => ",",
        '（' => "(",
        '）' => ")",
        '⟨' => "\\langle",
        '⟩' => "\\rangle",
        '⌊' => "\\lfloor",
        '⌋' => "\\rfloor",
        '⌈' => "\\lceil",
        '⌉' => "\\rceil",
        '\u{200b}' | '\u{feff}' | '\u{2060}' => "",
        _ => return None,
    })
}

/// The sign or digit that a raised character stands for.
pub(super) fn superscript(c: char) -> Option<char> {
    let at = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻".chars().position(|known| known == c)?;
    "0123456789-".chars().nth(at)
}

/// Commands that put their argument into another font.
pub(super) fn is_font(name: &str) -> bool {
    is_text(name)
        || matches!(
            name,
            "mathrm"
                | "mathbf"
                | "mathit"
                | "mathsf"
                | "mathtt"
                | "boldsymbol"
                | "bm"
                | "operatorname"
                | "boxed"
                | "fbox"
                | "underline"
                | "mathnormal"
                | "ensuremath"
                | "pmb"
                | "underbrace"
                | "framebox"
        )
}

/// Commands whose argument is text.
pub(super) fn is_text(name: &str) -> bool {
    matches!(
        name,
        "text"
            | "textrm"
            | "textbf"
            | "textit"
            | "textsf"
            | "texttt"
            | "textnormal"
            | "mbox"
            | "hbox"
            | "emph"
            | "textsc"
            | "textup"
    )
}

/// Whether one upright letter is a unit: `\mathrm{m}`, but not `\mathrm{e}`.
pub(super) fn is_unit_letter(font: &str, letter: &str) -> bool {
    font == "mathrm" && matches!(letter, "m" | "s" | "g" | "h" | "L" | "N" | "J" | "W" | "K" | "F" | "C")
}

/// Short words and names, which are no products of letters.
const SHORT_WORDS: [&str; 36] = [
    "red", "yes", "odd", "dog", "cat", "one", "two", "six", "ten", "mon", "tue", "wed", "thu", "fri", "sat",
    "sun", "ann", "bob", "joe", "sam", "tom", "max", "amy", "mia", "eve", "ben", "dan", "tim", "kim", "jim",
    "leo", "ray", "sue", "ted", "boy", "day",
];

/// Whether a run of letters is a word rather than a product.
pub(super) fn is_word(run: &str) -> bool {
    run.len() >= 4 || SHORT_WORDS.iter().any(|word| word.eq_ignore_ascii_case(run))
}

/// Whether words before a value only introduce it.
pub(super) fn only_introduces(text: &str) -> bool {
    let words = plain(text);
    matches!(
        words.as_str(),
        "about" | "approximately" | "answer" | "the answer is" | "exactly" | "so" | "thus" | "is"
    )
}

/// Words in one spelling: lower case, no full stops, one blank between two.
pub(super) fn plain(text: &str) -> String {
    let text: String = text
        .replace(['~', '\\'], " ")
        .chars()
        .filter(|c| !matches!(c, '.' | '{' | '}' | '$' | '(' | ')' | '"' | '`'))
        .collect();
    let words: Vec<String> =
        text.split_whitespace().map(|word| word.trim_matches([',', ';', ':', '!']).to_lowercase()).collect();
    words.join(" ").trim().to_owned()
}

/// The contents of a font's command, or the text as it is.
pub(super) fn bare(text: &str) -> &str {
    let text = text.trim();
    let inner =
        text.strip_prefix('\\').and_then(|rest| rest.split_once('{')).filter(|(name, _)| is_font(name));
    inner.and_then(|(_, rest)| rest.strip_suffix('}')).unwrap_or(text)
}

const UNITS: &[&str] = &[
    "m",
    "s",
    "g",
    "h",
    "l",
    "n",
    "j",
    "w",
    "k",
    "f",
    "c",
    "v",
    "cm",
    "mm",
    "km",
    "kg",
    "mg",
    "ft",
    "in",
    "lb",
    "lbs",
    "oz",
    "min",
    "mph",
    "sec",
    "hr",
    "hrs",
    "ml",
    "yd",
    "mi",
    "kph",
    "rad",
    "deg",
    "sq",
    "square",
    "cubic",
    "per",
    "foot",
    "feet",
    "inch",
    "inches",
    "mile",
    "meter",
    "metre",
    "yard",
    "unit",
    "degree",
    "dollar",
    "cent",
    "hour",
    "minute",
    "second",
    "day",
    "week",
    "month",
    "year",
    "pound",
    "ounce",
    "gram",
    "kilogram",
    "liter",
    "litre",
    "gallon",
    "people",
    "person",
    "men",
    "women",
    "children",
    "percent",
    "point",
    "radian",
    "centimeter",
    "millimeter",
    "kilometer",
    "centimetre",
    "millimetre",
    "kilometre",
    "celsius",
    "fahrenheit",
    "kelvin",
    "acre",
    "hectare",
    "ton",
    "tonne",
    "pint",
    "quart",
    "cup",
    "mole",
    "mol",
    "hz",
    "joule",
    "watt",
    "newton",
    "volt",
    "ampere",
    "student",
    "apple",
    "book",
    "way",
    "number",
    "step",
    "page",
    "piece",
    "ways",
    "usd",
    "eur",
    "an",
    "a",
    "mice",
    "geese",
    "fish",
    "sheep",
    "teeth",
    "of",
    "the",
    "total",
    "each",
    "km/h",
    "m/s",
    "ft/s",
    "mi/h",
    "cm/s",
    "miles/hour",
    "m/h",
    "mg/l",
    "g/ml",
    "kg/m",
    "currency",
];

/// Plurals that say more than what is counted.
const NOT_COUNTED: &[&str] = &[
    "heads",
    "tails",
    "wins",
    "losses",
    "minus",
    "plus",
    "less",
    "times",
    "thousands",
    "millions",
    "billions",
    "dozens",
    "hundreds",
    "yes",
    "rows",
    "columns",
    "forwards",
    "backwards",
    "upwards",
    "downwards",
    "clockwise",
    "counterclockwise",
    "is",
    "was",
    "has",
    "this",
    "us",
    "evens",
    "odds",
    "boys",
    "girls",
];

/// Whether words after a value only name what it counts or measures: `square units`, `apples`.
///
/// Words that change the value (`million`, `north`, `p.m.`) are none of these: what isn't known
/// stays.
pub(in crate::answer) fn is_unit(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    let mut words = text.split([' ', '-']).filter(|word| !word.is_empty()).peekable();
    words.peek().is_some()
        && words.all(|word| {
            let stem = word.strip_suffix('s').filter(|stem| stem.len() > 2);
            let counted = word.len() > 3
                && word.ends_with('s')
                && !word.ends_with("ss")
                && !word.ends_with("ous")
                && word.bytes().all(|b| b.is_ascii_alphabetic());
            !NOT_COUNTED.contains(&word)
                && (UNITS.contains(&word) || stem.is_some_and(|stem| UNITS.contains(&stem)) || counted)
        })
}
