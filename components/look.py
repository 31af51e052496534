"""Looks at a data set before there is a recipe; `python -m components.look` reads a request and prints the answer.

No stage of the pipeline: `kd init` starts it, since it reads data and a tokenizer as the stages do.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from components.fetch import fetch_weights, fetched_data
from kd_core.data.profiling.findings import Tokens
from kd_core.data.profiling.overview import overview
from kd_core.data.profiling.words import Overview, Request
from kd_core.runtime.errors import report_error
from kd_core.runtime.quiet import QUIET


def look(request: Request) -> Overview:
    """The overview; raises as `overview`, and as `fetched_data` for what is remote."""
    with ExitStack() as stack:
        local = {path: stack.enter_context(fetched_data(path)).path for path in request.paths}
        return overview(request, local, lambda: _tokens(request.base))


def _tokens(base: str) -> Tokens:
    from kd_core.models.layers import most_tokens
    from kd_core.models.loading import load_encoder, load_tokenizer
    from kd_core.models.weights import local_folder

    folder = local_folder(fetch_weights(base))
    tokenizer = load_tokenizer(folder)

    def count(texts: Sequence[str], pairs: Sequence[str] | None) -> Sequence[int]:
        found = tokenizer(list(texts), None if pairs is None else list(pairs), truncation=False, verbose=False)
        return [len(ids) for ids in found["input_ids"]]

    return Tokens(count, most_tokens(load_encoder(folder)))


def main() -> None:
    """Read the request, write the answer, and exit with a status as the stages do."""
    os.environ.update(QUIET)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        answer = look(Request.model_validate_json(sys.stdin.read()))
    except Exception as error:
        raise SystemExit(report_error(error)) from None
    print(answer.model_dump_json())


if __name__ == "__main__":
    main()
