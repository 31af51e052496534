"""Which test rows count as trained on, and that the record that says so holds no text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kd_core.config.data import DataParams
from kd_core.data.dataset import build_dataset
from kd_core.data.splits.ledger import Ledger
from kd_core.evaluation.quality.contamination import TrainedTexts, contaminated
from kd_core.runtime.errors import InvalidDataError

SENTENCE = "one two three four five six seven eight nine"


def rows(*texts: str, groups: str = "", pairs: tuple[str, ...] = ()) -> pd.DataFrame:
    """Rows with groups named by single letters; each its own by default."""
    names = list(groups) if groups else [f"own {text}" for text in texts]
    frame = pd.DataFrame({"group": names, "text": list(texts)})
    return frame.assign(text_pair=list(pairs)) if pairs else frame


def seen(test: pd.DataFrame, trained: pd.DataFrame) -> list[bool]:
    found: list[bool] = contaminated(test, TrainedTexts.of([trained]), 0.8).tolist()
    return found


def test_the_same_text_and_its_near_duplicates_count_and_others_do_not() -> None:
    test = rows(SENTENCE, SENTENCE.upper() + "!", SENTENCE.replace("nine", "ten"), "one two three", "something else")
    assert seen(test, rows(SENTENCE)) == [True, True, True, False, False]


def test_a_group_counts_whole() -> None:
    """What were left of it would be what is unlike the training text."""
    test = rows(SENTENCE, "quite another text", "and one more", groups="aab")
    assert seen(test, rows(SENTENCE)) == [True, True, False]


def test_a_text_of_the_same_group_counts_however_unlike_it_is() -> None:
    assert seen(rows("red", "green", groups="ab"), rows("blue", groups="a")) == [True, False]


def test_pairs_count_by_both_texts() -> None:
    test = rows("ask", "ask", groups="ab", pairs=("first answer", "second reply"))
    assert seen(test, rows("ask", pairs=("first answer",)).assign(group="x")) == [True, False]


def test_texts_without_words_make_nobody_a_near_duplicate() -> None:
    assert seen(rows("", " ", groups="ab"), rows("", "", groups="ab")) == [False, False]


def test_nothing_trained_and_nothing_tested() -> None:
    assert contaminated(rows("a"), TrainedTexts(), 0.8).tolist() == [False]
    assert contaminated(rows("a").head(0), TrainedTexts.of([rows("a")]), 0.8).tolist() == []


def test_a_record_repeats_and_holds_no_text() -> None:
    frames = [rows(SENTENCE, "elsewhere"), rows("third")]
    record = TrainedTexts.of(frames)
    data = record.to_bytes()
    assert data == TrainedTexts.of(frames[::-1]).to_bytes()
    assert TrainedTexts.from_bytes(data, "name") == record
    unnamed = TrainedTexts.of([frame.assign(group="g") for frame in frames]).to_bytes()
    assert b"elsewhere" not in unnamed
    both = TrainedTexts.of(frames[:1]) | TrainedTexts.of(frames[1:])
    assert both == record
    with pytest.raises(InvalidDataError, match=r"ledgers/x\.parquet"):
        TrainedTexts.from_bytes(b"damaged", "ledgers/x.parquet")


def test_data_seen_before_meet_in_their_test_what_a_run_between_trained_on() -> None:
    """A rerun starts from its first ledger, so that it is found in the cache: the rows it tests may be gold by then."""
    random = np.random.default_rng(0)
    words = [f"w{number}" for number in range(4000)]
    texts = [" ".join(random.choice(words, 8)) for _ in range(400)]
    source = pd.DataFrame({"id": [f"{i:03d}" for i in range(400)], "text": texts, "label": ["a", "b"] * 200})

    def split(earlier: Ledger, **sizes: float) -> tuple[dict[str, pd.DataFrame], Ledger]:
        values = {"task": {"kind": "classification", "labels": ["a", "b"]}, "split": {"valid": 0, "calibration": 0}}
        values["split"] |= sizes
        params = DataParams.model_validate({"source": {"kind": "files", "path": "x"}, **values})
        dataset = build_dataset(source, params, earlier, "1", "reference")
        return dict(dataset.splits), dataset.ledger

    first, after_first = split(Ledger(), train=100, test=100)
    between, _ = split(after_first, train=200, test=50)
    again, _ = split(Ledger(), train=100, test=100)
    assert set(again["test"]["id"]) == set(first["test"]["id"])
    gold = set(again["test"]["id"]) & set(between["train"]["id"])
    assert gold, "test rows of the third run are gold training rows of the second"
    trained = TrainedTexts.of([between[name] for name in ("train", "unlabelled")])
    found = again["test"].loc[contaminated(again["test"], trained, 0.8), "id"]
    read = {*between["train"]["id"], *between["unlabelled"]["id"]}
    assert set(found) == set(again["test"]["id"]) & read >= gold
