"""Batches of some identities with some images each: what is in them, resumed, shared out, and with broken images."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from vidperson.errors import DataError, MediaError

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from vidperson.training.batches import Arrays, IdentityBatches  # noqa: E402

# Class 3 has one item, class 8 two, the others six; items of a class are not next to each other.
LABELS = np.array([3, 8, 8] + [5, 2, 9, 0, 7] * 6)
CLASSES = [0, 2, 3, 5, 7, 8, 9]


class Numbers(IdentityBatches):
    """The item's number and a random one as its picture; the items in ``bad`` are broken."""

    bad: frozenset[int] = frozenset()

    def load(self, epoch: int, step: int) -> tuple[Arrays, list[str]]:
        items, drawn, broken = [], [], []
        for item, rng in self.draws(epoch, step):
            used, left_out = self.usable(item, rng, self.check)
            broken += left_out
            items.append(used)
            drawn.append(rng.random())
        return {"items": np.array(items), "labels": self.labels[items], "drawn": np.array(drawn)}, broken

    def check(self, item: int) -> int:
        if item in self.bad:
            raise MediaError(f"item {item} is broken")
        return item


def epoch_of(made: Numbers, epoch: int, first_step: int = 0) -> list[list[int]]:
    return [batch["items"].tolist() for batch in made(epoch, first_step)]


def test_batch_has_k_different_items_of_p_identities_and_an_epoch_each_identity_at_most_once() -> None:
    made = Numbers(LABELS, 3, 4)
    assert made.steps_per_epoch == 2  # of 7 identities; one is left out, another one each epoch
    left_out = set()
    for epoch in range(40):
        seen = []
        for items in epoch_of(made, epoch):
            groups = np.reshape(items, (3, 4))
            for group in groups:
                (who,) = set(LABELS[group].tolist())
                assert len(set(group.tolist())) == min(4, int((who == LABELS).sum()))
                seen.append(who)
        assert len(set(seen)) == len(seen) == 6
        left_out |= set(CLASSES) - set(seen)
    assert left_out == set(CLASSES)


def test_items_of_an_identity_with_fewer_than_k_come_equally_often() -> None:
    for items in epoch_of(Numbers(LABELS, 7, 4), 0):
        assert sum(item == 0 for item in items) == 4 and sum(item == 1 for item in items) == 2


def test_all_items_of_an_identity_are_taken_in_the_course_of_epochs() -> None:
    made = Numbers(LABELS, 7, 2)
    assert {item for epoch in range(40) for items in epoch_of(made, epoch) for item in items} == set(range(len(LABELS)))


def test_batches_depend_on_seed_and_epoch_but_not_on_where_a_run_is_taken_up() -> None:
    made = Numbers(LABELS, 2, 3, seed=4)
    whole = list(made(5))
    assert len(whole) == 3 and epoch_of(made, 5) != epoch_of(made, 6)
    assert epoch_of(Numbers(LABELS, 2, 3, seed=5), 5) != epoch_of(made, 5)
    for expected, batch in zip(whole[1:], Numbers(LABELS, 2, 3, seed=4)(5, 1), strict=True):
        assert all((expected[name] == batch[name]).all() for name in expected)


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_have_whole_identities_and_together_the_batches_of_one_process(ranks: int) -> None:
    whole = epoch_of(Numbers(LABELS, 6, 2), 3)
    parts = [epoch_of(Numbers(LABELS, 6, 2, rank=rank, ranks=ranks), 3) for rank in range(ranks)]
    assert [list(chain.from_iterable(step)) for step in zip(*parts, strict=True)] == whole
    assert all((np.bincount(LABELS[items])[list(set(LABELS[items]))] == 2).all() for part in parts for items in part)


def test_identities_that_cannot_be_shared_out_evenly_are_left_to_the_next_batch() -> None:
    made = Numbers(LABELS, 5, 2, ranks=2)
    assert [len(items) for items in epoch_of(made, 0)] == [4]  # 2 of 4 identities; 7 are no two batches of them


def test_broken_item_is_replaced_by_another_of_its_identity_and_named() -> None:
    made = Numbers(LABELS, 7, 4)
    made.bad = frozenset({1, *range(3, 15, 5)})  # one of the two of class 8, three of the six of class 5
    for epoch in range(5):
        (batch,) = made(epoch)
        assert not set(batch["items"].tolist()) & made.bad
        assert np.bincount(batch["labels"].numpy())[CLASSES].tolist() == [4] * 7
    assert made.broken == {f"item {item} is broken" for item in made.bad}


def test_identity_without_any_intact_item_gives_way_to_others() -> None:
    made = Numbers(LABELS, 7, 4)
    made.bad = frozenset(np.flatnonzero(LABELS == 9).tolist())
    (batch,) = made(0)
    assert len(batch["items"]) == 28 and not (batch["labels"] == 9).any()
    made.bad = frozenset(range(len(LABELS)))
    with pytest.raises(DataError, match="20 items in turn cannot be used, the last one: item"):
        list(made(0))


@pytest.mark.parametrize(
    ("identities", "images", "ranks", "found"), [(1, 4, 1, "4 of 1"), (4, 1, 1, "1 of 4"), (9, 4, 4, "4 of 7")]
)
def test_batches_without_triplets_are_refused(identities: int, images: int, ranks: int, found: str) -> None:
    message = f"at least 2 images of each of at least {2 * ranks} identities in a batch, found {found}"
    with pytest.raises(DataError, match=message):
        Numbers(LABELS, identities, images, ranks=ranks)
