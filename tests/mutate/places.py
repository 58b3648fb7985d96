"""Places of a C source file that can be changed, and the changes. The sources are formatted by
clang-format: a binary operator stands between blanks, a pointer's star does not."""

import re
from itertools import accumulate
from typing import NamedTuple


class Mutant(NamedTuple):
    file: str
    line: int  # of its first changed character, from 1
    operator: str
    start: int  # offsets of the text that is replaced
    end: int
    text: str  # what replaces it
    before: str  # the changed lines, blanks collapsed
    after: str


# Text for people: a wrong word or number in it is not what this looks for.
MESSAGES = re.compile(r"\b(?:assert|static_assert|moe_fail|\w*printf|\w*entry_fail|moe_log_send)\(")
NOISE = re.compile(
    r"""/\*.*?\*/ | //[^\n]*                    # comments
      | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'  # strings and characters
      | ^[ \t]*\#(?:\\\n|[^\n])*                # preprocessor lines
      | \b(?:typedef[ ])?(?:struct|enum|union)\b[ ]?\w*[ ]?\{[^{}]*\}   # types""",
    re.S | re.M | re.X)
DECLARATION = re.compile(r"(?!return\b|goto\b|else\b)(?:[A-Za-z_]\w* )+\**\w+(?:\[[^=]*\])*;")
# Releases of memory: leaks are the sanitizers' to find (./dev sanitize).
RELEASE = re.compile(r"\w*(?:free|close|release)\w*\(")
STATEMENT = re.compile(r"(?:[\w.>*-]|\[[^]]*\])+ [-+*/|&]?= .*;"  # assignments
                       r"|\w+\(.*\);|(?:[\w.>-]+)(?:\+\+|--);")     # calls and counting

SWAPS = {
    "relational": {" < ": [" <= ", " >= "], " <= ": [" < ", " > "], " > ": [" >= ", " <= "],
                   " >= ": [" > ", " < "], " == ": [" != "], " != ": [" == "]},
    "arithmetic": {" + ": [" - "], " - ": [" + "], " * ": [" / "], " / ": [" * "],
                   " % ": [" / "], " += ": [" -= "], " -= ": [" += "], " *= ": [" = "],
                   " |= ": [" &= "], " &= ": [" |= "], " << ": [" >> "], " & ": [" | "]},
    "logical": {" && ": [" || "], " || ": [" && "]},
    "jump": {"continue;": ["break;"], "break;": ["continue;"]},
}


def masked(text):
    """The text with everything that must not change turned into blanks, at the same offsets."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())
    text = NOISE.sub(blank, text)
    chars = list(text)
    for m in MESSAGES.finditer(text):
        depth, at = 1, m.end()
        while depth and at < len(text):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        for i in range(m.end(), at - 1):
            chars[i] = chars[i] if chars[i] == "\n" else " "
    return "".join(chars)


def changes(code, text):
    """Yields (operator, start, end, replacement); places are looked for in the masked code."""
    for operator, table in SWAPS.items():
        for old, news in table.items():
            for m in re.finditer(re.escape(old), code):
                for new in news:
                    yield operator, m.start(), m.end(), new
            if old.endswith(" "):  # at the end of a line
                for m in re.finditer(re.escape(old.rstrip()) + r"(?=\n)", code):
                    for new in news:
                        yield operator, m.start(), m.end(), new.rstrip()
    for m in re.finditer(r"!(?=[\w(])", code):
        yield "dropped !", m.start(), m.end(), ""
    for m in re.finditer(r"(?<![\w.])(?:\d+(?:\.\d*)?(?:e-?\d+)?)(?![\w.]|\.\d)", code):
        yield "constant", m.start(), m.end(), f"({m.group()} + 1)"
        yield "constant", m.start(), m.end(), f"({m.group()} - 1)"
    for m in re.finditer(r"(?<=[\w\])])\[([^\[\]\n]+)\]", code):
        yield "index", m.start(1), m.end(1), text[m.start(1):m.end(1)] + " + 1"
    for m in re.finditer(r"\breturn ([^;]+);", code):
        zero = re.fullmatch(r"0|NULL|false|MOE_OK", m.group(1))
        yield "return", m.start(1), m.end(1), "1" if zero else "0"
        if not zero:
            yield "return", m.start(1), m.end(1), "!(%s)" % text[m.start(1):m.end(1)]
    for m in re.finditer(r"\bif \(", code):
        end = code.find(")\n", m.end())
        brace = code.find(") {\n", m.end())
        end = min(e for e in (end, brace, len(code)) if e >= 0)
        if "\n" not in code[m.end():end]:
            yield "branches", m.end(), end, "!(%s)" % text[m.end():end]
    for m in re.finditer(r" \? ([^?:;,\n]+) : ([^?:;,\n]+?)(?=[;,\n]|\)[;,])", code):
        if m.group(1).count("(") == m.group(1).count(")"):
            first, second = text[m.start(1):m.end(1)], text[m.start(2):m.end(2)]
            yield "branches", m.start(), m.end(), " ? %s : %s" % (second, first)
    ends = r"[;{})\]:]|else"  # what may stand before a whole statement
    for m in re.finditer(r"(?:%s)\s*\n[ ]+([^\n]+);(?=\s*\n)" % ends, code):
        if STATEMENT.fullmatch(m.group(1) + ";") and not RELEASE.match(m.group(1)):
            yield "deleted", m.start(1), m.end(1), ""


def collapse(text):
    return " ".join(text.split())


def mutants(name, text):
    """Every mutant of a file, by line."""
    code, found = masked(text), []
    depth = list(accumulate({"{": 1, "}": -1}.get(c, 0) for c in code))
    for operator, start, end, new in changes(code, text):
        first = text.rfind("\n", 0, start) + 1
        last = text.find("\n", end)
        whole = code[first:last].strip()
        if DECLARATION.fullmatch(whole) or depth[start] < 1:
            continue  # outside of functions and tables, or nothing that runs
        after = text[first:start] + new + text[end:last]
        if new == text[start:end]:
            continue
        found.append(Mutant(name, text.count("\n", 0, start) + 1, operator, start, end, new,
                            collapse(text[first:last]), collapse(after)))
    return sorted(set(found), key=lambda m: (m.line, m.start, m.text))
