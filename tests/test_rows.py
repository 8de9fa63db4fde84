"""Every row of OPS has all that tests are made of, or says why it has not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import logitx as lx
from logitx.testing import OPS
from logitx.testing.examples import ASPECTS, Inputs, flat
from logitx.testing.operation import gaps
from logitx.testing.ops import uses


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_rows_lack_nothing_without_a_reason(op):
    assert gaps(op) == []
    names = [example.name for example in op.examples]
    assert len(names) == len(set(names))


def test_what_a_row_lacks_is_noticed():
    row = OPS[0]
    assert gaps(dataclasses.replace(row, examples=())) == ["derivative", "graph", "lazy", "shards", "memory"]
    assert gaps(dataclasses.replace(row, fuzz="")) == ["fuzz"]
    assert gaps(dataclasses.replace(row, fuzz="", lacks={"fuzz": "drawn with softmax"})) == []
    assert gaps(dataclasses.replace(row, lacks={"lazy": ""})) == ["lazy"]  # a reason of no words is none
    assert gaps(dataclasses.replace(row, lacks={"speed": "it is slow"})) == ["speed"]  # there is no such aspect
    constant = tuple(dataclasses.replace(example, by=()) for example in row.examples)
    assert gaps(dataclasses.replace(row, examples=constant)) == ["derivative"]


@pytest.mark.parametrize("aspect", [aspect for aspect in ASPECTS if aspect != "fuzz"])
def test_tests_are_made_of_all_rows(aspect):
    for every in (True, False):
        assert {use.op.name for use in uses(aspect, every)} == {op.name for op in OPS if aspect not in op.lacks}


@pytest.mark.parametrize("use", uses("graph"), ids=lambda use: use.id)
def test_examples_are_calls_of_their_function(use):
    inputs = Inputs.draw(3, 4)
    args, options = use.example.call(inputs)
    everything = {**dict(enumerate(args)), **options}
    assert all(np.asarray(everything[operand]).dtype.kind == "f" for operand in use.example.by)
    assert not any(np.isnan(one).any() for one in flat(getattr(lx, use.op.name)(*args, **options)))
