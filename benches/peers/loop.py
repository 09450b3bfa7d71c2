"""The default run here and a PyTorch reference of the same recipe: seconds per iteration, and what accuracy they reach.

    python benches/peers/loop.py [--iterations 1] [--threads 2] [--dtypes float32,bfloat16] [--binary FILE] [--json FILE]

Both start from the embedded seed and take the sizes of the default configuration (RECIPE in `reference.py`). The
reference has relation tasks from the same distribution, not the same tasks. It is batched PyTorch as one would write
it for speed: a decoder with a cache (`decoder.py`), rows of similar length together, finished rows leave the batch,
rereading and training padded. It computes in f32, or in bf16 for sampling and rereading with autocast for training;
ours computes in the same precision (`model.matmul`). Simplified in its favour: nothing is stored; the critique head
sees only the log-probability statistics (no hidden states) and is trained twice without repeated evaluations,
calibration and criteria by thought; easy answers are corrupted in two ways; the gate compares two numbers. An
iteration is bootstrap, rollout, critique, selection, training and evaluation; the base's evaluation is reported
apart. Needs torch, tokenizers and `cargo build --release`. Seen with torch 2.15.0.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, environment, heading, own, record, write_results


# Our arithmetic for each of the reference's types.
MATMUL = {"float32": "f32", "bfloat16": "bf16"}


def with_autodidact(binary, matmul, iterations, threads):
    """Seconds of the base's evaluation and of every iteration, and held-out accuracy after each."""
    settings = [f"run.iterations={iterations}", f"run.threads={threads}", f"model.matmul={matmul}"]
    command = [binary, "run", "--json", *(part for s in settings for part in ("--set", s))]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=environment(threads), capture_output=True, text=True, check=True)
    # A line for each event; the last one has the report.
    rows = json.loads(done.stdout.splitlines()[-1])["report"]["iterations"]
    return {"seconds": [r["seconds"] for r in rows], "heldout": [r["heldout"]["pass1"] for r in rows]}


def with_torch(dtype, iterations, threads):
    done = subprocess.run([*own("--torch"), dtype, str(iterations)], env=environment(threads), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def show(name, report):
    seconds = " ".join(f"{s:.1f}" for s in report["seconds"])
    heldout = " ".join(f"{100 * h:.1f}" for h in report["heldout"])
    print(f"  {name:<22} {seconds} s, in total {sum(report['seconds']):.0f} s; held-out {heldout} %", flush=True)
    record(program=name, seconds=seconds, held_out_percent=heldout)
    for phases in report.get("phases", []):
        print("      " + ", ".join(f"{phase} {s:.1f} s" for phase, s in phases.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/autodidact")
    parser.add_argument("--json")
    options = parser.parse_args()
    for threads in options.threads.split(","):
        heading(f"base and {options.iterations} iterations, {threads} threads")
        for dtype in options.dtypes.split(","):
            ours = with_autodidact(options.binary.resolve(), MATMUL[dtype], options.iterations, threads)
            show(f"autodidact, {MATMUL[dtype]}", ours)
            theirs = with_torch(dtype, options.iterations, threads)
            show(f"torch, {dtype}", theirs)
            ratios = [b / a for a, b in zip(ours["seconds"], theirs["seconds"])]
            whole = sum(theirs["seconds"]) / sum(ours["seconds"])
            print(f"  = autodidact takes 1/{whole:.2f} of its time ({' '.join(f'1/{r:.2f}' for r in ratios)})", flush=True)
    write_results("peers/loop", options.json)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--torch":
        from reference import reference

        print(json.dumps(reference(ROOT / "assets/seed", sys.argv[2], int(sys.argv[3]), int(os.environ["OMP_NUM_THREADS"]))))
    else:
        main()
