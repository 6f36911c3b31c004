"""Measurements on a device, by torch."""

from __future__ import annotations

import warnings

from kvplan.errors import MeasurementError


def require_torch() -> None:
    """Load torch. Raises MeasurementError where it is missing or broken."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy, which nothing here needs, may be missing
            import torch  # noqa: F401
    except ModuleNotFoundError as error:
        hint = "pip install 'kvplan[measure]'"
        raise MeasurementError(f"kvplan measure needs {error.name}", hint) from None
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise MeasurementError(f"torch cannot be loaded: {reason}") from None
