//! Exact fractions of 128-bit whole numbers. An operation that needs more has no result.

use std::fmt;

/// In lowest terms, the denominator above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::answer) struct Rational {
    top: i128,
    bottom: i128,
}

impl Rational {
    pub(in crate::answer) const ZERO: Self = Self::whole(0);
    pub(in crate::answer) const ONE: Self = Self::whole(1);

    pub(in crate::answer) const fn whole(n: i128) -> Self {
        Self { top: n, bottom: 1 }
    }

    /// `top / bottom`; `None` if `bottom` is 0.
    pub(in crate::answer) fn new(top: i128, bottom: i128) -> Option<Self> {
        if bottom == 0 {
            return None;
        }
        let (mut a, mut b) = (top.checked_abs()?, bottom.checked_abs()?);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let sign = bottom.signum();
        Some(Self { top: (top / a).checked_mul(sign)?, bottom: (bottom / a).checked_mul(sign)? })
    }

    /// `12`, `12.50`, and `0.1(6)` for 0.1666…
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (plain, repeating) = match text.split_once('(') {
            Some((plain, rest)) => (plain, rest.strip_suffix(')')?),
            None => (text, ""),
        };
        let (whole, part) = plain.split_once('.').unwrap_or((plain, ""));
        let digits = format!("{whole}{part}");
        let places = u32::try_from(part.len()).ok()?;
        let value = |digits: &str| match digits {
            "" => Some(0),
            digits => digits.parse::<i128>().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit())),
        };
        let shift = 10i128.checked_pow(places)?;
        let fixed = Self::new(value(&digits)?, shift)?;
        if repeating.is_empty() {
            return (!digits.is_empty()).then_some(fixed);
        }
        let nines = 10i128.checked_pow(u32::try_from(repeating.len()).ok()?)? - 1;
        fixed.plus(Self::new(value(repeating)?, nines.checked_mul(shift)?)?)
    }

    pub(super) const fn top(self) -> i128 {
        self.top
    }

    pub(super) const fn bottom(self) -> i128 {
        self.bottom
    }

    pub(super) const fn is_zero(self) -> bool {
        self.top == 0
    }

    pub(super) const fn is_negative(self) -> bool {
        self.top < 0
    }

    /// The value if it is a whole number.
    pub(super) fn as_whole(self) -> Option<i128> {
        (self.bottom == 1).then_some(self.top)
    }

    pub(in crate::answer) fn plus(self, other: Self) -> Option<Self> {
        let (left, right) = (self.top.checked_mul(other.bottom)?, other.top.checked_mul(self.bottom)?);
        Self::new(left.checked_add(right)?, self.bottom.checked_mul(other.bottom)?)
    }

    pub(in crate::answer) fn times(self, other: Self) -> Option<Self> {
        // Crosswise first: the products are smaller.
        let (a, b) = (Self::new(self.top, other.bottom)?, Self::new(other.top, self.bottom)?);
        Self::new(a.top.checked_mul(b.top)?, a.bottom.checked_mul(b.bottom)?)
    }

    pub(in crate::answer) fn negated(self) -> Self {
        Self { top: self.top.wrapping_neg(), bottom: self.bottom }
    }

    pub(super) fn inverse(self) -> Option<Self> {
        Self::new(self.bottom, self.top)
    }

    /// `self` to a whole power.
    pub(super) fn power(self, exponent: i128) -> Option<Self> {
        let base = if exponent < 0 { self.inverse()? } else { self };
        let steps = exponent.checked_abs()?;
        // A base of -1, 0 or 1 stays small at any power.
        if base.bottom == 1 && base.top.abs() <= 1 {
            return Some(match (base.top, steps) {
                (_, 0) => Self::ONE,
                (-1, steps) if steps % 2 == 0 => Self::ONE,
                _ => base,
            });
        }
        let steps = u32::try_from(steps).ok().filter(|steps| *steps <= 127)?;
        Self::new(base.top.checked_pow(steps)?, base.bottom.checked_pow(steps)?)
    }

    pub(super) fn less_than(self, other: Self) -> Option<bool> {
        Some(self.plus(other.negated())?.is_negative())
    }

    /// The nearest float.
    pub(super) fn as_float(self) -> f64 {
        self.top as f64 / self.bottom as f64
    }
}

impl fmt::Display for Rational {
    /// A decimal where that is exact, else a fraction: `0.5`, `1/3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match decimal(*self) {
            Some(digits) => f.write_str(&digits),
            None => write!(f, "{}/{}", self.top, self.bottom),
        }
    }
}

fn decimal(value: Rational) -> Option<String> {
    // Exact as a decimal only if nothing but twos and fives divides the denominator.
    let (mut rest, mut places) = (value.bottom, 0u32);
    for prime in [2, 5] {
        let mut count = 0;
        while rest % prime == 0 {
            rest /= prime;
            count += 1;
        }
        places = places.max(count);
    }
    if rest != 1 {
        return None;
    }
    let scale = 10i128.checked_pow(places)?;
    let scaled = value.top.checked_mul(scale / value.bottom)?;
    let width = places as usize + 1;
    let digits = format!("{:0>width$}", scaled.unsigned_abs());
    let (whole, part) = digits.split_at(digits.len() - places as usize);
    let sign = if value.top < 0 { "-" } else { "" };
    Some(if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_exact_and_have_one_text() {
        for (text, value) in
            [("0.50", "0.5"), ("007", "7"), ("0.(3)", "1/3"), ("0.1(6)", "1/6"), (".25", "0.25")]
        {
            assert_eq!(Rational::parse(text).expect("a value").to_string(), value, "{text}");
        }
        for none in ["", ".", "1.2.3", "x", "-1", "9".repeat(60).as_str()] {
            assert_eq!(Rational::parse(none), None, "{none}");
        }
        let half = Rational::new(-2, -4).expect("a value");
        assert_eq!(half.plus(half), Some(Rational::ONE));
        assert_eq!(half.power(-3), Some(Rational::whole(8)));
        assert_eq!(Rational::whole(-1).power(1001), Some(Rational::whole(-1)));
        assert_eq!(Rational::whole(i128::MAX).times(Rational::whole(2)), None);
        assert_eq!(Rational::new(1, 0), None);
        assert_eq!(half.less_than(Rational::ONE), Some(true));
    }
}
