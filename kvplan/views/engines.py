"""What ``kvplan engines`` answers."""

from __future__ import annotations

from operator import attrgetter

from kvplan.engines.settings import options_of
from kvplan.engines.versions import ENGINE_VERSIONS, EngineVersion
from kvplan.report import NOTHING, Field, Note, Report, records, table


def engines_report() -> Report:
    """Engines and their versions: what each answers, and the options that only it reads."""
    listed = records(_FIELDS, ENGINE_VERSIONS)
    return Report(
        command="engines",
        inputs={},
        payload={"engines": listed},
        records=listed,
        tables=(table("Engines", _FIELDS, ENGINE_VERSIONS),),
        notes=(
            Note(
                "versions",
                "--engine NAME is the newest version that is listed, --engine NAME@VERSION that "
                "one; versions that are not listed are refused, as their rules are not known",
            ),
        ),
    )


def _versions(row: EngineVersion) -> str:
    if row.since is not None:
        return f"{row.since} to {row.version}"
    return row.version or NOTHING


_FIELDS: tuple[Field[EngineVersion], ...] = (
    Field("engine", attrgetter("full_name"), "--engine", align="left"),
    Field("name", attrgetter("name")),
    Field("version", attrgetter("version"), "Versions", _versions, "left"),
    Field("since", attrgetter("since")),
    Field(
        "answers",
        lambda row: list(row.answers),
        "Answers",
        lambda row: "; ".join(row.answers),
        "left",
    ),
    Field("options", lambda row: list(options_of(row))),
)
