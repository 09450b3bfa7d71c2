"""Three SFT steps with AdamW on a tiny SmolLM3, as the reference for src/train/trainer.rs.

Writes sft_adamw.safetensors: `before.*` and `after.*` weights, and in its metadata the model's config, the
losses and the gradient norms. Made with torch 2.15.0 and transformers 5.23.0 on CPU, f32 weights:

    python tests/golden/sft_adamw.py
"""

import json
import math
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from transformers import SmolLM3Config, SmolLM3ForCausalLM

STEPS, WARMUP, FLOOR = 3, 2, 0.1
LR, BETAS, EPS, DECAY, CLIP = 0.01, (0.9, 0.98), 1e-8, 0.1, 1.0

config = SmolLM3Config(
    vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-6, rope_theta=10000.0,
    tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2, attention_bias=False,
    no_rope_layers=[1, 0], layer_types=["sliding_attention", "full_attention"], use_sliding_window=True,
    sliding_window=4, attention_dropout=0.0,
)
config._attn_implementation = "eager"
torch.manual_seed(7)
model = SmolLM3ForCausalLM(config).float()
with torch.no_grad():
    for name, p in model.named_parameters():
        p.normal_(0.0, 0.25) if p.dim() == 2 else p.normal_(1.0, 0.1)
before = {f"before.{n}": p.detach().clone() for n, p in model.named_parameters()}


def example(step, index):
    """The same formula as in the test: prompt and completion of example `index` of `step`."""
    tokens = 6 + 3 * index + step
    ids = [3 + (7 * step + 5 * index + 3 * t * t + t) % 29 for t in range(tokens)]
    return ids, 3 + index  # ids, prompt length


matrices = [p for p in model.parameters() if p.dim() == 2]
vectors = [p for p in model.parameters() if p.dim() != 2]
optimizer = torch.optim.AdamW(
    [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}],
    lr=LR, betas=BETAS, eps=EPS,
)
losses, norms = [], []
for step in range(STEPS):
    warm = min((step + 1) / WARMUP, 1.0)
    progress = min(max((step - WARMUP) / max(STEPS - WARMUP, 1), 0.0), 1.0)
    factor = warm * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))
    for group in optimizer.param_groups:
        group["lr"] = LR * factor
    logprobs = []
    for index in range(3):
        ids, prompt = example(step, index)
        logits = model(torch.tensor([ids])).logits[0]
        lp = torch.log_softmax(logits[:-1], -1)
        logprobs.append(lp[torch.arange(len(ids) - 1), torch.tensor(ids[1:])][prompt - 1:])
    loss = -torch.cat(logprobs).mean()
    optimizer.zero_grad()
    loss.backward()
    norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
    losses.append(float(loss))
    optimizer.step()

after = {f"after.{n}": p.detach().clone() for n, p in model.named_parameters()}
metadata = {
    "config": json.dumps(config.to_dict(), default=str), "losses": json.dumps(losses), "norms": json.dumps(norms),
    "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
}
save_file({**before, **after}, pathlib.Path(__file__).with_suffix(".safetensors"), metadata)
print(metadata)
