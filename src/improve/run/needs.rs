//! What a configuration asks of the engines, and whether they can do it.
//!
//! A run whose formula or search needs what an engine lacks would fail hours later, or score every
//! trajectory as missing. This check refuses it at the start and names the setting. It knows
//! engines only by their [`Capabilities`].

use anyhow::{Result, ensure};

use super::aux_models::search_prompts;
use crate::config::Config;
use crate::domain::{Capabilities, ScorerName, Strategy};
use crate::score::Formula;

/// What the engines of a run can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Engines {
    pub policy: Capabilities,
    /// Of the model that judges: the policy's, unless the configuration names another model.
    pub judge: Capabilities,
    /// `None`: the configuration names no reference.
    pub reference: Option<Capabilities>,
}

/// # Errors
/// A setting needs what an engine can't do. The message names the setting, the model and what is
/// missing.
pub(super) fn check(config: &Config, engines: &Engines) -> Result<()> {
    let Engines { policy, judge, reference } = *engines;
    for formula in [&config.critic.annotation, &config.reward.formula, &config.reward.without_head] {
        for name in Formula::parse(formula)?.names() {
            if let Some(need) = of_score(name) {
                needed(policy, "the policy", &format!("the formula `{formula}` uses `{name}`"), need)?;
            }
        }
    }
    let prompts = search_prompts(config);
    if config.rollout.strategy == Strategy::Tot && !prompts.value {
        needed(policy, "the policy", "tree.value = \"head\"", Need::Hidden)?;
    }
    if prompts.propose.is_some() {
        needed(policy, "the policy", "tree.propose = \"prompt\"", Need::PromptLogprobs)?;
        needed(policy, "the policy", "tree.propose = \"prompt\"", Need::Choices)?;
    }
    if config.critic.rereads > 0 {
        let what = format!("critic.rereads = {}", config.critic.rereads);
        needed(policy, "the policy", &what, Need::PromptLogprobs)?;
    }
    if config.critic.corrupted > 0.0 {
        let what = format!("critic.corrupted = {}", config.critic.corrupted);
        needed(policy, "the policy", &what, Need::PromptLogprobs)?;
    }
    if config.judge.is_on() {
        let what = format!("judge.model = {:?}", config.judge.model);
        needed(judge, "the judge", &what, Need::Choices)?;
    }
    if prompts.value {
        needed(judge, "the judge", "tree.value = \"prompt\"", Need::Choices)?;
    }
    if let Some(reference) = reference {
        let what = format!("reference.model = {:?}", config.reference.model);
        needed(reference, "the reference", &what, Need::PromptLogprobs)?;
    }
    Ok(())
}

/// One thing that a setting can need of an engine.
#[derive(Clone, Copy)]
enum Need {
    Hidden,
    Logprobs,
    PromptLogprobs,
    Choices,
}

/// What the policy's engine must return for this score. `None`: the score is made of something
/// else.
fn of_score(name: &ScorerName) -> Option<Need> {
    const HEAD: [ScorerName; 4] =
        [ScorerName::HEAD, ScorerName::COHERENCE, ScorerName::ACCURACY, ScorerName::COMPLETENESS];
    const LOGPROBS: [ScorerName; 2] = [ScorerName::LOGPROB_MEAN, ScorerName::LOGPROB_MIN];
    match name {
        name if HEAD.contains(name) => Some(Need::Hidden),
        name if LOGPROBS.contains(name) => Some(Need::Logprobs),
        name if *name == ScorerName::REREAD => Some(Need::PromptLogprobs),
        _ => None,
    }
}

fn needed(engine: Capabilities, model: &str, what: &str, need: Need) -> Result<()> {
    let (has, missing) = match need {
        Need::Hidden => (engine.hidden, "hidden states"),
        Need::Logprobs => (engine.logprobs, "log-probabilities of the tokens it generates"),
        Need::PromptLogprobs => (engine.prompt_logprobs, "log-probabilities of given tokens"),
        Need::Choices => (engine.choices, "log-probabilities of given options"),
    };
    ensure!(
        has,
        "{what}: this needs {missing}, and the engine of {model} returns none; change the setting, or choose another \
         model"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use safetensors::tensor::{Dtype, TensorView};

    use super::*;
    use crate::domain::Generate;
    use crate::engine::candle_models::CandleModel;
    use crate::engine::scripted::{Script, Scripted};

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::load(None, &pairs).unwrap()
    }

    fn of(policy: Capabilities) -> Engines {
        Engines { policy, judge: policy, reference: Some(policy) }
    }

    fn refusal(pairs: &[(&str, &str)], engines: &Engines) -> String {
        check(&config(pairs), engines).unwrap_err().to_string()
    }

    /// Formulas without the head.
    const HEADLESS: [(&str, &str); 2] = [("critic.annotation", "vote"), ("reward.formula", "vote")];

    #[test]
    fn a_script_without_hidden_states_has_no_head() {
        let script = Scripted::new(Script::table(BTreeMap::new()), 0.5).unwrap();
        check(&config(&[]), &of(script.capabilities())).unwrap();
        let blind = of(script.with_hidden_size(0).capabilities());
        let error = refusal(&[], &blind);
        assert!(error.contains("`head`") && error.contains("hidden states"), "{error}");
        check(&config(&HEADLESS), &blind).unwrap();
        let error = refusal(&[HEADLESS[0], HEADLESS[1], ("rollout.strategy", "tot")], &blind);
        assert!(error.contains("tree.value") && error.contains("the policy"), "{error}");
    }

    #[test]
    fn a_model_of_candle_judges_but_has_no_head() {
        let dir = tempfile::tempdir().unwrap();
        phi3(dir.path());
        let model = CandleModel::load(dir.path()).unwrap().capabilities();
        let error = refusal(&[HEADLESS[0], ("reward.formula", "vote * accuracy")], &of(model));
        assert!(error.contains("`vote * accuracy` uses `accuracy`"), "{error}");
        let judged = [("judge.model", "phi3"), ("reference.model", "phi3")];
        let engines = Engines { policy: Capabilities::ALL, ..of(model) };
        check(&config(&judged), &engines).unwrap();
    }

    #[test]
    fn every_setting_names_what_it_needs() {
        let all = Capabilities::ALL;
        let mute = of(Capabilities { logprobs: false, ..all });
        let error = refusal(&[("reward.formula", "exp(logprob_mean)")], &mute);
        assert!(error.contains("`logprob_mean`") && error.contains("generates"), "{error}");
        let unread = of(Capabilities { prompt_logprobs: false, ..all });
        let none = [("critic.rereads", "0"), ("critic.corrupted", "0")];
        assert!(refusal(&[none[1]], &unread).contains("critic.rereads"));
        assert!(refusal(&[none[0]], &unread).contains("critic.corrupted"));
        assert!(refusal(&none, &unread).contains("reference.model"));
        let reread = [none[0], none[1], ("reward.formula", "reread")];
        assert!(refusal(&reread, &unread).contains("`reread`"));
        let judge = Engines { judge: Capabilities { choices: false, ..all }, ..of(all) };
        assert!(refusal(&[("judge.model", "policy")], &judge).contains("judge.model"));
        let searched = |key, value| {
            refusal(&[("rollout.strategy", "tot"), (key, value)], &of(Capabilities { choices: false, ..all }))
        };
        assert!(searched("tree.value", "prompt").contains("the judge"));
        assert!(searched("tree.propose", "prompt").contains("tree.propose"));
    }

    /// A checkpoint of a family that candle-transformers runs, with one layer and weights of zero.
    fn phi3(dir: &Path) {
        let config = serde_json::json!({
            "model_type": "phi3", "vocab_size": 5, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
            "num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 8, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "hidden_act": "silu",
        });
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        let layer = |name: &str| format!("model.layers.0.{name}.weight");
        let shapes = [
            ("model.embed_tokens.weight".to_owned(), vec![5, 4]),
            (layer("input_layernorm"), vec![4]),
            (layer("self_attn.qkv_proj"), vec![12, 4]),
            (layer("self_attn.o_proj"), vec![4, 4]),
            (layer("post_attention_layernorm"), vec![4]),
            (layer("mlp.gate_up_proj"), vec![8, 4]),
            (layer("mlp.down_proj"), vec![4, 4]),
            ("model.norm.weight".to_owned(), vec![4]),
            ("lm_head.weight".to_owned(), vec![5, 4]),
        ];
        let zeros = [0; 4 * 48];
        let view = |shape: Vec<usize>| {
            let bytes = 4 * shape.iter().product::<usize>();
            TensorView::new(Dtype::F32, shape, &zeros[..bytes]).unwrap()
        };
        let tensors = shapes.into_iter().map(|(name, shape)| (name, view(shape)));
        safetensors::serialize_to_file(tensors, None, &dir.join("model.safetensors")).unwrap();
    }
}
