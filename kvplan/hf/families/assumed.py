"""What ``--assume`` puts in the place of an architecture that is not known: caches, no weights."""

from __future__ import annotations

from kvplan.errors import UsageError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import OWN_WIDTH, decoder, uncounted
from kvplan.hf.families.latent import latent_decoder
from kvplan.hf.families.windows import always

_UNKNOWN = "no count of an architecture that is not known"


_ASSUMABLE = {
    "full_attention": decoder(OWN_WIDTH),
    "sliding_window": decoder(OWN_WIDTH, always),
    "mla": latent_decoder(None),
}


def assumed_family(kind: str) -> Family:
    """Every layer keeps this kind. Raises UsageError where none can be assumed."""
    if kind not in _ASSUMABLE:
        raise UsageError(f"--assume kind={kind} is not possible: {', '.join(_ASSUMABLE)} are")
    return Family(read=uncounted(_ASSUMABLE[kind], _UNKNOWN))
