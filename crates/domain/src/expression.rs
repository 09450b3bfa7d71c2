//! Arithmetic expressions over non-negative whole numbers, with `+ - * /` and brackets.
//!
//! Values are exact: rational numbers, not floats. [`Expression::ordered`] and its text give equal
//! spellings to expressions that differ only in blanks, needless brackets and the order of the
//! operands of a sum or a product.

use std::fmt;

/// Deepest nesting of brackets, and longest chain of one precedence, that is read: recursion stays
/// bounded.
const DEPTH_MAX: usize = 32;

/// What joins two operands. The order of declaration decides the order of [`Expression::ordered`]'s
/// operands, so it decides the text of stored answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    Multiply,
    Add,
    Subtract,
    Divide,
}

impl Operator {
    /// The sign in ASCII.
    pub const fn sign(self) -> char {
        match self {
            Self::Multiply => '*',
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Divide => '/',
        }
    }

    /// 1 for sums, 2 for products.
    const fn precedence(self) -> u8 {
        match self {
            Self::Add | Self::Subtract => 1,
            Self::Multiply | Self::Divide => 2,
        }
    }

    /// Whether the order of operands doesn't matter.
    const fn is_commutative(self) -> bool {
        matches!(self, Self::Add | Self::Multiply)
    }
}

/// A number, or two expressions and what joins them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expression {
    Number(i64),
    Binary(Operator, Box<Expression>, Box<Expression>),
}

impl Expression {
    /// `left operator right`.
    pub fn binary(operator: Operator, left: Self, right: Self) -> Self {
        Self::Binary(operator, Box::new(left), Box::new(right))
    }

    /// Reads an expression; blanks are ignored, and `− × ÷` are read as `- * /`. `None` if the text
    /// is no expression, or one that nests too deep.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { rest: text.trim_start(), depth: 0 };
        let expression = parser.sum()?;
        parser.rest.is_empty().then_some(expression)
    }

    /// Every number, from left to right.
    pub fn numbers(&self) -> Vec<i64> {
        let mut found = Vec::new();
        self.collect_numbers(&mut found);
        found
    }

    fn collect_numbers(&self, into: &mut Vec<i64>) {
        match self {
            Self::Number(n) => into.push(*n),
            Self::Binary(_, left, right) => {
                left.collect_numbers(into);
                right.collect_numbers(into);
            }
        }
    }

    /// Whether it uses each of the `given` numbers exactly once, and no other.
    pub fn uses_exactly(&self, given: &[i64]) -> bool {
        let (mut used, mut given) = (self.numbers(), given.to_vec());
        used.sort_unstable();
        given.sort_unstable();
        used == given
    }

    /// The same expression, with the operands of every chain of `+` or of `*` in rising order.
    pub fn ordered(self) -> Self {
        let Self::Binary(operator, left, right) = self else { return self };
        let (left, right) = (left.ordered(), right.ordered());
        if !operator.is_commutative() {
            return Self::binary(operator, left, right);
        }
        let mut operands = Vec::new();
        left.operands(operator, &mut operands);
        right.operands(operator, &mut operands);
        operands.sort();
        let joined = |left, right| Self::binary(operator, left, right);
        operands.into_iter().reduce(joined).expect("a binary expression has two operands")
    }

    /// The operands that a chain of one operator joins.
    fn operands(self, chain: Operator, into: &mut Vec<Self>) {
        match self {
            Self::Binary(operator, left, right) if operator == chain => {
                left.operands(chain, into);
                right.operands(chain, into);
            }
            other => into.push(other),
        }
    }

    /// 1 for sums, 2 for products, 3 for numbers.
    fn precedence(&self) -> u8 {
        match self {
            Self::Binary(operator, ..) => operator.precedence(),
            Self::Number(_) => 3,
        }
    }

    /// Whether its value is this whole number, exactly. False for a division by zero, and for
    /// intermediate values whose numerator or denominator needs more than 128 bits.
    pub fn equals(&self, whole: i64) -> bool {
        self.value() == Some(Rational::from(whole))
    }

    fn value(&self) -> Option<Rational> {
        match self {
            Self::Number(n) => Some(Rational::from(*n)),
            Self::Binary(operator, left, right) => {
                let (l, r) = (left.value()?, right.value()?);
                match operator {
                    Operator::Add => l.plus(r),
                    Operator::Subtract => l.plus(Rational { numerator: r.numerator.checked_neg()?, ..r }),
                    Operator::Multiply => l.times(r),
                    Operator::Divide => l.times(r.inverse()?),
                }
            }
        }
    }
}

impl fmt::Display for Expression {
    /// With the fewest brackets from which [`Expression::parse`] reads the same tree.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Binary(operator, left, right) => {
                let own = self.precedence();
                let side =
                    |side: &Self, bare: bool| if bare { format!("{side}") } else { format!("({side})") };
                let left = side(left, left.precedence() >= own);
                let right = side(right, right.precedence() > own);
                write!(f, "{left}{}{right}", operator.sign())
            }
        }
    }
}

/// Recursive descent: sum = product {(+|-) product}, product = atom {(*|/) atom}, atom = number | (
/// sum ).
struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn sum(&mut self) -> Option<Expression> {
        let operators = [('+', Operator::Add), ('-', Operator::Subtract), ('−', Operator::Subtract)];
        self.chain(&operators, Self::product)
    }

    fn product(&mut self) -> Option<Expression> {
        let operators = [
            ('*', Operator::Multiply),
            ('×', Operator::Multiply),
            ('/', Operator::Divide),
            ('÷', Operator::Divide),
        ];
        self.chain(&operators, Self::atom)
    }

    /// Operands joined from the left by any of the (sign, operator) pairs.
    fn chain(
        &mut self,
        operators: &[(char, Operator)],
        operand: fn(&mut Self) -> Option<Expression>,
    ) -> Option<Expression> {
        let mut left = operand(self)?;
        // A chain nests to the left, so its length is bounded like the depth of brackets.
        for _ in 0..DEPTH_MAX {
            let Some(&(_, operator)) = operators.iter().find(|(sign, _)| self.take(*sign)) else { break };
            left = Expression::binary(operator, left, operand(self)?);
        }
        Some(left)
    }

    fn atom(&mut self) -> Option<Expression> {
        if self.take('(') {
            self.depth += 1;
            let inner = if self.depth <= DEPTH_MAX { self.sum()? } else { return None };
            self.depth -= 1;
            return self.take(')').then_some(inner);
        }
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        // Without digits there is no number; a number beyond 64 bits is refused, too.
        let number = self.rest[..end].parse().ok()?;
        self.rest = self.rest[end..].trim_start();
        Some(Expression::Number(number))
    }

    fn take(&mut self, wanted: char) -> bool {
        let Some(rest) = self.rest.strip_prefix(wanted) else { return false };
        self.rest = rest.trim_start();
        true
    }
}

/// In lowest terms, the denominator above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rational {
    numerator: i128,
    denominator: i128,
}

impl From<i64> for Rational {
    fn from(n: i64) -> Self {
        Self { numerator: n.into(), denominator: 1 }
    }
}

impl Rational {
    fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::reduced(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    fn times(self, other: Self) -> Option<Self> {
        Self::reduced(
            self.numerator.checked_mul(other.numerator)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    fn inverse(self) -> Option<Self> {
        match self.numerator {
            0 => None,
            n => Some(Self {
                numerator: self.denominator.checked_mul(n.signum())?,
                denominator: n.checked_abs()?,
            }),
        }
    }

    fn reduced(numerator: i128, denominator: i128) -> Option<Self> {
        let (mut a, mut b) = (numerator.checked_abs()?, denominator);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Some(Self { numerator: numerator / a, denominator: denominator / a })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(text: &str) -> String {
        Expression::parse(text).unwrap().ordered().to_string()
    }

    #[test]
    fn equal_expressions_have_one_spelling() {
        for (text, expected) in [
            ("(5+3)*7", "7*(3+5)"),
            ("((3))", "3"),
            ("7 + ( 5+3 )", "3+5+7"),
            ("2*7*3", "2*3*7"),
            ("7-(5+3)", "7-(3+5)"),
            ("8/(4/2)", "8/(4/2)"),
            ("3-(5-7)", "3-(5-7)"),
            ("3−5-7", "3-5-7"),
            // Numbers come before products, products before sums, sums before differences.
            ("(4-3)*((1+2)*5)", "5*(1+2)*(4-3)"),
        ] {
            assert_eq!(normal(text), expected);
        }
        assert_ne!(normal("5-1"), normal("1-5"));
    }

    #[test]
    fn values_are_exact() {
        let equals = |text: &str, whole| Expression::parse(text).unwrap().equals(whole);
        assert!(equals("8 ÷ (3 − 8 ÷ 3)", 24) && equals("3/2*4", 6) && equals("3-5+9", 7));
        assert!(!equals("9/(3-3)", 9) && !equals("3+5*7", 56) && !equals("7/2", 3));
        let huge = ["9223372036854775807"; 4].join("*");
        assert!(!equals(&huge, 1), "an overflow has no value");
        assert!(Expression::parse("7*(3+5)").unwrap().uses_exactly(&[3, 5, 7]));
        assert!(!Expression::parse("3+3").unwrap().uses_exactly(&[3]));
    }

    #[test]
    fn what_is_no_expression_is_refused_at_any_length() {
        for text in ["", "3+", "(3", "3)", "3 3", "x", "-3", "3=3", "9223372036854775808"] {
            assert_eq!(Expression::parse(text), None, "{text}");
        }
        assert_eq!(Expression::parse(&format!("{}1{}", "(".repeat(40_000), ")".repeat(40_000))), None);
        assert_eq!(Expression::parse(&format!("1{}", "+1".repeat(40_000))), None);
    }

    fn tree() -> impl Strategy<Value = Expression> {
        let signs = [Operator::Add, Operator::Subtract, Operator::Multiply, Operator::Divide];
        (0i64..100).prop_map(Expression::Number).prop_recursive(4, 16, 2, move |inner| {
            (prop::sample::select(signs.to_vec()), inner.clone(), inner)
                .prop_map(|(operator, left, right)| Expression::binary(operator, left, right))
        })
    }

    proptest! {
        #[test]
        fn its_text_reads_as_the_same_tree(tree in tree()) {
            prop_assert_eq!(Expression::parse(&tree.to_string()), Some(tree.clone()));
            let ordered = tree.clone().ordered();
            prop_assert_eq!(ordered.value(), tree.value());
            prop_assert_eq!(ordered.clone().ordered(), ordered);
        }
    }
}
