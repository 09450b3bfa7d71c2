"""The seed model's decoder in PyTorch, for the peers: padded training and reading, cached drawing. Not run by itself.

The shape of a SmolLM3 checkpoint: RMSNorm, SwiGLU, tied embeddings; some layers with rotary positions and a sliding
window, the others without positions and with full causal attention. Nothing of transformers' machinery: drawing keeps
its cache in place, windows read only their last tokens, finished rows leave the batch.
"""

import json
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention as attend, silu

# Queries of a window's layer that attend together, to themselves and as many tokens before them.
BLOCK = 32


def rotate(x, angles):
    """x (..., T, head_dim), angles (T, head_dim)."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * angles.cos().to(x.dtype) + turned * angles.sin().to(x.dtype)


def banded(q, k, v, window):
    """Causal attention (B, H, T, D) to the last `window` tokens, in blocks instead of all of T x T."""
    b, h, t, d = q.shape
    after = -t % BLOCK
    blocks = (t + after) // BLOCK
    q = nn.functional.pad(q, (0, 0, 0, after)).view(b, h, blocks, BLOCK, d)
    # Row r of a block of keys is row r - BLOCK of the block of queries.
    k, v = (nn.functional.pad(x, (0, 0, BLOCK, after)).unfold(2, 2 * BLOCK, BLOCK).transpose(-1, -2) for x in (k, v))
    behind = torch.arange(BLOCK)[:, None] + BLOCK - torch.arange(2 * BLOCK)
    mask = ((behind >= 0) & (behind < window)).expand(blocks, BLOCK, 2 * BLOCK).clone()
    mask[0, :, :BLOCK] = False
    to_rows = lambda x: x.transpose(1, 2).reshape(b * blocks, h, *x.shape[-2:])
    mask = mask.expand(b, *mask.shape).reshape(b * blocks, 1, BLOCK, 2 * BLOCK)
    out = attend(to_rows(q), to_rows(k), to_rows(v), attn_mask=mask)
    return out.view(b, blocks, h, BLOCK, d).transpose(1, 2).reshape(b, h, blocks * BLOCK, d)[:, :, :t]


class Layer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        d, inner = config["hidden_size"], config["intermediate_size"]
        self.heads, self.head_dim, self.eps = config["num_attention_heads"], config["head_dim"], config["rms_norm_eps"]
        self.rotary = bool(config["no_rope_layers"][index])
        self.window = config["sliding_window"] if config["layer_types"][index] == "sliding_attention" else None
        self.input_layernorm, self.post_attention_layernorm = (nn.Parameter(torch.ones(d)) for _ in range(2))
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Parameter(torch.empty(d, d)) for _ in range(4))
        self.gate_proj, self.up_proj = (nn.Parameter(torch.empty(inner, d)) for _ in range(2))
        self.down_proj = nn.Parameter(torch.empty(d, inner))

    def projected(self, x, angles):
        """q, k, v (B, H, T, head_dim) of x (B, T, D)."""
        x = rms_norm(x, x.shape[-1:], self.input_layernorm.to(x.dtype), self.eps)
        q, k, v = (linear(x, w).unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
                   for w in (self.q_proj, self.k_proj, self.v_proj))
        return (rotate(q, angles), rotate(k, angles), v) if self.rotary else (q, k, v)

    def rest(self, x, attended):
        x = x + linear(attended.transpose(1, 2).flatten(2), self.o_proj)
        y = rms_norm(x, x.shape[-1:], self.post_attention_layernorm.to(x.dtype), self.eps)
        return x + linear(silu(linear(y, self.gate_proj)) * linear(y, self.up_proj), self.down_proj)

    def forward(self, x, angles):
        q, k, v = self.projected(x, angles)
        attended = banded(q, k, v, self.window) if self.window else attend(q, k, v, is_causal=True)
        return self.rest(x, attended)


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, d = config, config["head_dim"]
        self.embed_tokens = nn.Parameter(torch.empty(config["vocab_size"], config["hidden_size"]))
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config["num_hidden_layers"]))
        self.norm = nn.Parameter(torch.ones(config["hidden_size"]))
        frequencies = config["rope_theta"] ** (-torch.arange(0, d, 2) / d)
        angles = torch.arange(1024)[:, None] * frequencies
        self.register_buffer("angles", torch.cat([angles, angles], -1), persistent=False)
        for p in self.parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.05)

    @classmethod
    def load(cls, folder):
        from safetensors.torch import load_file

        model = cls(json.loads((Path(folder) / "config.json").read_text()))
        shorter = lambda name: ".".join(p for p in name.split(".") if p not in ("model", "self_attn", "mlp", "weight"))
        model.load_state_dict({shorter(name): w.float() for name, w in load_file(Path(folder) / "model.safetensors").items()})
        return model

    def final(self, x):
        return rms_norm(x, x.shape[-1:], self.norm.to(x.dtype), self.config["rms_norm_eps"])

    def forward(self, ids):
        """Final-norm states (B, T, D) of ids (B, T), padded on the right: causal attention never looks there."""
        x = self.embed_tokens[ids]
        angles = self.angles[:ids.shape[1]]
        for layer in self.layers:
            x = layer(x, angles)
        return self.final(x)

    def logits(self, hidden):
        return linear(hidden, self.embed_tokens.to(hidden.dtype)).float()


class Drawing:
    """A batch being drawn: keys and values in place, all rows at the same column, prompts pushed to the right."""

    def __init__(self, model, prompts, tokens_max):
        rows, width = len(prompts), max(map(len, prompts))
        lengths = torch.tensor([len(p) for p in prompts])
        ids = torch.tensor([p + [0] * (width - len(p)) for p in prompts])
        self.model, self.column, self.places = model, width, lengths
        dtype, heads, head_dim = model.embed_tokens.dtype, model.config["num_attention_heads"], model.config["head_dim"]
        self.keys, self.values, x = [], [], model.embed_tokens[ids]
        # Column c of a row holds token c - (width - length).
        shifted = (torch.arange(width)[None] - (width - lengths)[:, None]).clamp(min=0)[:, None, :, None]
        shifted = shifted.expand(rows, heads, width, head_dim)
        for layer in model.layers:
            q, k, v = layer.projected(x, model.angles[:width])
            for held, new in ((self.keys, k), (self.values, v)):
                held.append(torch.zeros(rows, heads, width + tokens_max, head_dim, dtype=dtype))
                held[-1][:, :, :width] = torch.gather(new, 2, shifted)
            x = layer.rest(x, banded(q, k, v, layer.window) if layer.window else attend(q, k, v, is_causal=True))
        self.mask = torch.zeros(rows, 1, 1, width + tokens_max, dtype=dtype)
        self.mask.masked_fill_(torch.arange(width + tokens_max) < (width - lengths)[:, None, None, None], -torch.inf)
        self.hidden = model.final(x[torch.arange(rows), lengths - 1])

    def step(self, tokens):
        """The final-norm states (B, D) after one more token of every row."""
        model, end = self.model, self.column + 1
        angles = model.angles[self.places][:, None, None]
        x = model.embed_tokens[tokens][:, None]
        for layer, keys, values in zip(model.layers, self.keys, self.values):
            q, k, v = layer.projected(x, angles)
            keys[:, :, self.column:end], values[:, :, self.column:end] = k, v
            first = end - layer.window if layer.window else 0
            mask = None if layer.window else self.mask[..., :end]
            x = layer.rest(x, attend(q, keys[:, :, first:end], values[:, :, first:end], attn_mask=mask))
        self.column, self.places = end, self.places + 1
        return model.final(x[:, 0])

    def keep(self, rows):
        """Keeps only these rows."""
        self.keys, self.values = ([x[rows] for x in held] for held in (self.keys, self.values))
        self.mask, self.places = self.mask[rows], self.places[rows]


@torch.no_grad()
def draw(model, prompts, tokens_max, temperature, end, rows_max):
    """(ids, log-probabilities) drawn after each prompt, which are longer than a window."""
    done = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for at in range(0, len(order), rows_max):
        draw_batch(model, prompts, order[at:at + rows_max], tokens_max, temperature, end, done)
    return done


def draw_batch(model, prompts, rows, tokens_max, temperature, end, done):
    rows = torch.tensor(rows)
    batch = Drawing(model, [prompts[i] for i in rows], tokens_max)
    ids, logprobs = torch.zeros(len(rows), tokens_max, dtype=torch.long), torch.zeros(len(rows), tokens_max)
    alive, hidden = torch.ones(len(rows), dtype=torch.bool), batch.hidden

    def retire(gone, n):
        for row, i, l in zip(rows[gone].tolist(), ids[gone, :n].tolist(), logprobs[gone, :n].tolist()):
            drawn = i.index(end) + 1 if end in i else n
            done[row] = (i[:drawn], l[:drawn])

    for n in range(tokens_max):
        logits = model.logits(hidden)
        token = torch.multinomial(torch.softmax(logits / temperature, -1), 1) if temperature else logits.argmax(-1, True)
        ids[:, n] = token[:, 0]
        logprobs[:, n] = torch.log_softmax(logits, -1).gather(1, token)[:, 0]
        alive &= token[:, 0] != end
        if n % 8 == 7 and alive.sum() < 0.8 * len(rows):
            retire(~alive, n + 1)
            batch.keep(alive)
            rows, ids, logprobs, token, alive = rows[alive], ids[alive], logprobs[alive], token[alive], alive[alive]
            if len(rows) == 0:
                return
        hidden = batch.step(token[:, 0])
    retire(torch.ones(len(rows), dtype=torch.bool), tokens_max)


@torch.no_grad()
def read(model, prompts, completions, tokens_max=16384):
    """Log-probabilities of every completion's tokens."""
    done = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(completions[i]))
    while order:
        together = max(1, tokens_max // (len(prompts[order[-1]]) + len(completions[order[-1]])))
        order, rows = order[:-together], order[-together:]
        hidden, wanted, targets = predicting(model, [prompts[i] for i in rows], [completions[i] for i in rows])
        logprobs = torch.log_softmax(model.logits(hidden[wanted]), -1).gather(1, targets[:, None])[:, 0].tolist()
        for i in rows:
            done[i], logprobs = logprobs[:len(completions[i])], logprobs[len(completions[i]):]
    return done


def predicting(model, prompts, completions):
    """States (B, T, D) of a padded batch, where they predict a completion's token, and those tokens."""
    width = max(len(p) + len(c) for p, c in zip(prompts, completions))
    ids = torch.tensor([p + c + [0] * (width - len(p) - len(c)) for p, c in zip(prompts, completions)])
    starts = torch.tensor([len(p) for p in prompts])[:, None]
    ends = torch.tensor([len(p) + len(c) for p, c in zip(prompts, completions)])[:, None]
    column = torch.arange(width)
    return model(ids), (column >= starts - 1) & (column < ends - 1), ids[(column >= starts) & (column < ends)]
