"""The loop's recipe in PyTorch, for `loop.py`, whose header lists what is simplified. Not run by itself."""

import contextlib
import math
import random
import time
from collections import Counter

import torch
from decoder import Decoder, draw, predicting, read
from relations import EASY, HARD, Wording, answer_of, chain, corrupted, retold
from tokenizers import Tokenizer
from torch import nn
from train import optimizers

RECIPE = {
    "easy": 200, "anchor": 100, "train": 900, "gate": 200, "heldout": 600, "sampled": 100, "samples": 4,
    "tasks": 300, "variants": 8, "temperature": 0.6, "tokens_max": 256, "rereads": 2, "bootstrap": 200,
    "annotated": 400, "entropy_bits": 0.5, "keep": 3, "floor": 0.35, "total": 600, "auc_min": 0.6,
    "steps": 100, "step_tokens": 4096, "replay": 0.25, "warmup": 10, "epochs": 30,
}
# Rows decoded together.
ROWS = 400
END = 2


class Trajectory:
    def __init__(self, task, wording, ids, text):
        self.task, self.wording, self.ids, self.text = task, wording, ids, text
        self.ended, self.answer = ids[-1:] == [END], answer_of(text)
        self.right = self.ended and self.answer == wording.answer


class Run:
    def __init__(self, folder, dtype, seed=0):
        self.model, self.dtype, self.rng = Decoder.load(folder), getattr(torch, dtype), random.Random(seed)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.newline = self.encode("\n")[0]
        # Longer easy chains are more frequent.
        easy = lambda: chain(self.rng.choice([h for h in range(EASY[0], EASY[1] + 1) for _ in range(h)]), self.rng)
        tasks = lambda split, drawn: [drawn() for _ in range(RECIPE[split])]
        self.easy = [Wording(*t, self.rng) for t in tasks("easy", easy)]
        self.anchor = [Wording(*t, self.rng) for t in tasks("anchor", easy)]
        hard = lambda: chain(self.rng.randint(*HARD), self.rng)
        self.train = tasks("train", hard)
        self.measuring = [Wording(*t, self.rng) for t in tasks("gate", hard) + tasks("heldout", hard)]

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def frozen(self):
        """The policy as it draws and reads."""
        copy = Decoder(self.model.config)
        copy.load_state_dict(self.model.state_dict())
        # Angles stay as they are.
        for p in copy.parameters():
            p.data = p.data.to(self.dtype)
        return copy

    def drawn(self, model, wordings, temperature, tasks=None):
        prompts = [self.encode(w.prompt) for w in wordings]
        done = draw(model, prompts, RECIPE["tokens_max"], temperature, END, ROWS)
        return [Trajectory(tasks[n] if tasks else w, w, ids, self.tokenizer.decode(ids)) for n, (w, (ids, _)) in
                enumerate(zip(wordings, done))], [logprobs for _, logprobs in done]

    def evaluated(self):
        """Greedy accuracy on the gate and the held-out tasks; some of these are sampled, too."""
        model = self.frozen()
        greedy, _ = self.drawn(model, self.measuring, 0)
        gate = RECIPE["gate"]
        self.drawn(model, self.measuring[gate:gate + RECIPE["sampled"]] * RECIPE["samples"], RECIPE["temperature"])
        right = [t.right for t in greedy]
        return sum(right[:gate]) / gate, sum(right[gate:]) / RECIPE["heldout"]

    def features(self, model, trajectories, own):
        """(thoughts, statistics) of each, averaged over the own reading and those in other words."""
        readings = [[lp] for lp in own]
        for _ in range(RECIPE["rereads"]):
            others = [reworded(t.wording, self.rng) for t in trajectories]
            texts = [retold(t.text, t.wording, o) for t, o in zip(trajectories, others)]
            ends = [[END] if t.ended else [] for t in trajectories]
            completions = [self.encode(text) + end for text, end in zip(texts, ends)]
            again = read(model, [self.encode(o.prompt) for o in others], completions)
            for mine, reading, t, ids in zip(readings, again, trajectories, completions):
                if len(ids) == len(t.ids):
                    mine.append(reading)
        return [self.statistics(t.ids, r) for t, r in zip(trajectories, readings)]

    def statistics(self, ids, readings):
        ends = [i + 1 for i, token in enumerate(ids) if token == self.newline]
        ends += [len(ids)] if not ends or ends[-1] < len(ids) else []
        rows = []
        for start, end in zip([0, *ends], ends):
            each = [sureness(reading[start:end]) for reading in readings]
            rows.append([sum(column) / len(each) for column in zip(*each)])
        return torch.tensor(rows)

    def graded(self):
        """Trajectories with known verdicts: drawn from easy and anchor tasks, and corrupted solutions."""
        half, model = RECIPE["bootstrap"] // 2, self.frozen()
        sampled, _ = self.drawn(model, self.easy[:half] + self.anchor, 1.0)
        texts = [(w, corrupted(w, self.rng)) for w in self.easy[-half:] + self.anchor]
        wrong = [Trajectory(w, w, [*self.encode(text), END], text) for w, text in texts]
        return sampled[:half] + wrong[:half], sampled[half:] + wrong[half:]

    def critique(self, trajectories, own, graded):
        """The reward of every trajectory: the mean of head and vote."""
        model = self.frozen()
        easy, anchor = (self.read_features(model, part) for part in graded)
        verdicts = [float(t.right) for t in graded[0]]
        head = Head(easy, verdicts)
        features = self.features(model, trajectories, own)
        said = Counter((t.task, t.answer) for t in trajectories)
        vote = [said[t.task, t.answer] / RECIPE["variants"] if t.answer else 0.0 for t in trajectories]
        p = [0.5 * h + 0.5 * v for h, v in zip(head.scores(features), vote)]
        certain = [i for i, x in enumerate(p) if trajectories[i].answer and entropy(x) <= RECIPE["entropy_bits"]]
        certain = self.rng.sample(certain, min(len(certain), RECIPE["annotated"]))
        head = Head(easy + [features[i] for i in certain], verdicts + [p[i] for i in certain])
        voting = auc(head.scores(anchor), [t.right for t in graded[1]]) >= RECIPE["auc_min"]
        return [0.5 * h + 0.5 * v if voting else v for h, v in zip(head.scores(features), vote)]

    def read_features(self, model, trajectories):
        own = read(model, [self.encode(t.wording.prompt) for t in trajectories], [t.ids for t in trajectories])
        return self.features(model, trajectories, own)

    def fine_tune(self, kept):
        examples = [(self.encode(t.wording.prompt), t.ids) for t in kept]
        easy = [(self.encode(w.prompt), [*self.encode(w.solution), END]) for w in self.easy]
        batches = Batches(examples, easy, self.rng)
        steps = optimizers(self.model)
        rates = [[group["lr"] for group in step.param_groups] for step in steps]
        autocast = torch.autocast("cpu", torch.bfloat16) if self.dtype == torch.bfloat16 else contextlib.nullcontext()
        for n in range(RECIPE["steps"]):
            done = (n - RECIPE["warmup"]) / (RECIPE["steps"] - RECIPE["warmup"])
            factor = (n + 1) / RECIPE["warmup"] if done < 0 else 0.1 + 0.45 * (1 + math.cos(math.pi * done))
            for step, base in zip(steps, rates):
                for group, rate in zip(step.param_groups, base):
                    group["lr"] = rate * factor
            parts = batches.next()
            targets = sum(len(c) for part in parts for _, c in part)
            for part in filter(None, parts):
                with autocast:
                    hidden, wanted, ids = predicting(self.model, *zip(*part))
                    loss = nn.functional.cross_entropy(self.model.logits(hidden[wanted]), ids, reduction="sum")
                (loss / targets).backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for step in steps:
                step.step()
                step.zero_grad()


class Batches:
    """Updates of kept and replayed examples in shuffled passes; the two are padded apart, for they differ in length."""

    def __init__(self, kept, easy, rng):
        self.sets, self.rng = (kept, easy), rng
        self.waiting, self.tokens = ([], []), [0, 0]

    def next(self):
        parts, filled = ([], []), 0
        while True:
            which = int(self.tokens[1] < RECIPE["replay"] * sum(self.tokens) or not self.sets[0])
            if not self.waiting[which]:
                self.waiting[which].extend(self.rng.sample(self.sets[which], len(self.sets[which])))
            size = sum(map(len, self.waiting[which][-1]))
            if filled and filled + size > RECIPE["step_tokens"]:
                return parts
            parts[which].append(self.waiting[which].pop())
            filled, self.tokens[which] = filled + size, self.tokens[which] + size


class Head:
    """Statistics of thoughts to a probability; a trajectory is as good as its worst thought."""

    def __init__(self, features, labels):
        rows = torch.cat(features)
        self.mean, self.deviation = rows.mean(0), rows.std(0).clamp(min=1e-3)
        self.network = nn.Sequential(nn.Linear(rows.shape[1], 32), nn.Tanh(), nn.Linear(32, 1))
        x, labels = self.standard(features), torch.tensor(labels)
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=3e-3, weight_decay=0.01)
        for epoch in range(RECIPE["epochs"]):
            for rows in torch.randperm(len(labels)).split(32):
                noisy = x[rows] + 0.1 * torch.randn_like(x[rows])
                nn.functional.binary_cross_entropy_with_logits(self.logits(noisy), labels[rows]).backward()
                optimizer.step()
                optimizer.zero_grad()

    def standard(self, features):
        """(trajectories, thoughts, statistics); what is missing is NaN."""
        padded = nn.utils.rnn.pad_sequence(features, batch_first=True, padding_value=math.nan)
        return ((padded - self.mean) / self.deviation).clamp(-6, 6)

    def logits(self, x):
        missing = x[..., 0].isnan()
        return self.network(x.nan_to_num())[..., 0].masked_fill(missing, math.inf).min(1).values

    def scores(self, features):
        with torch.no_grad():
            return torch.sigmoid(self.logits(self.standard(features))).tolist()


def reworded(wording, rng):
    """The same chain in other words."""
    return Wording(*wording.chain, rng)


def sureness(logprobs):
    mean = sum(logprobs) / len(logprobs)
    spread = math.sqrt(sum((l - mean) ** 2 for l in logprobs) / len(logprobs))
    low = sorted(logprobs)[:2]
    sure = [-math.log(1e-3 - l) for l in (mean, low[0], low[-1], logprobs[0], logprobs[-1])]
    return [*sure, math.log(1e-3 + spread)]


def entropy(p):
    return sum(-x * math.log2(x) for x in (p, 1 - p) if x > 0)


def auc(scores, right):
    good, bad = ([s for s, r in zip(scores, right) if r == wanted] for wanted in (True, False))
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    return wins / (len(good) * len(bad)) if good and bad else 0.0


def selected(trajectories, rewards):
    """The best few of every task above the floor, the best of them all."""
    by_task = {}
    for t, reward in zip(trajectories, rewards):
        if t.ended and t.answer and reward >= RECIPE["floor"]:
            by_task.setdefault(t.task, []).append((reward, t))
    best = [pair for pairs in by_task.values() for pair in sorted(pairs, key=lambda p: -p[0])[:RECIPE["keep"]]]
    return [t for _, t in sorted(best, key=lambda p: -p[0])[:RECIPE["total"]]]


def reference(folder, dtype, iterations, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    run, phases, seconds, heldout = Run(folder, dtype), [], [], []

    def timed(phase, work, *args):
        began = time.perf_counter()
        done = work(*args)
        phases[-1][phase] = phases[-1].get(phase, 0.0) + time.perf_counter() - began
        return done

    phases.append({})
    gate, accuracy = timed("evaluate", run.evaluated)
    heldout.append(accuracy)
    graded = None
    for iteration in range(iterations):
        phases.append({})
        # Later iterations read the same graded trajectories again.
        graded = graded or timed("bootstrap", run.graded)
        first = iteration * RECIPE["tasks"] % RECIPE["train"]
        tasks = [n for n in range(first, first + RECIPE["tasks"]) for _ in range(RECIPE["variants"])]
        wordings = [Wording(*run.train[n], run.rng) for n in tasks]
        trajectories, own = timed("rollout", run.drawn, run.frozen(), wordings, RECIPE["temperature"], tasks)
        rewards = timed("critique", run.critique, trajectories, own, graded)
        kept = selected(trajectories, rewards)
        before = {name: p.detach().clone() for name, p in run.model.state_dict().items()}
        timed("train", run.fine_tune, kept)
        candidate, accuracy = timed("evaluate", run.evaluated)
        heldout.append(accuracy)
        if candidate < gate - 0.03:
            run.model.load_state_dict(before)
        else:
            gate = candidate
        phases[-1].update(kept=len(kept), right=sum(t.right for t in kept) / max(1, len(kept)))
    seconds = [sum(s for phase, s in p.items() if phase not in ("kept", "right")) for p in phases]
    return {"seconds": seconds, "heldout": heldout, "phases": phases}
