"""The default run here and a PyTorch reference of the same recipe: seconds per iteration, and what accuracy they reach.

    python benches/peers/loop.py [--iterations 1] [--threads 2] [--dtypes float32,bfloat16]

Both start from the embedded seed and take the sizes of the default configuration (see RECIPE). The reference draws its
relation tasks from the same distribution, not the same tasks. It is batched PyTorch as one would write it for speed:
its own decoder with a cache (`decoder.py`), rows of similar length together, finished rows leave the batch, rereading
and training padded; f32, or bf16 for drawing and rereading and autocast for training. Simplified in its favour: nothing
is stored; the critique head sees the log-probability statistics alone (no hidden states), is trained twice without
repeated evaluations, calibration or criteria by thought; easy answers are corrupted in one way; the gate is a
comparison of two numbers; pass@k is not computed from what is sampled. Needs torch, tokenizers and
`cargo build --release`. Seen with torch 2.15.0.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, environment, load, own, peak_mib
from relations import EASY, HARD, chain, corrupted, told

RECIPE = {
    "easy": 200, "anchor": 100, "gate": 200, "heldout": 600, "sampled_tasks": 100, "samples": 4,
    "tasks": 300, "variants": 8, "temperature": 0.6, "tokens_max": 256, "rereads": 2, "bootstrap": 200,
    "annotated_max": 400, "entropy_max_bits": 0.5, "keep": 3, "floor": 0.35, "total_max": 600, "steps": 100,
    "step_tokens": 4096, "replay": 0.25, "warmup": 10, "epochs": 30,
}
# Rows decoded together.
ROWS = 400


class Task:
    """A chain, and the wording that it is asked in first."""

    def __init__(self, hops, rng):
        self.chain = chain(hops, rng)
        self.prompt, self.solution, self.answer, self.names = told(*self.chain, rng)

    def variant(self, rng):
        """(prompt, names) in other words."""
        prompt, _, _, names = told(*self.chain, rng)
        return prompt, names


def answer_of(text):
    lines = text.splitlines()
    return lines[-1][3:] if lines and lines[-1].startswith("A: ") else None


def retold(text, names, others):
    """The text about one variant's people, about another's."""
    place = dict(zip(names, others))
    return "".join(place.get(word, word) for word in WORDS.findall(text))


class Policy:
    """The model, the tokenizer and the batched ways to run them."""

    def __init__(self, folder, dtype):
        import torch
        from decoder import Decoder
        from tokenizers import Tokenizer

        self.torch, self.dtype = torch, getattr(torch, dtype)
        self.model = Decoder.load(folder)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids
