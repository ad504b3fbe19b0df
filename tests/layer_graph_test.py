"""Reading Keras models as flat graphs of calls."""

from __future__ import annotations

import sys

import keras
import pytest
from keras import layers

from keras_fmc.errors import BadInputError, UnsupportedModelError
from keras_fmc.model.layer_graph import LayerGraph, consumers, producers, trace


def edges(graph: LayerGraph) -> list[tuple[str, tuple[str, ...]]]:
    """Every call with the names of what it reads."""
    return [
        (node.name, tuple(graph.values[id_].name for id_ in node.inputs)) for node in graph.nodes
    ]


def test_sequential_model_is_a_chain():
    model = keras.Sequential(
        [keras.Input((8, 8, 3), name="image"), layers.Conv2D(4, 3, name="a"), layers.ReLU(name="b")]
    )
    graph = trace(model)
    assert edges(graph) == [("a", ("image",)), ("b", ("a",))]
    assert [value.shape for value in graph.values] == [
        (None, 8, 8, 3),
        (None, 6, 6, 4),
        (None, 6, 6, 4),
    ]
    assert [graph.values[id_].name for id_ in graph.outputs] == ["b"]


def test_batch_size_of_a_model_built_by_a_call_is_forgotten():
    model = keras.Sequential([layers.Dense(2, name="a")])
    model.build((5, 4))
    assert trace(model).values[0].shape == (None, 4)


def test_raw_operations_are_calls_with_their_constants():
    inputs = keras.Input((4,), name="x")
    doubled = inputs * 2.0
    model = keras.Model(inputs, (doubled + inputs)[:, :3])
    graph = trace(model)
    times, plus, slice_ = graph.nodes
    assert [type(node.operation).__name__ for node in graph.nodes] == ["Multiply", "Add", "GetItem"]
    assert times.args[1] == 2.0
    assert plus.inputs == (*times.outputs, *graph.inputs)
    assert graph.values[slice_.outputs[0]].shape == (None, 3)


def test_value_read_twice_by_one_call_counts_as_one_consumer():
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, layers.Add(name="twice")([inputs, inputs]))
    graph = trace(model)
    assert graph.nodes[0].inputs == (0, 0)
    assert consumers(graph)[0] == (0,)


def test_consumers_and_producers_of_a_skip_connection():
    inputs = keras.Input((4, 4, 2), name="x")
    x = layers.Conv2D(2, 1, name="conv")(inputs)
    y = layers.Conv2D(2, 1, name="branch")(x)
    graph = trace(keras.Model(inputs, layers.Add(name="add")([x, y])))
    index = {node.name: place for place, node in enumerate(graph.nodes)}
    (conv,) = graph.node("conv").outputs
    assert consumers(graph)[conv] == (index["branch"], index["add"])
    assert producers(graph)[conv] == index["conv"]
    assert graph.inputs[0] not in producers(graph)
    assert consumers(graph)[graph.outputs[0]] == ()


def test_nested_models_are_flattened_with_joined_names():
    inner = keras.Sequential([keras.Input((8, 8, 4)), layers.ReLU(name="act")], name="inner")
    middle_input = keras.Input((8, 8, 4))
    middle = keras.Model(
        middle_input, inner(layers.Conv2D(4, 1, name="conv")(middle_input)), name="middle"
    )
    inputs = keras.Input((8, 8, 4), name="x")
    graph = trace(keras.Model(inputs, middle(inputs)))
    assert edges(graph) == [("middle_conv", ("x",)), ("middle_inner_act", ("middle_conv",))]


def test_nested_model_takes_the_shapes_that_it_is_called_with():
    inner = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(4, 3, name="a"), layers.ReLU(name="b")],
        name="inner",
    )
    inputs = keras.Input((8, 9, 3))
    graph = trace(keras.Model(inputs, inner(inputs)))
    assert graph.values[graph.outputs[0]].shape == (None, 6, 7, 4)


def test_shared_layers_stay_one_layer_with_several_calls():
    shared = layers.Conv2D(3, 1, name="shared")
    other = layers.ReLU(name="shared_1")  # the name that a second call would get
    inputs = keras.Input((4, 4, 3), name="x")
    x = shared(inputs)
    graph = trace(keras.Model(inputs, other(shared(x))))
    assert edges(graph) == [
        ("shared", ("x",)),
        ("shared_2", ("shared",)),
        ("shared_1", ("shared_2",)),
    ]
    first, second = graph.nodes[:2]
    assert first.operation is second.operation is shared
    assert first.layer_name == second.layer_name == "shared"


def test_nested_model_called_twice_shares_its_layers():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense")], name="inner")
    inputs = keras.Input((4,), name="x")
    graph = trace(keras.Model(inputs, inner(inner(inputs))))
    assert edges(graph) == [("inner_dense", ("x",)), ("inner_dense_1", ("inner_dense",))]
    assert graph.nodes[0].operation is graph.nodes[1].operation


def test_names_of_layers_in_different_nested_models_do_not_collide():
    def block(name: str) -> keras.Model:
        return keras.Sequential([keras.Input((4,)), layers.Dense(4, name="b_dense")], name=name)

    clash = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense")], name="a_b")
    inputs = keras.Input((4,), name="x")
    graph = trace(keras.Model(inputs, clash(block("a")(inputs))))
    assert [node.layer_name for node in graph.nodes] == ["a_b_dense", "a_b_dense_1"]


def test_training_argument_of_a_nested_call_reaches_its_layers():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.BatchNormalization(name="bn")], name="inner"
    )
    middle_input = keras.Input((4,))
    middle = keras.Model(middle_input, inner(middle_input), name="middle")
    inputs = keras.Input((4,))
    graph = trace(keras.Model(inputs, middle(inputs, training=False)))
    assert graph.node("middle_inner_bn").kwargs == {"training": False}


def test_structures_of_inputs_and_outputs_are_kept():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    joined = layers.Concatenate(name="join")([a, b])
    graph = trace(keras.Model({"a": a, "b": b}, {"all": joined, "first": a}))
    assert sorted(graph.input_structure) == ["a", "b"]
    assert graph.output_structure["first"].id == graph.input_structure["a"].id
    assert graph.values[graph.output_structure["all"].id].shape == (None, 5)


def test_layer_with_several_outputs_names_each():
    class Split(layers.Layer):
        def call(self, x):
            return x[:, :2], x[:, 2:]

    inputs = keras.Input((5,), name="x")
    graph = trace(keras.Model(inputs, Split(name="split")(inputs)))
    assert [graph.values[id_].name for id_ in graph.outputs] == ["split", "split:1"]


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def test_subclassed_model_is_refused_by_name():
    with pytest.raises(UnsupportedModelError, match=r"'mine' is a subclassed model \(Subclassed\)"):
        trace(Subclassed(name="mine"))


def test_subclassed_model_inside_another_is_refused_by_path():
    inputs = keras.Input((4,))
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, Subclassed(name="mine")(inner_input), name="inner")
    with pytest.raises(UnsupportedModelError, match="'inner_mine'"):
        trace(keras.Model(inputs, inner(inputs)))


def test_functional_subclass_with_its_own_call_is_refused():
    class Twice(keras.Model):
        def __init__(self):
            inputs = keras.Input((4,))
            super().__init__(inputs, layers.Dense(2)(inputs), name="twice")

        def call(self, x):
            return 2 * super().call(x)

    with pytest.raises(UnsupportedModelError, match="'twice' is a subclassed model"):
        trace(Twice())


def test_sequential_without_input_shape_is_refused_with_the_remedy():
    with pytest.raises(BadInputError, match=r"'bare' has no input shape yet.\n.*keras.Input"):
        trace(keras.Sequential([layers.Dense(2)], name="bare"))


def test_what_is_no_model_is_refused():
    with pytest.raises(
        BadInputError, match=r"not a Keras model; expected keras\.Model; received str"
    ):
        trace("model.keras")


def test_unknown_call_name_is_refused():
    graph = trace(keras.Sequential([keras.Input((4,)), layers.ReLU(name="a")]))
    with pytest.raises(BadInputError, match="no such layer call; received 'b'"):
        graph.node("b")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
