"""What a version says of itself: through its door, or in the inference.json of versions that have none."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError


@dataclass(frozen=True)
class Description:
    """As `kd_core.serving.folder.record.describe` says it; what later releases add is not looked at."""

    identity: str
    """What its predictions are logged under."""
    exits: tuple[int, ...]
    """[E], the layers (1-based) that have an exit."""
    columns: dict[str, str] = field(default_factory=dict)
    """Ours → what the training data called them."""
    profile: str = ""
    """The Parquet file, relative to its folder, with a column `layer_N` for each exit: uncertainties in calibration."""
    dial: bool = True
    """Whether its exits were calibrated: otherwise it knows neither wishes nor a log."""

    @classmethod
    def of(cls, said: dict[str, Any]) -> Description:
        """From what the door printed."""
        return cls(said["identity"], tuple(said["exits"]), dict(said["columns"]), said["profile"])


def described_by_inference_json(folder: Path) -> Description:
    """Of a version that was registered before there was a door. Raises InvalidDataError for a damaged folder."""
    path = folder / "inference.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InvalidDataError(f"{path}: missing; give a folder that the export stage wrote") from None
    except ValueError as error:
        raise InvalidDataError(f"{path}: not JSON ({error}); copy the model's folder again") from None
    return Description(
        identity=fingerprint.of_file(path),
        exits=tuple(record.get("exits", ())),
        columns=record.get("columns") or {},
        profile="uncertainties.parquet",
        dial="dial" in record,
    )
