"""`models:/…` as a teacher: our own student, what MLflow's transformers flavour writes, and a plain folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from components import teach
from components.base import Context
from kd_core.config.teachers import TeacherParams
from kd_core.config.training import PretrainParams
from kd_core.inference.batches import collate, encode
from kd_core.models.student import StudentModel
from kd_core.rows import write_rows
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.serving.predictor import Predictor
from kd_core.teachers.model import Teacher, prepare, read_record, save_teacher
from kd_ops.base.settings import Settings
from kd_ops.registering import register
from kd_ops.registry.registry import connect
from kd_ops.resolving.resolve import resolve
from kd_ops.stages import inputs
from tests.helpers import distilling
from tests.helpers.fabricated import finished_run, real_student
from tests.helpers.one_unit import pretrain
from tests.helpers.recipes import bring
from tests.helpers.tiny import LABELS, tiny_rows, tiny_task, tiny_teacher

FINE_TUNE = "{epochs: 1, learning_rate: 0.001}"


@pytest.fixture(scope="module")
def champion(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the student that is registered as kd-last@champion."""
    student = real_student(tmp_path_factory.mktemp("student") / "student")
    run = finished_run(settings, "last", student=student, overrides=("registry.name=kd-last",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(register, "prove", lambda packed, folder: None)
        version = register.register(run, settings).version
    connect(settings).set_registered_model_alias("kd-last", "champion", version)
    return student


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_teacher(tmp_path_factory.mktemp("theirs") / "theirs")


def taught(
    address: str, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, *more: str, rows: int = 9
) -> Path:
    """What `teach` makes of the address, from resolve on; the teacher's folder."""
    overrides = [f"teachers.mine.weights={address}", f"data.reference.task.labels=[{', '.join(LABELS)}]", *more]
    run = resolve(bring(folder / "own"), overrides, settings=settings)
    root = folder / "workspace"
    inputs.lay_out(inputs.mentioned(run.params()), settings.store_uri, root)
    (root / "params.yaml").write_bytes(run.params_document())
    for split, seed in (("train", 1), ("valid", 2)):
        write_rows(root / f"data/checked/reference/{split}.parquet", tiny_rows(rows, seed=seed))
    monkeypatch.chdir(root)
    teach.main(Context(teach.COMPONENT, {"teacher": "mine"}, root))
    return root / "teachers/mine"


def probabilities(folder: Path) -> torch.Tensor:
    teacher = Teacher.load(folder)
    encoded = encode(tiny_rows(12), teacher.tokenizer, teacher.task)
    with torch.no_grad():
        return teacher.logits(collate(encoded, range(12), teacher.tokenizer.pad_token_id)).softmax(-1).squeeze(1)


def register_folder(settings: Settings, name: str, folder: Path) -> None:
    client = connect(settings)
    client.create_registered_model(name)
    client.create_model_version(name, source=folder.as_uri())


def test_last_week_s_champion_teaches(
    champion: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = taught("models:/kd-last@champion", tmp_path, settings, monkeypatch)
    full = Predictor.load(champion).predict_rows(tiny_rows(12), threshold=0.0)
    torch.testing.assert_close(probabilities(folder), torch.from_numpy(full.probabilities))
    assert read_record(folder)["weights"] == "models:/kd-last/1", "an alias moves, a record must not"
    assert Teacher.load(folder).labels == LABELS
    saved = StudentModel.from_pretrained(folder)
    assert not saved.branches, "the full model answers: branches would only be carried along"
    said = pipeline("text-classification", model=str(folder), device="cpu")(tiny_rows(12)["text"].tolist())
    assert [LABELS.index(answer["label"]) for answer in said] == full.answers.values.tolist()


def test_the_champion_can_be_fine_tuned_for_other_labels(
    champion: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = "data.reference.task.labels=[red, green, blue, grey]"
    fine_tune = f"teachers.mine.fine_tune={FINE_TUNE}"
    folder = taught("models:/kd-last/1", tmp_path, settings, monkeypatch, labels, fine_tune, rows=90)
    assert probabilities(folder).shape == (12, 4)
    before, after = StudentModel.from_pretrained(champion), StudentModel.from_pretrained(folder)
    assert list(after.decoders) == ["gold"]
    pairs = zip(before.encoder.parameters(), after.encoder.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)


def test_a_student_s_outputs_may_be_renamed_but_its_layers_stay(
    champion: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = "data.reference.task.labels=[blue, green, red]"
    folder = taught("models:/kd-last/1", tmp_path / "one", settings, monkeypatch, ours)
    full = Predictor.load(champion).predict_rows(tiny_rows(12), threshold=0.0)
    torch.testing.assert_close(probabilities(folder), torch.from_numpy(full.probabilities[:, [2, 1, 0]].copy()))
    with pytest.raises(ParamsError, match=r"teachers\.mine\.layers: models:/kd-last/1 is a distilled student"):
        taught("models:/kd-last/1", tmp_path / "two", settings, monkeypatch, "teachers.mine.layers=[0]")


def test_a_model_that_mlflow_logged_teaches(
    theirs: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights in `model`, the tokenizer in `components/tokenizer`."""
    import mlflow

    client = connect(settings)
    experiment = client.create_experiment("theirs", artifact_location=(tmp_path / "artifacts").as_uri())
    model = AutoModelForSequenceClassification.from_pretrained(theirs)
    tokenizer = AutoTokenizer.from_pretrained(theirs)
    with mlflow.start_run(experiment_id=experiment):
        mlflow.transformers.log_model(
            pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu"),
            name="theirs",
            registered_model_name="theirs",
            pip_requirements=["transformers"],
        )
    client.set_registered_model_alias("theirs", "best", "1")
    folder = taught("models:/theirs@best", tmp_path, settings, monkeypatch)
    torch.testing.assert_close(probabilities(folder), probabilities(theirs))


def test_a_version_that_is_one_folder_teaches_and_its_address_repeats(
    theirs: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_folder(settings, "plain", theirs)
    folder = taught("models:/plain/1", tmp_path, settings, monkeypatch)
    torch.testing.assert_close(probabilities(folder), probabilities(theirs))
    register_folder(settings, "elsewhere", Path(shutil.copytree(theirs, tmp_path / "another-name")))
    found = [
        resolve(bring(tmp_path / name), [f"teachers.mine.weights=models:/{name}/1"], settings=settings).params()
        for name in ("plain", "elsewhere")
    ]
    addresses = {params["resolved"]["teachers"]["mine"]["address"] for params in found}
    assert len(addresses) == 1, "the same content has the same name, whatever its folder was called"


def test_versions_that_cannot_teach_are_refused_by_name(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    register_folder(settings, "empty", tmp_path / "empty")
    for address, error, said in (
        ("models:/empty/1", InvalidDataError, "models:/empty/1: holds 0 folders with safetensors weights"),
        ("models:/empty@nobody", ParamsError, r"teachers\.mine\.weights: .*alias 'nobody'"),
        ("models:/empty", ParamsError, "models:/NAME@ALIAS or models:/NAME/VERSION"),
    ):
        with pytest.raises(error, match=said):
            resolve(bring(tmp_path / str(len(said))), [f"teachers.mine.weights={address}"], settings=settings)


def test_a_champion_may_lend_its_self_attention(champion: Path, tmp_path: Path) -> None:
    """The live teacher's last layer is looked at inside its encoder, whatever stands around it."""
    spec = TeacherParams(weights=str(champion))
    save_teacher(prepare("mine", spec, tiny_task(), champion), tmp_path, {})
    live, rows = Teacher.load(tmp_path), tiny_rows(20)
    student = distilling.tiny_student({"mine": list(LABELS)}, heads=2)
    params = PretrainParams(teachers=("mine",), optimisation=distilling.optimisation(epochs=1), live_teacher="mine")
    scores = {"mine": torch.zeros(len(rows), len(LABELS))}
    curves = pretrain(student, live.tokenizer, rows, scores, tiny_task(), params, live, distilling.PROGRESS)
    assert all(value > 0 for _, value in curves["relation_attention"])
