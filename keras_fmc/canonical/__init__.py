"""From Keras as people write it to the stock layers that the device has.

Everything that works on models (profile, choice, insertion, folding, quantisation) sees them in one
form, made here by passes `LayerGraph -> LayerGraph`:

    expand        Lambda and custom layers         →  the layers and operations that they call
    raw           x + y, ops.mean, slices, …       →  the layers that do the same
    arithmetic    averages, |x|, gates, scalings   →  sums, ReLUs, `Rescaling`, hard swish
    one_dimension Conv1D, pooling, padding, …      →  their 2-D twins on maps (length, 1, channels)
    padding       ZeroPadding2D before a VALID     →  a SAME convolution, where that pads the same
                  convolution

What a pass cannot rewrite it leaves, with a reason where it knows one; `keras_fmc.qat.checks`
gathers all reasons. Layers keep their names: the last layer of a rewritten call has the name of
the call.
"""
