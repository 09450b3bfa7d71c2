"""Writes tests/golden/smollm3/: a tiny SmolLM3 checkpoint, and what Hugging Face computes with it.

    python tests/golden/smollm3.py        # torch 2.15.0, transformers 5.23.0, safetensors 0.8.0

config.json, model.safetensors   the checkpoint, weights in float16
expected.safetensors             ids (I64), logits (F32, one row per id), and for every parameter the gradient of the
                                 mean next-token cross-entropy as I16, in units of its entry in `grad_scale.*`

Layers 0-1 have rotary positions and a window of 8 tokens, layers 2-3 neither; 40 ids are longer than the window.
Nothing extra is needed for transformers to load such a checkpoint: every setting is a key of SmolLM3Config.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import SmolLM3Config, SmolLM3ForCausalLM

HERE = Path(__file__).parent / "smollm3"

config = SmolLM3Config(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-6,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    no_rope_layers=[1, 1, 0, 0],
    layer_types=["sliding_attention"] * 2 + ["full_attention"] * 2,
    use_sliding_window=True,
    sliding_window=8,
    tie_word_embeddings=True,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
torch.manual_seed(20)
model = SmolLM3ForCausalLM(config)
with torch.no_grad():
    for name, p in model.named_parameters():
        if p.dim() == 1:
            p.copy_(1 + 0.1 * torch.randn_like(p))
        else:
            p.copy_((0.5 if "embed" in name else 0.25) * torch.randn_like(p))
HERE.mkdir(exist_ok=True)
model.half().save_pretrained(HERE)
(HERE / "generation_config.json").unlink(missing_ok=True)

model = SmolLM3ForCausalLM.from_pretrained(HERE, dtype=torch.float32, attn_implementation="eager")
# From 3: transformers gives the embedding of the padding token, 0, no gradient.
ids = torch.randint(3, 64, (1, 40), generator=torch.Generator().manual_seed(7))
logits = model(ids).logits[0]
loss = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:])
loss.backward()
expected = {"ids": ids[0].contiguous(), "logits": logits.detach().contiguous(), "loss": loss.detach().reshape(1)}
for name, p in model.named_parameters():
    scale = p.grad.abs().max() / 32767
    expected["grad_scale." + name] = scale.reshape(1)
    expected["grad." + name] = (p.grad / scale).round().to(torch.int16)
save_file(expected, HERE / "expected.safetensors")
print("loss", loss.item(), "bytes", {f.name: f.stat().st_size for f in HERE.iterdir()})
