"""Write what README says of the program itself: the table of settings.

python -m docs.make_docs
"""

import re
from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from worker.core.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
START, END = "<!-- settings -->", "<!-- end of settings -->"
COMPUTED = {
    "storage_url": "`fundus-store` in the working folder",
    "decode_processes": "one for each core, at most 8",
}


def settings_table() -> str:
    """A Markdown row for each setting."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = COMPUTED.get(name) or _shown(field.default)
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {' '.join((field.description or '').split())} |")
    return "\n".join(rows)


def readme_with_table(readme: str) -> str:
    """README's text with the present table between its marks."""
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{START}\n{settings_table()}\n{END}", readme)


def _shown(default: object) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    return f"`{value}`"


if __name__ == "__main__":
    README.write_text(readme_with_table(README.read_text()))
