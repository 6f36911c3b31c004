"""Options that an engine reads, under vLLM's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvplan.cli.values import ENGINE, count, option
from kvplan.engines.json_options import read_mm_limits
from kvplan.engines.speculation import read_speculation
from kvplan.engines.versions import NONE, engine_version
from kvplan.engines.vllm.backend_names import parse_backend


def _engine(text: str) -> str:
    engine_version(text)
    return text


def _backend(text: str) -> str:
    parse_backend(text)
    return text


def _speculation(text: str) -> str:
    read_speculation(text)
    return text


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Whose accounting a plan follows, and how that server is started."""

    engine: Annotated[
        str,
        option(
            "--engine",
            metavar="ENGINE",
            read=_engine,
            panel=ENGINE,
            help_="Whose accounting: none is plain arithmetic, vllm the newest version known, "
            "vllm@0.33 that one; kvplan engines lists them.",
        ),
    ] = NONE
    attention_backend: Annotated[
        str | None,
        option(
            "--attention-backend",
            metavar="NAME",
            read=_backend,
            panel=ENGINE,
            help_="Attention backend: auto, FLASH_ATTN, FLASHINFER, FLASHMLA and so on.",
        ),
    ] = None
    block_size: Annotated[
        int | None,
        count("--block-size", panel=ENGINE, help_="Tokens of a block; the backend's own else."),
    ] = None
    enable_prefix_caching: Annotated[
        bool,
        typer.Option(
            "--enable-prefix-caching/--no-enable-prefix-caching",
            rich_help_panel=ENGINE,
            help="Keep blocks for prompts that begin alike.",
        ),
    ] = True
    disable_hybrid_kv_cache_manager: Annotated[
        bool,
        typer.Option(
            "--disable-hybrid-kv-cache-manager",
            rich_help_panel=ENGINE,
            help="Windows keep whole contexts.",
        ),
    ] = False
    max_num_batched_tokens: Annotated[
        int | None,
        count(
            "--max-num-batched-tokens",
            panel=ENGINE,
            help_="Tokens of a step; windows and activations grow with it.",
        ),
    ] = None
    speculative_config: Annotated[
        str | None,
        option(
            "--speculative-config",
            "-sc",
            metavar="JSON",
            read=_speculation,
            panel=ENGINE,
            help_="How tokens are drafted: method, model, num_speculative_tokens and so on.",
        ),
    ] = None
    num_speculative_tokens: Annotated[
        int | None,
        count(
            "--num-speculative-tokens",
            panel=ENGINE,
            help_="Tokens that are drafted, with --draft or --draft-model.",
        ),
    ] = None
    num_gpu_blocks_override: Annotated[
        int | None,
        count("--num-gpu-blocks-override", panel=ENGINE, help_="Blocks there are, outright."),
    ] = None
    enforce_eager: Annotated[
        bool,
        typer.Option("--enforce-eager", rich_help_panel=ENGINE, help="No CUDA graphs."),
    ] = False
    limit_mm_per_prompt: Annotated[
        str | None,
        option(
            "--limit-mm-per-prompt",
            metavar="JSON",
            read=read_mm_limits,
            panel=ENGINE,
            help_="The most images, videos and audios of a request.",
        ),
    ] = None
