"""What is packed: a student with its own code and requirements, proven, and served without the project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.serving import BAD
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.serving.predictor import Predictor
from kd_ops.base.documents import to_yaml
from kd_ops.base.settings import Settings
from kd_ops.promotion import promote
from kd_ops.promotion.evidence import Verdict
from kd_ops.registering import packing, register
from kd_ops.registering.packing import requirements
from kd_ops.registry.registry import connect, versions
from kd_ops.runs.runs import Run
from kd_ops.serving.served import ModelProcessError, serve
from kd_ops.stages.code_snapshot import digest, keep, project_code
from tests.conftest import PROJECT
from tests.helpers.fabricated import fake_student, finished_run, labelled_rows, real_student
from tests.helpers.promoting import N, named, right


@pytest.mark.slow
def test_a_version_serves_without_the_project_and_holds_no_pickle(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = real_student(tmp_path / "student")
    run = finished_run(settings, "real", right(0.8), student, named("kd-real"))
    registered = register.register(run, settings)
    assert (registered.version, registered.created) == ("1", True)
    assert register.register(run, settings).created is False
    again = finished_run(settings, "real-again", right(0.8), student, named("kd-real"))
    assert register.register(again, settings).version == "1"
    assert len(versions(connect(settings), "kd-real")) == 1
    version = versions(connect(settings), "kd-real")[0]
    assert version.description == "# Card"
    assert version.tags.keys() >= {"kd.git_sha", "kd.data_revision", "kd.dvc_lock", "kd.run", "kd.recipe"}
    assert version.tags["kd.metric.accuracy"] == "0.8"
    served = serve("models:/kd-real/1", settings)
    model = served.code.parent
    example = json.loads((model / "input_example.json").read_text())
    assert "reference calibration text number" in json.dumps(example), (
        "test rows are read by evaluate and the gate alone"
    )
    names = {path.name for path in model.rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".bin", ".pyc"))]
    requirements = (model / "requirements.txt").read_text()
    assert "onnxruntime==" in requirements
    assert not [name for name in ("torch", "transformers", "+cpu") if name in requirements]
    away = subprocess.run(
        [sys.executable, "-c", ANSWER, str(model), json.dumps(BAD)],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        | {"KD_PREDICTION_LOG": str(tmp_path / "log")},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(away.stdout.splitlines()[-1])
    assert said["code"].startswith(str(model)), "the library is the version's own copy, not the project's"
    assert not said["torch"], "not needed to serve"
    assert said["columns"] == ["label", "probability", "exit_layer", "entropy"]
    assert said["full"] == [2, 2], "threshold 0 in params asks for the full model"
    for key, reason in (("untimed", "run `kd calibrate"), ("two", "give one of threshold")):
        assert said[key][0] == 400
        assert reason in json.loads(said[key][1])["message"]
    for name, (status, reason) in said["bad"].items():
        assert 400 <= status < 500, name
        assert reason, name
    assert said["bad"].keys() == BAD.keys()
    assert said["a megabyte of text, after all that"] == [200, 1]
    (log,) = (tmp_path / "log").iterdir()
    asked = pd.read_parquet(log)["thresholds"].map(list).tolist()
    assert asked[:10:2] == [[0.3], [0.0], [0.3], [0.0], [1.0]], "max_disagreement in params turns the dial"
    assert asked[10:] == [[0.3]], "the server's; what was refused is not logged"
    assert registered.name == "kd-real"
    monkeypatch.setattr(register, "prove", lambda packed, folder: None)
    assert_champion_answers_anew(settings)


def test_a_version_takes_the_code_of_its_run_along(
    settings: Settings, unproven: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of the project, which may have changed since the student was trained."""
    run = finished_run(settings, "own-code", right(0.8), overrides=named("kd-own-code"))
    code = {**project_code(settings), "kd_core/own.py": b""}
    keep(code, settings.store_uri)
    values = run.params()
    values["resolved"]["code"] = digest(code)
    run.storage.write("params.yaml", to_yaml(values))
    register.register(run, settings)
    assert (serve("models:/kd-own-code/1", settings).code / "kd_core/own.py").is_file()


ANSWER = """\
import json, sys, mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pandas.DataFrame({"text": ["the apple", "a river"]})
first, full = model.predict(rows), model.predict(rows, params={"threshold": 0.0})
for wish in (0.02, 0.0, 1.0):
    model.predict(rows, params={"max_disagreement": wish})
def refused(**params):
    from mlflow.pyfunc.scoring_server import invocations
    try:
        asked = json.dumps({"dataframe_records": [{"text": "a"}], "params": params})
        invocations(asked, "application/json", model, model.metadata.get_input_schema())
    except mlflow.exceptions.MlflowException as error:
        return [error.get_http_status_code(), error.serialize_as_json()]
from fastapi.testclient import TestClient
from mlflow.pyfunc.scoring_server import init
client = TestClient(init(model), raise_server_exceptions=False)
def post(body):
    return client.post("/invocations", content=json.dumps(body), headers={"Content-Type": "application/json"})
import kd_core
said = {"torch": "torch" in sys.modules}
said |= {"untimed": refused(max_latency_ms=5.0), "two": refused(min_throughput=5.0, threshold=0.1)}
said |= {"code": kd_core.__file__, "columns": list(first.columns), "full": [int(x) for x in full["exit_layer"]]}
said["bad"] = {name: [(got := post(body)).status_code, got.text] for name, body in json.loads(sys.argv[2]).items()}
got = post({"dataframe_records": [{"text": "a river " * 131_072}]})
said["a megabyte of text, after all that"] = [got.status_code, len(got.json()["predictions"])]
print(json.dumps(said))
"""


def assert_champion_answers_anew(settings: Settings) -> None:
    """On other test rows than it was evaluated on, the champion is asked again."""
    register_run = Run.named("real", settings)
    assert promote.promote(register_run, settings).verdict is Verdict.PROMOTE
    run = finished_run(settings, "other-rows", right(0.9), fake_student("second"), named("kd-real"), test_hash="hash2")
    rows = labelled_rows(N)
    champion = Predictor.load(serve("models:/kd-real@champion", settings).student)
    accuracy = float((champion.predict(rows)["label"] == rows["label"]).mean())
    register.register(run, settings)
    decision = promote.promote(run, settings)
    assert decision.verdict is Verdict.PROMOTE
    assert decision.numbers["difference"] == pytest.approx(float(right(0.9).mean()) - accuracy)


@pytest.mark.slow
def test_a_model_that_does_not_answer_is_not_registered(settings: Settings) -> None:
    run = finished_run(settings, "mute", right(0.8), overrides=named("kd-mute"))
    with pytest.raises(InvalidDataError, match="does not answer its own example"):
        register.register(run, settings)
    assert versions(connect(settings), "kd-mute") == []


def test_addresses_of_models_that_are_not_there(settings: Settings) -> None:
    for address, said in {
        "models:/nothing@champion": "has the alias",
        "models:/nothing/3": "no version 3",
        "models:/nothing": "models:/NAME@ALIAS",
        "/no/such/folder": "no such folder",
    }.items():
        with pytest.raises(ParamsError, match=said):
            serve(address, settings)


def test_pinned_requirements_cover_what_serving_imports() -> None:
    """Every distribution that the predictor imports is pinned, or is needed by one that is."""
    listed = subprocess.run(
        [sys.executable, "-c", IMPORTED, *(pin.split("==")[0] for pin in requirements())],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
    )
    assert json.loads(listed.stdout.splitlines()[-1]) == []


IMPORTED = """\
import importlib.metadata as m, json, re, sys
import kd_core.serving.predictor
owners = m.packages_distributions()
pinned, seen = list(sys.argv[1:]), set()
while pinned:
    name = re.sub(r"[-_.]+", "-", pinned.pop()).lower()
    if name in seen:
        continue
    seen.add(name)
    try:
        needs = m.requires(name) or []
    except m.PackageNotFoundError:
        continue
    pinned += [re.split(r"[ ;<>=!~\\[(]", need)[0] for need in needs if "extra ==" not in need]
import ast, pathlib
direct = set()
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("kd_core"):
        for node in ast.parse(pathlib.Path(module.__file__).read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            direct |= {name.split(".")[0] for name in names} - {"kd_core"}
def known(module):
    return any(re.sub(r"[-_.]+", "-", owner).lower() in seen for owner in owners[module])
missing = sorted(module for module in direct if module in owners and not known(module))
print(json.dumps(missing))
"""


def test_errors_of_the_model_process_are_passed_on() -> None:
    error = ModelProcessError(65, "Traceback\nerror: no column 'text'\n")
    assert (str(error), error.status) == ("no column 'text'", 65)
    assert ModelProcessError(-15, "").status == 143


def test_the_signature_promises_lists() -> None:
    outputs = {each["name"]: each["type"] for each in packing._signature(["text"], several=True).outputs.to_dict()}
    assert outputs == {"label": "array", "probability": "array", "exit_layer": "long", "entropy": "double"}
