//! Where a parameter is in a GGUF file: its name, its index in a stack of experts, the order of its
//! rows.

use anyhow::{Context, Result};

use super::arch::Arch;
use crate::model::{ModelConfig, NormPlacement};

/// A parameter's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub tensor: String,
    /// Its index in a tensor that holds one matrix per expert.
    pub expert: Option<usize>,
    /// Rows are permuted within each of this many heads.
    pub permuted_heads: Option<usize>,
    /// Whether the file stores the weight plus one.
    pub plus_one: bool,
}

/// The place of the parameter that Hugging Face calls `parameter`.
pub(super) fn place(config: &ModelConfig, arch: Arch, parameter: &str) -> Result<Place> {
    let simple = |tensor: String| Place { tensor, expert: None, permuted_heads: None, plus_one: false };
    let plus_one = config.blocks.norm_plus_one;
    match parameter {
        "model.embed_tokens.weight" => return Ok(simple("token_embd.weight".into())),
        "lm_head.weight" => return Ok(simple("output.weight".into())),
        "model.norm.weight" => return Ok(Place { plus_one, ..simple("output_norm.weight".into()) }),
        _ => {}
    }
    let unknown = || format!("parameter `{parameter}` has no name in GGUF");
    let rest = parameter.strip_prefix("model.layers.").with_context(unknown)?;
    let (layer, rest) = rest.split_once('.').with_context(unknown)?;
    let (module, kind) = rest.rsplit_once('.').with_context(unknown)?;
    if let Some(expert) = module.strip_prefix("mlp.experts.") {
        let (expert, matrix) = expert.split_once('.').with_context(unknown)?;
        let matrix = matrix.strip_suffix("_proj").with_context(unknown)?;
        let tensor = format!("blk.{layer}.ffn_{matrix}_exps.{kind}");
        return Ok(Place { expert: Some(expert.parse().with_context(unknown)?), ..simple(tensor) });
    }
    let name = module_name(config.blocks.norms, module).with_context(unknown)?;
    let heads = match module {
        "self_attn.q_proj" => Some(config.num_attention_heads),
        "self_attn.k_proj" => Some(config.num_key_value_heads),
        _ => None,
    };
    Ok(Place {
        tensor: format!("blk.{layer}.{name}.{kind}"),
        expert: None,
        permuted_heads: heads.filter(|_| arch.is_permuted()),
        plus_one: plus_one && name.ends_with("norm"),
    })
}

fn module_name(norms: NormPlacement, module: &str) -> Option<&'static str> {
    Some(match module {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" if norms == NormPlacement::Pre => "ffn_norm",
        "post_attention_layernorm" => "post_attention_norm",
        "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "mlp.gate" => "ffn_gate_inp",
        _ => return None,
    })
}

/// The row of the Hugging Face order that is row `row` of a permuted tensor, for heads of
/// `head_dim` rows. Pairs that rotate together are rows `i` and `i + head_dim/2` in that order, and
/// neighbours here.
pub(super) fn permuted_from(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + (within % 2) * (head_dim / 2) + within / 2
}

/// Permutes rows of `row_bytes` from the Hugging Face order to llama.cpp's.
pub(super) fn permute(bytes: &[u8], row_bytes: usize, head_dim: usize) -> Vec<u8> {
    let rows = bytes.len() / row_bytes.max(1);
    let row = |row: usize| &bytes[row * row_bytes..(row + 1) * row_bytes];
    (0..rows).flat_map(|to| row(permuted_from(to, head_dim))).copied().collect()
}

/// Permutes rows back. A permutation of rows works on quantised blocks as well as on numbers.
pub(super) fn unpermute(bytes: &[u8], row_bytes: usize, head_dim: usize) -> Vec<u8> {
    let mut back = vec![0; bytes.len()];
    for (from, row) in bytes.chunks_exact(row_bytes.max(1)).enumerate() {
        let to = permuted_from(from, head_dim) * row_bytes;
        back[to..to + row_bytes].copy_from_slice(row);
    }
    back
}
