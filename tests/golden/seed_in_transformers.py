"""Loads a checkpoint of autodidact with Hugging Face transformers and compares log-probabilities.

Usage, from the project's root, after `cargo build --release`:
    python tests/golden/seed_in_transformers.py [CHECKPOINT_DIR]

Checked with transformers 5.23.0 and torch 2.15.0: the largest difference must be below 1e-4 nats.
"""

import json
import subprocess
import sys

import torch
import transformers

directory = sys.argv[1] if len(sys.argv) > 1 else "assets/seed"
tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
print(type(model).__name__, "transformers", transformers.__version__, "torch", torch.__version__)

prompt = "Paul minus 5 is Tina. Tina plus 2 is Cora. Cora minus 5 is Ana. Paul has 16. Ana?\n"
completion = "Paul minus 5 is Tina 11\nTina plus 2 is Cora 13\nCora minus 5 is Ana 8\nA: 8"
ids = tokenizer(prompt + completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]

with torch.no_grad():
    logits = model(torch.tensor([ids])).logits[0].double()
theirs = torch.log_softmax(logits, -1)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]

out = subprocess.run(
    ["target/release/autodidact", "logprobs", "--set", "model.matmul=f32", "--model", directory],
    input=json.dumps({"ids": ids}), capture_output=True, text=True, check=True,
).stdout
ours = torch.tensor(json.loads(out)["logprobs"], dtype=torch.float64)
worst = (ours - theirs).abs().max().item()
print(f"{len(ids)} tokens, largest difference {worst:.2e} nats")
sys.exit(worst > 1e-4)
