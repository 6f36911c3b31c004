"""Decode attention in plain torch: one query token for each sequence.

Shapes, throughout: query ``[sequences, query_heads, width]``, key and value
``[sequences, kv_heads, tokens, width]``, an MLA cache ``[sequences, tokens, latent + rope]`` whose
first ``latent`` columns are the latent. Absorbed and naive MLA after DeepSeek-V2 (arXiv 2405.04434,
2.1.2 and appendix C).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_TOKENS_AT_A_TIME = 65_536
_MOST_ELEMENTS = 1 << 31  # beyond it torch's fused kernels overflow 32-bit offsets


def reference(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """The same in float64, one KV head of one sequence after the other."""
    grouped = _group(query, key.shape[1]).double()
    out = torch.empty(*grouped.shape[:-1], value.shape[-1], dtype=torch.float64, device=key.device)
    for sequence in range(key.shape[0]):
        for head in range(key.shape[1]):
            out[sequence, head] = _exact(
                grouped[sequence, head] * scale, key[sequence, head], value[sequence, head]
            )
    return out.reshape(*query.shape[:-1], value.shape[-1])


def _exact(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """A few queries' attention over ``key`` and ``value [tokens, width]``, some tokens at a time.

    Online softmax (arXiv 1805.02867): what came before is rescaled when the peak moves.
    """
    peak = query.new_full((len(query), 1), -torch.inf)
    total, acc = torch.zeros_like(peak), query.new_zeros(len(query), value.shape[-1])
    for start in range(0, len(key), _TOKENS_AT_A_TIME):
        some = slice(start, start + _TOKENS_AT_A_TIME)
        scores = query @ key[some].double().T
        new_peak = torch.maximum(peak, scores.amax(-1, keepdim=True))
        weights, kept = torch.exp(scores - new_peak), torch.exp(peak - new_peak)
        total = total * kept + weights.sum(-1, keepdim=True)
        acc = acc * kept + weights @ value[some].double()
        peak = new_peak
    return acc / total


def relative_error(out: Tensor, exact: Tensor) -> float:
    """``||out - exact|| / ||exact||``; not a number where the output holds one that is not."""
    return float(torch.linalg.vector_norm(out.double() - exact) / torch.linalg.vector_norm(exact))


def fused_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Torch's scaled_dot_product_attention, which picks a kernel of its own (cuDNN on an H100)."""
    grouped = query.shape[1] != key.shape[1]
    return functional.scaled_dot_product_attention(
        query.unsqueeze(2), key, value, scale=scale, enable_gqa=grouped
    ).squeeze(2)


def product_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Two matrix products around a softmax in float32."""
    sequences, heads, tokens, _ = key.shape
    grouped = _group(query, heads).flatten(0, 1)
    scores = _product(grouped, key.flatten(0, 1).transpose(1, 2))
    weights = torch.softmax(scores.mul_(scale), -1).to(value.dtype)
    del scores
    out = torch.bmm(weights, value.reshape(sequences * heads, tokens, -1))
    return out.reshape(*query.shape[:-1], value.shape[-1])


def _group(query: Tensor, kv_heads: int) -> Tensor:
    sequences, query_heads, width = query.shape
    return query.reshape(sequences, kv_heads, query_heads // kv_heads, width)


def _product(one: Tensor, other: Tensor) -> Tensor:
    """A batched product; of half-precision operands in float32."""
    if one.dtype in (torch.float32, torch.float64):
        return torch.bmm(one, other)
    if one.is_cuda:
        try:
            return torch.bmm(one, other, out_dtype=torch.float32)
        except TypeError:  # torch before 2.8
            pass
    return torch.bmm(one.float(), other.float())


def latent_attention(query: Tensor, cache: Tensor, latent: int, scale: float) -> Tensor:
    """Absorbed MLA by two products: query ``[.., latent + rope]``, result ``[.., latent]``."""
    key = cache.unsqueeze(1)
    return product_attention(query, key, key[..., :latent], scale)


def latent_query(query: Tensor, up_key: Tensor) -> Tensor:
    """The query in the latent space, its rotary part as it is.

    query ``[sequences, heads, nope + rope]``, up_key ``[heads, nope, latent]``; result
    ``[sequences, heads, latent + rope]``.
    """
    nope = up_key.shape[1]
    in_latent = torch.bmm(query[..., :nope].transpose(0, 1), up_key).transpose(0, 1)
    return torch.cat([in_latent, query[..., nope:]], -1)


def head_values(out: Tensor, up_value: Tensor) -> Tensor:
    """Attention's result out of the latent space.

    out ``[sequences, heads, latent]``, up_value ``[heads, latent, value]``; result
    ``[sequences, heads, value]``.
    """
    return torch.bmm(out.transpose(0, 1), up_value).transpose(0, 1)


def keys_and_values(cache: Tensor, up_key: Tensor, up_value: Tensor) -> tuple[Tensor, Tensor]:
    """Every head's keys and values, rebuilt from the latent.

    Result: key ``[sequences, heads, tokens, nope + rope]``, value likewise with its own width.
    """
    heads, nope, latent = up_key.shape
    up = torch.cat([up_key, up_value.transpose(1, 2)], 1).flatten(0, 1)
    rows = (cache[..., :latent] @ up.T).unflatten(-1, (heads, -1)).transpose(1, 2)
    rope = cache[..., latent:].unsqueeze(1).expand(-1, heads, -1, -1)
    return torch.cat([rows[..., :nope], rope], -1), rows[..., nope:]


def naive_attention(
    query: Tensor, cache: Tensor, up_key: Tensor, up_value: Tensor, scale: float
) -> Tensor:
    """MLA as it is written down: the latent is expanded, and attended to, at each step.

    So many heads at a time as torch's kernels can address.
    """
    elements = cache.shape[0] * cache.shape[1] * query.shape[-1]
    heads = max(1, min(query.shape[1], (_MOST_ELEMENTS - 1) // elements))
    parts = []
    for start in range(0, query.shape[1], heads):
        some = slice(start, start + heads)
        key, value = keys_and_values(cache, up_key[some], up_value[some])
        parts.append(fused_attention(query[:, some], key, value, scale))
        del key, value
    return torch.cat(parts, 1)
