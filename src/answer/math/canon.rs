//! The one text of a tree, from which the parser reads it again.

use super::node::Node;
use super::polynomial::Polynomial;
use super::rational::Rational;

/// Functions that LaTeX has no command for.
const OPERATORS: [&str; 4] = ["lcm", "lg", "sgn", "mod"];

/// `None` where equal values could get different texts, or arithmetic needs too much.
pub(super) fn text(node: &Node) -> Option<String> {
    match resolved(node)? {
        Node::Tuple('(', ends) if is_all(&ends) => Some("\\mathbb{R}".into()),
        Node::Tuple(open, items) => {
            let close = if open == '⟨' {
                "\\rangle"
            } else if open == '[' {
                "]"
            } else {
                ")"
            };
            let open = if open == '⟨' { "\\langle ".to_owned() } else { open.to_string() };
            Some(format!("{open}{}{close}", texts(&items)?.join(",")))
        }
        Node::Interval(low, high, from, to) => {
            let (open, close) = (if from { '[' } else { '(' }, if to { ']' } else { ')' });
            Some(format!("{open}{},{}{close}", text(&low)?, text(&high)?))
        }
        Node::Set(items) => set(&items),
        Node::Union(items) => {
            let mut parts = texts(&items)?;
            parts.sort();
            parts.dedup();
            Some(parts.join("\\cup "))
        }
        Node::Matrix(kind, rows) => {
            let rows: Option<Vec<String>> = rows.iter().map(|row| Some(texts(row)?.join("&"))).collect();
            Some(format!("\\begin{{{kind}}}{}\\end{{{kind}}}", rows?.join("\\\\")))
        }
        Node::Ratio(parts) => Some(texts(&parts)?.join(":")),
        Node::Text(words) => Some(format!("\\text{{{words}}}")),
        Node::Relation(sides, signs) => relation(&sides, &signs),
        Node::Group(inner) => text(&inner),
        scalar => Some(polynomial(&scalar)?.to_string()),
    }
}

/// Whether both ends are infinite.
fn is_all(ends: &[Node]) -> bool {
    let infinity = Node::Symbol("\\infty".into());
    matches!(ends, [low, high] if *high == infinity && *low == infinity.clone().negated())
}

fn texts(nodes: &[Node]) -> Option<Vec<String>> {
    nodes.iter().map(text).collect()
}

/// A list without an order. Where all items name one unknown, or none does, the values count.
fn set(items: &[Node]) -> Option<String> {
    let (named, several) = (has_names(items), items.len() > 1);
    let item = |item: &Node| match assigned(item).filter(|_| named) {
        Some((name, value)) => Some(format!("{name}={}", text(value)?)),
        None => text(item),
    };
    let mut items = items.iter().map(item).collect::<Option<Vec<_>>>()?;
    items.sort();
    items.dedup();
    if let [only] = &items[..] {
        if several {
            return Some(only.clone());
        }
        return Some(format!("\\{{{only}\\}}"));
    }
    // `2, 100` is a list, `2,100` a number.
    let number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let separator = if items.iter().all(|item| !number(item)) { "," } else { ", " };
    let spaced = items.windows(2).any(|pair| {
        let digits = pair[1].bytes().take_while(u8::is_ascii_digit).count();
        digits == 3 && pair[0].ends_with(|c: char| c.is_ascii_digit())
    });
    Some(items.join(if spaced { separator } else { "," }))
}

/// Whether a list has values of several unknowns.
pub(super) fn has_names(items: &[Node]) -> bool {
    let names: Vec<_> = items.iter().filter_map(assigned).map(|(name, _)| name).collect();
    names.windows(2).any(|pair| pair[0] != pair[1])
}

/// Name and value of `x = 5`.
fn assigned(node: &Node) -> Option<(String, &Node)> {
    match node {
        Node::Relation(sides, signs) if signs == &['='] => Some((name(&sides[0])?, &sides[1])),
        _ => None,
    }
}

/// The text of what only names a value: `x`, `\text{Area}`, `f(2)`.
fn name(node: &Node) -> Option<String> {
    match node {
        Node::Symbol(name) if !node.is_closed() => Some(name.clone()),
        Node::Text(words) => Some(format!("\\text{{{words}}}")),
        Node::Call(..) => text(node),
        node if is_call(node) => text(node),
        _ => None,
    }
}

/// `f(x)`: a letter that functions have, before brackets.
fn is_call(node: &Node) -> bool {
    let Node::Product(factors) = node else { return false };
    let [first, Node::Group(_) | Node::Tuple('(', _)] = &factors[..] else { return false };
    let name = match first {
        Node::Symbol(name) => name,
        // `f^{-1}(x)`
        Node::Power(base, _) => match &**base {
            Node::Symbol(name) => name,
            _ => return false,
        },
        _ => return false,
    };
    let letter = name.trim_end_matches('\'').split('_').next().unwrap_or_default();
    matches!(
        letter,
        "f" | "g" | "h" | "F" | "G" | "H" | "P" | "p" | "Q" | "q" | "T" | "A" | "V" | "R" | "S" | "E"
    )
}

/// Without the names of unknowns: `x = 5` is 5, `x \in S` is S, `x < 5` is an interval.
pub(super) fn resolved(node: &Node) -> Option<Node> {
    match node {
        Node::Relation(sides, signs) => related(sides, signs),
        Node::Group(inner) if inner.is_container() || matches!(**inner, Node::Relation(..)) => {
            resolved(inner)
        }
        Node::Interval(low, high, false, false) => {
            Some(Node::Tuple('(', vec![(**low).clone(), (**high).clone()]))
        }
        Node::Set(items) => {
            let ranges = items.iter().filter(|item| matches!(item, Node::Set(_))).count();
            // A list of lists, such as `x = 1, \pm 2`, is one list.
            if ranges == 0 { Some(node.clone()) } else { None }
        }
        Node::Union(items) => {
            let items: Option<Vec<_>> = items.iter().map(resolved).collect();
            Some(Node::Union(items?))
        }
        node => Some(node.clone()),
    }
}

fn related(sides: &[Node], signs: &[char]) -> Option<Node> {
    let unresolved = || Node::Relation(sides.to_vec(), signs.to_vec());
    if let Some(at) = signs.iter().position(|sign| *sign == '≈') {
        // What is nearly equal proves nothing: the exact value stands before.
        let exact = if at == 0 && name(&sides[0]).is_some() { &sides[1] } else { &sides[at] };
        let before = if at == 0 { &[] } else { &signs[..at] };
        return if before.is_empty() { resolved(exact) } else { related(&sides[..=at], before) };
    }
    match (sides, signs) {
        ([left, right], ['∈']) if name(left).is_some() => resolved(right),
        (_, ['=', ..]) if signs.iter().all(|sign| *sign == '=') => {
            Some(equated(sides).unwrap_or_else(unresolved))
        }
        ([left, right], [sign @ ('<' | '>' | '≤' | '≥')]) => {
            Some(half_line(left, *sign, right).unwrap_or_else(unresolved))
        }
        ([low, middle, high], [first, second]) if name(middle).is_some() => {
            let rising = |sign: &char| matches!(sign, '<' | '≤');
            let falling = |sign: &char| matches!(sign, '>' | '≥');
            let (low, high, from, to) = match (first, second) {
                (a, b) if rising(a) && rising(b) => (low, high, a, b),
                (a, b) if falling(a) && falling(b) => (high, low, b, a),
                _ => return None,
            };
            if !low.is_closed() || !high.is_closed() {
                return None;
            }
            let closed = |sign: &char| matches!(sign, '≤' | '≥');
            resolved(&Node::Interval(Box::new(low.clone()), Box::new(high.clone()), closed(from), closed(to)))
        }
        ([_, _], ['≠']) => Some(unresolved()),
        _ => None,
    }
}

/// The value of `x = 5`, `f(x) = 2x`, `6 \cdot 7 = 42`; `None` for an equation that has to stay.
fn equated(sides: &[Node]) -> Option<Node> {
    let (first, last) = (sides.first()?, sides.last()?);
    let values = if name(first).is_some() { &sides[1..] } else { sides };
    if let [left, right] = sides
        && name(first).is_none()
        && name(right).is_some()
        && left.is_closed()
    {
        return resolved(left);
    }
    // `a_n = 2n + 1` defines a sequence.
    let sequence =
        |name: &str| name.split_once("_{").is_some_and(|(_, index)| index.contains(char::is_alphabetic));
    let defined = is_call(first)
        || matches!(first, Node::Text(_))
        || matches!(first, Node::Symbol(name) if sequence(name));
    if !values.iter().all(|value| defined || value.is_closed() || value.is_container()) {
        return None;
    }
    // All sides must be one value.
    let text_of = text(last)?;
    values.iter().all(|value| text(value).as_ref() == Some(&text_of)).then(|| resolved(last)).flatten()
}

/// `x < 5` as an interval, also with the sides exchanged or with a factor before x.
fn half_line(left: &Node, sign: char, right: &Node) -> Option<Node> {
    let closed = matches!(sign, '≤' | '≥');
    let below = matches!(sign, '<' | '≤');
    let infinity = || Box::new(Node::Symbol("\\infty".into()));
    let (bound, below) = if name(left).is_some() && right.is_closed() {
        (right.clone(), below)
    } else if name(right).is_some() && left.is_closed() {
        (left.clone(), !below)
    } else {
        let difference = polynomial(left)?.plus(&polynomial(right)?.scaled(Rational::whole(-1))?)?;
        let (bound, positive) = linear_root(&difference)?;
        (Node::Number(bound), below == positive)
    };
    let low = Box::new(Node::Symbol("\\infty".into()).negated());
    let bound = Box::new(bound);
    let interval = if below {
        Node::Interval(low, bound, false, closed)
    } else {
        Node::Interval(bound, infinity(), closed, false)
    };
    resolved(&interval)
}

/// Where `ax + b` is 0, and whether a is positive.
fn linear_root(polynomial: &Polynomial) -> Option<(Rational, bool)> {
    let (mut slope, mut offset) = (None, Rational::ZERO);
    for (factors, coefficient) in polynomial.terms() {
        match factors.iter().collect::<Vec<_>>()[..] {
            [] => offset = *coefficient,
            [(atom, power)] if *power == Rational::ONE && atom.len() == 1 && slope.is_none() => {
                slope = Some(*coefficient);
            }
            _ => return None,
        }
    }
    let slope = slope?;
    Some((offset.negated().times(slope.inverse()?)?, !slope.is_negative()))
}

/// An equation or inequality that stays: everything on the left, without a common factor.
fn relation(sides: &[Node], signs: &[char]) -> Option<String> {
    let ([left, right], [sign]) = (sides, signs) else { return None };
    let mut difference = polynomial(left)?.plus(&polynomial(right)?.scaled(Rational::whole(-1))?)?;
    let mut sign = *sign;
    if matches!(sign, '>' | '≥') {
        difference = difference.scaled(Rational::whole(-1))?;
        sign = if sign == '>' { '<' } else { '≤' };
    }
    let content = difference.content()?;
    let scale = match sign {
        '=' | '≠' => content,
        _ if content.is_negative() => content.negated(),
        _ => content,
    };
    let sign = match sign {
        '≤' => "\\le ",
        '≠' => "\\ne ",
        '<' => "<",
        '=' => "=",
        _ => return None,
    };
    Some(format!("{}{sign}0", difference.scaled(scale.inverse()?)?))
}

/// The normal form of a value; `None` for what is no number, or takes too much to work out.
pub(super) fn polynomial(node: &Node) -> Option<Polynomial> {
    match node {
        Node::Number(value) => Some(Polynomial::number(*value)),
        Node::Symbol(name) => Some(Polynomial::atom(name)),
        Node::Text(words) => Some(Polynomial::atom(&format!("\\text{{{words}}}"))),
        Node::Group(inner) => polynomial(inner),
        Node::Sum(terms) => {
            terms.iter().try_fold(Polynomial::default(), |sum, term| sum.plus(&polynomial(term)?))
        }
        Node::Product(factors) => {
            let one = Polynomial::number(Rational::ONE);
            factors.iter().try_fold(one, |product, factor| product.times(&polynomial(factor)?))
        }
        Node::Power(base, exponent) => {
            let (inner, exponent) = (polynomial(base)?, polynomial(exponent)?);
            if let Some(exponent) = exponent.as_number() {
                return inner.power(exponent);
            }
            let written = inner.to_string();
            let short = written.chars().count() == 1 || super::polynomial::is_digits(&written);
            let base = if short || is_command(&written) { written } else { format!("({written})") };
            Some(Polynomial::atom(&format!("{base}^{{{exponent}}}")))
        }
        Node::Call(name, arguments) => call(name, arguments),
        _ => None,
    }
}

fn is_command(text: &str) -> bool {
    text.strip_prefix('\\').is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphabetic()))
}

fn call(name: &str, arguments: &[Node]) -> Option<Polynomial> {
    let values = arguments.iter().map(polynomial).collect::<Option<Vec<_>>>()?;
    let numbers = values.iter().map(Polynomial::as_number).collect::<Option<Vec<_>>>();
    if let Some(value) = numbers.and_then(|numbers| evaluated(name, &numbers)) {
        return Some(Polynomial::number(value));
    }
    let written: Vec<String> = values.iter().map(ToString::to_string).collect();
    let all = written.join(",");
    Some(Polynomial::atom(&match (name, &written[..]) {
        ("\\lvert" | "abs", [inner]) => format!("\\lvert {inner}\\rvert"),
        ("\\lfloor" | "floor", [inner]) => format!("\\lfloor {inner}\\rfloor"),
        ("\\lceil" | "ceil", [inner]) => format!("\\lceil {inner}\\rceil"),
        ("\\binom", [n, k]) => format!("\\binom{{{n}}}{{{k}}}"),
        ("!", [inner]) => format!("({inner})!"),
        ("exp", [_]) => {
            let e = Box::new(Node::Symbol("e".into()));
            return polynomial(&Node::Power(e, Box::new(arguments[0].clone())));
        }
        ("log_", [base, inner]) => format!("\\log_{{{base}}}({inner})"),
        (name, _) if OPERATORS.contains(&name) => format!("\\operatorname{{{name}}}({all})"),
        (name, _) => format!("\\{name}({all})"),
    }))
}

/// The value of a function of plain numbers, where it is one itself.
fn evaluated(name: &str, numbers: &[Rational]) -> Option<Rational> {
    match (name, numbers) {
        ("\\lvert" | "abs", [n]) => Some(if n.is_negative() { n.negated() } else { *n }),
        ("\\lfloor" | "floor", [n]) => Some(Rational::whole(n.top().div_euclid(n.bottom()))),
        ("\\lceil" | "ceil", [n]) => {
            Some(Rational::whole(n.top().checked_neg()?.div_euclid(n.bottom())).negated())
        }
        ("!", [n]) => {
            let n = n.as_whole().filter(|n| (0..=33).contains(n))?;
            Some(Rational::whole((1..=n).product()))
        }
        ("\\binom", [n, k]) => {
            let (n, k) = (n.as_whole()?, k.as_whole()?);
            if !(0..=200).contains(&n) || !(0..=n).contains(&k) {
                return None;
            }
            (0..k.min(n - k)).try_fold(Rational::ONE, |value, i| value.times(Rational::new(n - i, i + 1)?))
        }
        ("log_", [base, n]) => {
            // A whole power only.
            let base = base.as_whole().filter(|base| *base > 1).map(Rational::whole)?;
            (-64..=64).find(|power| base.power(*power) == Some(*n)).map(Rational::whole)
        }
        ("max", [first, rest @ ..]) => {
            rest.iter().try_fold(*first, |a, b| Some(if a.less_than(*b)? { *b } else { a }))
        }
        ("min", [first, rest @ ..]) => {
            rest.iter().try_fold(*first, |a, b| Some(if b.less_than(a)? { *b } else { a }))
        }
        _ => None,
    }
}
