"""Absorbed multi-head-latent-attention decode for Hopper (compute capability 9.0), in Gluon.

A program attends from 64 heads to a range of tokens. The accumulator [64, 512] in float32 fills
half the register file, so two warpgroups hold 256 of its columns each and compute the scores of
every second tile each, exchanging probabilities, while a third copies tiles in: FlashMLA's
"seesaw" schedule (deepseek-ai/FlashMLA, docs/20250422-new-kernel-deep-dive.md), here with tiles of
32 tokens, four deep, so that a tile's scores can start before the one before is used up.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
from triton.language.extra.cuda import gdc_launch_dependents

from kvplan.measure.kernels.triton_attention import LOG2_E, card, merge_splits, split_count

TILE = 32
STAGES = 4
LATENT = 512
ROPE = 64
HEADS = 64
# Registers a thread at launch: 384 threads share 65,536, dealt out again by warp_specialize.
REGISTERS = 168


@gluon.jit
def _load_tiles(
    query,
    cache,
    q_buffers,
    kv_buffers,
    q_full,
    full,
    empty,
    sequence,
    head,
    first,
    tiles,
    BLOCK: gl.constexpr,
    STAGES: gl.constexpr,
    HALF: gl.constexpr,
    ROPE: gl.constexpr,
):
    """The producer: the query block once, then every tile's two halves as their buffers empty."""
    query_latent, query_rope = query
    cache_latent, cache_rope = cache
    q_left, q_right, q_rope = q_buffers
    kv_left, kv_right, kv_rope = kv_buffers

    mbarrier.expect(q_full, 64 * (2 * HALF + ROPE) * 2)
    tma.async_copy_global_to_shared(
        query_latent,
        [sequence, head, 0],
        q_full,
        q_left._reinterpret(query_latent.dtype, [1, 64, HALF], query_latent.layout),
    )
    tma.async_copy_global_to_shared(
        query_latent,
        [sequence, head, HALF],
        q_full,
        q_right._reinterpret(query_latent.dtype, [1, 64, HALF], query_latent.layout),
    )
    tma.async_copy_global_to_shared(
        query_rope,
        [sequence, head, 2 * HALF],
        q_full,
        q_rope._reinterpret(query_rope.dtype, [1, 64, ROPE], query_rope.layout),
    )
    half_bytes: gl.constexpr = BLOCK * HALF * 2
    rope_bytes: gl.constexpr = BLOCK * ROPE * 2
    for pair in range((tiles + 1) // 2):
        for owner in gl.static_range(2):
            tile = 2 * pair + owner
            if tile < tiles:
                stage = tile % STAGES
                phase = (tile // STAGES & 1) ^ 1
                token = first + tile * BLOCK
                for half in gl.static_range(2):
                    bar = full[half].index(stage)
                    mbarrier.wait(empty[half].index(stage), phase)
                    if half == owner:
                        mbarrier.expect(bar, half_bytes + rope_bytes)
                        rope = kv_rope.index(stage)._reinterpret(
                            cache_rope.dtype, [1, BLOCK, ROPE], cache_rope.layout
                        )
                        tma.async_copy_global_to_shared(
                            cache_rope, [sequence, token, 2 * HALF], bar, rope
                        )
                    else:
                        mbarrier.expect(bar, half_bytes)
                    kv = kv_left if half == 0 else kv_right
                    part = kv.index(stage)._reinterpret(
                        cache_latent.dtype, [1, BLOCK, HALF], cache_latent.layout
                    )
                    tma.async_copy_global_to_shared(
                        cache_latent, [sequence, token, half * HALF], bar, part
                    )


@gluon.jit
def _issue_scores(
    q_buffers,
    kv_buffers,
    full,
    tile,
    tiles,
    BLOCK: gl.constexpr,
    STAGES: gl.constexpr,
    S_LAYOUT: gl.constexpr,
):
    """Starts the three products that make one tile's raw scores [64, BLOCK].

    Past the last tile it multiplies whatever the buffer holds: a branch here would make ptxas
    wait for every product in flight.
    """
    q_left, q_right, q_rope = q_buffers
    kv_left, kv_right, kv_rope = kv_buffers
    stage = tile % STAGES
    phase = tile // STAGES & 1
    scores = gl.zeros([64, BLOCK], gl.float32, S_LAYOUT)
    mbarrier.wait(full[0].index(stage), phase, pred=tile < tiles)
    scores = warpgroup_mma(
        q_left, kv_left.index(stage).permute((1, 0)), scores, use_acc=False, is_async=True
    )
    mbarrier.wait(full[1].index(stage), phase, pred=tile < tiles)
    scores = warpgroup_mma(q_right, kv_right.index(stage).permute((1, 0)), scores, is_async=True)
    return warpgroup_mma(q_rope, kv_rope.index(stage).permute((1, 0)), scores, is_async=True)


@gluon.jit
def _mask(scores, left, log2_scale, BLOCK: gl.constexpr, S_LAYOUT: gl.constexpr):
    """Scores in log2 units, -inf from column `left` on."""
    column = gl.arange(0, BLOCK, gl.SliceLayout(0, S_LAYOUT))[None, :]
    return gl.where(column < left, scores * log2_scale, float("-inf"))


@gluon.jit
def _rescale(acc, factor, ACC_LAYOUT: gl.constexpr):
    return acc * gl.convert_layout(factor, gl.SliceLayout(1, ACC_LAYOUT))[:, None]


@gluon.jit
def _arrive(barrier):
    """Arrives once every warp of the warpgroup is here."""
    gl.thread_barrier()
    mbarrier.arrive(barrier, count=1)


@gluon.jit
def _attend(
    work,
    OWNER: gl.constexpr,
    BLOCK: gl.constexpr,
    STAGES: gl.constexpr,
    HALF: gl.constexpr,
):
    """Scores of every second tile, and one half of the output columns over all tiles.

    The other warpgroup does the other tiles and columns; reference peaks and probabilities go to
    and fro through shared memory in tile order, so one's softmax runs beside the other's matmuls.
    A reference peak moves only when a row's scores pass it by 8 (probabilities reach 2**8), which
    is rare: FlashAttention-4's way to leave the accumulator alone in nearly every step.
    """
    (
        q_buffers,
        kv_buffers,
        exchange,
        q_full,
        full,
        empty,
        p_ready,
        sum_ready,
        out,
        lse,
        sequence,
        head,
        heads,
        tiles,
        valid,
        log2_scale,
        split,
        splits,
    ) = work
    kv_left, kv_right, _ = kv_buffers
    p_buffers, peak_buffers, moved_buffers, sum_buffers = exchange
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK, 16])
    ACC_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, HALF, 16])
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, ACC_LAYOUT, 2)
    ROWS: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    ONE: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    values = kv_left if OWNER == 0 else kv_right
    OTHER: gl.constexpr = 1 - OWNER
    dtype: gl.constexpr = p_buffers[0].dtype

    acc = gl.zeros([64, HALF], gl.float32, ACC_LAYOUT)
    peak = gl.full([64], float("-inf"), gl.float32, ROWS)
    total = gl.zeros([64], gl.float32, ROWS)
    mbarrier.wait(q_full, 0)
    raw = _issue_scores(q_buffers, kv_buffers, full, OWNER, tiles, BLOCK, STAGES, S_LAYOUT)
    raw = warpgroup_mma_wait(0, deps=(raw,))

    if OWNER == 0:
        scores = _mask(raw, valid, log2_scale, BLOCK, S_LAYOUT)
        peak = gl.max(scores, axis=1)
        p = gl.exp2(scores - peak[:, None])
        total = gl.sum(p, axis=1)
        p16 = p.to(dtype)
        p_buffers[0].store(p16)
        peak_buffers[0].store(peak)
        moved_buffers[0].store(gl.full([1], 0, gl.int32, ONE))
        fence_async_shared()
        _arrive(p_ready[0])
        acc = warpgroup_mma(
            gl.convert_layout(p16, P_LAYOUT), values.index(0), acc, use_acc=False, is_async=True
        )
        raw = _issue_scores(q_buffers, kv_buffers, full, 2, tiles, BLOCK, STAGES, S_LAYOUT)
        acc = warpgroup_mma_wait(3, deps=(acc,))
        _arrive(empty[0].index(0))
        raw = warpgroup_mma_wait(0, deps=(raw,))

    first: gl.constexpr = 2 - OWNER
    for tile in range(first, tiles, 2):
        stage = tile % STAGES
        before = (tile - 1) % STAGES
        scores = _mask(raw, valid - tile * BLOCK, log2_scale, BLOCK, S_LAYOUT)
        tile_peak = gl.max(scores, axis=1)
        mbarrier.wait(full[OWNER].index(before), (tile - 1) // STAGES & 1)
        mbarrier.wait(p_ready[OTHER], (tile - 1) // 2 & 1)
        other_peak = peak_buffers[OTHER].load(ROWS)
        if gl.max(moved_buffers[OTHER].load(ONE), axis=0) != 0:
            factor = gl.exp2(peak - other_peak)
            total = total * factor
            acc = _rescale(acc, factor, ACC_LAYOUT)
        acc = warpgroup_mma(p_buffers[OTHER], values.index(before), acc, is_async=True)
        # The first step of the second warpgroup has no reference of its own yet: total is zero.
        peak = gl.where(tile_peak > other_peak + 8.0, tile_peak, other_peak)
        moved = gl.max((peak != other_peak).to(gl.int32), axis=0)
        p = gl.exp2(scores - peak[:, None])
        # The other warpgroup empties its half of tile - 2 once it has used these probabilities.
        mbarrier.wait(
            empty[OTHER].index((tile - 2) % STAGES), (tile - 2) // STAGES & 1, pred=tile >= 2
        )
        p16 = p.to(dtype)
        p_buffers[OWNER].store(p16)
        peak_buffers[OWNER].store(peak)
        moved_buffers[OWNER].store(gl.full([1], 0, gl.int32, ONE) + moved)
        fence_async_shared()
        _arrive(p_ready[OWNER])
        acc = warpgroup_mma_wait(0, deps=(acc,))
        _arrive(empty[OWNER].index(before))
        if moved != 0:
            factor = gl.exp2(other_peak - peak)
            total = total * factor
            acc = _rescale(acc, factor, ACC_LAYOUT)
        acc = warpgroup_mma(
            gl.convert_layout(p16, P_LAYOUT), values.index(stage), acc, is_async=True
        )
        raw = _issue_scores(q_buffers, kv_buffers, full, tile + 2, tiles, BLOCK, STAGES, S_LAYOUT)
        total += gl.sum(p, axis=1)
        acc = warpgroup_mma_wait(3, deps=(acc,))
        _arrive(empty[OWNER].index(stage))
        raw = warpgroup_mma_wait(0, deps=(raw,))

    if (tiles - 1) % 2 != OWNER:
        last = (tiles - 1) % STAGES
        mbarrier.wait(full[OWNER].index(last), (tiles - 1) // STAGES & 1)
        mbarrier.wait(p_ready[OTHER], (tiles - 1) // 2 & 1)
        other_peak = peak_buffers[OTHER].load(ROWS)
        factor = gl.exp2(peak - other_peak)
        total = total * factor
        acc = _rescale(acc, factor, ACC_LAYOUT)
        acc = warpgroup_mma(p_buffers[OTHER], values.index(last), acc, is_async=True)
        acc = warpgroup_mma_wait(0, deps=(acc,))
        peak = other_peak

    gdc_launch_dependents()
    sum_buffers[OWNER].store(total)
    _arrive(sum_ready[OWNER])
    mbarrier.wait(sum_ready[OTHER], 0)
    total = total + sum_buffers[OTHER].load(ROWS)
    acc = _rescale(acc, 1.0 / total, ACC_LAYOUT)

    # Both warpgroups are done with every tile here, so the buffers of this half can be reused.
    FLAT: gl.constexpr = gl.NVMMASharedLayout(128, out.dtype.primitive_bitwidth, 2)
    values._reinterpret(out.dtype, [64, HALF], FLAT).store(acc.to(out.dtype))
    staging = values._reinterpret(out.dtype, [1, 64, HALF], out.layout)
    fence_async_shared()
    gl.thread_barrier()
    tma.async_copy_shared_to_global(out, [sequence * splits + split, head, OWNER * HALF], staging)
    if OWNER == 0:
        row = head + gl.arange(0, 64, ROWS)
        place = (sequence * heads + row) * splits + split
        gl.store(lse + place, peak + gl.log2(total), mask=row < heads)
    tma.store_wait(0)


@gluon.jit
def _mla_split(
    query_latent,
    query_rope,
    cache_latent,
    cache_rope,
    out,
    lse,
    heads,
    tokens,
    splits,
    log2_scale,
    BLOCK: gl.constexpr,
    STAGES: gl.constexpr,
    HALF: gl.constexpr,
    ROPE: gl.constexpr,
):
    """One block of 64 heads of one sequence over one range of tokens."""
    program = gl.program_id(0)
    head_blocks = (heads + 63) // 64
    head = program % head_blocks * 64
    split = program // head_blocks % splits
    sequence = program // head_blocks // splits
    all_tiles = (tokens + BLOCK - 1) // BLOCK
    begin = all_tiles * split // splits
    tiles = all_tiles * (split + 1) // splits - begin
    first = begin * BLOCK

    dtype: gl.constexpr = cache_latent.dtype
    LAYOUT: gl.constexpr = gl.NVMMASharedLayout(128, 16, 2)
    PLAIN: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    P_LAYOUT: gl.constexpr = gl.NVMMASharedLayout(BLOCK * 2, 16, 2)
    BARRIER: gl.constexpr = mbarrier.MBarrierLayout()
    q_buffers = (
        gl.allocate_shared_memory(dtype, [64, HALF], LAYOUT),
        gl.allocate_shared_memory(dtype, [64, HALF], LAYOUT),
        gl.allocate_shared_memory(dtype, [64, ROPE], LAYOUT),
    )
    kv_buffers = (
        gl.allocate_shared_memory(dtype, [STAGES, BLOCK, HALF], LAYOUT),
        gl.allocate_shared_memory(dtype, [STAGES, BLOCK, HALF], LAYOUT),
        gl.allocate_shared_memory(dtype, [STAGES, BLOCK, ROPE], LAYOUT),
    )
    exchange = (
        (
            gl.allocate_shared_memory(dtype, [64, BLOCK], P_LAYOUT),
            gl.allocate_shared_memory(dtype, [64, BLOCK], P_LAYOUT),
        ),
        (
            gl.allocate_shared_memory(gl.float32, [64], PLAIN),
            gl.allocate_shared_memory(gl.float32, [64], PLAIN),
        ),
        (
            gl.allocate_shared_memory(gl.int32, [1], PLAIN),
            gl.allocate_shared_memory(gl.int32, [1], PLAIN),
        ),
        (
            gl.allocate_shared_memory(gl.float32, [64], PLAIN),
            gl.allocate_shared_memory(gl.float32, [64], PLAIN),
        ),
    )
    q_full = gl.allocate_shared_memory(gl.int64, [1], BARRIER)
    full = (
        gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER),
        gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER),
    )
    empty = (
        gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER),
        gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER),
    )
    p_ready = (
        gl.allocate_shared_memory(gl.int64, [1], BARRIER),
        gl.allocate_shared_memory(gl.int64, [1], BARRIER),
    )
    sum_ready = (
        gl.allocate_shared_memory(gl.int64, [1], BARRIER),
        gl.allocate_shared_memory(gl.int64, [1], BARRIER),
    )
    mbarrier.init(q_full, count=1)
    for half in gl.static_range(2):
        for stage in gl.static_range(STAGES):
            mbarrier.init(full[half].index(stage), count=1)
            mbarrier.init(empty[half].index(stage), count=1)
        mbarrier.init(p_ready[half], count=1)
        mbarrier.init(sum_ready[half], count=1)
    fence_async_shared()

    valid = tokens - first
    work = (
        q_buffers,
        kv_buffers,
        exchange,
        q_full,
        full,
        empty,
        p_ready,
        sum_ready,
        out,
        lse,
        sequence,
        head,
        heads,
        tiles,
        valid,
        log2_scale,
        split,
        splits,
    )
    gl.warp_specialize(
        [
            (_attend, (work, 0, BLOCK, STAGES, HALF)),
            (_attend, (work, 1, BLOCK, STAGES, HALF)),
            (
                _load_tiles,
                (
                    (query_latent, query_rope),
                    (cache_latent, cache_rope),
                    q_buffers,
                    kv_buffers,
                    q_full,
                    full,
                    empty,
                    sequence,
                    head,
                    first,
                    tiles,
                    BLOCK,
                    STAGES,
                    HALF,
                    ROPE,
                ),
            ),
        ],
        [4, 1],
        [240, 24],
    )


def supports(device: int, heads: int, latent: int, rope: int, dtype: torch.dtype) -> bool:
    """Whether `mla_decode` here takes this shape, and is the faster one (it is not to 16 heads).

    Gluon's interface changes from release to release, so only Triton 3.6 is accepted.
    """
    return (
        triton.__version__.startswith("3.6.")
        and torch.cuda.get_device_capability(device) == (9, 0)
        and heads > 16
        and (latent, rope) == (LATENT, ROPE)
        and dtype in (torch.bfloat16, torch.float16)
    )


def mla_decode(
    query: torch.Tensor, cache: torch.Tensor, value_width: int, scale: float
) -> torch.Tensor:
    """Absorbed latent attention of one token: query [B, H, 576] to cache [B, T, 576].

    Both contiguous, on the current device. The first 512 (`value_width`) columns of the cache are
    the values; returns [B, H, 512].
    """
    batch, heads, _ = query.shape
    tokens = cache.shape[1]
    half = value_width // 2
    programs = batch * triton.cdiv(heads, HEADS)
    splits = split_count(
        programs, triton.cdiv(tokens, TILE), card(query.device.index).multiprocessors, 6.0
    )
    out = torch.empty(batch, heads, value_width, dtype=query.dtype, device=query.device)
    partial = (
        out
        if splits == 1
        else torch.empty(
            batch * splits, heads, value_width, dtype=torch.float32, device=query.device
        )
    )
    lse = torch.empty(batch * heads, splits, dtype=torch.float32, device=query.device)
    swizzled = gl.NVMMASharedLayout(128, 16, 3)
    stored = gl.NVMMASharedLayout(128, 8 * partial.element_size(), 3)
    _mla_split[(programs * splits,)](
        TensorDescriptor.from_tensor(query, [1, HEADS, half], swizzled),
        TensorDescriptor.from_tensor(query, [1, HEADS, ROPE], swizzled),
        TensorDescriptor.from_tensor(cache, [1, TILE, half], swizzled),
        TensorDescriptor.from_tensor(cache, [1, TILE, ROPE], swizzled),
        TensorDescriptor.from_tensor(partial, [1, HEADS, half], stored),
        lse,
        heads,
        tokens,
        splits,
        scale * LOG2_E,
        TILE,
        STAGES,
        half,
        ROPE,
        num_warps=4,
        maxnreg=REGISTERS,
    )
    if splits > 1:
        merge_splits(partial.view(batch, splits, heads, value_width), lse, out, dependent=True)
    return out
