"""The student: one encoder, a multi-decoder layer, and branches that let certain texts leave early.

docs/methods.md §1 (decoders, update, infer) and §2 (branches).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from kd_core.config.data import Kind
from kd_core.config.student import Combine, Pooling
from kd_core.models import (
    layers,
    static_encoder,  # noqa: F401 - transformers knows it from then on
)
from kd_core.models.kinds import name_kind
from kd_core.models.student_config import StudentConfig
from kd_core.models.weights import read_tensors
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.tasks import heads
from kd_core.tasks.heads.modules import Branch, Decoder, combine


class StudentModel(PreTrainedModel):  # type: ignore[misc]
    """Encoder, decoders by name, branches by the number of the layer they follow (1-based, as a string)."""

    config: StudentConfig
    config_class = StudentConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        if not config.encoder or not config.decoders or not config.labels:
            raise ParamsError("a student's config needs encoder, decoders and labels")
        values = {key: value for key, value in config.encoder.items() if key != "model_type"}
        encoder_config = AutoConfig.for_model(config.encoder["model_type"], **values)
        self.encoder = AutoModel.from_config(encoder_config, trust_remote_code=False)  # sdpa wherever it has it
        self.encoder.pooler = None
        layers.encoder_layers(self.encoder)  # an architecture that cannot be stepped is refused here
        self.decoders = self._new_decoders()
        self.branches = self._new_branches()
        self.post_init()

    def _new_decoders(self) -> nn.ModuleDict:
        config = self.config
        size = layers.width(self.encoder)
        return nn.ModuleDict(
            {
                name: Decoder(size, len(owned), config.dropout, config.pooling, heads.of(self.kind_of(name)))
                for name, owned in (config.decoders or {}).items()
            }
        )

    def _new_branches(self) -> nn.ModuleDict:
        spec = self.config.branches or {"layers": []}
        size, outputs, kind = layers.width(self.encoder), len(self.config.labels or []), heads.of(self.config.kind)
        return nn.ModuleDict(
            {str(n): Branch(size, outputs, spec["width"], spec["pooling"], kind) for n in spec["layers"]}
        )

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], **kwargs: Any) -> StudentModel:
        """The model saved in a local folder, every weight read from its safetensors files, in eval mode.

        `AutoModelForSequenceClassification` and `transformers.pipeline` come here too, with their defaults. Raises
        InvalidDataError naming the file if one is damaged, or the weights that are missing or left over.
        """
        wishes = {key for key, value in kwargs.items() if value not in (None, False, "auto")}
        if wishes - {"config", "local_files_only"}:  # the folder's own config it is, and nothing is downloaded
            raise TypeError(f"StudentModel.from_pretrained takes a local folder only, not {', '.join(sorted(wishes))}")
        path = Path(folder)
        if not (path / "config.json").is_file():
            raise InvalidDataError(f"{path / 'config.json'}: missing; the folder holds no student")
        tensors = read_tensors(path)
        with fixed_seed(0):  # loading must not disturb the random numbers of a training that resumes
            model = cls(StudentConfig.from_pretrained(path, local_files_only=True))
        try:
            model.load_state_dict(tensors, strict=True)
        except RuntimeError as error:
            raise InvalidDataError(f"{path}: weights and config.json do not belong together: {error}") from None
        return model.eval()  # type: ignore[no-any-return]

    @property
    def layer_count(self) -> int:
        """Layers L of the encoder."""
        return len(layers.encoder_layers(self.encoder))

    def embed(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Embeddings [B, L, H] of a batch with input_ids and, where the encoder has them, token_type_ids."""
        return layers.embed(self.encoder, batch)

    def hidden_states(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Embeddings and the output of each layer: L + 1 tensors [B, L, H]."""
        states = [self.embed(batch)]
        inputs = layers.attention_inputs(self.encoder, states[0], batch["attention_mask"])
        for index in range(self.layer_count):
            states.append(layers.step(self.encoder, index, states[-1], inputs))
        return tuple(states)

    def kind_of(self, decoder: str) -> Kind:
        """What the logits of a decoder stand for."""
        return (self.config.decoder_kinds or {}).get(decoder, self.config.kind)

    def has_say(self, decoder: str) -> bool:
        """Whether a decoder is for the labels of the task, and of its kind."""
        config = self.config
        return bool((config.decoders or {})[decoder] == config.labels and self.kind_of(decoder) == config.kind)

    def decode(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each decoder's logits [B, U, C of that decoder] from the last hidden states of a batch."""
        return {name: decoder(hidden, batch) for name, decoder in self.decoders.items()}

    def decoded(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each decoder's logits [B, U, C of that decoder] for a batch."""
        return self.decode(self.hidden_states(batch)[-1], batch)

    def answer(self, logits: Mapping[str, Tensor]) -> Tensor:
        """Probabilities [B, U, C] in the order of `config.labels`: the combined answer of the task's decoders.

        Decoders with other labels than the task's, or of another kind, train the encoder but have no say. Raises
        ParamsError if none has.
        """
        config = self.config
        asked = {name: value for name, value in logits.items() if self.has_say(name)}
        if not asked:
            raise ParamsError(f"no decoder predicts the task's labels (decoders: {', '.join(logits)})")
        return combine(asked, config.combine, config.decoder_weights or {}, heads.of(config.kind))

    def branch_logits(self, layer: int, hidden: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits [B, U, C] of the branch after layer `layer` (1-based) from that layer's output."""
        branch = self.branch(layer)
        logits: Tensor = branch(branch.gathered(hidden, batch))
        return logits

    def branch(self, layer: int) -> Branch:
        """The exit after layer `layer` (1-based)."""
        return cast(Branch, self.branches[str(layer)])

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None, **features: Tensor
    ) -> SequenceClassifierOutput:
        """The full model's answer; `.logits` [B, C] are its log-probabilities (multi-label: log-odds)."""
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, **features}
        if token_type_ids is not None:
            batch["token_type_ids"] = token_type_ids
        kind = heads.of(self.config.kind)
        return SequenceClassifierOutput(logits=kind.as_transformers(kind.logits_of(self.answer(self.decoded(batch)))))

    def replace_decoders(
        self,
        decoders: Mapping[str, Sequence[str]],
        labels: Sequence[str],
        combine: Combine,
        kind: Kind,
        seed: int = 0,
    ) -> None:
        """Replace the multi-decoder layer; the encoder stays as it is, branches of the old task are dropped.

        `kind` is that of the new task, whatever the old one's was, and of all decoders.
        """
        self.config.decoders = {name: list(owned) for name, owned in decoders.items()}
        self.config.labels = list(labels)
        self.config.id2label = dict(enumerate(labels))
        self.config.label2id = {label: index for index, label in enumerate(labels)}
        self.config.combine, self.config.decoder_weights, self.config.branches = combine, None, None
        self.config.decoder_kinds, self.config.kd_kind = None, None
        name_kind(self.config, kind)
        with fixed_seed(seed):
            self.decoders, self.branches = self._new_decoders(), self._new_branches()
            self._initialise(self.decoders)

    def add_branches(self, width: int, pooling: Pooling | None = None, seed: int = 0) -> None:
        """Add a fresh branch after every layer but the last; `pooling` None: as the trunk's."""
        numbers = list(range(1, self.layer_count))
        self.config.branches = {"layers": numbers, "width": width, "pooling": pooling or self.config.pooling}
        with fixed_seed(seed):
            self.branches = self._new_branches()
            self._initialise(self.branches)

    def _initialise(self, fresh: nn.ModuleDict) -> None:
        for module in fresh.modules():
            self._init_weights(module)
        fresh.to(device=self.device, dtype=self.dtype)
        fresh.train(self.training)

    def trunk_parameters(self) -> list[nn.Parameter]:
        """Parameters of embeddings, layers and decoders."""
        return layers.parameters_of(self.encoder, self.decoders)


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Random numbers of torch start from `seed` inside, and go on as before outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


AutoConfig.register(StudentConfig.model_type, StudentConfig)
AutoModelForSequenceClassification.register(StudentConfig, StudentModel)
