"""Great Expectations' pages as files that open offline: markup kept, scripts, styles and images from CDNs replaced."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nh3

from kd_core.data.checks.expectations import SuiteResult

_DROPPED = frozenset(
    {"script", "style", "title", "nav", "button", "label", "svg", "iframe", "object", "form", "footer"}
)
"""Elements left out with all that is in them."""
_TEXT = frozenset({"a", "b", "br", "code", "em", "hr", "i", "p", "pre", "small", "span", "strong", "u", "wbr"})
_BLOCKS = frozenset({"div", "h1", "h2", "h3", "h4", "h5", "h6", "li", "ol", "ul"})
_TABLES = frozenset({"col", "colgroup", "table", "tbody", "td", "tfoot", "th", "thead", "tr"})
_KEPT = _TEXT | _BLOCKS | _TABLES
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_FIXED_TIME = "1970-01-01T00:00:00+00:00"

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c2733}
table{border-collapse:collapse;margin:.5rem 0;width:100%}td,th{border:1px solid #d5dbe1;padding:.3rem .6rem;
text-align:left;vertical-align:top;overflow-wrap:anywhere}h5{font-size:1.15rem;margin:1.5rem 0 .3rem}
h6{font-size:1rem;margin:.8rem 0 .2rem}.fa-times::before{content:"✗ failed";color:#b3261e;font-style:normal}
.fa-check-circle::before{content:"✓ met";color:#1b7f3b;font-style:normal}.bad{color:#b3261e}.good{color:#1b7f3b}
.modal,.sticky,.ge-breadcrumbs{display:none}
"""


def _inside_the_page(_tag: str, key: str, value: str) -> str | None:
    return value if key != "href" or value.startswith("#") else None


def offline(markup: str) -> str:
    """The body of an HTML page without scripts, styles, images, forms and outside links."""
    cleaned = nh3.clean(
        markup,
        tags=set(_KEPT),
        clean_content_tags=set(_DROPPED),
        attributes={"*": {"id", "class", "colspan", "rowspan"}, "a": {"href"}},
        attribute_filter=_inside_the_page,
        link_rel=None,
    )
    return re.sub(r"\n\s*\n+", "\n", cleaned)


def page(title: str, body: str) -> str:
    """A whole HTML page with our style."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def write_data_docs(folder: Path, suites: Sequence[SuiteResult], title: str, summary: Mapping[str, Any]) -> None:
    """Write `index.html` (what was found, in plain words) and one page a suite. Equal results give equal bytes."""
    rows = []
    for suite in suites:
        path = folder / f"{suite.name}.html"
        path.write_text(page(f"{title}: {suite.name}", offline(_render(suite.result))), encoding="utf-8")
        for check in suite.checks:
            state = '<td class="good">✓ met</td>' if check.success else '<td class="bad">✗ failed</td>'
            cells = (check.reason, check.column or "", str(len(check.rows)) if check.rows else "")
            rows.append("<tr>" + state + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    links = " · ".join(f'<a href="{suite.name}.html">{suite.name}.html</a>' for suite in suites)
    body = (
        f"<h1>{html.escape(title)}</h1><p>Great Expectations' own pages: {links}</p><table><thead><tr><th>Result</th>"
        f"<th>Looked for</th><th>Column</th><th>Rows</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"<h5>Summary</h5><pre>{html.escape(json.dumps(summary, indent=2, sort_keys=True, ensure_ascii=False))}</pre>"
    )
    (folder / "index.html").write_text(page(title, body), encoding="utf-8")


def _render(result: Any) -> str:
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    result.meta["run_id"] = {"run_name": None, "run_time": _FIXED_TIME}
    result.meta["validation_time"] = _FIXED_TIME
    for key in ("batch_markers", "validation_id"):
        result.meta.pop(key, None)
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(result)
    return _UUID.sub("", DefaultJinjaPageView().render(document))
