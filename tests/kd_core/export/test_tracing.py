"""Students of every architecture become graphs that answer as PyTorch does, or are refused; the files tell no place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from kd_core.config.evaluation import ExportParams
from kd_core.export import checking as serve
from kd_core.export.checking import serve_graphs
from kd_core.export.packing import MASKED
from kd_core.export.tracing import inputs_of, trace
from kd_core.inference.all_exits import all_exits
from kd_core.inference.batches import encode
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.serving.folder.record import ModelRecord
from kd_core.serving.graphs.tokens import TextEncoder
from tests.conftest import PROJECT
from tests.helpers.tiny import tiny_rows, tiny_student
from tests.helpers.tiny_exits import TASK, exported_student
from tests.helpers.traced import traced
from tests.kd_core.models.test_architectures import base_of, every_kind


def student_of(architecture: str, folder: Path, layers: int = 2) -> tuple[StudentModel, Path]:
    base = base_of(architecture, folder, layers=layers)
    student = tiny_student(base, layers=tuple(range(layers)), hidden=None, heads=None)
    student.add_branches(width=8)
    with torch.no_grad():  # texts are told apart
        for head in (student.branches, student.decoders):
            for parameter in head.parameters():
                parameter.mul_(30.0)
    return student.eval(), base


@pytest.mark.slow
@every_kind
def test_every_architecture_answers_as_pytorch_does(architecture: str, tmp_path: Path) -> None:
    student, base = student_of(architecture, tmp_path)
    tokenizer, rows = load_tokenizer(base), tiny_rows(30)
    served = serve_graphs(student, tokenizer, TASK, ExportParams(), rows, rows, tmp_path / "onnx")
    encoded = encode(rows, tokenizer, TASK)
    expected = all_exits(student, encoded, tokenizer.pad_token_id)
    assert expected.probabilities.std(0).max() > 0.01, "too flat to tell anything"
    tokens = served.tokens(rows)
    for batch_tokens in (1, 100, 10_000):
        served.executor.batching.batch_tokens = batch_tokens
        found = served.executor.all_exits(tokens)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
        whole = served.executor.answer(tokens, (0.0,))
        np.testing.assert_allclose(whole.probabilities, expected.only(2).values, atol=1e-5)


def test_the_student_attends_as_before_after_its_export(tmp_path: Path) -> None:
    student, base = student_of("bert", tmp_path, layers=1)
    before = student.encoder.config._attn_implementation
    trace(student, inputs_of(student, load_tokenizer(base)))
    assert student.encoder.config._attn_implementation == before == "sdpa"


def test_what_cannot_be_traced_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, base = student_of("bert", tmp_path, layers=1)
    embed = StudentModel.embed

    def data_dependent(self: StudentModel, batch: dict[str, Tensor]) -> Tensor:
        found = embed(self, batch)
        return found if bool(found.sum() > 0) else -found

    monkeypatch.setattr(StudentModel, "embed", data_dependent)
    with pytest.raises(ParamsError, match="encoder of kind 'bert' cannot be exported to ONNX"):
        trace(student, inputs_of(student, load_tokenizer(base)))


@pytest.mark.parametrize("head", ["decoders.gold.linear.weight", "branches.1.linear.weight"])
def test_graphs_that_answer_otherwise_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    """At the last exit or at any before it."""
    student, base = student_of("bert", tmp_path)

    def wrong(model: StudentModel, names: Sequence[str]) -> onnx.ModelProto:
        graph = traced(model, names)
        (weight,) = (each for each in graph.graph.initializer if each.name == f"model.{head}")
        values = onnx.numpy_helper.to_array(weight).copy()
        values[0] *= -1
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        return graph

    monkeypatch.setattr(serve, "trace", wrong)
    with pytest.raises(InvalidDataError, match="'bert': its ONNX graphs differ from PyTorch"):
        serve_graphs(student, load_tokenizer(base), TASK, ExportParams(), tiny_rows(5), tiny_rows(5), tmp_path / "onnx")


def test_tokens_that_are_cut_otherwise_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, base = student_of("bert", tmp_path, layers=1)
    ours = TextEncoder.encode
    monkeypatch.setattr(TextEncoder, "encode", lambda self, columns: ours(self, [[f"a {t}" for t in columns[0]]]))
    with pytest.raises(InvalidDataError, match="does not cut texts as the student's own does"):
        serve_graphs(student, load_tokenizer(base), TASK, ExportParams(), tiny_rows(5), tiny_rows(5), tmp_path / "onnx")


@pytest.mark.parametrize("quantise", ["none", "static"])
def test_a_tokenizer_without_token_types_serves_an_encoder_with_them(tmp_path: Path, quantise: str) -> None:
    """As multilingual MiniLM: BERT's encoder with XLM-R's tokenizer."""
    student, base = student_of("bert", tmp_path)
    tokenizer, rows = load_tokenizer(base), tiny_rows(10)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    params = ExportParams(quantise=quantise, min_agreement=0)  # type: ignore[arg-type]
    served = serve_graphs(student, tokenizer, TASK, params, rows, rows, tmp_path / "onnx")
    assert served.tokens(rows).types is None
    expected = all_exits(student, encode(rows, tokenizer, TASK), tokenizer.pad_token_id)
    found = served.executor.all_exits(served.tokens(rows))
    if quantise == "none":
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    else:
        assert served.network.precision == "int8 static"


def test_a_tokenizer_without_a_file_of_its_own_is_refused(tmp_path: Path) -> None:
    student, _ = student_of("bert", tmp_path, layers=1)
    with pytest.raises(ParamsError, match=r"tokenizer SlowTokenizer has no tokenizer\.json"):
        serve_graphs(student, SlowTokenizer(), TASK, ExportParams(), tiny_rows(5), tiny_rows(5), tmp_path / "onnx")


class SlowTokenizer:
    """As a tokenizer in Python looks like to who asks it for its backend."""


def test_the_files_name_no_folder_of_this_machine(tmp_path: Path) -> None:
    for file in (exported_student(tmp_path) / "onnx").iterdir():
        content = file.read_bytes()
        for place in (b"site-packages", str(PROJECT).encode(), str(tmp_path).encode(), b"/root/"):
            assert place not in content, file.name


def test_layers_compute_no_padding_where_only_attention_knows_of_places(tmp_path: Path) -> None:
    """Queries, keys, values and what follows are products with one row a token, in segments and in the whole."""
    for architecture, packed in (("bert", True), ("mpnet", False)):
        student, base = student_of(architecture, tmp_path / architecture)
        tokenizer, rows = load_tokenizer(base), tiny_rows(5)
        folder = tmp_path / architecture
        network = serve_graphs(student, tokenizer, TASK, ExportParams(), rows, rows, folder).network
        for file, layers in (*((each.file, 1) for each in network.segments), (network.whole.file, 2)):
            graph = onnx.load(folder / file).graph
            ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in graph.value_info}
            norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
            expected = 2 if packed else 3
            assert sum(ranks[node.output[0]] == expected for node in norms) >= 2 * layers, file
            assert ("token_places" in {each.name for each in graph.input}) == packed


def test_padding_has_no_denormal_share_of_attention(tmp_path: Path) -> None:
    """Processors take longer with them; what padding has is nothing beside 1, yet a normal number."""
    assert 0 < np.exp(np.float32(MASKED)) < np.finfo(np.float32).eps / 1e6
    assert np.exp(np.float32(MASKED - 27)) > np.finfo(np.float32).tiny
    student, base = student_of("bert", tmp_path, layers=1)
    graph = traced(student, inputs_of(student, load_tokenizer(base))).graph
    scores = [each.f for node in graph.node for each in node.attribute if each.name == "mask_filter_value"]
    assert scores == [MASKED]


def test_segments_share_layers_out_and_the_whole_has_no_branch(tmp_path: Path) -> None:
    folder = exported_student(tmp_path)
    record = ModelRecord.read(folder)
    assert [(each.first, each.last) for each in record.segments] == [(1, 1), (2, 2), (3, 3)]

    def norms(file: str) -> int:
        return sum(node.op_type == "LayerNormalization" for node in onnx.load(folder / file).graph.node)

    assert [norms(each.file) for each in record.segments] == [3, 2, 2], "one behind the embeddings, two a layer"
    assert norms(record.whole.file) == 7
    whole = onnx.load(folder / record.whole.file)
    assert not [node for node in whole.graph.node if node.op_type == "Tanh"], "only branches have it"
    assert [each.name for each in whole.graph.output] == ["probabilities_3"]
    there = {str(path.relative_to(folder)) for path in (folder / "onnx").iterdir()}
    assert there | {"profile.parquet"} == {each.file for each in record.files}
