from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refiner import ModelError, ModelSpec
from refiner.models import SplitInpainter


@given(multiple=st.integers(1, 64), least=st.integers(1, 200), height=st.integers(1, 5000), width=st.integers(1, 5000))
def test_padded_sizes_are_the_next_that_fit(multiple, least, height, width) -> None:
    padded = ModelSpec(multiple=multiple, min_input_side=least).padded_size(height, width)
    for side, given_side in zip(padded, (height, width), strict=True):
        assert side % multiple == 0
        assert side >= max(given_side, least)
        assert side - multiple < max(given_side, least)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"multiple": 0}, "multiple is 0; expected a whole number from 1"),
        ({"train_size": 1.5}, "train_size is 1.5"),
        ({"min_input_side": True}, "min_input_side is True"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"lr_scale": {"skips": -1}}, "expected factors from 0"),
    ],
)
def test_values_out_of_range_are_refused(values, words) -> None:
    with pytest.raises(ModelError, match=words):
        ModelSpec(**values)


def test_a_field_that_is_not_there_is_named() -> None:
    class Mine(SplitInpainter):
        def front_half(self, x):
            return x

        def rear_half(self, features):
            return features

    with pytest.raises(ModelError, match="spec: lerning_rate is not known; expected multiple, train_size"):
        Mine(lerning_rate=0.1)
