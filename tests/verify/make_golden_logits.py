#!/usr/bin/env python3
"""Writes golden_logits.txt: the forward pass of tests/verify/synthetic_model.h by numpy, in double.

Made with Python 3.11, numpy 2.4:  python3 make_golden_logits.py > golden_logits.txt

Independent of quern's code: written from the published definition of Llama's forward pass
(pre-norm RMSNorm, rotation of adjacent pairs, grouped-query attention, SwiGLU).

Lines of the output:
  logits CASE POSITION v0 v1 ...       of the first window
  nll CASE WINDOWS PREDICTIONS MEAN    over a whole text, by the case's protocol
"""
import numpy as np

MASK = (1 << 64) - 1


def splitmix(z):
    z = np.asarray(z, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def scale_for(fan_in):
    scale = 1.0
    while scale * scale / 3 * fan_in > 1:
        scale /= 2
    return scale


class Model:
    def __init__(self, layers=2, heads=4, kv_heads=2, head_dim=16, d=64, ff=96, theta=10000.0,
                 linear=1.0, divisors=False, tied=False):
        self.heads, self.kv_heads, self.head_dim, self.layers = heads, kv_heads, head_dim, layers
        self.n = 0
        q, kv, s = heads * head_dim, kv_heads * head_dim, scale_for(d)
        self.embedding = self.tensor((259, d), 1.0, 0.0)
        self.blocks = []
        for _ in range(layers):
            self.blocks.append([
                self.tensor((d,), 0.25, 1.0), self.tensor((q, d), 4 * s, 0.0),
                self.tensor((kv, d), s, 0.0), self.tensor((kv, d), s, 0.0),
                self.tensor((d, q), scale_for(q), 0.0), self.tensor((d,), 0.25, 1.0),
                self.tensor((ff, d), s, 0.0), self.tensor((ff, d), s, 0.0),
                self.tensor((d, ff), scale_for(ff), 0.0)])
        self.norm = self.tensor((d,), 0.25, 1.0)
        self.output = self.embedding if tied else self.tensor((259, d), 2 * s, 0.0)
        divisor = self.tensor((head_dim // 2,), 3.0, 4.0) if divisors else 1.0
        self.frequency = theta ** (-np.arange(0, head_dim, 2) / head_dim) / linear / divisor

    def tensor(self, shape, scale, offset):
        i = np.arange(np.prod(shape), dtype=np.uint64)
        bits = splitmix(np.uint64(self.n << 32) | i) >> np.uint64(40)
        self.n += 1
        x = (bits.astype(np.float64) - 2.0**23) * 2.0**-23
        x = np.float32(offset) + np.float32(scale) * x.astype(np.float32)
        return x.astype(np.float32).astype(np.float64).reshape(shape)

    @staticmethod
    def rms(x, w):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + float(np.float32(1e-5))) * w

    def rotate(self, x):  # [n, heads, head_dim]
        angle = np.arange(x.shape[0])[:, None] * self.frequency[None, :]
        c, s = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
        a, b = x[..., 0::2], x[..., 1::2]
        out = np.empty_like(x)
        out[..., 0::2], out[..., 1::2] = a * c - b * s, a * s + b * c
        return out

    def forward(self, tokens):
        n = len(tokens)
        x = self.embedding[np.array(tokens)]
        hidden_future = np.triu(np.ones((n, n), dtype=bool), 1)
        for an, wq, wk, wv, wo, fn, w1, w3, w2 in self.blocks:
            h = self.rms(x, an)
            q = self.rotate((h @ wq.T).reshape(n, self.heads, self.head_dim))
            k = self.rotate((h @ wk.T).reshape(n, self.kv_heads, self.head_dim))
            v = (h @ wv.T).reshape(n, self.kv_heads, self.head_dim)
            out = np.empty_like(q)
            for head in range(self.heads):
                kv = head // (self.heads // self.kv_heads)
                s = q[:, head] @ k[:, kv].T / np.sqrt(self.head_dim)
                s[hidden_future] = -np.inf
                p = np.exp(s - s.max(axis=1, keepdims=True))
                out[:, head] = p / p.sum(axis=1, keepdims=True) @ v[:, kv]
            x = x + out.reshape(n, -1) @ wo.T
            h = self.rms(x, fn)
            z = h @ w1.T
            x = x + (z / (1 + np.exp(-z)) * (h @ w3.T)) @ w2.T
        return self.rms(x, self.norm) @ self.output.T


def text_tokens(n_bytes):
    i = np.arange(n_bytes, dtype=np.uint64)
    letters = splitmix(np.uint64(99 << 32) | i) % np.uint64(26)
    return [1] + [int(c) + 97 + 3 for c in letters]


def run(name, model, context, protocol, n_bytes, positions):
    tokens = text_tokens(n_bytes)
    windows = len(tokens) // context
    nll = []
    for w in range(windows):
        window = tokens[w * context:(w + 1) * context]
        first = context // 2 if protocol == "llama.cpp" else 0
        inputs = [1] + window[1:] if protocol == "llama.cpp" else window
        logits = model.forward(inputs)
        if w == 0:
            for p in positions:
                print("logits", name, p, *(f"{v:.6f}" for v in logits[p]))
        top = logits.max(axis=1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        nll += [total[p] - logits[p, window[p + 1]] for p in range(first, context - 1)]
    print("nll", name, windows, len(nll), f"{np.mean(nll):.9f}")


run("papers", Model(theta=500000.0, divisors=True), 2048, "papers", 4200, (0, 1, 777, 2046))
run("llama", Model(kv_heads=4, linear=4.0, tied=True), 64, "llama.cpp", 400, (32, 62))
run("wide", Model(layers=1, heads=3, kv_heads=1, head_dim=20, d=60, ff=130), 33, "llama.cpp", 300,
    (16, 31))
