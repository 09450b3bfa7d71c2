"""Loads what `autodidact export policy` writes with PEFT and transformers and compares log-probabilities; then
reads an adapter that PEFT wrote.

Usage, from the project's root, after `cargo build --release` and a run with train.method = "lora" in RUN_FOLDER:
    python tests/golden/peft_roundtrip.py RUN_FOLDER [BINARY]

Largest difference over a fixed text of 53 tokens, in nats; each must be below 1e-4. Seen with peft 0.21.2, transformers
5.23.0 and torch 2.15.0, after one iteration of 20 updates on the seed model: merged in transformers 2.5e-6, adapter in
peft 3.4e-6, merged by peft 2.5e-6; read from peft 2.1e-6 (q_proj and v_proj) and 4.4e-6 (all-linear, rslora).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import peft
import torch
import transformers

run = sys.argv[1]
binary = sys.argv[2] if len(sys.argv) > 2 else "target/release/autodidact"
work = Path(tempfile.mkdtemp())


def autodidact(*args, stdin=""):
    done = subprocess.run([binary, *map(str, args)], input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{args}: {done.stderr}")
    return done.stdout


prompt = "Paul minus 5 is Tina. Tina plus 2 is Cora. Cora minus 5 is Ana. Paul has 16. Ana?\n"
completion = "Paul minus 5 is Tina 11\nTina plus 2 is Cora 13\nCora minus 5 is Ana 8\nA: 8"


def ours(*args):
    out = autodidact("logprobs", "--set", "model.matmul=f32", *args, stdin=json.dumps({"ids": ids}))
    return torch.tensor(json.loads(out)["logprobs"], dtype=torch.float64)


def theirs(model):
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0].double()
    return torch.log_softmax(logits, -1)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def compare(name, a, b):
    worst = (a - b).abs().max().item()
    print(f"{name}: {len(ids)} tokens, largest difference {worst:.2e} nats")
    assert worst < 1e-4, name


def load(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


export = ["export", "policy", "--set", f"run.dir={run}"]
autodidact(*export, "--out", work / "merged")
autodidact(*export, "--out", work / "adapter", "--format", "peft")
autodidact(*export, "--iteration", 0, "--out", work / "base")
tokenizer = transformers.AutoTokenizer.from_pretrained(work / "merged")
ids = tokenizer(prompt + completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
print("peft", peft.__version__, "transformers", transformers.__version__, "torch", torch.__version__)

merged, base = ours("--model", work / "merged"), ours("--model", work / "base")
print(f"the adapter moves the log-probabilities by up to {(merged - base).abs().max().item():.2f} nats")
compare("merged in transformers", merged, theirs(load(work / "merged")))
adapted = peft.PeftModel.from_pretrained(load(work / "base"), str(work / "adapter"))
compare("adapter in peft", merged, theirs(adapted))
compare("adapter merged by peft", merged, theirs(adapted.merge_and_unload()))

# The other way: an adapter that PEFT made, with its own defaults, rank-stabilised and on some layers only.
for name, options in {
    "plain": {"target_modules": ["q_proj", "v_proj"], "r": 8, "lora_alpha": 16},
    "all-linear rslora": {"target_modules": "all-linear", "r": 4, "lora_alpha": 8, "use_rslora": True},
}.items():
    torch.manual_seed(1)
    config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **options)
    model = peft.get_peft_model(load(work / "base"), config)
    for parameter in (p for n, p in model.named_parameters() if "lora_" in n):
        parameter.data.mul_(0.3)
    directory = work / name.replace(" ", "-")
    model.save_pretrained(directory)
    read = ours("--set", f"model.path={work / 'base'}", "--set", f"model.adapter={directory}")
    print(f"{name}: moves the log-probabilities by up to {(read - base).abs().max().item():.2f} nats")
    compare(f"{name} from peft", read, theirs(model))
