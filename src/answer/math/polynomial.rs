//! Sums of products in one normal form: a rational coefficient times powers of atoms.
//!
//! An atom is the text of what is not taken apart: a symbol, a prime number under a root, a call, or
//! a sum that stays whole in a denominator or under a root. Equal values that the rules of rings
//! and roots show to be equal are one polynomial with one text, from which the parser reads it again.

use std::collections::BTreeMap;

use super::rational::Rational;

/// Most terms of a polynomial: what is longer is not decided.
const TERMS_MAX: usize = 120;

/// The largest whole power that a sum is multiplied out to.
const EXPANDED_MAX: i128 = 12;

/// Factors are looked for up to this prime; what is left counts as one.
const PRIME_MAX: i128 = 10_000;

/// Atoms with their powers, none of which is 0.
pub(super) type Factors = BTreeMap<String, Rational>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Polynomial {
    terms: BTreeMap<Factors, Rational>,
}

impl Polynomial {
    pub(super) fn number(value: Rational) -> Self {
        Self::term(value, Factors::new())
    }

    pub(super) fn atom(atom: &str) -> Self {
        Self::term(Rational::ONE, Factors::from([(atom.to_owned(), Rational::ONE)]))
    }

    fn term(coefficient: Rational, factors: Factors) -> Self {
        let terms = (!coefficient.is_zero()).then_some((factors, coefficient));
        Self { terms: terms.into_iter().collect() }
    }

    /// The value if it is a plain number.
    pub(super) fn as_number(&self) -> Option<Rational> {
        if self.terms.is_empty() {
            return Some(Rational::ZERO);
        }
        self.single().and_then(|(factors, value)| factors.is_empty().then_some(value))
    }

    /// The one term, if there is just one.
    fn single(&self) -> Option<(&Factors, Rational)> {
        let mut terms = self.terms.iter();
        let (factors, coefficient) = terms.next()?;
        terms.next().is_none().then_some((factors, *coefficient))
    }

    pub(super) fn terms(&self) -> &BTreeMap<Factors, Rational> {
        &self.terms
    }

    pub(super) fn plus(mut self, other: &Self) -> Option<Self> {
        for (factors, coefficient) in &other.terms {
            let sum = self.terms.remove(factors).unwrap_or(Rational::ZERO).plus(*coefficient)?;
            if !sum.is_zero() {
                self.terms.insert(factors.clone(), sum);
            }
        }
        (self.terms.len() <= TERMS_MAX).then_some(self)
    }

    pub(super) fn scaled(&self, by: Rational) -> Option<Self> {
        let terms = self.terms.iter().map(|(factors, c)| Some((factors.clone(), c.times(by)?)));
        Some(Self { terms: terms.collect::<Option<_>>()? })
    }

    pub(super) fn times(&self, other: &Self) -> Option<Self> {
        if self.terms.len() * other.terms.len() > TERMS_MAX * 4 {
            return None;
        }
        let mut product = Self::default();
        for (left, a) in &self.terms {
            for (right, b) in &other.terms {
                let mut factors = left.clone();
                for (atom, power) in right {
                    let sum = factors.remove(atom).unwrap_or(Rational::ZERO).plus(*power)?;
                    factors.insert(atom.clone(), sum);
                }
                product = product.plus(&settled(a.times(*b)?, factors)?)?;
            }
        }
        Some(product)
    }

    /// `self` to a rational power.
    pub(super) fn power(&self, exponent: Rational) -> Option<Self> {
        match exponent.as_whole() {
            Some(whole) => self.whole_power(whole),
            None => self.root_power(exponent),
        }
    }

    fn whole_power(&self, exponent: i128) -> Option<Self> {
        if exponent == 0 {
            return (!self.terms.is_empty()).then(|| Self::number(Rational::ONE));
        }
        if let Some((factors, coefficient)) = self.single() {
            let Some(scaled) = coefficient.power(exponent) else {
                // The number itself is too long, such as 2^1000.
                let plain = coefficient.as_whole().filter(|n| *n > 1 && factors.is_empty())?;
                return Some(Self::term(
                    Rational::ONE,
                    Factors::from([(plain.to_string(), Rational::whole(exponent))]),
                ));
            };
            let powers =
                factors.iter().map(|(atom, p)| Some((atom.clone(), p.times(Rational::whole(exponent))?)));
            return settled(scaled, powers.collect::<Option<_>>()?);
        }
        if self.terms.is_empty() {
            return (exponent > 0).then(Self::default);
        }
        if exponent < 0 {
            return self.inverse()?.whole_power(-exponent);
        }
        if exponent > EXPANDED_MAX {
            return None;
        }
        let mut power = self.clone();
        for _ in 1..exponent {
            power = power.times(self)?;
        }
        Some(power)
    }

    /// 1 over a sum: with a rational denominator where two square roots make one, else an atom.
    fn inverse(&self) -> Option<Self> {
        if let Some(inverse) = self.conjugated() {
            return Some(inverse);
        }
        let leading = self.content()?;
        let primitive = self.scaled(leading.inverse()?)?;
        let atom = Factors::from([(format!("({primitive})"), Rational::whole(-1))]);
        Some(Self::term(leading.inverse()?, atom))
    }

    /// 1/(a+b) as (a-b)/(a²-b²), if both squares are rational.
    fn conjugated(&self) -> Option<Self> {
        let mut terms = self.terms.iter().map(|(f, c)| Self::term(*c, f.clone()));
        let (a, b) = (terms.next()?, terms.next()?);
        if terms.next().is_some() {
            return None;
        }
        let squares = (a.times(&a)?.as_number()?, b.times(&b)?.as_number()?);
        let difference = squares.0.plus(squares.1.negated())?;
        a.plus(&b.scaled(Rational::whole(-1))?)?.scaled(difference.inverse()?)
    }

    /// What all coefficients have in common, with the sign of the first.
    pub(super) fn content(&self) -> Option<Rational> {
        let (mut top, mut bottom) = (0i128, 1i128);
        for value in self.terms.values() {
            top = gcd(top, value.top());
            bottom = (bottom / gcd(bottom, value.bottom())).checked_mul(value.bottom())?;
        }
        let leading = self.ordered().first().map(|(_, c)| c.top().signum())?;
        Rational::new(top.checked_mul(leading)?, bottom)
    }

    /// A power that is not whole: roots of numbers come out as far as they can.
    fn root_power(&self, exponent: Rational) -> Option<Self> {
        if let Some(value) = self.as_number() {
            return number_power(value, exponent);
        }
        if let Some((factors, coefficient)) = self.single()
            && !coefficient.is_negative()
            && let Some(powers) = outer_powers(factors, exponent)
        {
            return number_power(coefficient, exponent)?.times(&settled(Rational::ONE, powers)?);
        }
        let content = self.content()?;
        let positive = if content.is_negative() { content.negated() } else { content };
        let inner = self.scaled(positive.inverse()?)?;
        let atom = Factors::from([(format!("({inner})"), exponent)]);
        number_power(positive, exponent)?.times(&settled(Rational::ONE, atom)?)
    }

    /// The terms as they are written: high degrees first, plain numbers before roots.
    pub(super) fn ordered(&self) -> Vec<(&Factors, &Rational)> {
        let degree = |factors: &Factors| -> f64 {
            let counted = factors.iter().filter(|(atom, _)| !is_digits(atom));
            counted.map(|(_, power)| power.as_float()).sum()
        };
        let mut terms: Vec<_> = self.terms.iter().collect();
        terms.sort_by(|(a, _), (b, _)| degree(b).total_cmp(&degree(a)).then_with(|| a.cmp(b)));
        terms
    }
}

/// Powers of every factor, or `None` where taking the root would lose a sign: √(x²) is |x|.
fn outer_powers(factors: &Factors, exponent: Rational) -> Option<Factors> {
    let power = |(atom, power): (&String, &Rational)| {
        let outer = power.times(exponent)?;
        let loses_sign = !is_digits(atom) && outer.bottom() < exponent.bottom();
        (!loses_sign && atom != "i").then(|| (atom.clone(), outer))
    };
    factors.iter().map(power).collect()
}

/// A term in which whole powers of numbers are multiplied out, and i² is -1.
fn settled(mut coefficient: Rational, factors: Factors) -> Option<Polynomial> {
    let mut kept = Factors::new();
    for (atom, power) in factors {
        if power.is_zero() {
            continue;
        }
        if is_digits(&atom) {
            let whole = power.top().div_euclid(power.bottom());
            let outer = atom.parse().ok().and_then(|n| Rational::whole(n).power(whole));
            let Some(outer) = outer else {
                kept.insert(atom, power);
                continue;
            };
            coefficient = coefficient.times(outer)?;
            let rest = power.plus(Rational::whole(whole).negated())?;
            if !rest.is_zero() {
                kept.insert(atom, rest);
            }
        } else if let ("i", Some(whole)) = (atom.as_str(), power.as_whole()) {
            if whole.rem_euclid(4) >= 2 {
                coefficient = coefficient.negated();
            }
            if whole.rem_euclid(2) == 1 {
                kept.insert(atom, Rational::ONE);
            }
        } else {
            kept.insert(atom, power);
        }
    }
    Some(Polynomial::term(coefficient, kept))
}

/// A power of a number that is not whole, as powers of primes.
fn number_power(value: Rational, exponent: Rational) -> Option<Polynomial> {
    if value.is_zero() {
        return (!exponent.is_negative()).then(Polynomial::default);
    }
    let mut sign = Polynomial::number(Rational::ONE);
    if value.is_negative() {
        // Real roots of odd degree, and the square root of -1.
        sign = match exponent.bottom() {
            2 => Polynomial::atom("i").whole_power(exponent.top())?,
            odd if odd % 2 == 1 => Polynomial::number(Rational::whole(-1)).whole_power(exponent.top())?,
            _ => return None,
        };
    }
    let mut factors = Factors::new();
    for (number, direction) in [(value.top().checked_abs()?, 1), (value.bottom(), -1)] {
        for (prime, count) in primes(number) {
            let power = exponent.times(Rational::whole(count * direction))?;
            factors.insert(prime.to_string(), power);
        }
    }
    sign.times(&settled(Rational::ONE, factors)?)
}

/// Prime factors and how often each divides; a rest without small factors counts as a prime.
fn primes(mut number: i128) -> Vec<(i128, i128)> {
    let mut found = Vec::new();
    let mut prime = 2;
    while prime <= PRIME_MAX && prime * prime <= number {
        let mut count = 0;
        while number % prime == 0 {
            number /= prime;
            count += 1;
        }
        if count > 0 {
            found.push((prime, count));
        }
        prime += 1;
    }
    if number > 1 {
        found.push((number, 1));
    }
    found
}

fn gcd(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i128::try_from(a).unwrap_or(1)
}

pub(super) fn is_digits(atom: &str) -> bool {
    atom.bytes().all(|b| b.is_ascii_digit())
}
