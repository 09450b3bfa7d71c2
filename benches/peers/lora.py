"""Trains an adapter beside the same checkpoint here and with PEFT in bf16, one after the other, and compares.

    python benches/peers/checkpoint.py /tmp/qwen && python benches/peers/lora.py /tmp/qwen [SEQUENCES] [TOKENS] [THREADS]

Rank 16 on every linear layer, AdamW, one update over all sequences; the best of three updates behind a first one, and
the most memory each process held. Needs torch, transformers and peft; seen with 2.15.0, 5.23.0 and 0.21.2.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

UPDATES = 3


def with_peft(folder, sequences, tokens, checkpointing):
    import peft
    import torch
    import transformers

    torch.set_num_threads(int(os.environ["RAYON_NUM_THREADS"]))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    config = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    ids = torch.tensor([[(n * 7919 + t * 104729) % model.config.vocab_size for t in range(tokens)]
                        for n in range(sequences)])
    seconds = []
    for _ in range(1 + UPDATES):
        began = time.perf_counter()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({
        "seconds": seconds[1:],
        "tokens_per_s": sequences * tokens / min(seconds[1:]),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }))


def run(name, command, threads):
    env = dict(os.environ, RAYON_NUM_THREADS=threads, CANDLE_NUM_THREADS="1")
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        sys.exit(f"{name}: {done.stderr}")
    report = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{name:<28} {report['tokens_per_s']:>8.0f} tokens/s {report['peak_mib']:>6} MiB")
    return report


def main():
    folder, sequences, tokens, threads = [*sys.argv[1:], *["", "2", "512", str(os.cpu_count())][len(sys.argv) - 1:]][:4]
    peft = [sys.executable, __file__, "--peft", folder, sequences, tokens]
    bench = ["cargo", "bench", "--quiet", "--bench", "lora", "--", folder, sequences, tokens]
    print(f"{Path(folder).name}, {sequences} x {tokens} tokens, {threads} threads")
    theirs = run("peft, bf16", [*peft, "0"], threads)
    saving = run("peft, bf16, checkpointing", [*peft, "1"], threads)
    for name, extra in [("autodidact, bf16", []), ("autodidact, q8_0", ["q8_0"]), ("autodidact, q4_k", ["q4_k"])]:
        ours = run(name, [*bench, *extra], threads)
        for other, report in [("peft", theirs), ("peft with checkpointing", saving)]:
            print(f"    {ours['tokens_per_s'] / report['tokens_per_s']:.2f} x the speed of {other}, "
                  f"{ours['peak_mib'] / report['peak_mib']:.2f} x its memory")
        print(f"    predicted {ours['predicted_mib']} MiB")


if sys.argv[1] == "--peft":
    with_peft(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "1")
else:
    main()
