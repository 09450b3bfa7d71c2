//! Rotary frequencies: `rope_theta` and its scalings, as `config.json` writes them in both of its
//! styles.
//!
//! transformers 4 has `rope_theta` and `rope_scaling {rope_type | type, …}`; transformers 5 has
//! `rope_parameters`, which holds both, or one such object per layer type. The formulas are those
//! of `modeling_rope_utils.py` of transformers 5.23: linear (kaiokendev 2023), llama3 (Llama 3.1),
//! yarn (Peng et al. 2024). Left out: `dynamic` and `longrope`, whose frequencies depend on a
//! sequence's length, so that a cached key would be wrong.

use std::f64::consts::TAU;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::read::Keys;
use super::{Family, ModelConfig};
use crate::ops::kernels::RopeTable;

/// Rotary positions of some layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeParameters {
    /// The base: element pair `i` of a head of `d` rotates by `rope_theta^(-2i/d)` radians per
    /// position.
    pub rope_theta: f64,
    pub scaling: RopeScaling,
}

/// A model's rotary tables, of full and of sliding layers; they are made at first use and shared by
/// copies.
#[derive(Clone, Debug, Default)]
pub(super) struct RopeTables(Arc<[OnceLock<Arc<RopeTable>>; 2]>);

impl RopeTables {
    /// The table of layer `index`, if it has rotary positions.
    pub(super) fn of(&self, config: &ModelConfig, index: usize) -> Option<Arc<RopeTable>> {
        let layer = config.layers[index];
        if !layer.rope {
            return None;
        }
        let own = config.sliding_rope.filter(|_| layer.sliding);
        let (cell, parameters) = (&self.0[usize::from(own.is_some())], own.unwrap_or(config.rope));
        let make = || Arc::new(parameters.table(config.head_dim, config.max_position_embeddings));
        Some(cell.get_or_init(make).clone())
    }
}

/// How the frequencies are scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    Default,
    /// All are divided by `factor`.
    Linear {
        factor: f64,
    },
    /// Long wavelengths are divided by `factor`, short ones kept, those between interpolated.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: f64,
    },
    /// The same with a linear ramp over element pairs; cosines and sines are multiplied by
    /// `attention_factor`.
    Yarn {
        factor: f64,
        attention_factor: f64,
        beta_fast: f64,
        beta_slow: f64,
        original_max_position_embeddings: f64,
        truncate: bool,
    },
}

impl RopeParameters {
    /// Unscaled.
    pub fn new(rope_theta: f64) -> Self {
        Self { rope_theta, scaling: RopeScaling::Default }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let theta = self.rope_theta;
        ensure!(theta.is_finite() && theta > 0.0, "config.json: rope_theta {theta} is not a positive number");
        Ok(())
    }

    /// The table of `positions_max` positions for heads of `head_dim` elements.
    pub(super) fn table(&self, head_dim: usize, positions_max: usize) -> RopeTable {
        let scale = match self.scaling {
            RopeScaling::Default => return RopeTable::new(head_dim, self.rope_theta, positions_max),
            RopeScaling::Yarn { attention_factor, .. } => attention_factor as f32,
            _ => 1.0,
        };
        let frequencies = (0..head_dim / 2).map(|i| self.frequency(i, head_dim) as f32).collect();
        RopeTable::from_frequencies(frequencies, scale, positions_max)
    }

    /// Radians per position of element pair `i`.
    pub(super) fn frequency(&self, i: usize, head_dim: usize) -> f64 {
        let plain = self.rope_theta.powf(-((2 * i) as f64) / head_dim as f64);
        match self.scaling {
            RopeScaling::Default => plain,
            RopeScaling::Linear { factor } => plain / factor,
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                let turns = original_max_position_embeddings * plain / TAU;
                let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                if turns < low_freq_factor {
                    plain / factor
                } else if turns > high_freq_factor {
                    plain
                } else {
                    (1.0 - kept) * plain / factor + kept * plain
                }
            }
            RopeScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_max_position_embeddings,
                truncate,
                ..
            } => {
                let pair_of = |turns: f64| {
                    let pair = head_dim as f64 * (original_max_position_embeddings / (turns * TAU)).ln();
                    pair / (2.0 * self.rope_theta.ln())
                };
                let (mut low, mut high) = (pair_of(beta_fast), pair_of(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
                let width = if low == high { 0.001 } else { high - low };
                let scaled = ((i as f64 - low) / width).clamp(0.0, 1.0);
                plain / factor * scaled + plain * (1.0 - scaled)
            }
        }
    }
}

/// Rotary positions of the full-attention layers (all layers, where a family has one kind), and of
/// the sliding layers if theirs differ.
pub(super) fn read(keys: &Keys, family: Family) -> Result<(RopeParameters, Option<RopeParameters>)> {
    let theta = keys.get("rope_theta")?;
    let per_type = matches!(family, Family::Gemma3 | Family::Olmo3);
    let parameters: Option<Map<String, Value>> = keys.get("rope_parameters")?;
    let scaling: Option<Map<String, Value>> = keys.get("rope_scaling")?;
    let default_theta = theta.unwrap_or(family.defaults().rope_theta);
    if !per_type {
        let (name, object) = match scaling {
            Some(object) => ("rope_scaling", object),
            None => ("rope_parameters", parameters.clone().unwrap_or_default()),
        };
        // transformers 5 writes the base into `rope_parameters`, transformers 4 outside of it.
        let theta = match &parameters {
            Some(parameters) => Keys::new("rope_parameters.", parameters).get("rope_theta")?,
            None => None,
        };
        let object = Object { name, keys: Keys::new(&format!("{name}."), &object), whole: keys };
        return Ok((object.parse(theta.unwrap_or(default_theta))?, None));
    }
    let local_theta = match family {
        Family::Gemma3 => keys.get("rope_local_base_freq")?.unwrap_or(1e4),
        _ => default_theta,
    };
    if let Some(flat) = parameters.as_ref().filter(|p| !p.values().all(|v| v.is_object() || v.is_null())) {
        bail!(
            "config.json: rope_parameters {} is not supported for model_type `{}`; it needs one object for \
             full_attention and one for sliding_attention",
            Value::Object(flat.clone()),
            family.model_type()
        );
    }
    let of = |layer_type: &str, fallback: Option<Map<String, Value>>, theta: f64| {
        let nested = match &parameters {
            Some(parameters) => Keys::new("rope_parameters.", parameters).get(layer_type)?,
            None => None,
        };
        let (name, object): (String, Map<String, Value>) = match (fallback, nested) {
            (Some(object), _) => ("rope_scaling".to_owned(), object),
            (None, nested) => (format!("rope_parameters.{layer_type}"), nested.unwrap_or_default()),
        };
        Object { name: &name, keys: Keys::new(&format!("{name}."), &object), whole: keys }.parse(theta)
    };
    let full = of("full_attention", scaling, default_theta)?;
    Ok((full, Some(of("sliding_attention", None, local_theta)?)))
}

/// One object with `rope_type` and its parameters.
struct Object<'a> {
    name: &'a str,
    keys: Keys,
    whole: &'a Keys,
}

impl Object<'_> {
    fn parse(&self, default_theta: f64) -> Result<RopeParameters> {
        let keys = &self.keys;
        let rope_theta = keys.get("rope_theta")?.unwrap_or(default_theta);
        if let Some(share) = keys.get::<f64>("partial_rotary_factor")? {
            ensure!(
                share == 1.0,
                "config.json: {}.partial_rotary_factor {share} is not supported; only 1 is",
                self.name
            );
        }
        let kind: Option<String> = match keys.get("rope_type")? {
            Some(kind) => Some(kind),
            None => keys.get("type")?,
        };
        let scaling = match kind.as_deref() {
            None | Some("default") => RopeScaling::Default,
            Some("linear") => RopeScaling::Linear { factor: self.factor()? },
            Some("llama3") => {
                let (low, high) = (self.number("low_freq_factor")?, self.number("high_freq_factor")?);
                ensure!(
                    low < high,
                    "config.json: {}.low_freq_factor {low} must be below high_freq_factor {high}",
                    self.name
                );
                RopeScaling::Llama3 {
                    factor: self.factor()?,
                    low_freq_factor: low,
                    high_freq_factor: high,
                    original_max_position_embeddings: self.original_positions()?,
                }
            }
            Some("yarn") => self.yarn()?,
            Some(other) => bail!(
                "config.json: {}.rope_type `{other}` is not supported; supported: default, linear, llama3, yarn",
                self.name
            ),
        };
        Ok(RopeParameters { rope_theta, scaling })
    }

    fn yarn(&self) -> Result<RopeScaling> {
        let (keys, factor) = (&self.keys, self.factor()?);
        let positive = |key: &str| -> Result<Option<f64>> {
            keys.get::<f64>(key)?.map(|x| self.checked(key, x)).transpose()
        };
        let grown = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
        let attention_factor =
            match (positive("attention_factor")?, keys.get("mscale")?, keys.get("mscale_all_dim")?) {
                (Some(given), ..) => given,
                (None, Some(mscale), Some(all)) if mscale != 0.0 && all != 0.0 => grown(mscale) / grown(all),
                _ => grown(1.0),
            };
        Ok(RopeScaling::Yarn {
            factor,
            attention_factor,
            beta_fast: positive("beta_fast")?.unwrap_or(32.0),
            beta_slow: positive("beta_slow")?.unwrap_or(1.0),
            original_max_position_embeddings: self.original_positions()?,
            truncate: keys.get("truncate")?.unwrap_or(true),
        })
    }

    fn factor(&self) -> Result<f64> {
        self.number("factor")
    }

    /// Positions the model was pretrained with.
    fn original_positions(&self) -> Result<f64> {
        let key = "original_max_position_embeddings";
        let positions: Option<f64> = match self.whole.get(key)? {
            Some(positions) => Some(positions),
            None => self.keys.get(key)?,
        };
        let positions = match positions {
            Some(positions) => positions,
            None => self.whole.get("max_position_embeddings")?.with_context(|| {
                format!("config.json has neither {}.{key} nor max_position_embeddings", self.name)
            })?,
        };
        self.checked(key, positions)
    }

    fn number(&self, key: &str) -> Result<f64> {
        let value =
            self.keys.get(key)?.with_context(|| format!("config.json: {} has no `{key}`", self.name))?;
        self.checked(key, value)
    }

    fn checked(&self, key: &str, x: f64) -> Result<f64> {
        ensure!(
            x.is_finite() && x > 0.0,
            "config.json: {}.{key} is {x}; it must be a positive number",
            self.name
        );
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(family: Family, value: Value) -> Result<(RopeParameters, Option<RopeParameters>)> {
        let Value::Object(map) = value else { panic!("an object") };
        read(&Keys::new("", &map), family)
    }

    #[test]
    fn both_styles_say_the_same() {
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192});
        let old = json!({"rope_theta": 5e5, "rope_scaling": scaling});
        let mut flat = scaling;
        flat["rope_theta"] = json!(5e5);
        let new = json!({ "rope_parameters": flat });
        assert_eq!(parsed(Family::Llama, old).unwrap(), parsed(Family::Llama, new).unwrap());

        let yarn = json!({"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192,
            "attention_factor": 1.2079441541679836, "beta_fast": 32.0, "beta_slow": 1.0});
        let old = json!({"rope_theta": 5e5, "rope_scaling": yarn});
        let new = json!({"rope_parameters": {"full_attention": yarn, "sliding_attention": {"rope_type": "default"}}});
        let (full, sliding) = parsed(Family::Olmo3, old).unwrap();
        assert_eq!((full, sliding), parsed(Family::Olmo3, new).unwrap());
        assert_eq!(sliding, Some(RopeParameters::new(5e5)));
        assert!(matches!(full.scaling, RopeScaling::Yarn { attention_factor: 1.2079441541679836, .. }));

        let old = json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear",
            "factor": 8}});
        let (full, sliding) = parsed(Family::Gemma3, old).unwrap();
        assert_eq!(full, RopeParameters { rope_theta: 1e6, scaling: RopeScaling::Linear { factor: 8.0 } });
        assert_eq!(sliding, Some(RopeParameters::new(1e4)));
        let none = parsed(Family::Gemma3, json!({"rope_scaling": null})).unwrap();
        assert_eq!(none, (RopeParameters::new(1e6), Some(RopeParameters::new(1e4))));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let cases = [
            (json!({"rope_scaling": {"type": "dynamic", "factor": 2}}), "rope_scaling.rope_type `dynamic`"),
            (json!({"rope_parameters": {"rope_type": "longrope"}}), "rope_parameters.rope_type `longrope`"),
            (json!({"rope_scaling": {"type": "linear"}}), "rope_scaling has no `factor`"),
            (json!({"rope_scaling": {"type": "linear", "factor": 0}}), "rope_scaling.factor is 0"),
            (json!({"rope_scaling": {"type": "linear", "factor": "two"}}), "rope_scaling.factor is \"two\""),
            (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "partial_rotary_factor 0.5"),
            (json!({"rope_scaling": {"type": "yarn", "factor": 2}}), "original_max_position_embeddings"),
            (json!({"rope_scaling": "yarn"}), "rope_scaling is \"yarn\""),
        ];
        for (value, word) in cases {
            let error = format!("{:#}", parsed(Family::Llama, value).unwrap_err());
            assert!(error.contains(word), "{word}: {error}");
        }
        let flat = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}});
        let error = parsed(Family::Olmo3, flat).unwrap_err().to_string();
        assert!(error.contains("rope_parameters") && error.contains("full_attention"), "{error}");
    }
}
