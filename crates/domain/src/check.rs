//! What makes a setting wrong: each room checks its own section of the configuration with these.

use std::fmt::Debug;

/// Is given, for each rule: whether it holds, the key, its value, and what would be right.
pub type Check<'a> = dyn FnMut(bool, &str, &dyn Debug, &str) + 'a;

/// A sampling temperature.
pub fn temperature(check: &mut Check, key: &str, value: f32) {
    check((0.0..=100.0).contains(&value), key, &value, "0 (greedy) to 100");
}

/// A share or a probability.
pub fn probability(check: &mut Check, key: &str, value: f64) {
    check((0.0..=1.0).contains(&value), key, &value, "0 to 1");
}

/// A finite number above 0.
pub fn positive(check: &mut Check, key: &str, value: f32) {
    check(value > 0.0 && value.is_finite(), key, &value, "above 0");
}

/// A finite number from 0.
pub fn not_negative(check: &mut Check, key: &str, value: f32) {
    check(value >= 0.0 && value.is_finite(), key, &value, "0 or more");
}
