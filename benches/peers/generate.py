"""Sampling trajectories here, with transformers and with llama.cpp, from the same weights and the same prompts.

    python benches/peers/generate.py WORK_DIR [--shapes seed,smollm2-135m,qwen2.5-0.5b] [--threads 1,2] [--tokens 32]
                                      [--dtypes float32,bfloat16] [--json FILE]

`seed` is the embedded model on 12 variants of relation tasks of 14 to 19 hops, one trajectory each, until it ends its
turn; the others have random weights, 8 prompts of 256 tokens and 16 trajectories each, of exactly the number of tokens in the
heading. Figures are sampled tokens per second of the best repetition; reading the prompts counts as time, loading
doesn't. transformers and llama.cpp read a prompt once and share it between its trajectories, as we do. Each runs with
several batch sizes, transformers also with both types, and its best counts. A processor without bf16 emulates it;
`--dtypes float32` saves that time. The peers sample a share of the seed's prompts, in batches of similar lengths.
WORK_DIR keeps the checkpoints between calls. `--tokens 128` gives reading less weight, and takes four times as long.

llama.cpp keeps its cache in f16 and samples one row after another, which is its default. The rows of its context are
separate streams: one unified cache was slower, and so was flash attention; bf16 was like f16. Built with GCC 12.2 it
crashes in its AMX kernels, because `_tile_loadconfig` loses the stores before it. Add a barrier there, or use a newer
compiler, and name the folder of the libraries in LLAMA_CPP_LIB_PATH. transformers gets a cache of fixed size and huge
pages, which made it 4 times faster.
Where other work disturbs the machine, compare tokens per second of processor time, on one thread.

Needs torch, transformers, tokenizers, llama-cpp-python and `cargo build --release` (it writes the GGUF files);
`--bench FILE` takes a built bench instead of asking cargo. Seen with torch 2.15.0, transformers 5.23.0 and
llama-cpp-python 0.3.36 (built with AMX_INT8, AVX512_BF16 and AVX512_VNNI).
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from common import OURS, ROOT, bench, compare, fastest, heading, measured, own, timed, write_results
from relations import hard_prompts

PROMPTS, PROMPT_TOKENS, EACH = 8, 256, 16
# Rows decoded together.
BATCHES = {"seed": [64, 256, 800], "other": [32, 128]}
# Rows of the seed's that a peer samples.
SHARE = 800


def with_transformers(folder, wanted, dtype, rows):
    import torch
    import transformers

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    wanted = json.loads(Path(wanted).read_text())
    each, new, ends = wanted["each"], wanted["tokens_max"], wanted["eos_ids"]
    prompts = sorted(wanted["prompts"][::max(1, len(wanted["prompts"]) // SHARE)], key=len)
    settings = transformers.GenerationConfig(
        do_sample=True, temperature=wanted["temperature"], top_k=0, top_p=1.0, eos_token_id=ends or None, pad_token_id=0)

    def draw(batch, new):
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in batch])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
        # In place: a cache that grows is copied for every token.
        cache = transformers.StaticCache(config=model.config, max_cache_len=width + new)
        if each > 1:
            # Read once, shared by the trajectories.
            once = transformers.DynamicCache(config=model.config)
            model.model(ids[:, :-1], past_key_values=once)
            for n, layer in enumerate(once.layers):
                cache.update(layer.keys.repeat_interleave(each, 0), layer.values.repeat_interleave(each, 0), n)
            ids, mask = ids.repeat_interleave(each, 0), mask.repeat_interleave(each, 0)
        settings.max_new_tokens = new
        out = model.generate(ids, attention_mask=mask, past_key_values=cache, generation_config=settings)[:, width:]
        if not ends:
            return out.numel()
        # Padding follows a row's end; it isn't sampled.
        ended = torch.isin(out, torch.tensor(ends))
        return int((ended.cumsum(1) - ended.long() == 0).sum())

    def all_rows():
        together = max(1, int(rows) // each)
        return sum(draw(prompts[at:at + together], new) for at in range(0, len(prompts), together))

    with torch.inference_mode():
        draw(prompts[:2], 2)
        timed(all_rows, None, f"{dtype}, {rows} rows", at_most=2)


class LlamaCpp:
    """A model and a context that decodes `rows` sequences together, by llama.cpp's own C interface."""

    def __init__(self, file, rows, length, temperature, flash):
        import llama_cpp

        self.c, threads = llama_cpp, int(os.environ["OMP_NUM_THREADS"])
        self.log = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.log, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(str(file).encode(), llama_cpp.llama_model_default_params())
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch, options.n_seq_max = rows * length, 2048, 512, rows
        options.n_threads = options.n_threads_batch = threads
        options.flash_attn_type = int(flash)
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(2048, 0, 1)
        self.samplers = [self.sampler(temperature, row) for row in range(rows)]

    def sampler(self, temperature, seed):
        chain = self.c.llama_sampler_chain_init(self.c.llama_sampler_chain_default_params())
        self.c.llama_sampler_chain_add(chain, self.c.llama_sampler_init_temp(temperature))
        self.c.llama_sampler_chain_add(chain, self.c.llama_sampler_init_dist(seed))
        return chain

    def decode(self, tokens):
        """Reads (id, position, sequence, whether logits are wanted) each."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if self.c.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")

    def draw(self, prompts, each, new):
        """Every prompt is read once and its cells shared; then a token of every row per step."""
        self.c.llama_memory_clear(self.memory, False)
        last = []
        for n, prompt in enumerate(prompts):
            first = n * each
            self.decode([(t, p, first, p == len(prompt) - 1) for p, t in enumerate(prompt)])
            last += [self.sample(row, len(prompt) - 1) for row in range(first, first + each)]
            for row in range(first + 1, first + each):
                self.c.llama_memory_seq_cp(self.memory, first, row, -1, -1)
        for step in range(new - 1):
            position = [len(prompts[row // each]) + step for row in range(len(last))]
            self.decode([(t, position[row], row, True) for row, t in enumerate(last)])
            last = [self.sample(row, row) for row in range(len(last))]

    def sample(self, row, at):
        return self.c.llama_sampler_sample(self.samplers[row], self.context, at)


def with_llama_cpp(file, wanted, rows, attention):
    wanted = json.loads(Path(wanted).read_text())
    each, new, prompts = wanted["each"], wanted["tokens_max"], wanted["prompts"]
    length = max(map(len, prompts)) + new
    engine = LlamaCpp(file, int(rows), (length + 31) // 32 * 32, wanted["temperature"], attention == "flash")
    together = max(1, int(rows) // each)

    def all_rows():
        for at in range(0, len(prompts), together):
            engine.draw(prompts[at:at + together], each, new)

    engine.draw(prompts[:1], each, 2)
    timed(all_rows, len(prompts) * each * new, f"{rows} rows, {attention} attention", at_most=2)


def random_prompts(folder):
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    return [[(n * 7919 + t * 104729) % vocabulary for t in range(PROMPT_TOKENS)] for n in range(PROMPTS)]


def checkpoint(work, shape):
    """The folder of a shape's weights, written if it isn't there."""
    folder = ROOT / "assets/seed" if shape == "seed" else work / shape
    if not (folder / "config.json").exists():
        subprocess.run([sys.executable, Path(__file__).with_name("checkpoint.py"), folder, shape], check=True)
    return folder


def gguf(work, folder, dtype):
    file = work / f"{folder.name}-{dtype}.gguf"
    if not file.exists():
        binary = ROOT / "target/release/autodidact"
        subprocess.run([binary, "export", "policy", "--model", folder, "--format", "gguf", "--type", dtype, "--out", file],
                       check=True, stdout=subprocess.DEVNULL)
    return file


def compare_seed(work, threads, dtypes, binary):
    folder, wanted = checkpoint(work, "seed"), work / "seed.json"
    prompts = hard_prompts(folder / "tokenizer.json", 200, 12)
    wanted.write_text(json.dumps({"prompts": prompts, "each": 1, "tokens_max": 256, "temperature": 0.6, "eos_ids": [2]}))
    heading(f"seed, {len(prompts)} prompts of {sum(map(len, prompts)) // len(prompts)} tokens, {threads} threads")
    theirs = [measured("transformers", [*own("--transformers"), folder, wanted, dtype, rows], threads)
              for dtype in dtypes for rows in BATCHES["seed"]]
    ours = {name: measured(f"autodidact, {name}", [*bench("generate", binary), folder, wanted, *how], threads)
            for name, how in [("f32", ["none", "f32"]), ("bf16", ["none", "1"])]}
    compare(ours, {"transformers": fastest(theirs)})


def compare_checkpoint(work, shape, threads, dtypes, new, binary):
    folder, wanted = checkpoint(work, shape), work / f"{shape}-{new}.json"
    wanted.write_text(json.dumps({"prompts": random_prompts(folder), "each": EACH, "tokens_max": new, "temperature": 1.0,
                                  "eos_ids": []}))
    heading(f"{shape}, {PROMPTS} prompts of {PROMPT_TOKENS} tokens x {EACH} trajectories of {new}, {threads} threads")
    torch = [measured("transformers", [*own("--transformers"), folder, wanted, dtype, rows], threads)
             for dtype in dtypes for rows in BATCHES["other"]]
    theirs = {"transformers": fastest(torch)}
    for dtype in ["f16", "q8_0"]:
        runs = [measured(f"llama.cpp, {dtype}", [*own("--llama-cpp"), gguf(work, folder, dtype), wanted, *how], threads)
                for how in [(32, "plain"), (128, "plain")]]
        theirs[f"llama.cpp {dtype}"] = fastest(runs)
    ours = {}
    for name, how in OURS.items():
        ours[name] = measured(f"autodidact, {name}", [*bench("generate", binary), folder, wanted, *how], threads)
    compare(ours, theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--shapes", default="seed,smollm2-135m,qwen2.5-0.5b")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--bench")
    parser.add_argument("--json")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    dtypes = options.dtypes.split(",")
    for shape in options.shapes.split(","):
        for threads in map(int, options.threads.split(",")):
            if shape == "seed":
                compare_seed(options.work, threads, dtypes, options.bench)
            else:
                compare_checkpoint(options.work, shape, threads, dtypes, options.tokens, options.bench)
    write_results("peers/generate", options.json)


WORKERS = {"--transformers": with_transformers, "--llama-cpp": with_llama_cpp}

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in WORKERS:
        WORKERS[sys.argv[1]](*sys.argv[2:])
    else:
        main()
