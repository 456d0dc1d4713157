"""What a dataset is made of, and what is wrong with it."""

from __future__ import annotations

import base64
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tina_harness.data.load import CONTRADICTORY, Loaded, SetAside, problem_id
from tina_harness.grading import rules
from tina_harness.specs import Problem

# Upper ends of the bins of the length histogram, in characters.
BINS = (50, 100, 200, 400, 800, 1600, 3200)


@dataclass(frozen=True)
class Audit:
    """The findings about one dataset. Counts are rows unless they say otherwise.

    duplicates: rows with a readable gold whose problem an earlier one has. repeated: problems with more than
    one gold text; contradictions: those whose golds are not equal, which were set aside, as (problem, golds).
    lengths: problem length in characters -> rows, by BINS; kinds: of answers; scripts: writing systems.
    """

    name: str
    origin: str
    fingerprint: str
    rows: int
    usable: int
    set_aside: tuple[SetAside, ...]
    duplicates: int
    repeated: int
    contradictions: tuple[tuple[str, tuple[str, ...]], ...]
    lengths: dict[str, int]
    kinds: dict[str, int]
    scripts: dict[str, int]
    drawings: int

    @property
    def reasons(self) -> dict[str, int]:
        """Why rows were set aside -> rows."""
        return dict(Counter(s.reason.partition(":")[0] for s in self.set_aside).most_common())

    def table(self) -> list[dict[str, Any]]:
        """The findings as rows of a table."""
        found: list[tuple[str, Any]] = [
            ("rows", self.rows),
            ("usable", self.usable),
            *((f"set aside: {reason}", count) for reason, count in self.reasons.items()),
            ("duplicated problems", self.duplicates),
            ("problems with several golds", self.repeated),
            ("of which contradict each other", len(self.contradictions)),
            ("with a drawing ([asy])", self.drawings),
            *((f"answer: {kind}", count) for kind, count in self.kinds.items()),
            *((f"script: {script}", count) for script, count in self.scripts.items()),
            *((f"length: {size} characters", count) for size, count in self.lengths.items()),
        ]
        return [
            {"finding": name, "rows": count, "share": f"{count / max(1, self.rows):.1%}"}
            for name, count in found
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "origin": self.origin,
            "fingerprint": self.fingerprint,
            "rows": self.rows,
            "usable": self.usable,
            "set_aside": [s._asdict() for s in self.set_aside],
            "reasons": self.reasons,
            "duplicates": self.duplicates,
            "repeated": self.repeated,
            "contradictions": [{"problem": p, "golds": list(g)} for p, g in self.contradictions],
            "drawings": self.drawings,
            "kinds": self.kinds,
            "scripts": self.scripts,
            "lengths": self.lengths,
        }


def audit(name: str, loaded: Loaded) -> Audit:
    """Look at every row of a loaded dataset, those that were set aside for their contradictions too."""
    contradictory = [s for s in loaded.set_aside if s.reason.startswith(f"{CONTRADICTORY}:")]
    golds: dict[str, dict[str, None]] = {}
    for key, gold in [
        *((p.id, p.gold) for p in loaded.problems),
        *((problem_id(s.problem), s.gold) for s in contradictory),
    ]:
        golds.setdefault(key, {})[gold] = None
    texts = {problem_id(s.problem): s.problem for s in contradictory}
    everything = [*(p.problem for p in loaded.problems), *(s.problem for s in loaded.set_aside)]
    return Audit(
        name=name,
        origin=loaded.origin,
        fingerprint=loaded.fingerprint,
        rows=len(everything),
        usable=len(loaded.problems),
        set_aside=loaded.set_aside,
        duplicates=len(loaded.problems) + len(contradictory) - len(golds),
        repeated=sum(len(found) > 1 for found in golds.values()),
        contradictions=tuple((text, tuple(golds[key])) for key, text in texts.items()),
        lengths=_lengths(everything),
        kinds=dict(Counter(_kind(p) for p in loaded.problems).most_common()),
        scripts=dict(Counter(script(t) for t in everything).most_common()),
        drawings=sum("[asy]" in t for t in everything),
    )


def _kind(problem: Problem) -> str:
    """As its source says, or else as the gold tells."""
    return rules.kind_of(problem.gold) if problem.kind == "math" else problem.kind


def _lengths(texts: Sequence[str]) -> dict[str, int]:
    names = [f"up to {end}" for end in BINS] + [f"over {BINS[-1]}"]
    counts = Counter(sum(len(t) > end for end in BINS) for t in texts)
    return {name: counts[place] for place, name in enumerate(names)}


def script(text: str) -> str:
    """The writing system of most letters: "Latin", "CJK", "Cyrillic", ...; "none" without letters."""
    if text.isascii():
        return "Latin" if any(c.isalpha() for c in text) else "none"
    letters = Counter(unicodedata.name(c, "?").split()[0].title() for c in text[:2000] if c.isalpha())
    found = letters.most_common(1)[0][0] if letters else "none"
    return {"Cjk": "CJK", "Hiragana": "Japanese", "Katakana": "Japanese"}.get(found, found)


def page(found: Audit) -> str:
    """The findings as one HTML page, with the histogram of lengths; nothing of the data is trusted."""
    from jinja2 import Environment

    return Environment(autoescape=True).from_string(_PAGE).render(audit=found, plot=_histogram(found))


def _histogram(found: Audit) -> str:
    """A PNG, base64."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(list(found.lengths), list(found.lengths.values()), color="0.4")
    axes.set_xlabel("problem length, characters")
    axes.set_ylabel("rows")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ audit.name }}: audit</title>
<style>
body { font: 15px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse }
td, th { padding: .15em .8em; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
td.n { text-align: right }
code { white-space: pre-wrap }
</style>
<h1>{{ audit.name }}</h1>
<p>{{ audit.rows }} rows from {{ audit.origin }}, {{ audit.usable }} usable;
fingerprint {{ audit.fingerprint }}</p>
<table><tr><th>finding<th>rows<th>share</tr>
{% for row in audit.table() %}
<tr><td>{{ row.finding }}<td class="n">{{ row.rows }}<td class="n">{{ row.share }}</tr>
{% endfor %}</table>
<p><img alt="problem lengths" src="data:image/png;base64,{{ plot }}"></p>
<h2>Contradictions</h2>
<table>{% for problem, golds in audit.contradictions %}
<tr><td><code>{{ problem }}</code><td>{% for gold in golds %}<code>{{ gold }}</code><br>{% endfor %}</tr>
{% else %}<tr><td>none</tr>{% endfor %}</table>
<h2>Set aside</h2>
<table>{% for row in audit.set_aside %}
<tr><td class="n">{{ row.row }}<td>{{ row.reason }}<td><code>{{ row.gold }}</code>
<td><code>{{ row.problem[:300] }}</code></tr>
{% else %}<tr><td>none</tr>{% endfor %}</table></html>
"""
