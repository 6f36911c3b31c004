"""Attention in plain torch: number by number, and MLA after its paper in either form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kvplan.measure.kernels import attention


def by_hand(query: Tensor, key: Tensor, value: Tensor, scale: float) -> list[float]:
    """One head's attention of one query, number by number."""
    scores = [
        scale * sum(q * k for q, k in zip(query.tolist(), row, strict=True)) for row in key.tolist()
    ]
    weights = [math.exp(score - max(scores)) for score in scores]
    return [
        sum(weight * row[column] for weight, row in zip(weights, value.tolist(), strict=True))
        / sum(weights)
        for column in range(value.shape[1])
    ]


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (5, 1)])
def test_attention_by_hand(heads: tuple[int, int]) -> None:
    torch.manual_seed(1)
    query_heads, kv_heads = heads
    query = torch.randn(2, query_heads, 8, dtype=torch.float64)
    key = torch.randn(2, kv_heads, 7, 8, dtype=torch.float64)
    value = torch.randn(2, kv_heads, 7, 5, dtype=torch.float64)
    group = query_heads // kv_heads
    expected = torch.tensor(
        [
            [
                by_hand(query[b, h], key[b, h // group], value[b, h // group], 0.3)
                for h in range(query_heads)
            ]
            for b in range(2)
        ],
        dtype=torch.float64,
    )
    for way in (attention.reference, attention.fused_attention, attention.product_attention):
        torch.testing.assert_close(way(query, key, value, 0.3), expected)


def rotate(vectors: Tensor, positions: Tensor) -> Tensor:
    """Rotary embedding (arXiv 2104.09864): pairs of elements turned by position x frequency."""
    half = vectors.shape[-1] // 2
    frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = positions[:, None].double() * frequencies
    one, other = vectors[..., :half], vectors[..., half:]
    return torch.cat(
        [
            one * angles.cos() - other * angles.sin(),
            one * angles.sin() + other * angles.cos(),
        ],
        -1,
    )


def test_absorbed_is_naive_is_the_paper() -> None:
    """DeepSeek-V2's MLA (arXiv 2405.04434, equations 9 to 19) from hidden states, with RoPE."""
    torch.manual_seed(2)
    hidden, latent, rope, nope, width, heads, tokens = 40, 16, 8, 12, 10, 3, 33
    states = torch.randn(tokens, hidden, dtype=torch.float64)
    down, to_rope = (
        torch.randn(size, hidden, dtype=torch.float64) / hidden**0.5 for size in (latent, rope)
    )
    up_key = torch.randn(heads, nope, latent, dtype=torch.float64)
    up_value = torch.randn(heads, latent, width, dtype=torch.float64)
    to_query = torch.randn(heads, nope + rope, hidden, dtype=torch.float64) / hidden**0.5
    positions = torch.arange(tokens)
    scale = (nope + rope) ** -0.5

    latents = states @ down.T
    rotary_keys = rotate(states @ to_rope.T, positions)
    last = to_query @ states[-1]
    rotary_query = rotate(last[:, nope:], positions[-1:])
    expected = torch.stack(
        [
            torch.softmax(
                (latents @ up_key[head].T @ last[head, :nope] + rotary_keys @ rotary_query[head])
                * scale,
                0,
            )
            @ (latents @ up_value[head])
            for head in range(heads)
        ]
    )

    cache = torch.cat([latents, rotary_keys], -1).unsqueeze(0)
    query = torch.cat([last[:, :nope], rotary_query], -1).unsqueeze(0)
    naive = attention.naive_attention(query, cache, up_key, up_value, scale)
    in_latent = attention.latent_query(query, up_key)
    out = attention.latent_attention(in_latent, cache, latent, scale)
    absorbed = attention.head_values(out, up_value)
    torch.testing.assert_close(naive[0], expected)
    torch.testing.assert_close(absorbed[0], expected)


def test_naive_in_parts_is_naive(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    query, cache = torch.randn(2, 6, 20), torch.randn(2, 9, 24)
    up_key, up_value = torch.randn(6, 12, 16), torch.randn(6, 16, 10)
    at_once = attention.naive_attention(query, cache, up_key, up_value, 0.2)
    monkeypatch.setattr(attention, "_MOST_ELEMENTS", 2 * 9 * 20 * 4 + 1)  # four heads at a time
    torch.testing.assert_close(
        attention.naive_attention(query, cache, up_key, up_value, 0.2), at_once
    )
