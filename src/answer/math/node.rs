//! A formula as a tree.

use super::rational::Rational;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Number(Rational),
    /// A symbol by its text: `x`, `\pi`, `31_{4}`.
    Symbol(String),
    Text(String),
    Sum(Vec<Node>),
    Product(Vec<Node>),
    Power(Box<Node>, Box<Node>),
    Call(String, Vec<Node>),
    /// In round brackets, which tell `f(2)` from `2f`.
    Group(Box<Node>),
    /// A tuple, by its opening bracket.
    Tuple(char, Vec<Node>),
    /// From, to, and whether each end belongs to it.
    Interval(Box<Node>, Box<Node>, bool, bool),
    /// In braces, or a bare list: without an order.
    Set(Vec<Node>),
    Union(Vec<Node>),
    Matrix(String, Vec<Vec<Node>>),
    /// `3:4`
    Ratio(Vec<Node>),
    /// Sides and the signs between them.
    Relation(Vec<Node>, Vec<char>),
}

impl Node {
    pub(super) fn negated(self) -> Self {
        match self {
            Self::Number(value) => Self::Number(value.negated()),
            node => Self::Product(vec![Self::Number(Rational::whole(-1)), node]),
        }
    }

    pub(super) fn inverted(self) -> Self {
        Self::Power(Box::new(self), Box::new(Self::Number(Rational::whole(-1))))
    }

    /// Whether it is a value: no letters that stand for something else.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Symbol(name) => {
                matches!(name.as_str(), "\\pi" | "e" | "i" | "\\infty" | "\\emptyset")
                    || name.starts_with(|c: char| c.is_ascii_digit())
                    || name.starts_with("\\mathbb")
            }
            node => node.children().into_iter().all(Self::is_closed),
        }
    }

    /// Whether it stands for several values or a range.
    pub(super) fn is_container(&self) -> bool {
        matches!(
            self,
            Self::Tuple(..)
                | Self::Interval(..)
                | Self::Set(..)
                | Self::Union(..)
                | Self::Matrix(..)
                | Self::Text(..)
        )
    }

    pub(super) fn children(&self) -> Vec<&Self> {
        match self {
            Self::Number(_) | Self::Symbol(_) | Self::Text(_) => Vec::new(),
            Self::Sum(nodes)
            | Self::Product(nodes)
            | Self::Call(_, nodes)
            | Self::Tuple(_, nodes)
            | Self::Set(nodes)
            | Self::Union(nodes)
            | Self::Ratio(nodes)
            | Self::Relation(nodes, _) => nodes.iter().collect(),
            Self::Power(base, exponent) => vec![base, exponent],
            Self::Group(inner) => vec![inner],
            Self::Interval(low, high, ..) => vec![low, high],
            Self::Matrix(_, rows) => rows.iter().flatten().collect(),
        }
    }
}
