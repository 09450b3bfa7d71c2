"""What the scripts of this folder share: one process for every measurement, peers' and ours; the table and the file of
results (`--json FILE`, in the form of docs/performance/*.json). Not run by itself."""

import datetime
import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Tables of results, by heading: columns and rows.
TABLES = {}

# What our benches are asked for: weights and bf16 parts of a number. Without Intel AMX, only f32 works.
OURS = {
    "bf16 weights, bf16x3": ["none", "3"],
    "bf16 weights, bf16": ["none", "1"],
    "bf16 weights, f32": ["none", "f32"],
    "q8_0 weights, bf16": ["q8_0", "1"],
    "q8_0 weights, f32": ["q8_0", "f32"],
}


def environment(threads):
    """The same number of threads for every library that has some; huge pages for PyTorch, which make it much faster."""
    names = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]
    return dict(os.environ, CANDLE_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", THP_MEM_ALLOC_ENABLE="1",
                **dict.fromkeys(names, str(threads)))


def heading(text):
    """Prints the heading of a table; rows that are recorded belong to it."""
    print(text, flush=True)
    TABLES[text] = []


def record(**cells):
    """Adds a row to the table of the last heading."""
    TABLES[list(TABLES)[-1]].append({name.replace("_", " "): value for name, value in cells.items()})


def write_results(bench, path):
    """Writes what was recorded, if the command line names a file."""
    if not path:
        return
    versions = []
    for name in ["torch", "transformers", "peft", "llama-cpp-python"]:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    arguments = ["PATH" if a.startswith("/") else a for a in sys.argv[1:]]
    if "--json" in arguments:
        at = arguments.index("--json")
        del arguments[at:at + 2]
    tables = [{"title": title, "columns": list(rows[0]), "rows": [list(row.values()) for row in rows]}
              for title, rows in TABLES.items() if rows]
    results = {"bench": bench, "machine": machine(), "date": datetime.date.today().isoformat(),
               "command": " ".join(["python", f"benches/{bench}.py", *arguments]), "notes": [", ".join(versions) + "."],
               "tables": tables}
    Path(path).write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def machine():
    """Processor and instruction sets, where Linux reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "not recorded"
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    flags = fields.get("flags", "").split()
    sets = ["AVX-512" if "avx512f" in flags else "AVX2"] + (["AMX with tiles of bf16"] if "amx_bf16" in flags else [])
    return ", ".join([fields.get("model name", "unknown processor"), *sets])


def measured(name, command, threads):
    """Runs a command, records and returns the JSON of its last line; None, with the reason shown, if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment(threads))
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines() or ["no output"]
        # A backtrace may follow the error.
        print(f"  {name:<34} failed: {next((line for line in reversed(said) if 'Error' in line), said[-1])}", flush=True)
        return None
    report = json.loads(lines[-1])
    cpu = report.get("tokens_per_cpu_s", float("nan"))
    print(f"  {name:<34} {report['tokens_per_s']:>8.0f} tokens/s {cpu:>8.0f} per CPU second {report['peak_mib']:>6} MiB   "
          f"{report.get('note', '')}", flush=True)
    record(program=f"{name}, {report['note']}" if report.get("note") else name, tokens_per_s=round(report["tokens_per_s"]),
           tokens_per_CPU_second=None if cpu != cpu else round(cpu), peak_MiB=report["peak_mib"])
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
    """Repeats some work and prints its report; no repetition begins after `no_more_after` seconds in total."""
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
