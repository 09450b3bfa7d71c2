"""Writes tests/golden/families.json and families.safetensors: what Hugging Face computes with tiny checkpoints.

    python tests/golden/families.py            # torch 2.15.0, transformers 5.23.0, safetensors 0.8.0
    python tests/golden/families.py --check D  # loads D/<case>/, checkpoints that autodidact wrote, and compares

families.json          per case: `config`, a config.json as published checkpoints have it, and `tensors`, the names
                       and shapes that transformers itself saves
families.safetensors   per case: `<case>.logits` (F32, rows of the three sequences of `LENGTHS` one after the other),
                       `<case>.loss` (the mean next-token cross-entropy over all of them) and `<case>.grads` (F64, per
                       tensor in order of name: the gradient's norm and its dot products with two counter vectors)

There are no weight files: element `i` of the `n`-th tensor by name is a function of (n, i), see `counter`. Windows are
shorter than the sequences, caps small enough to bend, norms and biases far from 1 and 0.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
VOCAB = 64
LENGTHS = [3, 13, 21]

BASE = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False,
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16}


def case(model_type, architecture, **fields):
    return {"architectures": [architecture], "model_type": model_type, **BASE, **fields}


CASES = {
    "llama3": case(
        "llama", "LlamaForCausalLM", hidden_act="silu", rms_norm_eps=1e-5, attention_bias=True, mlp_bias=True,
        rope_theta=500.0, torch_dtype="bfloat16", eos_token_id=[2, 3],
        rope_scaling={"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                      "original_max_position_embeddings": 16, "rope_type": "llama3"},
    ),
    "llama_linear": case(
        "llama", "LlamaForCausalLM", hidden_act="silu", rms_norm_eps=1e-6, tie_word_embeddings=True, head_dim=12,
        rope_scaling={"type": "linear", "factor": 2.0},
    ),
    "mistral": case(
        "mistral", "MistralForCausalLM", hidden_act="silu", rms_norm_eps=1e-5, rope_theta=1000.0, sliding_window=5,
        head_dim=12, torch_dtype="bfloat16",
    ),
    "qwen2": case(
        "qwen2", "Qwen2ForCausalLM", hidden_act="silu", rms_norm_eps=1e-6, num_hidden_layers=3, tie_word_embeddings=True,
        use_sliding_window=True, sliding_window=5, max_window_layers=1, rope_theta=10000.0,
        rope_scaling={"type": "yarn", **YARN},
    ),
    "qwen3": case(
        "qwen3", "Qwen3ForCausalLM", hidden_act="silu", rms_norm_eps=1e-6, head_dim=12, attention_bias=True,
        use_sliding_window=False, sliding_window=5, max_window_layers=1, dtype="bfloat16",
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
    ),
    "olmo2": case(
        "olmo2", "Olmo2ForCausalLM", hidden_act="silu", rms_norm_eps=1e-6, attention_bias=False, rope_theta=5000.0,
        rope_scaling=None,
    ),
    "olmo3": case(
        "olmo3", "Olmo3ForCausalLM", hidden_act="silu", rms_norm_eps=1e-6, num_hidden_layers=4, sliding_window=5,
        rope_parameters={
            "full_attention": {"rope_type": "yarn", "rope_theta": 500.0, "attention_factor": 1.3, "beta_fast": 8.0,
                               "beta_slow": 1.0, **YARN},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
        },
    ),
    "gemma2": case(
        "gemma2", "Gemma2ForCausalLM", hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh",
        rms_norm_eps=1e-6, head_dim=12, tie_word_embeddings=True, query_pre_attn_scalar=10, sliding_window=5,
        attn_logit_softcapping=3.0, final_logit_softcapping=4.0, rope_theta=1000.0, cache_implementation="hybrid",
    ),
    "gemma3": case(
        "gemma3_text", "Gemma3ForCausalLM", hidden_activation="gelu_pytorch_tanh", rms_norm_eps=1e-6, head_dim=12,
        num_hidden_layers=4, tie_word_embeddings=True, query_pre_attn_scalar=10, sliding_window=5,
        sliding_window_pattern=2, rope_theta=5000.0, rope_local_base_freq=100.0, attn_logit_softcapping=None,
        final_logit_softcapping=None, rope_scaling={"factor": 8.0, "rope_type": "linear"},
    ),
    "olmoe": case(
        "olmoe", "OlmoeForCausalLM", hidden_act="silu", rms_norm_eps=1e-5, intermediate_size=24, clip_qkv=None,
        num_experts=6, num_experts_per_tok=3, norm_topk_prob=False, rope_theta=1000.0,
    ),
    "qwen3_moe": case(
        "qwen3_moe", "Qwen3MoeForCausalLM", hidden_act="silu", rms_norm_eps=1e-6, head_dim=12, num_hidden_layers=3,
        num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True, decoder_sparse_step=1,
        mlp_only_layers=[1], attention_bias=False, use_sliding_window=False, sliding_window=None, rope_theta=1000.0,
    ),
}


def counter(n, count):
    """Numbers in (-1, 1) that f16, bf16 (times a power of two) or f32 hold exactly: 8 bits and a sign."""
    h = (np.arange(1, count + 1, dtype=np.uint64) * 0x9E3779B1 + (n + 1) * 0x85EBCA77) & 0xFFFFFFFF
    h ^= h >> np.uint64(15)
    h = (h * np.uint64(0x2C1B3C6D)) & 0xFFFFFFFF
    h ^= h >> np.uint64(12)
    h = (h * np.uint64(0x297A2D39)) & 0xFFFFFFFF
    h ^= h >> np.uint64(15)
    return ((h >> np.uint64(25)).astype(np.float64) - 63.5) / 64


def tensor(name, n, shape, plus_one):
    """The weight of that name, the `n`-th of its checkpoint."""
    x = counter(n, int(np.prod(shape)))
    if name.endswith("norm.weight"):
        x = 0.25 * x + (0.0 if plus_one else 1.0)
    elif not name.endswith("mlp.gate.weight"):
        x = 0.5 * x
    return torch.tensor(x.reshape(shape), dtype=torch.float32)


def sequences():
    for s, length in enumerate(LENGTHS):
        # From 3: transformers gives the embedding of the padding token, 0, no gradient.
        ids = 3 + ((counter(900 + s, length) + 1) * 32).astype(np.int64) % (VOCAB - 3)
        yield torch.tensor(ids)[None]


def gradients(model):
    """By the names of the checkpoint: transformers holds the experts of a layer in two tensors."""
    grads = {}
    for name, p in model.named_parameters():
        g = p.grad.double()
        if name.endswith("mlp.experts.gate_up_proj"):
            half = g.shape[1] // 2
            for e in range(g.shape[0]):
                prefix = name.removesuffix("gate_up_proj") + str(e)
                grads[prefix + ".gate_proj.weight"], grads[prefix + ".up_proj.weight"] = g[e, :half], g[e, half:]
        elif name.endswith("mlp.experts.down_proj"):
            for e in range(g.shape[0]):
                grads[name.removesuffix("down_proj") + f"{e}.down_proj.weight"] = g[e]
        else:
            grads[name] = g
    return grads


def compute(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    logits = [model(ids).logits[0] for ids in sequences()]
    losses = [
        torch.nn.functional.cross_entropy(l[:-1], ids[0, 1:], reduction="sum") for l, ids in zip(logits, sequences())
    ]
    loss = sum(losses) / (sum(LENGTHS) - len(LENGTHS))
    loss.backward()
    return torch.cat(logits).detach(), loss.detach().reshape(1), gradients(model)


def checkpoint(config, directory):
    """Saves the case's checkpoint; gives the names and shapes of its tensors."""
    (directory / "config.json").write_text(json.dumps(config))
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory)).save_pretrained(directory)
    shapes = {name: list(t.shape) for name, t in sorted(load_file(directory / "model.safetensors").items())}
    plus_one = config["model_type"].startswith("gemma")
    weights = {name: tensor(name, n, shape, plus_one) for n, (name, shape) in enumerate(shapes.items())}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config))
    return shapes


def write():
    cases, expected = {}, {}
    for name, config in CASES.items():
        with tempfile.TemporaryDirectory() as directory:
            shapes = checkpoint(config, Path(directory))
            logits, loss, grads = compute(directory)
        assert sorted(grads) == list(shapes), (sorted(grads), list(shapes))
        rows = []
        for n, key in enumerate(shapes):
            g = grads[key].flatten()
            dots = [g @ torch.tensor(counter(1000 + 2 * n + j, g.numel())) for j in range(2)]
            rows.append(torch.stack([g.norm(), *dots]))
        cases[name] = {"config": config, "tensors": shapes}
        expected |= {f"{name}.logits": logits, f"{name}.loss": loss, f"{name}.grads": torch.stack(rows)}
        print(f"{name:14} loss {loss.item():.4f} logits {logits.std():.3f} smallest gradient {min(r[0] for r in rows):.1e}")
    (HERE / "families.json").write_text(json.dumps(cases, indent=None, separators=(",", ":")) + "\n")
    save_file(expected, HERE / "families.safetensors")
    print({f.name: f.stat().st_size for f in HERE.glob("families.*")})


def check(root):
    expected = load_file(HERE / "families.safetensors")
    for name in CASES:
        logits, _, _ = compute(root / name)
        worst = (logits - expected[f"{name}.logits"]).abs().max().item()
        print(f"{name:14} largest difference {worst:.1e}")
        assert worst < 1e-5, name


if __name__ == "__main__":
    torch.set_num_threads(1)
    check(Path(sys.argv[2])) if sys.argv[1:2] == ["--check"] else write()
