r"""Our own rules, which decide before math-verify is asked.

They read what most golds are (numbers with units, percent signs or bases, text, letters, intervals, and
lists of these) exactly, in linear time and in the caller's process, and say None where symbolic
comparison has to decide. Each is there because math-verify 0.5.2 or 0.9.0 was measured to be wrong,
or unable to answer, without it; `docs/grading.md` has the table.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from tina_harness.grading.extract import boxed

# Raised when a verdict may change: results of different versions are not compared, and samples are graded
# again. tests/test_pins.py fails where these sources change, until that was decided.
VERSION = 1

KINDS = (
    "math",
    "number",
    "expression",
    "interval",
    "set",
    "tuple",
    "equation",
    "matrix",
    "text",
    "choice",
)


class Number(NamedTuple):
    """value: exact. rounded: written with a decimal point. unit: see UNITS, "" for none.

    base: of a subscript such as `1011_2`, with its digits. name: of `x = 5`.
    """

    value: Fraction
    rounded: bool = False
    unit: str = ""
    base: str = ""
    digits: str = ""
    name: str = ""

    def __str__(self) -> str:
        written = f"{self.digits}_{self.base}" if self.base else str(self.value)
        named = f"{self.name} = {written}" if self.name else written
        return f"{named} {self.unit}".strip()


class Text(NamedTuple):
    """Words, folded: lower case, letters and digits only."""

    folded: str

    def __str__(self) -> str:
        return f"text '{self.folded}'"


class Letter(NamedTuple):
    """A lone capital, such as the option of a multiple-choice question."""

    letter: str

    def __str__(self) -> str:
        return f"letter {self.letter}"


class Interval(NamedTuple):
    """low, high: None where unbounded."""

    low: Fraction | None
    high: Fraction | None
    low_closed: bool
    high_closed: bool

    def __str__(self) -> str:
        low = "-oo" if self.low is None else str(self.low)
        high = "oo" if self.high is None else str(self.high)
        return f"{'[' if self.low_closed else '('}{low}, {high}{']' if self.high_closed else ')'}"


class Several(NamedTuple):
    """A list. brackets: "()", "{}", "[]" or "" as written; union: joined by a cup or by "or"."""

    items: tuple[Form | None, ...]
    brackets: str
    union: bool = False

    def __str__(self) -> str:
        opening, closing = (self.brackets or "<>")[0], (self.brackets or "<>")[1]
        return opening + ", ".join("?" if i is None else str(i) for i in self.items) + closing


Form = Number | Text | Letter | Interval | Several


class Ruling(NamedTuple):
    """same: None where these rules cannot say. rule: what decided, in words."""

    same: bool | None
    rule: str


UNDECIDED = Ruling(None, "")

# unit -> (dimension, size). Conversion within a dimension is exact; money and angles are units too.
_SIZES = {
    "length": "m 1 meter 1 metre 1 cm 1/100 centimeter 1/100 centimetre 1/100 mm 1/1000 millimeter 1/1000 "
    "km 1000 kilometer 1000 kilometre 1000 in 127/5000 inch 127/5000 inche 127/5000 ft 381/1250 "
    "foot 381/1250 feet 381/1250 yd 1143/1250 yard 1143/1250 mile 201168/125 mi 201168/125",
    "mass": "g 1 gram 1 kg 1000 kilogram 1000 mg 1/1000 lb 45359237/100000 pound 45359237/100000 "
    "oz 45359237/1600000 ounce 45359237/1600000 ton 1000000 tonne 1000000",
    "time": "s 1 sec 1 second 1 min 60 minute 60 h 3600 hr 3600 hour 3600 day 86400 week 604800",
    "volume": "l 1 liter 1 litre 1 ml 1/1000 milliliter 1/1000",
    "money": "$ 1 dollar 1 usd 1 cent 1/100 ¢ 1/100",
    "angle": "° 1 degree 1 deg 1 rad 0 radian 0",
    "euro": "€ 1 euro 1",
    "sterling": "£ 1",
}
UNITS: dict[str, tuple[str, Fraction]] = {
    name: (dimension, Fraction(size))
    for dimension, table in _SIZES.items()
    for name, size in zip(table.split()[::2], table.split()[1::2], strict=True)
}

LONGEST = 2000  # characters of an answer or gold that is read at all
_DIGITS = 1000  # digits of a number that is read here


def compare(gold: str, answer: str, kind: str = "math") -> Ruling:
    """Whether an answer equals a gold, where that can be told without symbolic work. Total on any text."""
    if kind == "choice":
        return _letters(gold, answer)
    left, right = read(gold), read(answer)
    if kind == "text":
        return Ruling(_fold(gold) == _fold(answer), "text, letter case and punctuation aside")
    if kind == "equation" and "=" not in answer:
        return Ruling(False, "an equation is asked for")
    if compact(gold) == compact(answer) and left is not None:
        return Ruling(True, "the same text")
    if left is None or right is None:
        return _structure(gold, answer, left, right)
    return _forms(_as_kind(left, kind), _as_kind(right, kind), kind)


def _as_kind(form: Form, kind: str) -> Form:
    """With kind "interval", a pair in brackets is an interval: open in parentheses, else closed."""
    if kind != "interval" or not isinstance(form, Several) or len(form.items) != 2:
        return form
    ends = [i.value for i in form.items if isinstance(i, Number)]
    if len(ends) != 2 or form.brackets not in ("()", "[]"):
        return form
    closed = form.brackets == "[]"
    return Interval(ends[0], ends[1], closed, closed)


def _forms(gold: Form, answer: Form, kind: str) -> Ruling:
    if isinstance(gold, Number) and isinstance(answer, Number):
        return _numbers(gold, answer)
    if isinstance(gold, Text | Letter) or isinstance(answer, Text | Letter):
        return Ruling(_folded(gold) == _folded(answer), "text, letter case and punctuation aside")
    if isinstance(gold, Several) and isinstance(answer, Several):
        return _lists(gold, answer, kind)
    if isinstance(gold, Number) and isinstance(answer, Several):
        one = answer.brackets != "()" and all(i and _forms(gold, i, kind).same for i in answer.items)
        rule = "a list that says one value several times" if one else "a list where one value is asked for"
        return Ruling(one, rule)
    if isinstance(gold, Interval) or isinstance(answer, Interval):
        ends = "interval" if kind != "tuple" else kind
        return Ruling(_as_kind(gold, ends) == _as_kind(answer, ends), "intervals, end by end")
    return Ruling(False, "different kinds of answer")


def _folded(form: Form) -> str:
    if isinstance(form, Text):
        return form.folded
    return form.letter.lower() if isinstance(form, Letter) else f"\0{form}"


def _numbers(gold: Number, answer: Number) -> Ruling:
    if gold.base or answer.base:
        if gold.base and answer.base and gold.base != answer.base:
            return Ruling(False, f"base {gold.base} is not base {answer.base}")
        return Ruling(gold.digits.lstrip("0") == answer.digits.lstrip("0"), "digits in a base")
    if gold.name and answer.name and gold.name != answer.name:
        return Ruling(False, f"{gold.name} is asked for, not {answer.name}")
    if gold.unit == answer.unit:
        return Ruling(close(gold, answer), "exact arithmetic")
    if "%" in (gold.unit, answer.unit):
        return _percent(gold, answer)
    left, right = _size(gold.unit), _size(answer.unit)
    if left and right and left[1] and right[1]:
        if left[0] != right[0]:
            return Ruling(False, f"{gold.unit} is not {answer.unit}")
        scaled = Number(gold.value * left[1], gold.rounded), Number(answer.value * right[1], answer.rounded)
        return Ruling(close(*scaled), f"{gold.unit} as {answer.unit}")
    if left and right:  # degrees against radians need pi
        return Ruling(False, f"{gold.unit} is not {answer.unit}")
    return Ruling(close(gold, answer), "exact arithmetic; a unit that one side leaves out does not count")


def _percent(gold: Number, answer: Number) -> Ruling:
    """50% is 1/2; and 50 where the sign was left out, as a unit would be."""
    if (gold.unit and gold.unit != "%") or (answer.unit and answer.unit != "%"):
        return Ruling(False, "a percentage is not a quantity with a unit")
    hundredth = Fraction(1, 100)
    exact = (
        Number(gold.value * (hundredth if gold.unit else 1), gold.rounded),
        Number(answer.value * (hundredth if answer.unit else 1), answer.rounded),
    )
    if close(*exact):
        return Ruling(True, "a percentage as a fraction")
    dropped = gold.unit == "%" or abs(gold.value) >= 1
    return Ruling(dropped and close(gold, answer), "a percentage; its sign may be left out")


def close(gold: Number, answer: Number) -> bool:
    """Exact equality, or to six decimals (and four digits) where one side was written with a point."""
    difference = abs(gold.value - answer.value)
    if difference == 0:
        return True
    if not (gold.rounded or answer.rounded) or (not gold.value or not answer.value):
        return False
    return difference <= min(Fraction(1, 2_000_000), abs(gold.value) / 10_000)


def _lists(gold: Several, answer: Several, kind: str) -> Ruling:
    if gold.union or answer.union:
        if not all(isinstance(i, Interval) for i in (*gold.items, *answer.items)):
            return UNDECIDED
        return Ruling(set(gold.items) == set(answer.items), "unions of intervals")
    if None in gold.items or None in answer.items:
        if len(answer.items) != len(gold.items) and None not in gold.items:
            return Ruling(False, f"{len(answer.items)} values where {len(gold.items)} are asked for")
        return UNDECIDED
    both = {gold.brackets, answer.brackets}
    if "[]" in both and len(both) == 2 and "" not in both:
        return Ruling(False, "different brackets")
    pairs = [(g, a) for g in gold.items if g for a in answer.items if a]
    ordered = kind == "tuple" or (kind != "set" and "()" in (gold.brackets, answer.brackets))
    if ordered or len(pairs) > 10_000:
        same = len(gold.items) == len(answer.items) and all(
            _forms(g, a, "math").same for g, a in zip(gold.items, answer.items, strict=True) if g and a
        )
        return Ruling(same, "tuples, item by item")
    hit = [(g, a) for g, a in pairs if _forms(g, a, "math").same]
    same = {id(g) for g, _ in hit} == {id(g) for g in gold.items} and {id(a) for _, a in hit} == {
        id(a) for a in answer.items
    }
    return Ruling(same, "lists, in any order")


def _structure(gold: str, answer: str, left: Form | None, right: Form | None) -> Ruling:
    """What can still be told where one side is an expression."""
    if isinstance(left, Text | Letter):
        if isinstance(left, Letter) and compact(answer).lower() == left.letter.lower():
            return Ruling(True, "the same letter")
        return Ruling(_fold(gold) == _fold(answer), "text, letter case and punctuation aside")
    if isinstance(right, Text) and left is not None:
        return Ruling(False, "text where a value is asked for")
    relation = re.search(r"[<>]|\\(?:[lg]e|in|cup)", gold)
    if not relation and len(split(answer)[0]) > 1 and len(split(gold)[0]) == 1:
        return Ruling(False, "a list where one value is asked for")
    mine, theirs = _size(split_unit(gold)[1]), _size(split_unit(answer)[1])
    if mine and theirs and mine[0] != theirs[0]:
        return Ruling(False, f"{split_unit(gold)[1]} is not {split_unit(answer)[1]}")
    return UNDECIDED


# ---------------------------------------------------------------------------------------------------------
# Reading


@lru_cache(maxsize=4096)
def read(text: str) -> Form | None:
    """What a gold or an answer says, where these rules can read it."""
    if len(text) > LONGEST:
        return None
    return _read(clean(text))


def _read(text: str) -> Form | None:
    if not text:
        return None
    if number := _number(text):
        return number
    if letter := re.fullmatch(r"\\text\{ ?\(?([A-Z])\)?\.? ?\}|\(?([A-Z])\)?\.?", text):
        return Letter(letter.group(1) or letter.group(2))
    if interval := _interval(text):
        return interval
    if words := _words(text):
        return words
    return _several(text)


def _several(text: str) -> Form | None:
    items, brackets, union = _split(text)
    if len(items) == 1:
        if brackets == "()" and items[0] != text:
            return _read(items[0])
        if brackets == "{}" and items[0] != text:
            return Several((_read(items[0]),), brackets)
        return None
    if not items or len(items) > 200:
        return None
    forms = tuple(_read(i) for i in items)
    if not union and all(isinstance(f, Text) for f in forms if f) and None not in forms:
        return Text(_fold(text))
    return Several(forms, brackets, union)


def clean(text: str) -> str:
    """One spelling for what LaTeX can spell in many ways, without a change of meaning."""
    text = text.strip()
    if "\\boxed" in text or "\\fbox" in text:
        found = boxed(text)
        text = ", ".join(found) if found else text
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u2060\ufeff\ud800-\udfff]", "", text)
    for spelling, meaning in _SPELLINGS:
        text = re.sub(spelling, meaning, text)
    text = _unwrapped(text)
    if _grouped(text):
        text = re.sub(r"(?<=[0-9])[, ](?=[0-9]{3}(?![0-9]))", "", text)
    text = _GROUPED_PART.sub(lambda m: m.group().replace(",", ""), text)
    return re.sub(r" +", " ", text).strip(" ")


_SPELLINGS = [
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (r"\\{2}(?=[a-zA-Z])", r"\\"),
        (r",\\! ?", ","),
        (r"\\[!]|\\(?:displaystyle|limits|left|right|big|Big|bigg|Bigg)(?![a-zA-Z])", ""),
        (r"\\(?:[,;: ]|quad(?![a-zA-Z])|qquad(?![a-zA-Z]))|~|[\s\u00a0]", " "),
        (r"\\[dtc]frac", r"\\frac"),
        (
            r"\\(?:textbf|textit|textrm|textsc|mathrm|mathbf|mathit|mathsf|mbox|operatorname)(?![a-zA-Z]) ?",
            r"\\text",
        ),
        (r"\\text \{", r"\\text{"),
        (r"\{,\}", ","),
        (r"\\%|\\text\{ ?(?:%|percent) ?\}|(?<=[0-9}]) ?percent\b", "%"),
        (r"\^ ?\{? ?\\circ ?\}?|\\degree|\\text\{ ?degrees? ?\}|(?<=[0-9}]) degrees?\b", "°"),
        (r"[\u2212\u2013]", "-"),
        (r"\\(?:leqslant|leq|le)(?![a-zA-Z])|≤", r"\\leq "),
        (r"\\(?:geqslant|geq|ge)(?![a-zA-Z])|≥", r"\\geq "),
        (r"<=", r"\\leq "),
        (r">=", r"\\geq "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"∞", r"\\infty "),
        (r"π", r"\\pi "),
        (r"\\lbrace(?![a-zA-Z])", r"\\{"),
        (r"\\rbrace(?![a-zA-Z])", r"\\}"),
    )
]


def _grouped(text: str) -> bool:
    """Whether commas or spaces between digits can only be thousands separators: `10,000`, not `1, 234, 5`."""
    bare = text.strip("$ -+%°\\.")
    return (
        re.fullmatch(r"[0-9]{1,3}(?:[, ][0-9]{3})+(?:\.[0-9]+)?(?:[^0-9,].*)?", bare, re.DOTALL) is not None
    )


# As in `\\frac{1}{21,000}`; in the braces of a set, `\\{1,234\\}`, it is a list.
_GROUPED_PART = re.compile(r"(?<=[a-z}]\{)[0-9]{1,3}(?:,[0-9]{3})+(?=\})")


def _unwrapped(text: str) -> str:
    """Without `$..$`, `\\(..\\)`, `\\[..\\]` around the whole, and without the full stop at its end."""
    before = None
    while before != text:
        before = text
        text = text.strip().rstrip(".;,") if not text.rstrip().endswith("\\,") else text.strip()
        for opening, closing in (
            ("$$", "$$"),
            ("$", "$"),
            ("\\(", "\\)"),
            ("\\[", "\\]"),
            ("**", "**"),
            ("{", "}"),
        ):
            if (
                text.startswith(opening)
                and text.endswith(closing)
                and len(text) > len(opening) + len(closing)
            ):
                inner = text[len(opening) : -len(closing)]
                if (opening != "{" and opening in inner) or inner.endswith("\\"):
                    continue
                if opening != "{" or _wraps(text, "{", "}"):
                    text = inner
                    break
    return text


@lru_cache(maxsize=4096)
def compact(text: str) -> str:
    """`clean`, without white space: equal texts say the same thing."""
    return clean(text[:LONGEST]).replace(" ", "") + text[LONGEST:]


def _fold(text: str) -> str:
    """Letters and digits in lower case, with one space between words."""
    plain = re.sub(r"\\text\b", " ", clean(text[:LONGEST]))
    plain = re.sub(r"(?<=[0-9]) ?\{? ?: ?\}? ?(?=[0-9])", ":", plain)
    return " ".join(re.findall(r"[^\W_]+(?::[0-9]+)?", plain.casefold().replace(".", "")))


_INTEGER = r"[0-9]+"
_PLAIN = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_REPEATING = re.compile(r"([0-9]*)\.([0-9]*)\\overline\{ ?([0-9]+) ?\}")
_FRACTION = re.compile(
    rf"([0-9]*) ?\\frac ?(?:\{{ ?([+-]?{_PLAIN}) ?\}}|([0-9])) ?(?:\{{ ?([+-]?{_PLAIN}) ?\}}|([0-9]))"
)
_RATIO = re.compile(rf"({_PLAIN}) ?/ ?({_PLAIN})")
_SCIENTIFIC = re.compile(
    rf"({_PLAIN}) ?(?:\\times|\\cdot|×|\*) ?10 ?\^ ?(?:\{{ ?([+-]?[0-9]{{1,3}}) ?\}}|([0-9]))"
)
_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_BASED = re.compile(
    rf"([0-9A-Z]+) ?_ ?(?:\{{ ?(?:\\text\{{ ?)?([0-9]{{1,2}}|{'|'.join(_WORDS)})(?: ?\}})? ?\}}|([0-9]))"
)
_NAMED = re.compile(r"([a-zA-Z](?:_\{?[0-9a-zA-Z]\}?)?(?:\([a-zA-Z0-9]\))?|\\[a-z]+) ?= ?(.+)", re.DOTALL)


def _number(text: str, named: bool = True) -> Number | None:
    if named and (match := _NAMED.fullmatch(text)):
        inner = _number(match.group(2).strip(), named=False)
        return inner._replace(name=match.group(1).replace(" ", "")) if inner else None
    body, unit = split_unit(text)
    sign = -1 if body.startswith("-") else 1
    body = body[1:].strip() if body[:1] in ("-", "+") else body
    if body.startswith(("$", "\\$")) and not unit:
        body, unit = body.lstrip("\\$ "), "$"
        if body.startswith("-") and sign == 1:
            sign, body = -1, body[1:].strip()
    if match := _BASED.fullmatch(body):
        written = match.group(2) or match.group(3)
        base = str(_WORDS.index(written) + 2) if written in _WORDS else written
        return Number(Fraction(0), unit=unit, base=base, digits=match.group(1))
    value = _value(body)
    if value is None:
        return None
    rounded = "." in body and value.denominator != 1 and "overline" not in body
    return Number(sign * value, rounded, unit, digits=body if body.isdecimal() else "")


def _value(body: str) -> Fraction | None:
    """The exact value of an unsigned number, of a fraction or of a mixed number."""
    if not body or len(body) > _DIGITS or not body.isascii():
        return None
    if re.fullmatch(_PLAIN, body):
        return Fraction(body.rstrip(".") if body.endswith(".") else body)
    if match := _FRACTION.fullmatch(body):
        whole = match.group(1)
        return _divide(whole, match.group(2) or match.group(3), match.group(4) or match.group(5))
    if match := _RATIO.fullmatch(body):
        return _divide("", *match.groups())
    if match := re.fullmatch(rf"({_INTEGER}) ({_INTEGER}) ?/ ?({_INTEGER})", body):
        return _divide(*match.groups())
    if match := _SCIENTIFIC.fullmatch(body):
        return Fraction(match.group(1)) * Fraction(10) ** int(match.group(2) or match.group(3))
    if match := _REPEATING.fullmatch(body):
        whole, fixed, again = match.groups()
        once = Fraction(int(again), 10 ** len(again) - 1) / 10 ** len(fixed)
        return Fraction(f"{whole or 0}.{fixed or 0}") + once
    if body.startswith("(") and body.endswith(")"):
        inner = body[1:-1].strip()
        return _value(inner)
    return None


def _divide(whole: str, top: str, bottom: str) -> Fraction | None:
    if Fraction(bottom) == 0:
        return None
    return Fraction(whole or 0) + Fraction(top) / Fraction(bottom)


_UNIT = re.compile(
    r"(.*?[0-9}\)°a-zA-Z]) ?(%|°|¢|€|£|\\text ?\{([^{}0-9]{1,60})\} ?(?:\^ ?\{? ?([234]) ?\}?)?)", re.DOTALL
)
_PLAIN_UNIT = re.compile(r"([^a-zA-Z]*?[0-9}\)]) ?([a-zA-Z]{1,12}(?: ?\^ ?\{? ?([234]) ?\}?)?)")


def split_unit(text: str) -> tuple[str, str]:
    r"""A quantity and its unit: `5\text{ cm}^2` -> ("5", "cm^2"). The unit is "" where there is none."""
    marked = text.endswith(("%", "°", "}", "¢", "€", "£")) or re.search(r"\} ?\^ ?[234]$", text)
    if marked and len(text) <= 500 and (match := _UNIT.fullmatch(text)):
        if match.group(3) is None:
            return match.group(1).strip(), match.group(2)
        word = re.sub(r"[^a-z$/ ]", "", match.group(3).lower()).strip()
        power = f"^{match.group(4)}" if match.group(4) else ""
        if word and not re.search(r"\b(?:and|or|not|to)\b", word):
            return match.group(1).strip(), _canonical(word) + power
    if len(text) <= 100 and (match := _PLAIN_UNIT.fullmatch(text)):
        word, _, power = match.group(2).partition("^")
        if _canonical(word.strip()) in UNITS and not (len(word.strip()) == 1 and match.group(3) is None):
            return match.group(1).strip(), _canonical(word.strip()) + (f"^{match.group(3)}" if power else "")
    return text, ""


def _canonical(word: str) -> str:
    """Singular, with "square" and "cubic" as powers."""
    for name, power in (("square ", "^2"), ("sq ", "^2"), ("cubic ", "^3")):
        if word.startswith(name):
            return _canonical(word.removeprefix(name)) + power
    return word.removesuffix("s") if len(word) > 2 and word not in UNITS else word


def _size(unit: str) -> tuple[str, Fraction] | None:
    """(dimension, size) of a unit that is known."""
    word, _, power = unit.partition("^")
    if word not in UNITS:
        return None
    dimension, size = UNITS[word]
    return (f"{dimension}^{power}", size ** int(power)) if power else (dimension, size)


_TIME = re.compile(r"[0-9]{1,2}:[0-9]{2} [ap]m|[0-9]{1,2}:0[0-9]")
_SHORT = frozenset({"yes", "no", "odd", "red", "none"})


def _words(text: str) -> Text | None:
    """Words as a whole: `\\text{east}`, `no solution`. Numbers joined by words are not."""
    if len(text) < 40 and ":" in text and _TIME.fullmatch(_fold(text)):
        return Text(_fold(text))
    inner = re.fullmatch(r"\\text ?\{([^{}\\]*)\}", text)
    plain = inner.group(1) if inner else text
    if re.search(r"[\\=<>^_{}+*|]", plain) or not re.search(r"[^\W\d_]{2}", plain):
        return None
    if re.search(r"\d", plain) and not inner:
        return None
    longest = max(re.findall(r"[^\W\d_]+", plain), key=len)
    if inner is None and (
        re.search(r"[()\[\],;/-]", plain) or (len(longest) < 4 and plain.lower() not in _SHORT)
    ):
        return None  # `xyz` is a product, `f(ab)` a call, `ab, cd` a list
    if inner is not None and _several_words(plain):
        return None
    return Text(_fold(plain))


def _several_words(plain: str) -> bool:
    """Whether text in braces only joins values: `5 and 7`."""
    return re.fullmatch(r"[\s\d.,]*(?:(?:and|or)[\s\d.,]*)+", plain.lower()) is not None


_ENDS = {"()": (False, False), "[]": (True, True), "[)": (True, False), "(]": (False, True)}


def _interval(text: str) -> Interval | None:
    text = re.sub(r"^[a-zA-Z] ?\\in(?![a-zA-Z]) ?", "", text)
    ends = text[:1] + text[-1:]
    if ends in _ENDS and text.count(",") == 1:
        low, high = (p.strip() for p in text[1:-1].split(","))
        bottom, top = _end(low), _end(high)
        unbounded = low.replace(" ", "") == "-\\infty", high.replace(" ", "") in ("\\infty", "+\\infty")
        if ends in ("()", "[]") and not any(unbounded):
            return None  # a pair, unless the kind says otherwise
        if (bottom is None and not unbounded[0]) or (top is None and not unbounded[1]):
            return None
        closed = _ENDS[ends]
        return Interval(bottom, top, closed[0] and not unbounded[0], closed[1] and not unbounded[1])
    return _inequality(text)


def _end(text: str) -> Fraction | None:
    form = _number(text, named=False)
    return form.value if form and not form.unit and not form.base else None


_RELATION = re.compile(r" ?(<|>|\\leq|\\geq) ?")


def _inequality(text: str) -> Interval | None:
    """`0 <= x < 1`, `x > 3` and `3 < x` as intervals."""
    parts = _RELATION.split(text)
    if len(parts) == 5 and parts[1][-1] + parts[3][-1] in ("<<", "<q", "q<", "qq"):
        low, first, name, second, high = parts
        if ">" in first + second or {"\\leq", "\\geq"} <= {first, second} or not _is_name(name):
            return None
        if "\\geq" in (first, second):
            return None
        ends = _end(low.strip()), _end(high.strip())
        if None in ends:
            return None
        return Interval(*ends, first == "\\leq", second == "\\leq")
    if len(parts) == 3:
        left, relation, right = (p.strip() for p in parts)
        if _is_name(right):
            left, right = right, left
            relation = {"<": ">", ">": "<", "\\leq": "\\geq", "\\geq": "\\leq"}[relation]
        bound = _end(right)
        if not _is_name(left) or bound is None:
            return None
        closed = relation in ("\\leq", "\\geq")
        below = relation in ("<", "\\leq")
        return Interval(None, bound, False, closed) if below else Interval(bound, None, closed, False)
    return None


def _is_name(text: str) -> bool:
    return re.fullmatch(r" ?[a-zA-Z] ?", text) is not None


def split(text: str) -> tuple[tuple[str, ...], str]:
    """The items of a list at its top level, and its brackets; a single item where it is none."""
    if len(text) > LONGEST:
        return (text,), ""
    items, brackets, _ = _split(clean(text))
    return items, brackets


_AND = re.compile(r"(?i),? ?\\text\{ ?,? ?(?:and|or) ?\} ?|, ?(?:and|or) |\b(?:and|or)\b")
# `(p, q) = (3, 2)`: the names of a tuple.
_NAMES = re.compile(r"\([a-zA-Z](?: ?, ?[a-zA-Z])+\) ?= ?(?=\()")


def _split(text: str) -> tuple[tuple[str, ...], str, bool]:
    brackets = ""
    text = _NAMES.sub("", text)
    for opening, closing, name in (("\\{", "\\}", "{}"), ("(", ")", "()"), ("[", "]", "[]")):
        if text.startswith(opening) and text.endswith(closing) and _wraps(text, opening, closing):
            text, brackets = text[len(opening) : -len(closing)].strip(), name
            break
    union = "\\cup" in text or (_AND.search(text) is not None and bool(_RELATION.search(text)))
    text = re.sub(r"\\cup(?![a-zA-Z])", " , ", text)
    text = _AND.sub(" , ", text)
    items: list[str] = []
    depth = start = 0
    for index, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char in ",;；" and depth <= 0:
            items.append(text[start:index])
            start = index + 1
    items.append(text[start:])
    items = [e for i in items if i.strip() for e in _plus_minus(i.strip())]
    return tuple(items), brackets, union


def _wraps(text: str, opening: str, closing: str) -> bool:
    """Whether the first bracket is closed by the last character, as in `(1,2)` and not `(1,2),(3,4)`."""
    depth = 0
    last = len(text) - len(closing)
    for index, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0 and index < last + len(closing) - 1:
                return False
    return depth == 0


def _plus_minus(item: str) -> list[str]:
    r"""`a \pm b` as two items."""
    before, found, after = item.partition("\\pm")
    if not found or "\\pm" in after or "\\mp" in item or re.match("[a-zA-Z]", after):
        return [item]
    name, equals, left = before.rpartition("=")
    head = f"{name}{equals}" if equals else ""
    body = left.strip() if equals else before.strip()
    after = after.strip()
    return [f"{head}{body}+{after}" if body else f"{head}{after}", f"{head}{body}-{after}"]


def _letters(gold: str, answer: str) -> Ruling:
    """Multiple choice: the option's letter, with or without brackets, full stop or the option's text."""
    letters = [
        m.group(1).upper() if (m := re.match(r"(?:\\text\{)? ?\(?([A-Za-z])(?![A-Za-z])", clean(t))) else None
        for t in (gold, answer)
    ]
    if letters[0] is None:
        return Ruling(False, "the gold is not an option's letter")
    return Ruling(letters[0] == letters[1], "the option's letter")


# What math-verify does not parse: an energy E_1 (Euler's number to it), the Sun's subscript, NumPy's names.
_UNPARSED = (
    (re.compile(r"(?<![a-zA-Z\\])[eE](?= ?_)"), r"\\mathcal{E}"),
    (re.compile(r"_ ?\{? ?\\odot ?\}?"), "_{sun}"),
    (re.compile(r"(?<![a-zA-Z])(?:np|math)\.(?=[a-z])"), r"\\"),
)


def for_math_verify(text: str) -> str:
    """The text as math-verify gets it: unwrapped, on one line, with each plus-minus written out."""
    if "\\boxed" in text or "\\fbox" in text:
        text = ", ".join(boxed(text)) or text
    text = " ".join(_unwrapped(re.sub(r"[\x00-\x1f\x7f]", " ", text)).split())
    text = re.sub(r"\s*(?:\\?%)+$", "", text) if text.endswith("%") else text
    for spelling, meaning in _UNPARSED:
        text = spelling.sub(meaning, text)
    if "\\pm" in text:
        items, brackets = split(text)
        opening, closing = {"{}": ("\\{", "\\}")}.get(brackets, (brackets[:1], brackets[1:]))
        text = opening + ", ".join(items) + closing
    return text


def kind_of(gold: str) -> str:
    """What kind of answer a gold asks for, as a word of `KINDS` or "percent", "quantity", "base", "empty"."""
    form = read(gold)
    match form:
        case Number():
            if form.base:
                return "base"
            return "percent" if form.unit == "%" else "quantity" if form.unit else "number"
        case Text():
            return "text"
        case Letter():
            return "choice"
        case Interval():
            return "interval"
        case Several():
            return {"()": "tuple"}.get(form.brackets, "interval" if form.union else "set")
    text = clean(gold[:LONGEST])
    if not text:
        return "empty"
    if "matrix" in text or "\\begin{array}" in text:
        return "matrix"
    if re.search(r"[=<>]|\\[lg]eq|\\neq?\b", text):
        return "equation"
    return {"()": "tuple", "{}": "set"}.get(
        split(gold)[1], "set" if len(split(gold)[0]) > 1 else "expression"
    )
