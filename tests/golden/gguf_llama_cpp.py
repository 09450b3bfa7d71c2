"""Loads GGUF files that autodidact exports with llama.cpp, and reads with autodidact GGUF files that llama.cpp's own
converter makes; compares token ids, log-probabilities and greedy continuations with Hugging Face transformers.

Usage, from the project's root, after `cargo build --release`:
    python tests/golden/gguf_llama_cpp.py [--binary target/release/autodidact] [--converter LLAMA_CPP_SOURCES]

Checked with llama-cpp-python 0.3.36 (llama.cpp as vendored by it; --converter is its vendor/llama.cpp folder),
transformers 5.23.0 and torch 2.15.0.

1. The embedded seed model, as f32, f16 and q8_0: token ids of texts, log-probabilities, greedy answers.
2. A tiny random model of every family, as f32, with the seed's tokenizer.
3. With --converter: the same models converted by llama.cpp's convert_hf_to_gguf.py as f32 and read by autodidact.
4. An exported model quantized by llama.cpp and read by autodidact; transformers has the numbers that gguf-py
   (0.17 or later) makes of the same blocks.

Bounds are on the largest difference of a log-probability, in nats. llama.cpp's kernels round to f16 where ours don't
(GELU's table, the matrices of f16 files), hence the wider ones.
"""

import argparse
import ctypes
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import torch
import transformers

TEXTS = [
    "Paul minus 5 is Tina. Tina plus 2 is Cora. Cora minus 5 is Ana. Paul has 16. Ana?\n",
    "Uma twice is Hugo 18\n", "3 5 7 make 56?\n", "3+5=8\n8*7=56\nA: (3+5)*7", "12/4-1",
    "  Ana\n\n Ben  12 345\n", "isAnaBen plusminus", "A: 8", "", "\n", " ", "Leo has 1234567890?",
]
WORDS = ["Ana", "Ben", "Cora", "is", "has", "plus", "minus", "twice", "make", " ", "  ", "\n", "?", ".", "(", ")", "*",
         "+", "-", "/", "=", ":", "A:", "1", "23", "456", " 7", " 89"]

TINY = {
    "vocab_size": 165, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "tie_word_embeddings": False,
}
GEMMA2 = dict(head_dim=16, query_pre_attn_scalar=10, sliding_window=5, attn_logit_softcapping=3.0,
              final_logit_softcapping=4.0, tie_word_embeddings=True)
GEMMA3 = dict(head_dim=16, query_pre_attn_scalar=10, sliding_window=5, sliding_window_pattern=2,
              tie_word_embeddings=True, rope_parameters=dict(
                  full_attention=dict(rope_type="linear", factor=8.0, rope_theta=5000.0),
                  sliding_attention=dict(rope_type="default", rope_theta=100.0)))
FAMILIES = {
    "llama": dict(attention_bias=True, mlp_bias=True, rope_theta=500.0, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16)),
    "llama-linear": dict(head_dim=12, tie_word_embeddings=True, rope_scaling=dict(rope_type="linear", factor=2.0)),
    "llama-yarn": dict(rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)),
    "mistral": dict(sliding_window=5, head_dim=12),
    "qwen2": dict(tie_word_embeddings=True),
    "qwen3": dict(head_dim=12),
    "olmo2": dict(),
    "olmo3": dict(sliding_window=5, rope_parameters=dict(
        full_attention=dict(rope_type="yarn", rope_theta=500.0, attention_factor=1.3, factor=4.0,
                            original_max_position_embeddings=16),
        sliding_attention=dict(rope_type="default", rope_theta=500.0))),
    "gemma2": GEMMA2,
    "gemma2-plain": {**GEMMA2, "query_pre_attn_scalar": 16},
    "gemma3_text": GEMMA3,
    # The only pattern that the converter has for it.
    "gemma3_text-plain": {**GEMMA3, "query_pre_attn_scalar": 16, "num_hidden_layers": 7, "sliding_window_pattern": 6},
    "smollm3": dict(num_hidden_layers=5, tie_word_embeddings=True),
    "smollm3-windows": dict(no_rope_layers=[1, 0, 1, 0], use_sliding_window=True, sliding_window=5,
                            layer_types=["sliding_attention", "full_attention"] * 2, attention_bias=True),
    "olmoe": dict(num_key_value_heads=4, num_experts=6, num_experts_per_tok=3, norm_topk_prob=False),
    "qwen3_moe": dict(head_dim=12, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32,
                      norm_topk_prob=True, mlp_only_layers=[], decoder_sparse_step=1),
}
# What GGUF can't say of them as it is converted: llama.cpp's converter drops Mistral's window and Gemma's scalar.
NOT_CONVERTED = {"mistral", "gemma2", "gemma3_text", "smollm3-windows"}

failures = []


def report(what, worst, bound):
    print(f"{what:44} {worst:.2e} (bound {bound:.0e})" + ("" if worst <= bound else "  FAILED"))
    if not worst <= bound:
        failures.append(what)


def run(*args, stdin=None):
    done = subprocess.run([str(a) for a in args], input=stdin, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{args}: {done.stdout}{done.stderr}")
    return done.stdout


@llama_cpp.llama_log_callback
def silent(level, text, data):
    pass


llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))


def model_params(defaults=llama_cpp.llama_model_default_params):
    # llama.cpp's repacked matrices for AMX end in a fault on some virtual machines, whoever wrote the file.
    params = defaults()
    params.use_extra_bufts = False
    return params


llama_cpp.llama.llama_cpp.llama_model_default_params = model_params


def open_gguf(path):
    # Keys and values of attention in f32, as ours are.
    return llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, type_k=0, type_v=0, seed=1)


def tokens_of(llm, text):
    return llm.tokenize(text.encode(), add_bos=False, special=False)


def gguf_logprobs(llm, ids):
    llm.reset()
    llm.eval(ids)
    return torch.log_softmax(torch.tensor(llm.scores[: len(ids)]).double(), -1)


@torch.no_grad()
def hf_logprobs(model, ids):
    return torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)


def greedy(step, ids, count, end):
    ids, start = list(ids), len(ids)
    for _ in range(count):
        ids.append(int(step(ids)[-1].argmax()))
        if ids[-1] == end:
            break
    return ids[start:]


def seed_model(binary, folder):
    merged = folder / "merged"
    run(binary, "export", "policy", "--iteration", "0", "--out", merged)
    tokenizer = transformers.AutoTokenizer.from_pretrained(merged)
    model = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    rng = random.Random(1)
    texts = TEXTS + ["".join(rng.choices(WORDS, k=rng.randint(1, 30))) for _ in range(500)]
    prompts = [text for text in texts if text.endswith("?\n") and "is" in text][:1] + [
        "Ana plus 3 is Ben. Ana has 4. Ben?\n", "Leo minus 2 is Kim. Kim twice is Sam. Leo has 7. Sam?\n"]
    for kind, bound in [("f32", 1e-4), ("f16", 2e-2), ("q8_0", 1.0)]:
        path = folder / f"seed-{kind}.gguf"
        print(run(binary, "export", "policy", "--iteration", "0", "--format", "gguf", "--type", kind, "--out", path), end="")
        llm = open_gguf(path)
        other = sum(tokens_of(llm, text) != tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
        print(f"seed {kind}: {other} of {len(texts)} texts become other tokens")
        if other:
            failures.append("tokens")
        worst, same = 0.0, 0
        for prompt in prompts:
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            theirs = greedy(lambda ids: hf_logprobs(model, ids), ids, 60, 2)
            ours = greedy(lambda ids: gguf_logprobs(llm, ids), ids, 60, 2)
            same += ours == theirs
            whole = ids + theirs
            a, b = hf_logprobs(model, whole), gguf_logprobs(llm, whole)
            # Of the tokens that the model chose: tails far below are noise of any rounding.
            chosen = torch.tensor(whole[1:])[:, None]
            worst = max(worst, (a[:-1].gather(1, chosen) - b[:-1].gather(1, chosen)).abs().max().item())
        report(f"seed {kind}, log-probabilities", worst, bound)
        print(f"seed {kind}: {same} of {len(prompts)} greedy answers are the same")
        if same < len(prompts):
            failures.append("greedy answers")


def family(binary, name, fields, folder, converter):
    torch.manual_seed(7)
    config = transformers.AutoConfig.for_model(name.split("-")[0], **{**TINY, **fields})
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            # Far from the near-zero of a fresh model, so that every flag shows.
            tensor.copy_(torch.randn_like(tensor) * (0.3 if "norm" in key else 0.2))
            if "norm" in key and "gemma" not in name:
                tensor.add_(1.0)
    path = folder / name
    model.save_pretrained(path)
    transformers.AutoTokenizer.from_pretrained("assets/seed").save_pretrained(path)
    ids = [3 + (i * i * 7 + i * 3) % 160 for i in range(60)]
    theirs = hf_logprobs(model, ids)
    # ggml looks GELU up in a table of halves.
    bound = 3e-2 if "gemma" in name else 2e-3
    exported = folder / f"{name}.gguf"
    run(binary, "export", "policy", "--model", path, "--format", "gguf", "--type", "f32", "--out", exported)
    report(f"{name}, exported", (gguf_logprobs(open_gguf(exported), ids) - theirs).abs().max().item(), bound)
    if converter and name not in NOT_CONVERTED:
        converted = folder / f"{name}-converted.gguf"
        if not convert(converter, path, converted):
            return
        out = run(binary, "logprobs", "--set", "model.matmul=f32", "--model", converted, stdin=json.dumps({"ids": ids}))
        ours = torch.tensor(json.loads(out)["logprobs"], dtype=torch.float64)
        theirs = theirs[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        report(f"{name}, converted by llama.cpp and read", (ours - theirs).abs().max().item(), 2e-4)


def convert(converter, path, out):
    """The converter knows vocabularies by family and by a hash; told that all are the seed's, it does the rest itself."""
    code = """
import sys; sys.argv = ["convert", sys.argv[1], "--outfile", sys.argv[2], "--outtype", "f32"]
import transformers
transformers.AutoTokenizer.from_pretrained = transformers.PreTrainedTokenizerFast.from_pretrained
from conversion import gemma
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
for model in (gemma.Gemma2Model, gemma.Gemma3Model):
    model.set_vocab = lambda self: self._set_vocab_gpt2()
import convert_hf_to_gguf; convert_hf_to_gguf.main()
"""
    done = subprocess.run([sys.executable, "-c", code, str(path), str(out)], cwd=converter, capture_output=True,
                          text=True)
    if done.returncode:
        failures.append(f"{path.name}, conversion")
        print(f"the converter failed on {path.name}:\n{done.stderr[-800:]}")
    return done.returncode == 0


QUANTIZED = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18}
NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def hf_name(name):
    plain = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}
    if name in plain:
        return plain[name]
    _, layer, module, kind = name.split(".")
    return f"model.layers.{layer}.{NAMES[module]}.{kind}"


def quantized(binary, folder):
    torch.manual_seed(3)
    config = transformers.LlamaConfig(**{**TINY, "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4,
                                         "num_key_value_heads": 2})
    model = transformers.LlamaForCausalLM(config).float().eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.1)
    model.save_pretrained(folder / "large")
    transformers.AutoTokenizer.from_pretrained("assets/seed").save_pretrained(folder / "large")
    plain = folder / "large.gguf"
    run(binary, "export", "policy", "--model", folder / "large", "--format", "gguf", "--type", "f32", "--out", plain)
    ids = [3 + (i * i * 7 + i * 3) % 160 for i in range(60)]
    for name, ftype in QUANTIZED.items():
        path = folder / f"{name}.gguf"
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.nthread = ftype, 1
        if llama_cpp.llama_model_quantize(str(plain).encode(), str(path).encode(), ctypes.byref(params)):
            sys.exit(f"llama.cpp can't quantize to {name}")
        state, kinds = {}, set()
        for tensor in gguf.GGUFReader(path).tensors:
            numbers = torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type)).float()
            kinds.add(tensor.tensor_type.name)
            if tensor.name.split(".")[-2] in ("attn_q", "attn_k"):
                rows = numbers.shape[0]
                numbers = numbers.reshape(rows // 64, 32, 2, -1).swapaxes(1, 2).reshape(rows, -1)
            state[hf_name(tensor.name)] = numbers
        model.load_state_dict(state)
        theirs = hf_logprobs(model, ids)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        out = run(binary, "logprobs", "--set", "model.matmul=f32", "--model", path, stdin=json.dumps({"ids": ids}))
        ours = torch.tensor(json.loads(out)["logprobs"], dtype=torch.float64)
        report(f"{name} ({', '.join(sorted(kinds))}), read", (ours - theirs).abs().max().item(), 2e-4)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/release/autodidact", type=Path)
    parser.add_argument("--converter", type=Path)
    parser.add_argument("--only")
    args = parser.parse_args()
    binary = args.binary.resolve()
    print("llama-cpp-python", llama_cpp.__version__, "transformers", transformers.__version__, "torch", torch.__version__)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if not args.only:
            seed_model(binary, folder)
        if not args.only or "quantized" in args.only:
            quantized(binary, folder)
        for name, fields in FAMILIES.items():
            if not args.only or name in args.only.split(","):
                family(binary, name, fields, folder, args.converter)
    sys.exit(f"failed: {failures}" if failures else 0)


if __name__ == "__main__":
    main()
