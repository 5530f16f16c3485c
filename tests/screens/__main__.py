"""`python -m tests.screens` writes the screens again."""

import tempfile
from pathlib import Path

from tests.screens.cases import FOLDER, cases, prepare


def main() -> None:
    """Write all screens, and delete those of no command."""
    FOLDER.mkdir(exist_ok=True)
    wanted = list(cases())
    for file in FOLDER.glob("*.txt"):
        if file not in {case.file for case in wanted}:
            file.unlink()
    with tempfile.TemporaryDirectory() as folder:
        variables = prepare(Path(folder))
        for case in wanted:
            case.file.write_text(case.see(variables).text, encoding="utf-8")


if __name__ == "__main__":
    main()
