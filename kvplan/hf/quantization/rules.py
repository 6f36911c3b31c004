"""Rules of a file about single modules: GPTQModel's ``dynamic``, AutoRound's ``extra_config``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvplan.hf import module_names as names
from kvplan.hf.blocks.base import Tensor
from kvplan.hf.config import Config, shown

_MAX_PATTERNS = 500


@dataclass(frozen=True)
class Rule:
    """Modules that a pattern fits: left alone, or with figures of their own."""

    text: str
    pattern: re.Pattern[str]
    own: Config | None
    """None: not quantised."""

    def fits(self, tensor: Tensor, layer: int) -> bool:
        """Whether it means this tensor on this layer, by any spelling of its name."""
        return any(map(self.pattern.match, names.spellings_in_layer(tensor, layer)))


@dataclass(frozen=True)
class Rules:
    """What a file says of single modules: by name, and else the first pattern that fits."""

    named: dict[str, Config]
    patterns: list[Rule]

    def of(self, tensor: Tensor, layer: int) -> tuple[bool, Config | None]:
        """Whether a rule means this tensor on this layer, and its figures; None leaves it alone."""
        for name in names.spellings_in_layer(tensor, layer):
            if name in self.named:
                return True, self.named[name]
        rule = next((rule for rule in self.patterns if rule.fits(tensor, layer)), None)
        return rule is not None, None if rule is None else rule.own

    def problem(self, tensors: list[Tensor]) -> str | None:
        """A rule about single experts, or one that fits nothing: it would be missed in silence."""
        texts = [*self.named, *(rule.text for rule in self.patterns)]
        single = next((text for text in texts if names.ONE_EXPERT.search(text)), None)
        if single is not None or len(self.patterns) > _MAX_PATTERNS:
            return f"{shown(single or 'a long list')} is about single experts or modules"
        places = [(t, layer) for t in tensors for layer in t.layers or (0,)]
        known = {
            name for tensor, layer in places for name in names.spellings_in_layer(tensor, layer)
        }
        lost = [name for name in self.named if name not in known]
        lost += [r.text for r in self.patterns if not any(r.fits(*place) for place in places)]
        lost = [name for name in lost if not names.OUTSIDE.search(name) and "lm_head" not in name]
        return f"{shown(lost[0])} fits no module known here" if lost else None
