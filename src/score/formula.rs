//! Formulas over scores, from the configuration: `0.7 * vote + 0.3 * head`.
//!
//! MiniJinja's expressions, with the scores as the only names and `min`, `max`, `exp` as the only
//! functions. What is unknown is refused when the formula is read, not when it is first needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use anyhow::{Result, anyhow, bail, ensure};
use minijinja::value::ValueKind;
use minijinja::{Environment, Expression, UndefinedBehavior, Value};
use serde::{Deserialize, Serialize};

use crate::domain::check::Check;
use crate::domain::{Reward, Score, ScoreError, ScorerName};

/// The section `reward` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardConfig {
    pub formula: String,
    pub without_head: String,
}

impl RewardConfig {
    /// Reports every value that can't be used.
    pub fn check(&self, check: &mut Check) {
        check_source(check, "reward.formula", &self.formula);
        check_source(check, "reward.without_head", &self.without_head);
    }
}

/// Refuses a formula without a source.
pub(super) fn check_source(check: &mut Check, key: &str, formula: &str) {
    check(!formula.trim().is_empty(), key, &formula, "give a formula, such as \"vote\"");
}

const FUNCTIONS: [&str; 3] = ["min", "max", "exp"];
/// Longest formula, in bytes.
const LENGTH_MAX: usize = 1000;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_function("min", |a: f64, b: f64| a.min(b));
    environment.add_function("max", |a: f64, b: f64| a.max(b));
    environment.add_function("exp", f64::exp);
    environment
});

/// The names that a formula may use: every known scorer but the reward itself.
fn inputs() -> impl Iterator<Item = ScorerName> {
    ScorerName::BUILT_IN.into_iter().filter(|name| *name != ScorerName::REWARD)
}

/// A formula that was read and found to make sense.
pub struct Formula {
    source: String,
    expression: Expression<'static, 'static>,
    names: Vec<ScorerName>,
}

impl Formula {
    /// Reads a formula. Refused: syntax errors, unknown names, and anything that does not give a
    /// number.
    pub fn parse(source: &str) -> Result<Self> {
        ensure!(source.len() <= LENGTH_MAX, "a formula of {} bytes; at most {LENGTH_MAX}", source.len());
        let expression = ENVIRONMENT
            .compile_expression_owned(source.to_owned())
            .map_err(|error| anyhow!("the formula `{source}` can't be read: {error}"))?;
        let used: BTreeSet<String> = expression.undeclared_variables(false).into_iter().collect();
        let mut names = Vec::new();
        for name in used.iter().filter(|name| !FUNCTIONS.contains(&name.as_str())) {
            match inputs().find(|known| known.as_str() == name) {
                Some(known) => names.push(known),
                None => bail!(
                    "the formula `{source}` uses `{name}`, which is unknown; known are {} and {}",
                    inputs().map(|known| known.to_string()).collect::<Vec<_>>().join(", "),
                    FUNCTIONS.map(|f| format!("{f}()")).join(", ")
                ),
            }
        }
        let formula = Self { source: source.to_owned(), expression, names };
        // Scores of one half stand in for real ones: wrong types and calls show at once.
        formula
            .number(&formula.names.iter().map(|name| (name, 0.5)).collect::<Vec<_>>())
            .map_err(|error| anyhow!("the formula `{source}` does not work: {error}"))?;
        Ok(formula)
    }

    /// The formula as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The scores it needs.
    pub fn names(&self) -> &[ScorerName] {
        &self.names
    }

    /// Its value for one trajectory's `scores`.
    ///
    /// # Errors
    /// A needed score that failed passes its error on, one that isn't there is
    /// [`ScoreError::MissingInput`], and a result that is not a finite number is
    /// [`ScoreError::NonFinite`].
    pub fn eval(&self, scores: &[Score]) -> Reward {
        let mut inputs = Vec::with_capacity(self.names.len());
        for name in &self.names {
            let score = scores.iter().find(|s| s.scorer == *name).ok_or(ScoreError::MissingInput)?;
            inputs.push((name, score.value?));
        }
        let value = self.number(&inputs).map_err(|_| ScoreError::NonFinite)?;
        if value.is_finite() { Ok(value) } else { Err(ScoreError::NonFinite) }
    }

    fn number(&self, inputs: &[(&ScorerName, f64)]) -> Result<f64> {
        let context: BTreeMap<&str, f64> =
            inputs.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let value = self.expression.eval(Value::from(context))?;
        ensure!(value.kind() == ValueKind::Number, "it gives {} instead of a number", value.kind());
        Ok(f64::try_from(value)?)
    }
}

impl std::fmt::Debug for Formula {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Formula").field(&self.source).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::DEFAULT_TOML;

    fn scores(values: &[(ScorerName, f64)]) -> Vec<Score> {
        values.iter().map(|(name, value)| Score::new(name.clone(), *value)).collect()
    }

    fn refusal(source: &str) -> String {
        format!("{:#}", Formula::parse(source).unwrap_err())
    }

    #[test]
    fn the_defaults_work() {
        for line in DEFAULT_TOML.lines() {
            if let Some(formula) = ["annotation = ", "formula = ", "without_head = "]
                .iter()
                .find_map(|key| line.strip_prefix(key))
            {
                Formula::parse(formula.trim_matches('"')).unwrap();
            }
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let error = refusal("0.5 * heads + vote");
        assert!(
            error.contains("`heads`") && error.contains("logprob_min") && error.contains("exp()"),
            "{error}"
        );
        assert!(refusal("range(3)").contains("`range`"));
        for bad in
            ["", "vote +", "'text'", "vote > 0.5", "min(vote)", "vote.x", "[vote]", "min", "exp('a')", "none"]
        {
            let error = refusal(bad);
            assert!(error.contains("formula"), "{bad}: {error}");
        }
        assert!(refusal(&"1+".repeat(600)).contains("1200"));
    }

    #[test]
    fn what_is_missing_or_not_finite_has_a_class() {
        let formula = Formula::parse("vote / head").unwrap();
        let (head, vote) = (|| ScorerName::HEAD, || ScorerName::VOTE);
        assert_eq!(formula.names(), [head(), vote()]);
        assert_eq!(formula.eval(&scores(&[(head(), 0.5), (vote(), 0.25)])), Ok(0.5));
        assert_eq!(formula.eval(&scores(&[(vote(), 0.25)])), Err(ScoreError::MissingInput));
        assert_eq!(formula.eval(&scores(&[(vote(), 0.25), (head(), 0.0)])), Err(ScoreError::NonFinite));
        assert_eq!(formula.eval(&scores(&[(vote(), 0.0), (head(), 0.0)])), Err(ScoreError::NonFinite));
        let failed = [Score::failed(head(), ScoreError::NoAnswer), Score::new(vote(), 0.5)];
        assert_eq!(formula.eval(&failed), Err(ScoreError::NoAnswer));
        assert_eq!(Formula::parse("1").unwrap().eval(&[]), Ok(1.0));
        let power = Formula::parse("exp(logprob_mean) ** 2").unwrap();
        let value = power.eval(&scores(&[(ScorerName::LOGPROB_MEAN, -0.5)])).unwrap();
        assert!((value - (-1.0f64).exp()).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn arithmetic_is_arithmetic(a in -5.0f64..5.0, head in 0.0f64..1.0, vote in 0.0f64..1.0) {
            let formula = Formula::parse(&format!("{a:?} * head + max(vote, 0.25) - min(head, vote) / 2")).unwrap();
            let expected = a * head + vote.max(0.25) - head.min(vote) / 2.0;
            let inputs = scores(&[(ScorerName::VOTE, vote), (ScorerName::HEAD, head), (ScorerName::ACCURACY, 0.1)]);
            prop_assert!((formula.eval(&inputs).unwrap() - expected).abs() < 1e-12);
        }

        #[test]
        fn any_text_is_read_or_refused(source in "[a-z0-9 .+*/()'\"{}%|,-]{0,40}") {
            if let Ok(formula) = Formula::parse(&source) {
                let all: Vec<_> = inputs().map(|name| Score::new(name, 0.5)).collect();
                if let Ok(value) = formula.eval(&all) {
                    prop_assert!(value.is_finite());
                }
            }
        }
    }
}
