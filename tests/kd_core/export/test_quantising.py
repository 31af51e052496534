"""int8: products with weights only, labels that stay, thresholds chosen anew, answers that no company changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest

from kd_core.config.evaluation import ExportParams
from kd_core.export import checking as serve
from kd_core.export.checking import shared_out
from kd_core.export.fit_dial import fit_dial
from kd_core.export.quantising import agreement
from kd_core.export.stage import export
from kd_core.models.loading import load_tokenizer
from kd_core.rows import write_rows
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.exits.outcomes import Exits
from kd_core.serving.folder.profile import Profile
from kd_core.serving.folder.record import ModelRecord
from kd_core.serving.graphs.executor import Executor
from kd_core.serving.graphs.graphs import Feeds
from kd_core.serving.graphs.tokens import Tokens
from kd_core.serving.predictor import Predictor
from tests.helpers.tiny import tiny_rows
from tests.helpers.tiny_exits import LOOSE, TASK, export_student, exported_student, save_student, tiny_student
from tests.kd_core.export.test_tracing import student_of


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_student(tmp_path_factory.mktemp("static"), quantise="static", min_agreement=0.5)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_student(tmp_path_factory.mktemp("plain"))


def test_weights_are_small_and_the_rest_is_not(static: Path, plain: Path) -> None:
    record = ModelRecord.read(static)
    assert record.precision == "int8 static"
    for file, layers in (*((each.file, 1) for each in record.segments), (record.whole.file, 3)):
        graph = onnx.load(static / file).graph
        kinds = {each.name: each.data_type for each in graph.initializer}
        products = [node for node in graph.node if node.op_type == "Gemm"]
        rounded = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
        with_weights = [node for node in products if set(node.input) <= rounded]
        assert len(with_weights) == 6 * layers, "query, key, value, output, up, down"
        assert all(not set(node.input) & rounded for node in products if node not in with_weights), "exits"
        readers = [node.op_type for node in graph.node if set(node.input) & rounded]
        assert set(readers) == {"Gemm"}, "the residual stream, attention, norms and exits stay as they were"
        scales = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in kinds]
        assert scales
        for node in scales:
            if kinds[node.input[0]] == onnx.TensorProto.INT32:
                continue  # a bias, exact enough by the scales of what it is added to
            scale = next(each for each in graph.initializer if each.name == node.input[1])
            assert len(onnx.numpy_helper.to_array(scale)) > 1, "one for each output"
            zero = next(each for each in graph.initializer if each.name == node.input[2])
            assert not onnx.numpy_helper.to_array(zero).any(), "symmetric"
    sizes = [sum(path.stat().st_size for path in (folder / "onnx").glob("*.onnx")) for folder in (static, plain)]
    assert sizes[0] < sizes[1]


def test_attention_s_own_products_stay_where_layers_are_padded(tmp_path: Path) -> None:
    """MPNet's layers are products of tensors with three axes, of which attention's have no weight."""
    student, base = student_of("mpnet", tmp_path)
    params, rows = ExportParams(quantise="static", min_agreement=0), tiny_rows(10)
    found = serve.serve_graphs(student, load_tokenizer(base), TASK, params, rows, rows, tmp_path)
    assert found.network.precision == "int8 static"
    graph = onnx.load(tmp_path / found.network.whole.file).graph
    rounded = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    with_weights = [node for node in products if set(node.input) <= rounded]
    assert len(with_weights) == 6 * 2, "query, key, value, output, up, down"
    assert len(products) > len(with_weights)
    assert all(not set(node.input) & rounded for node in products if node not in with_weights), "attention's own"
    assert {node.op_type for node in graph.node if set(node.input) & rounded} == {"MatMul"}


def test_what_came_of_it_is_on_record(static: Path, plain: Path) -> None:
    found = ModelRecord.read(static).quantisation
    assert found["asked"] == "static"
    assert found["precision"] == "int8 static"
    assert found["rows"] == 20
    assert found["agreement"] >= found["min_agreement"] == 0.5
    assert ModelRecord.read(plain).quantisation == {}


def test_agreement_is_of_the_full_model_s_labels() -> None:
    one = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.2, 0.8]]], dtype=np.float32)
    other = np.array([[[0.1, 0.9], [0.8, 0.2]], [[0.1, 0.9], [0.6, 0.4]]], dtype=np.float32)
    assert agreement(Exits((1, 2), one, "classification"), Exits((1, 2), other, "classification")) == 0.5, (
        "not 0, as the first exit's"
    )


def test_int8_that_changes_labels_does_not_serve(tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs are fp32's then, to the byte, and the record says why."""
    monkeypatch.setattr(serve, "agreement", lambda parent, found: 0.97)
    exported = exported_student(tmp_path, quantise="static", min_agreement=0.98)
    for file in (plain / "onnx").glob("*.onnx"):
        assert (exported / "onnx" / file.name).read_bytes() == file.read_bytes(), file.name
    found = ModelRecord.read(exported).quantisation
    assert (found["asked"], found["precision"], found["agreement"]) == ("static", "fp32", 0.97)
    check_calibrated_as_it_serves(exported)


def test_the_exits_are_calibrated_as_they_serve(static: Path) -> None:
    """Entropies shift with the rounding: the dial is the quantised exits', on rows that gave no ranges."""
    check_calibrated_as_it_serves(static)


def check_calibrated_as_it_serves(folder: Path) -> None:
    rows, predictor = tiny_rows(40), Predictor.load(folder)
    exits = predictor.all_exits(rows)
    dial = fit_dial(exits.uncertainty[:, :-1], exits.disagrees, exits.layers, LOOSE.confidence)
    assert predictor.record.dial == dial
    assert predictor.record.thresholds == dial.at(LOOSE.max_disagreement).thresholds
    profile = Profile.read(folder)
    np.testing.assert_allclose(profile.uncertainty, exits.uncertainty, atol=1e-5)
    assert profile.lengths.tolist() == predictor.tokens(rows).lengths.tolist()


def test_ranges_and_choice_have_texts_of_every_class() -> None:
    """Rows come sorted, often by what their label follows from."""
    rows = pd.DataFrame({"id": [f"{label}/{number:03}" for label in "abcdefgh" for number in range(50)]})
    ranges, tested = shared_out(rows, 100)
    assert len(ranges) == 100
    assert sorted([*ranges["id"], *tested["id"]]) == rows["id"].tolist()
    for part in (ranges, tested):
        counts = part["id"].str[0].value_counts()
        assert len(counts) == 8
        assert counts.min() >= 5
        assert part["id"].is_monotonic_increasing
    assert len(shared_out(rows, 0)[1]) == 400


def test_padding_does_not_widen_the_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[Feeds] = []
    monkeypatch.setattr(serve, "quantised", lambda graph, given: batches.extend(given) or graph)
    export_student(tmp_path, quantise="static")
    assert len(batches) == 20
    for batch in batches:
        assert len(batch["input_ids"]) == 1
        assert batch["attention_mask"].all()


@pytest.mark.parametrize("batch_tokens", [1, 40, 200, 10_000])
def test_answers_do_not_depend_on_the_company(static: Path, batch_tokens: int) -> None:
    predictor = Predictor.load(static)
    tokens = predictor.tokens(tiny_rows(61))
    expected = predictor.executor.all_exits(tokens)
    found = Executor(predictor.executor.graphs, None, batch_tokens).all_exits(tokens)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    order = np.random.default_rng(1).permutation(61).tolist()
    types = None if tokens.types is None else [tokens.types[row] for row in order]
    mixed = Tokens([tokens.ids[row] for row in order], types, tokens.lengths[order])
    again = Executor(predictor.executor.graphs, None, batch_tokens).all_exits(mixed)
    np.testing.assert_allclose(again.probabilities, expected.probabilities[order], atol=1e-5)


def test_segments_and_whole_graph_round_alike(static: Path) -> None:
    predictor = Predictor.load(static)
    tokens = predictor.tokens(tiny_rows(30))
    full = predictor.executor.answer(tokens, (0.0, 0.0)).probabilities
    np.testing.assert_allclose(full, predictor.executor.all_exits(tokens).only(3).values, atol=1e-5)


def test_no_row_that_tests_the_dial_chooses_the_graphs(tmp_path: Path) -> None:
    """By construction: with other calibration rows the graphs are the same to the byte, and all rows test the dial."""
    trained = save_student(tiny_student(tmp_path), tmp_path / "trained")
    found = {}
    for name, valid, calibration in (("one", 5, 0), ("another dial", 5, 1), ("another choice", 6, 0)):
        folder = tmp_path / name
        write_rows(folder / "valid.parquet", tiny_rows(40, seed=valid))
        write_rows(folder / "calibration.parquet", tiny_rows(60, seed=calibration))
        params = LOOSE.model_copy(update={"quantise": "static", "min_agreement": 0.5})
        export(
            trained, folder / "calibration.parquet", folder / "student", TASK, params, valid=folder / "valid.parquet"
        )
        record = ModelRecord.read(folder / "student")
        assert record.dial.rows + record.dial.design_rows == 60
        found[name] = (record.whole.sha256, record.quantisation), record.dial
    assert found["one"][0] == found["another dial"][0]
    assert found["one"][1] != found["another dial"][1]
    assert found["one"][0] != found["another choice"][0]


@pytest.mark.parametrize("rows", [0, 1])
def test_int8_without_texts_for_it_is_refused(tmp_path: Path, rows: int) -> None:
    trained = save_student(tiny_student(tmp_path), tmp_path / "trained")
    for name, count in (("calibration", 20), ("valid", rows)):
        write_rows(tmp_path / f"{name}.parquet", tiny_rows(count))
    files, params = [tmp_path / f"{name}.parquet" for name in ("calibration", "valid")], ExportParams(quantise="static")
    with pytest.raises(InvalidDataError, match="the valid split has no texts for int8; set data"):
        export(trained, files[0], tmp_path / "student", TASK, params, valid=files[1])
