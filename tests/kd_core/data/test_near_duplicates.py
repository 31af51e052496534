"""Near-duplicate groups equal brute force, at any similarity."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_core.data.splits import near_duplicates, prefix_index
from kd_core.data.splits.components import Components
from kd_core.data.splits.near_duplicates import (
    is_near_duplicate,
    near_duplicate_groups,
    near_duplicates_of,
)
from kd_core.data.splits.words import normalised_words, signature, stable_order, word_set
from kd_core.runtime.errors import InvalidDataError

WORD_SETS = st.lists(st.frozensets(st.integers(0, 12), max_size=9), max_size=25)
SIMILARITY = st.sampled_from([0.1, 0.3, 0.5, 2 / 3, 0.75, 0.8, 0.9, 1.0])


@settings(deadline=None, max_examples=300)
@given(sets=WORD_SETS, similarity=SIMILARITY)
def test_groups_are_the_components_that_brute_force_finds(sets: list[frozenset[int]], similarity: float) -> None:
    components = Components(len(sets))
    for i, j in combinations(range(len(sets)), 2):
        union = len(sets[i] | sets[j])
        if sets[i] and sets[j] and len(sets[i] & sets[j]) / union >= similarity - 1e-9:
            components.join(i, j)
    assert near_duplicate_groups(sets, similarity) == components.names()


@settings(deadline=None, max_examples=300)
@given(queries=WORD_SETS, targets=WORD_SETS, similarity=SIMILARITY)
def test_near_duplicates_of_finds_one_exactly_where_there_is_one(
    queries: list[frozenset[int]], targets: list[frozenset[int]], similarity: float
) -> None:
    found = near_duplicates_of(queries, targets, similarity)
    for query, match in zip(queries, found, strict=True):
        there = [i for i, target in enumerate(targets) if is_near_duplicate(query, target, similarity)]
        assert (match is None) == (not there)
        assert match is None or match in there


@settings(deadline=None, max_examples=300)
@given(
    sets=WORD_SETS,
    queries=WORD_SETS,
    similarity=SIMILARITY,
    frequent=st.sampled_from([0, 1, 3, 64]),
    longest=st.integers(1, 4),
)
def test_keys_of_several_words_miss_nothing(
    sets: list[frozenset[int]], queries: list[frozenset[int]], similarity: float, frequent: int, longest: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_index, "FREQUENT", frequent)
        patch.setattr(prefix_index, "LONGEST", longest)
        test_groups_are_the_components_that_brute_force_finds.hypothesis.inner_test(sets, similarity)
        test_near_duplicates_of_finds_one_exactly_where_there_is_one.hypothesis.inner_test(queries, sets, similarity)


def test_the_bound_itself_counts() -> None:
    four_of_five = [word_set("a b c d"), word_set("a b c d e")]
    assert near_duplicate_groups(four_of_five, 0.8) == [0, 0]
    assert near_duplicate_groups(four_of_five, 0.81) == [0, 1]


def test_links_are_transitive_and_empty_texts_stay_alone() -> None:
    chain = [word_set("a b c d"), word_set("a b c d e"), word_set("a b c d e f"), frozenset(), frozenset()]
    assert near_duplicate_groups(chain, 0.8) == [0, 0, 0, 3, 4]


def test_similarity_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        near_duplicate_groups([word_set("a")], 0.0)


TEMPLATE = "transfer of {} euros to account {} failed yesterday evening as the bank said that our card was not valid"


@pytest.mark.parametrize(("words", "groups"), [(12, 1500), (19, 1)])
def test_templates_cost_about_one_comparison_a_text(words: int, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two numbers in one sentence: too different to be grouped, or all in one group; never all pairs."""
    template = " ".join(TEMPLATE.split()[:words])
    sets = [word_set(template.format(10_000 + n, 50_000 + n)) for n in range(1500)]
    monkeypatch.setattr(near_duplicates, "MOST_COMPARED", 1500)
    assert len(set(near_duplicate_groups(sets, 0.8))) == groups
    found = near_duplicates_of(sets[:750], sets[750:], 0.8)
    assert all((match is None) == (groups > 1) for match in found)


def filled(rows: int, values: int, fixed: int = 5, slots: int = 3) -> list[frozenset[int]]:
    """Texts of one template whose slots take some values each: no word says much."""
    draw = random.Random(0)
    words = " ".join(f"word{number}" for number in range(fixed))
    fill = (" ".join(f"slot{slot}value{draw.randrange(values)}" for slot in range(slots)) for _ in range(rows))
    return [word_set(f"{words} {slots}") for slots in fill]


def test_templates_with_values_that_come_often_cost_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one word in common nearly each text would be compared with each hundredth other one."""
    sets = filled(rows=5000, values=50)
    monkeypatch.setattr(near_duplicates, "MOST_COMPARED", 20_000)
    distinct = len(set(sets))
    assert len(set(near_duplicate_groups(sets, 0.8))) == distinct
    assert not any(match is not None for match in near_duplicates_of(sets[:50], list(set(sets) - set(sets[:50])), 0.8))
    monkeypatch.setattr(prefix_index, "LONGEST", 1)
    with pytest.raises(InvalidDataError, match="more than 20,000 pairs"):
        near_duplicate_groups(sets, 0.8)


def test_too_many_comparisons_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "MOST_COMPARED", 10)
    sets = [frozenset({a, b, 9}) for a in range(3) for b in range(3, 9)]
    with pytest.raises(InvalidDataError, match=r"18 texts .* more than 10 pairs .* raise validation\.dup"):
        near_duplicate_groups(sets, 0.6)


def test_words_are_normalised_and_emoji_are_words() -> None:
    assert normalised_words("Ｆｕｌｌ Straße, STRASSE!") == ["full", "strasse", "strasse"]
    assert normalised_words("🎉 🎉") == ["🎉", "🎉"]
    assert word_set("🎉") != word_set("🚀")
    assert normalised_words("שלום עולם") == ["שלום", "עולם"]


def test_a_signature_is_stable_over_processes() -> None:
    assert signature(word_set("the same words")) == signature(word_set("words the SAME")) == "5ef2165a6b129088"


@given(keys=st.lists(st.text(max_size=5), unique=True, max_size=20), extra=st.text(min_size=6, max_size=6))
def test_adding_a_key_does_not_reorder_the_others(keys: list[str], extra: str) -> None:
    before = [keys[i] for i in stable_order(3, keys)]
    after = [[*keys, extra][i] for i in stable_order(3, [*keys, extra])]
    assert [key for key in after if key != extra] == before
