"""Templates to text: one environment, autoescaping everything, missing names are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from opsq.web import words
from opsq.web.assets import Assets
from opsq.web.changes import marks
from opsq.web.charts_data import table
from opsq.web.view_common import Places

TEMPLATE_DIR = Path(__file__).parent / "templates"


class Renderer:
    """Writes pages and regions. Thread: any."""

    def __init__(self, assets: Assets, places: Places) -> None:
        self._env = Environment(
            loader=FileSystemLoader(TEMPLATE_DIR),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._env.filters.update(
            age=_age, clock=words.clock, clock_seconds=words.clock_seconds, cut=words.cut, duration=words.duration,
            full_time=words.full_time, iso=words.iso, sentence=_sentence,
        )  # fmt: skip
        self._env.globals["asset"] = lambda name: places.to("/static/" + assets.hashed(name))
        self._env.globals.update(marks=marks, data_table=table)
        # One module for all pages: an import in every region would build it again for every row.
        self._env.globals["p"] = self._env.get_template("parts.html").module

    def write(self, template: str, context: dict[str, Any]) -> str:
        """Write one template. context: ``shell``, ``view`` and ``now`` as the template needs them."""
        return self._env.get_template(template).render(context)


def _age(at: float, now: float) -> str:
    return words.age(max(0.0, now - at))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
