"""What the class named in ``architectures`` says: whose layers they are, and what follows them.

A class is a model's name and a task: ``LlamaForSequenceClassification`` is Llama's layers with a
score for each label in the place of the output head. A task that is not listed is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kvplan.hf.blocks.base import TOWERS, Tensor, Tensors, linear
from kvplan.hf.config import Config, UncountedError

_PART = "lm_head"
_DEFAULT_LABELS = 2
"""``num_labels`` of a file that names no labels: PreTrainedConfig (transformers 5.24.0)."""

HeadReader = Callable[[Config, int], Tensors]
"""Tensors in the place of the output head, of a file and a hidden size. Raises UncountedError."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a class has after its model's layers.

    ``head`` is None where that is the language model's own head. ``left_out`` are parts of the
    whole model that the class has not, ``says`` what every answer has to say of it.
    """

    head: HeadReader | None = None
    left_out: tuple[str, ...] = ()
    says: str = ""


def label_count(config: Config) -> tuple[int, str]:
    """Labels of a classifier, and the key that says so; the file's own level goes first.

    Raises UncountedError where ``id2label`` and ``num_labels`` differ.
    """
    levels = [config] if config.outer is None else [config.outer, config]
    for level in levels:
        names: Any = level.raw.get("id2label")
        level.ignore("id2label", "label2id", "num_labels")
        number = level.maybe("num_labels")
        if names is None and number is None:
            continue
        if names is None:
            return int(number or 0), level.name("num_labels")
        labels = level.expect("id2label", names, dict, "an object")
        if not labels or number not in (None, len(labels)):
            raise UncountedError(f"{level.name('id2label')} and num_labels contradict each other")
        return len(labels), level.name("id2label")
    source = "no id2label or num_labels: the default of PreTrainedConfig (transformers 5.24.0)"
    return _DEFAULT_LABELS, source


def _score(config: Config, hidden: int) -> Tensors:
    """One row a label: GenericForSequenceClassification, and the families' own classes."""
    # OPTForSequenceClassification scores vectors as narrow as the embedding.
    seen = config.maybe("word_embed_proj_dim") or hidden
    yield from linear(_PART, "score", label_count(config)[0], seen)


def _token_score(config: Config, hidden: int) -> Tensors:
    """The same with a bias (GenericForTokenClassification; ``classifier`` in older classes)."""
    bias = config.flag("token_classification_bias", default=True)
    yield from linear(_PART, "score", label_count(config)[0], hidden, bias=bias)


def _span(_: Config, hidden: int) -> Tensors:
    """Begin and end of an answer (GenericForQuestionAnswering)."""
    yield from linear(_PART, "qa_outputs", 2, hidden, bias=True)


def _nothing(_: Config, __: int) -> Tensors:
    yield from ()


def _two_layers(labels: int) -> HeadReader:
    """A hidden layer and a score (vLLM 0.33.0 model_executor/models/qwen2_rm.py:51)."""

    def read(_: Config, hidden: int) -> Tensors:
        yield from linear(_PART, "score.0", hidden, hidden, bias=True)
        yield from linear(_PART, "score.2", labels, hidden, bias=True)

    return read


def _value(_: Config, hidden: int) -> Tensors:
    """One score (vLLM 0.33.0 model_executor/models/internlm2.py:413)."""
    yield from linear(_PART, "v_head", 1, hidden)


def _unknown_head(task: str) -> HeadReader:
    def read(_: Config, __: int) -> Tensors:
        raise UncountedError(
            f"the head of a class that ends in {task} is not known for this family"
        )

    return read


LANGUAGE_MODEL = Task()
_REWARD = "a reward model: its head scores an answer, and it generates none"
_EMBEDS = "an embedding model, which generates nothing; the cache is that of its layers"

TASKS = {
    "ForCausalLM": LANGUAGE_MODEL,
    "ForConditionalGeneration": LANGUAGE_MODEL,
    "ForImageTextToText": LANGUAGE_MODEL,
    "LMHeadModel": LANGUAGE_MODEL,
    "ForSequenceClassification": Task(
        head=_score, says="a classifier: a score for each label in the place of the output head"
    ),
    "ForTokenClassification": Task(
        head=_token_score,
        says="a classifier of tokens: a score for each label in the place of the output head",
    ),
    "ForQuestionAnswering": Task(
        head=_span, says="a finder of answers: two rows in the place of the output head"
    ),
    "ForRewardModel": Task(head=_unknown_head("ForRewardModel"), says=_REWARD),
    "ForProcessRewardModel": Task(head=_unknown_head("ForProcessRewardModel"), says=_REWARD),
    "ForRetrieval": Task(head=_unknown_head("ForRetrieval"), says=_EMBEDS),
    "ForEmbedding": Task(head=_unknown_head("ForEmbedding"), says=_EMBEDS),
    "ForTextEmbedding": Task(head=_unknown_head("ForTextEmbedding"), says=_EMBEDS),
    "Model": Task(
        head=_nothing,
        says="a model without an output head: none is counted, the cache is that of its layers",
    ),
}
"""By the end of the class's name; the longest that fits counts."""

_TEXT_ALONE = Task(
    left_out=TOWERS, says="the language model alone: no tower is counted, whatever the file has"
)

CLASSES = {
    # These have their output head all the same.
    "ChatGLMModel": LANGUAGE_MODEL,  # vLLM 0.33.0 registry.py:86
    "AquilaModel": LANGUAGE_MODEL,  # vLLM 0.23.0 registry.py, as LlamaForCausalLM
    "IdeficsForVisionText2Text": LANGUAGE_MODEL,  # transformers 5.24.0 modeling_auto.py
    "OpenVLAForActionPrediction": LANGUAGE_MODEL,  # vLLM 0.33.0 registry.py
    "Phi4ForCausalLMV": LANGUAGE_MODEL,  # vLLM 0.33.0 registry.py
    "Qwen2_5OmniModel": LANGUAGE_MODEL,  # vLLM 0.33.0 registry.py, _MULTIMODAL_MODELS
    "Qwen2ForRewardModel": Task(head=_two_layers(1), says=_REWARD),
    "Qwen2ForProcessRewardModel": Task(head=_two_layers(2), says=_REWARD),
    "InternLM2ForRewardModel": Task(head=_value, says=_REWARD),
    # Text classes of transformers 5.24.0 beside a ForConditionalGeneration of the same name.
    "Gemma3ForCausalLM": _TEXT_ALONE,
    "Gemma3nForCausalLM": _TEXT_ALONE,
    "Gemma4ForCausalLM": _TEXT_ALONE,
    "Gemma4UnifiedForCausalLM": _TEXT_ALONE,
    "Llama4ForCausalLM": _TEXT_ALONE,
    "MllamaForCausalLM": _TEXT_ALONE,
    "Qwen3_5ForCausalLM": _TEXT_ALONE,
    "Qwen3_5MoeForCausalLM": _TEXT_ALONE,
    "WhisperForCausalLM": Task(
        left_out=("audio",),
        says="a decoder alone: no encoder is counted, but what attention to its frames keeps is",
    ),
}
"""Classes that are not what their ending says of others, or that say more."""

_ENDING = re.compile(r"(For[A-Z]\w*|LMHeadModel|Model)$")


@dataclass(frozen=True)
class ClassName:
    """A class of ``architectures``: the model's name in small letters, and the task's ending."""

    name: str
    stem: str
    ending: str

    @property
    def task(self) -> Task | None:
        """What the class has after the layers; None where its ending is not known."""
        if self.name in CLASSES:
            return CLASSES[self.name]
        # InternVLChatModel, H2OVLChatModel: their own code has the whole language model inside.
        whole = not self.ending or self.name.endswith("ChatModel")
        return LANGUAGE_MODEL if whole else TASKS.get(self.ending)


def class_name(name: str) -> ClassName:
    """The parts of a class's name."""
    match = _ENDING.search(name)
    ending = match[0] if match else ""
    return ClassName(name, plain(name.removesuffix(ending)), ending)


def plain(name: str) -> str:
    """Letters and digits alone, small: qwen2_5_vl and Qwen2_5_VL are one name."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def names_model(name: ClassName, model_type: str, classes: Sequence[str]) -> bool:
    """Whether this is a class of the model type, or of one of the rows' own ``classes``."""
    own = plain(model_type)
    known = {
        own,
        own.removesuffix("text"),
        *classes,
        *(other.removesuffix("lmhead") for other in classes),
    }
    return name.stem in known or plain(name.name) in classes


def task_tensors(
    task: Task, tensors: Sequence[Tensor], config: Config, hidden: int
) -> list[Tensor]:
    """The tensors of a whole language model as this class has them. Raises UncountedError."""
    kept = [tensor for tensor in tensors if tensor.part not in task.left_out]
    if task.head is None:
        return kept
    return [*(tensor for tensor in kept if tensor.part != _PART), *task.head(config, hidden)]


def task_notes(name: str, task: Task, config: Config) -> tuple[str, ...]:
    """What has to be said of this class with every answer."""
    notes = [f"{name} is {task.says}"] if task.says else []
    if task.head in (_score, _token_score):
        try:
            count, source = label_count(config)
        except UncountedError:
            return tuple(notes)
        notes.append(f"labels of its head: {count:,} ({source})")
    return tuple(notes)
