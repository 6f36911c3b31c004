"""``--speculative-config`` as vLLM 0.33.0's config/speculative.py takes it."""

from __future__ import annotations

from typing import Any

import pytest

from kvplan.engines.speculation import read_speculation
from kvplan.errors import KvplanError, RefusedError, UsageError
from kvplan.question import ask


@pytest.mark.parametrize(
    ("given", "drafter", "tokens"),
    [
        ('{"method": "mtp", "num_speculative_tokens": 1}', "layers", 1),
        ({"method": "deepseek_mtp"}, "layers", None),
        ({"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3}, "none", 4),
        ({"model": "[ngram]", "num_speculative_tokens": 4}, "none", 4),
        # suffix_decoding_max_tree_depth is its number of tokens, 24 unless it is given
        ({"method": "suffix"}, "none", 24),
        ({"method": "suffix", "suffix_decoding_max_tree_depth": 9}, "none", 9),
        ({"method": "eagle3", "model": "x", "num_speculative_tokens": 3}, "model", 3),
        ({"model": "x", "num_speculative_tokens": 3, "method": None}, None, 3),
    ],
)
def test_who_drafts_and_how_many_tokens(given: Any, drafter: str, tokens: int) -> None:
    said = read_speculation(given)
    assert (said.drafter, said.num_speculative_tokens) == (drafter, tokens)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ("mtp", UsageError, "not JSON"),
        ('{"method": "mtp", "method": "ngram"}', UsageError, "given twice"),
        ("[]", UsageError, "an object of JSON"),
        ("{}", UsageError, "needs a model"),
        ({"method": "eagle3"}, UsageError, "method eagle3 needs a model"),
        ({"method": "egle3", "model": "x"}, UsageError, "no method 'egle3'"),
        ({"metod": "mtp"}, UsageError, "no key 'metod'"),
        ({"method": "mtp", "num_speculative_tokens": 0}, UsageError, "num_speculative_tokens"),
        ({"method": "mtp", "num_speculative_tokens": True}, UsageError, "num_speculative_tokens"),
        ({"method": 7}, UsageError, "has to be a name"),
        ({"method": "custom_class"}, RefusedError, "custom_class"),
        ({"method": "mtp", "quantization": "fp8"}, RefusedError, "what quantization changes"),
    ],
)
def test_what_is_not_understood_is_said(given: Any, kind: type[KvplanError], words: str) -> None:
    with pytest.raises(kind, match=words):
        read_speculation(given)


def test_it_fills_in_what_a_question_asks_of_a_drafter() -> None:
    config = {"method": "mtp", "num_speculative_tokens": 2}
    question = ask(["deepseek-v3"], engine="vllm", speculative_config=config)
    assert (question.draft, question.num_speculative_tokens) == (True, 2)
    own = {"model": "deepseek-ai/DeepSeek-V3", "num_speculative_tokens": 1}
    assert ask(["deepseek-v3"], engine="vllm", speculative_config=own).draft
    second = {"model": "llama3.2-1b", "num_speculative_tokens": 3, "kv_cache_dtype": "fp8"}
    question = ask(["llama3.3-70b"], engine="vllm", speculative_config=second)
    assert question.draft_model is not None
    assert (question.draft_model.name, question.draft) == ("llama3.2-1b", False)
    assert (question.draft_kv_cache_dtype, question.num_speculative_tokens) == ("fp8", 3)


def test_the_number_is_that_of_the_models_own_layers() -> None:
    """DeepSeek-V3's config.json has num_nextn_predict_layers 1, vLLM's n_predict."""
    assert ask(["deepseek-v3"], engine="vllm", draft=True).num_speculative_tokens == 1
    assert ask(["deepseek-v3"], draft=True).num_speculative_tokens is None
    with pytest.raises(UsageError, match="num_speculative_tokens is needed"):
        ask(["llama3.3-70b"], engine="vllm", draft_model="llama3.2-1b")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draft": True}, "speculative_config and draft say the same twice"),
        ({"draft_model": "gpt2"}, "speculative_config and draft_model say"),
        ({"num_speculative_tokens": 2}, "speculative_config and num_speculative_tokens say"),
        ({"engine": "none"}, "speculative_config needs engine vllm"),
    ],
)
def test_one_thing_is_said_once(options: dict[str, Any], words: str) -> None:
    asked: dict[str, Any] = {"engine": "vllm", **options}
    with pytest.raises(UsageError, match=words):
        ask(["deepseek-v3"], speculative_config={"method": "mtp"}, **asked)


def test_layers_of_another_model_are_not_counted() -> None:
    config = {"method": "mtp", "model": "deepseek-v2", "num_speculative_tokens": 1}
    with pytest.raises(RefusedError, match="MTP layers are counted in their own model"):
        ask(["deepseek-v3"], engine="vllm", speculative_config=config)
