"""Trains an adapter of the same frozen checkpoint here and with PEFT, one after the other, and compares.

    python benches/peers/checkpoint.py /tmp/qwen && python benches/peers/lora.py /tmp/qwen [SEQUENCES] [TOKENS] [THREADS]
    python benches/peers/lora.py /tmp/smol,/tmp/qwen 2,1 512,2048 1,2 [--dtypes float32] [--bench FILE] [--json FILE]

Each may be a list: SEQUENCES goes with TOKENS, and every folder and number of threads with all of these. Rank 16 on every
linear layer, AdamW, one update over all sequences; the best of three updates after a first one, and the most memory
each process held. Needs torch, transformers and peft; seen with 2.15.0, 5.23.0 and 0.21.2. `--bench FILE` takes a built
bench instead of asking cargo. PEFT trains in bf16 by default (`--dtypes`); a processor without bf16 emulates it.
"""

import argparse
import os
import sys
from pathlib import Path

from common import OURS, bench, compare, heading, measured, own, timed, write_results

UPDATES = 3


def with_peft(folder, sequences, tokens, dtype, checkpointing):
    import peft
    import torch
    import transformers

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    config = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    ids = torch.tensor([[(n * 7919 + t * 104729) % model.config.vocab_size for t in range(tokens)]
                        for n in range(sequences)])

    def update():
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    update()
    timed(update, sequences * tokens, "", at_most=UPDATES)


def compare_shape(folder, sequences, tokens, threads, dtypes, binary):
    heading(f"{Path(folder).name}, {sequences} x {tokens} tokens, {threads} threads")
    peft = [*own("--peft"), folder, sequences, tokens]
    theirs = {}
    for dtype in dtypes:
        theirs[f"peft, {dtype}"] = measured(f"peft, {dtype}", [*peft, dtype, 0], threads)
        theirs[f"peft, {dtype}, checkpointing"] = measured(f"peft, {dtype}, checkpointing", [*peft, dtype, 1], threads)
    for name, how in OURS.items():
        ours = measured(f"autodidact, {name}", [*bench("lora", binary), folder, sequences, tokens, *how], threads)
        compare({name: ours}, theirs)
        for other, report in theirs.items():
            if ours and report:
                print(f"      {ours['peak_mib'] / report['peak_mib']:.2f} x the memory of {other}; "
                      f"predicted {ours['predicted_mib']} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders")
    parser.add_argument("sequences", nargs="?", default="2")
    parser.add_argument("tokens", nargs="?", default="512")
    parser.add_argument("threads", nargs="?", default=str(os.cpu_count()))
    parser.add_argument("--dtypes", default="bfloat16")
    parser.add_argument("--bench")
    parser.add_argument("--json")
    options = parser.parse_args()
    batches = list(zip(options.sequences.split(","), options.tokens.split(","), strict=True))
    for folder in options.folders.split(","):
        for sequences, tokens in batches:
            for threads in options.threads.split(","):
                compare_shape(folder, sequences, tokens, threads, options.dtypes.split(","), options.bench)
    write_results("peers/lora", options.json)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--peft":
        with_peft(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6] == "1")
    else:
        main()
