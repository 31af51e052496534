"""Write the generated parts of the documentation: `make docs`."""

from __future__ import annotations

from pathlib import Path

from doc_pages.pages import fresh

PROJECT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Write each page that has changed, and say which."""
    for path, text in fresh(PROJECT).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
