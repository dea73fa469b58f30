"""The project's sentences are plain technical English.

`python tests/unit/test_language.py PATH...` lists what stands in files or folders.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUFFIXES = {
    ".py",
    ".md",
    ".html",
    ".js",
    ".css",
    ".yml",
    ".yaml",
    ".toml",
    ".sh",
    ".sql",
    ".example",
    ".service",
    ".env",
}
NAMES = {"Makefile", "Dockerfile", "run"}
SKIPPED = {".git", ".venv", ".venv-bench", "locks", "vendor", "site", "demo-out", "dist", "node_modules", "__pycache__"}
BANNED = {
    r"anew": "again",
    r"beside|besides": "next to, with, also",
    r"whoever|whosoever": "anyone who",
    r"mend|mends|mended|mending": "fix, repair",
    r"learnt": "learned; trained on",
    r"(?<!\.)(?:tell|tells|telling|told)": "report, show, distinguish, notify",
    r"judge|judges|judged|judging": "evaluate, measure, validate",
    r"(?:is|are) (?-i:none)": "is missing, is invalid",
    r"of its own accord": "automatically",
    r"let go|lets go|letting go": "release, delete",
    r"as (?:it|they) (?:came|comes?)": "unchanged",
    r"what (?:it|that) is worth": "how well it performs",
    r"(?:hold|holds|held|holding) \w+ (?:\w+ )?against": "compare, measure",
    r"comes? to lie": "is written to",
    r"in (?:the )?place of": "instead of",
    r"owe|owes|owed|owing": "pending, scheduled",
    r"thither|hither|thence|whence|hence|thereof|therein|wherein|thereby|whereby": "plain words",
    r"deed|deeds": "action",
    r"turnstiles?": "semaphore",
    r"fit for": "suitable for",
    r"ought|nought|lest|albeit": "should, zero, so that ... not, although",
    r"to be had": "available",
    r"stands? in the way": "prevents, blocks",
    r"takes? no notice": "ignores",
    r"makes? do with": "works with",
    r"goes? without saying": "is obvious",
    r"at rest": "idle, stored",
    r"so many": "a limited number of",
    r"of late": "recently",
    r"once more": "again",
    r"no sooner": "as soon as",
    r"put to (?:the )?trial": "test, audit",
}
"""Regular expressions of whole words, and what to write for them."""

PATTERN = re.compile(rf"(?<![\w-])(?i:{'|'.join(BANNED)})(?![\w-])")


def find_banned(text: str) -> Iterator[tuple[int, str]]:
    """Line number and words of each banned expression; one may run over the end of a line."""
    flat = re.sub(r"\s*\n[\s#*/>-]*", lambda match: "\n" * match[0].count("\n"), text)
    spaced = flat.replace("\n", " ")
    for match in PATTERN.finditer(spaced):
        yield flat.count("\n", 0, match.start()) + 1, match[0]


def files_below(path: Path) -> Iterator[Path]:
    if path.is_file():
        if path != Path(__file__) and (path.suffix in SUFFIXES or path.name in NAMES):
            yield path
    elif path.name not in SKIPPED and (not path.name.startswith(".") or path.name in {".ci", ".github"}):
        for inner in sorted(path.iterdir()):
            yield from files_below(inner)


def find_in(path: Path) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{line}: {words}"
        for file in files_below(path)
        for line, words in find_banned(file.read_text(encoding="utf-8"))
    ]


def test_no_banned_words() -> None:
    found = [line for path in sorted(ROOT.iterdir()) for line in find_in(path)]
    assert not found, "\n".join([f"{len(found)} places:", *found[:200]])


def test_words_are_found_over_the_end_of_a_line() -> None:
    assert list(find_banned("a\n# in the\n# place of b\nmending")) == [(2, "in the place of"), (4, "mending")]
    assert list(find_banned("told_at = 'recommend'; foretold; a judge-free one")) == []


if __name__ == "__main__":
    listed = [line for path in sys.argv[1:] for line in find_in(Path(path).resolve())]
    print("\n".join(listed))  # noqa: T201
    sys.exit(bool(listed))
