"""Full fine-tuning of the embedded model's shape here and in PyTorch: the same update, in tokens per second.

    python benches/peers/train.py [--threads 1,2] [--bench FILE] [--json FILE]

One update is 17 sequences of 360 tokens, the second half of each trained. Muon updates the matrices inside blocks and fused
AdamW the rest; the gradient is clipped by its global norm, as in our recipe. PyTorch runs the decoder of `decoder.py`
(SDPA, windows in blocks), with sequences of equal length in one batch, in two halves and in six parts, as f32 and under
bf16 autocast, each eager and compiled; its best counts. Ours is f32, and bf16 where the processor has tiles. Compilation
and a first update are not timed. Needs torch (and a C++ compiler, to compile); `--bench FILE` takes a built bench
instead of asking cargo. Seen with torch 2.15.0.
"""

import argparse
import contextlib
import os
import sys

from common import bench, compare, fastest, heading, measured, own, timed, write_results

SEQUENCES, TOKENS = 17, 360
MODES = [(dtype, how, parts) for dtype in ["float32", "bfloat16"] for how in ["eager", "compiled"] for parts in [1, 2, 6]]


def optimizers(model):
    """Muon for the matrices inside blocks, AdamW for the rest."""
    import torch

    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    embeddings, norms = [model.embed_tokens], [p for p in model.parameters() if p.ndim == 1]
    muon = torch.optim.Muon(matrices, lr=0.004, weight_decay=0.01, momentum=0.95, adjust_lr_fn="original")
    adamw = torch.optim.AdamW([{"params": embeddings, "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}],
                              lr=0.0006, betas=(0.9, 0.98), fused=True)
    return [muon, adamw]


def with_torch(dtype, how, parts):
    import torch
    from decoder import Decoder

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    model = Decoder({
        "vocab_size": 149, "hidden_size": 128, "intermediate_size": 336, "num_hidden_layers": 4,
        "num_attention_heads": 4, "head_dim": 32, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": 8,
        "layer_types": ["sliding_attention"] * 2 + ["full_attention"] * 2, "no_rope_layers": [1, 1, 0, 0]})
    ids = torch.randint(149, (SEQUENCES, TOKENS))
    steps = optimizers(model)
    autocast = torch.autocast("cpu", torch.bfloat16) if dtype == "bfloat16" else contextlib.nullcontext()

    def loss(ids):
        hidden = model(ids)[:, TOKENS // 2 - 1:-1]
        logits = model.logits(hidden).flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits, ids[:, TOKENS // 2:].flatten(), reduction="sum")

    run = torch.compile(loss, dynamic=False) if how == "compiled" else loss

    def update():
        targets = SEQUENCES * (TOKENS - TOKENS // 2)
        for part in ids.chunk(int(parts)):
            with autocast:
                value = run(part) / targets
            value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for step in steps:
            step.step()
            step.zero_grad()

    update()
    update()
    timed(update, SEQUENCES * TOKENS, "", at_most=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--bench")
    parser.add_argument("--json")
    options = parser.parse_args()
    for threads in map(int, options.threads.split(",")):
        heading(f"seed's shape, {SEQUENCES} x {TOKENS} tokens an update, {threads} threads")
        theirs = [measured(f"torch, {dtype}, {how}, in {parts}", [*own("--torch"), dtype, how, parts], threads)
                  for dtype, how, parts in MODES]
        f32 = [r for r, mode in zip(theirs, MODES) if mode[0] == "float32"]
        ours = {name: measured(f"autodidact, {name}", [*bench("train", options.bench), "update", parts], threads)
                for name, parts in [("f32", "f32"), ("bf16", "1")]}
        compare(ours, {"torch's best": fastest(theirs), "torch's best f32": fastest(f32)})
    write_results("peers/train", options.json)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--torch":
        with_torch(*sys.argv[2:])
    else:
        main()
