"""The paper's numbers."""

import pytest

from miagap import reference


def test_every_technique_of_the_paper_is_there():
    assert len(reference.AUGMENTATION) == 10
    assert len(reference.EARLY_STOPPING) == 6


@pytest.mark.parametrize(
    ("name", "train", "test", "tpr"),
    [("none", 1.0, 0.7655, 0.1956), ("all", 0.9494, 0.8915, 0.0018)],
)
def test_numbers_are_shares(name, train, test, tpr):
    row = reference.AUGMENTATION[name]
    assert (row.train_accuracy, row.test_accuracy, row.tpr) == (train, test, tpr)
    assert row.accuracy_gap == pytest.approx(train - test)


def test_stopping_earlier_leaks_less_in_the_paper():
    rates = [row.tpr for row in reference.EARLY_STOPPING.values()]
    assert rates == sorted(rates)


def test_all_numbers_lie_between_zero_and_one():
    for row in [*reference.AUGMENTATION.values(), *reference.EARLY_STOPPING.values()]:
        assert 0 < row.tpr < row.test_accuracy < row.train_accuracy <= 1
