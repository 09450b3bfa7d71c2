//! Whether two trees are one value although their texts differ.
//!
//! Both are worked out at a few fixed points. Two different formulas agree at all of them to eleven
//! digits only if they are equal, for all that can happen here. A plain number is never accepted
//! for being near.

use super::canon::{has_names, polynomial, resolved};
use super::node::Node;

/// Values for the unknowns: of both signs, and none that formulas favour.
const POINTS: [f64; 6] = [0.731_905, 1.830_177, 2.412_931, -0.618_357, -1.393_713, 3.187_219];

/// How many sets of values are tried, and how many must have a result.
const TRIES: usize = 6;
const NEEDED: usize = 3;

const TOLERANCE: f64 = 1e-11;

pub(super) fn are_equal(left: &Node, right: &Node) -> bool {
    let (Some(left), Some(right)) = (resolved(left), resolved(right)) else { return false };
    let all = |a: &[Node], b: &[Node]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| are_equal(a, b));
    match (&left, &right) {
        (Node::Group(inner), _) => are_equal(inner, &right),
        (_, Node::Group(inner)) => are_equal(&left, inner),
        (Node::Tuple(open, a), Node::Tuple(close, b)) => open == close && all(a, b),
        (Node::Interval(low, high, from, to), Node::Interval(low_b, high_b, from_b, to_b)) => {
            (from, to) == (from_b, to_b) && are_equal(low, low_b) && are_equal(high, high_b)
        }
        // Values of several unknowns are compared with their names, by their texts.
        (Node::Set(a), Node::Set(b)) if has_names(a) || has_names(b) => false,
        (Node::Set(a), Node::Set(b)) | (Node::Union(a), Node::Union(b)) => matched(a, b),
        (Node::Matrix(kind, a), Node::Matrix(kind_b, b)) => {
            kind == kind_b && a.len() == b.len() && a.iter().zip(b).all(|(a, b)| all(a, b))
        }
        (Node::Ratio(a), Node::Ratio(b)) => all(a, b),
        (Node::Text(a), Node::Text(b)) => a == b,
        _ => scalars(&left, &right),
    }
}

/// Whether every item has its own partner, in any order.
fn matched(left: &[Node], right: &[Node]) -> bool {
    let mut rest: Vec<&Node> = right.iter().collect();
    left.len() == right.len()
        && left.len() <= 24
        && left.iter().all(|item| {
            let at = rest.iter().position(|other| are_equal(item, other));
            at.map(|at| rest.swap_remove(at)).is_some()
        })
}

fn scalars(left: &Node, right: &Node) -> bool {
    if let (Some(a), Some(b)) = (polynomial(left), polynomial(right)) {
        if a == b {
            return true;
        }
        if a.as_number().is_some() || b.as_number().is_some() {
            return false;
        }
    }
    let mut names = Vec::new();
    if !symbols(left, &mut names) || !symbols(right, &mut names) {
        return false;
    }
    let (mut agreed, mut tries) = (0, 0);
    for shift in 0..TRIES {
        let value_of = |name: &str| {
            let at = names.iter().position(|known| known == name).unwrap_or(0);
            POINTS[(at + shift) % POINTS.len()] + (at / POINTS.len()) as f64
        };
        tries += 1;
        match (float(left, &value_of), float(right, &value_of)) {
            (Some(a), Some(b)) if (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()) => agreed += 1,
            (None, None) => {}
            _ => return false,
        }
        if names.is_empty() {
            // Without unknowns every point is the same.
            return agreed == tries;
        }
    }
    agreed >= NEEDED
}

/// Every letter, once; false if something in the tree has no value.
fn symbols(node: &Node, names: &mut Vec<String>) -> bool {
    match node {
        Node::Symbol(name) => {
            let letter = !name.starts_with(|c: char| c.is_ascii_digit()) && name != "\\infty" && name != "i";
            if letter && !names.contains(name) {
                names.push(name.clone());
            }
            letter
        }
        Node::Number(_) => true,
        Node::Sum(_) | Node::Product(_) | Node::Power(..) | Node::Call(..) | Node::Group(_) => {
            node.children().into_iter().all(|child| symbols(child, names))
        }
        _ => false,
    }
}

fn float(node: &Node, value_of: &dyn Fn(&str) -> f64) -> Option<f64> {
    let value = match node {
        Node::Number(value) => value.as_float(),
        Node::Symbol(name) => value_of(name),
        Node::Group(inner) => float(inner, value_of)?,
        Node::Sum(terms) => terms.iter().map(|term| float(term, value_of)).sum::<Option<f64>>()?,
        Node::Product(factors) => {
            factors.iter().map(|factor| float(factor, value_of)).product::<Option<f64>>()?
        }
        Node::Power(base, exponent) => float(base, value_of)?.powf(float(exponent, value_of)?),
        Node::Call(name, arguments) => {
            let [argument] = &arguments[..] else { return None };
            let x = float(argument, value_of)?;
            match name.as_str() {
                "sin" => x.sin(),
                "cos" => x.cos(),
                "tan" => x.tan(),
                "cot" => 1.0 / x.tan(),
                "sec" => 1.0 / x.cos(),
                "csc" => 1.0 / x.sin(),
                "arctan" => x.atan(),
                "ln" | "log" => x.ln(),
                "exp" => x.exp(),
                "\\lvert" | "abs" => x.abs(),
                _ => return None,
            }
        }
        _ => return None,
    };
    value.is_finite().then_some(value)
}
