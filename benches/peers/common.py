"""What the scripts beside it share: a process for every measurement, and ours among them. Not run by itself."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# What our benches are asked for: weights and bf16 parts of a number. Without Intel AMX, f32 alone works.
OURS = {
    "bf16 weights, bf16x3": ["none", "3"],
    "bf16 weights, bf16": ["none", "1"],
    "bf16 weights, f32": ["none", "f32"],
    "q8_0 weights, bf16": ["q8_0", "1"],
    "q8_0 weights, f32": ["q8_0", "f32"],
}


def environment(threads):
    """The same number of threads for every library that has some; huge pages for PyTorch, which gain it much here."""
    names = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]
    return dict(os.environ, CANDLE_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", THP_MEM_ALLOC_ENABLE="1",
                **dict.fromkeys(names, str(threads)))


def measured(name, command, threads):
    """Runs a command, shows and returns the JSON of its last line; None, with the reason shown, if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment(threads))
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines() or ["no output"]
        # Behind the error there may be a backtrace.
        print(f"  {name:<34} failed: {next((line for line in reversed(said) if 'Error' in line), said[-1])}", flush=True)
        return None
    report = json.loads(lines[-1])
    cpu = report.get("tokens_per_cpu_s", float("nan"))
    print(f"  {name:<34} {report['tokens_per_s']:>8.0f} tokens/s {cpu:>8.0f} per CPU second {report['peak_mib']:>6} MiB   "
          f"{report.get('note', '')}", flush=True)
    return report


def bench(name, binary):
    """The command of our side: a built bench, or cargo, which builds it first."""
    return [binary] if binary else ["cargo", "bench", "--quiet", "--manifest-path", ROOT / "Cargo.toml", "--bench", name,
                                    "--"]


def fastest(reports):
    """The report with the most tokens per second of those there are."""
    return max((r for r in reports if r), key=lambda r: r["tokens_per_s"], default=None)


def compare(ours, theirs):
    """Prints each of ours as a multiple of each of theirs."""
    for name, own in ours.items():
        if not own:
            continue
        ratios = [f"{own['tokens_per_s'] / r['tokens_per_s']:.2f} x {other}" for other, r in theirs.items() if r]
        if ratios:
            print(f"  = {name}: {', '.join(ratios)}", flush=True)


def own(name):
    """This script as one of its workers."""
    return [sys.executable, sys.argv[0], name]


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def timed(work, tokens, note, at_most=3, no_more_after=30.0):
    """Prints the report of some work that is repeated; none begins when the others took too long together."""
    wall, cpu = [], []
    while len(wall) < at_most and sum(wall) < no_more_after:
        began, cpu_began = time.perf_counter(), time.process_time()
        done = work()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - cpu_began)
    tokens = tokens or done
    print(json.dumps({"tokens": tokens, "seconds": wall, "tokens_per_s": tokens / min(wall),
                      "tokens_per_cpu_s": tokens / min(cpu), "peak_mib": peak_mib(),
                      "note": f"{note}, load {os.getloadavg()[0]:.1f}"}))
