"""The stable interface to a model's folder: `python -m kd_core.serving predict|calibrate|describe --model DIR …`.

Later releases use a registered version through it, with the version's own copy of the code. So commands and
options may be added, but none may be removed or change its meaning.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from kd_core.runtime.errors import report_error
from kd_core.runtime.quiet import QUIET
from kd_core.serving import answering


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is that of the error, if there is one."""
    os.environ.update(QUIET | {"HF_HUB_OFFLINE": "1"})
    options = _parser().parse_args(argv)
    try:
        options.run(options)
    except Exception as error:
        return report_error(error)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kd_core.serving", description="Ask a model in a folder.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--model", type=Path, required=True, help="folder that the export stage wrote")
    predict = commands.add_parser("predict", parents=[shared], help="answer texts")
    answering.add_options(predict)
    predict.set_defaults(run=answering.answer)
    calibrate = commands.add_parser("calibrate", parents=[shared], help="time the model on this machine")
    calibrate.set_defaults(run=_calibrate)
    describe = commands.add_parser("describe", parents=[shared], help="print what others need to know, as JSON")
    describe.set_defaults(run=_describe)
    return parser


def _calibrate(options: argparse.Namespace) -> None:
    from kd_core.serving.speed.timing import keep_costs

    print(keep_costs(options.model))


def _describe(options: argparse.Namespace) -> None:
    from kd_core.serving.folder.record import describe

    print(json.dumps(describe(options.model), ensure_ascii=False))


if __name__ == "__main__":
    raise SystemExit(main())
