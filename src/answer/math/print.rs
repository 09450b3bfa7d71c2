//! The one text of a polynomial, in LaTeX.

use std::fmt;

use super::polynomial::{Factors, Polynomial, is_digits};
use super::rational::Rational;

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = self.ordered();
        if terms.is_empty() {
            return f.write_str("0");
        }
        for (at, (factors, coefficient)) in terms.into_iter().enumerate() {
            let term = term(factors, *coefficient);
            let sign = if at > 0 && !term.starts_with('-') { "+" } else { "" };
            write!(f, "{sign}{term}")?;
        }
        Ok(())
    }
}

/// A coefficient and its factors: `2x`, `-\frac{\sqrt{5}}{4}`.
fn term(factors: &Factors, coefficient: Rational) -> String {
    if factors.is_empty() {
        return coefficient.to_string();
    }
    let sign = if coefficient.is_negative() { "-" } else { "" };
    let (mut above, mut below) = (Factors::new(), Factors::new());
    for (atom, power) in factors {
        let side = if power.is_negative() { &mut below } else { &mut above };
        side.insert(atom.clone(), if power.is_negative() { power.negated() } else { *power });
    }
    let top = product(coefficient.top().unsigned_abs(), &above);
    if below.is_empty() && coefficient.bottom() == 1 {
        return format!("{sign}{top}");
    }
    format!("{sign}\\frac{{{top}}}{{{}}}", product(coefficient.bottom().unsigned_abs(), &below))
}

/// A whole number and factors with positive powers.
fn product(number: u128, factors: &Factors) -> String {
    let mut text = if number == 1 && !factors.is_empty() { String::new() } else { number.to_string() };
    // Roots of equal degree share one sign.
    let mut roots: Vec<(Rational, i128)> = Vec::new();
    let mut others = Vec::new();
    for (atom, power) in factors {
        let radicand = radicand(atom, *power);
        match (radicand, roots.iter_mut().find(|(degree, _)| degree.top() == power.bottom())) {
            (Some(radicand), Some((_, shared))) if shared.checked_mul(radicand).is_some() => {
                *shared *= radicand;
            }
            (Some(radicand), None) => roots.push((Rational::whole(power.bottom()), radicand)),
            _ => others.push((atom, *power)),
        }
    }
    for (atom, power) in others.iter().filter(|(atom, _)| is_digits(atom)) {
        let dot = if text.is_empty() { "" } else { "\\cdot " };
        // A power of 1 has digits that are too many for arithmetic.
        let power = if power == &Rational::ONE { String::new() } else { format!("^{{{power}}}") };
        text.push_str(&format!("{dot}{atom}{power}"));
    }
    for (degree, radicand) in roots {
        text.push_str(&root(degree.top(), &radicand.to_string()));
    }
    for (atom, power) in others.iter().filter(|(atom, _)| !is_digits(atom)) {
        let factor = power_of(atom, *power);
        // `\pi r`, not `\pir`.
        let command =
            text.rfind('\\').is_some_and(|at| text[at + 1..].bytes().all(|b| b.is_ascii_alphabetic()));
        if command && factor.starts_with(|c: char| c.is_ascii_alphabetic()) {
            text.push(' ');
        }
        // `3\cdot 2^{n}`, not `32^{n}`.
        if !text.is_empty() && factor.starts_with(|c: char| c.is_ascii_digit()) {
            text.push_str("\\cdot ");
        }
        text.push_str(&factor);
    }
    text
}

/// What stands under the root for a power of a prime between 0 and 1.
fn radicand(atom: &str, power: Rational) -> Option<i128> {
    if !is_digits(atom) || power.bottom() == 1 || power.top() >= power.bottom() {
        return None;
    }
    atom.parse::<i128>().ok()?.checked_pow(u32::try_from(power.top()).ok()?)
}

fn root(degree: i128, inner: &str) -> String {
    if degree == 2 { format!("\\sqrt{{{inner}}}") } else { format!("\\sqrt[{degree}]{{{inner}}}") }
}

fn power_of(atom: &str, power: Rational) -> String {
    let bare = atom.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(atom);
    match (power.top(), power.bottom()) {
        (1, 1) => atom.to_owned(),
        (1, degree) => root(degree, bare),
        // A power of what has one already, or of a call, stands in brackets.
        _ if atom.contains('^') && bare == atom => format!("({atom})^{{{}}}", exponent(power)),
        _ if atom.ends_with(')') && bare == atom => format!("({atom})^{{{}}}", exponent(power)),
        _ => format!("{atom}^{{{}}}", exponent(power)),
    }
}

fn exponent(power: Rational) -> String {
    match power.as_whole() {
        Some(whole) => whole.to_string(),
        None => format!("{}/{}", power.top(), power.bottom()),
    }
}
