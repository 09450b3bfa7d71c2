"""The built-in task, relation chains, for the peers: questions, variants, solutions. Not run by itself.

The same distribution as `src/data/relations.rs`, of another stream of random numbers.
"""

import random
import re

NAMES = "Ana Ben Cora Dan Eva Finn Gus Hugo Ida Jon Kim Leo Mia Nora Otto Paul Rosa Sam Tina Uma".split()
# Hops: what labels may be read of, and what is to be learned without.
EASY, HARD = (1, 4), (14, 19)
WORDS = re.compile(r"[A-Za-z]+|[^A-Za-z]+")


def chain(hops, rng):
    """Start, and for every hop its text and the value after it; values stay within 1 to 19."""
    start = value = rng.randint(1, 19)
    steps = []
    while len(steps) < hops:
        kind, n = rng.choice("++--*"), rng.randint(1, 5)
        after = {"+": value + n, "-": value - n, "*": 2 * value}[kind]
        if 1 <= after <= 19:
            steps.append(({"+": f"plus {n}", "-": f"minus {n}", "*": "twice"}[kind], after))
            value = after
    return start, steps


class Wording:
    """A chain under random names, its relations in random order; `cast` is everybody, in order of the chain."""

    def __init__(self, start, steps, rng):
        self.chain = (start, steps)
        self.cast = names = rng.sample(NAMES, len(NAMES))
        relations = [f"{names[i]} {op} is {names[i + 1]}" for i, (op, _) in enumerate(steps)]
        shown = "".join(f"{r}. " for r in rng.sample(relations, len(relations)))
        self.prompt = f"{shown}{names[0]} has {start}. {names[len(steps)]}?\n"
        self.lines = [f"{r} {value}\n" for r, (_, value) in zip(relations, steps)]
        self.answer = str(steps[-1][1])
        self.solution = "".join(self.lines) + f"A: {self.answer}"


def retold(text, said, other):
    """A text about the people of one wording, about those of another."""
    place = dict(zip(said.cast, other.cast))
    return "".join(place.get(word, word) for word in WORDS.findall(text))


def corrupted(wording, rng):
    """A solution that stops early, or from some line on has wrong values."""
    lines, off = list(wording.lines), rng.choice([-2, -1, 1, 2])
    if len(lines) > 1 and rng.random() < 0.4:
        lines.pop()
    else:
        for i in range(rng.randrange(len(lines)), len(lines)):
            start, value = lines[i].rsplit(" ", 1)
            lines[i] = f"{start} {max(1, int(value) + off)}\n"
    return "".join(lines) + "A: " + lines[-1].split()[-1]


def answer_of(text):
    """What a completion claims; None if it claims nothing."""
    last = text.rsplit("\n", 1)[-1]
    return last[3:] if last.startswith("A: ") else None


def hard_prompts(tokenizer, tasks, variants, seed=0):
    """Token ids of the variants of random hard tasks."""
    from tokenizers import Tokenizer

    tokenizer, rng = Tokenizer.from_file(str(tokenizer)), random.Random(seed)
    drawn = [chain(rng.randint(*HARD), rng) for _ in range(tasks)]
    return [tokenizer.encode(Wording(*task, rng).prompt).ids for task in drawn for _ in range(variants)]
