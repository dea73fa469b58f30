"""Build EfficientNet-Lite in Keras, which keras.applications does not have."""

import keras

from worker.model.efficientnet_lite import BATCH_NORM_EPSILON, STEM_FILTERS, TOP_FILTERS, Block, list_blocks

BATCH_NORM_MOMENTUM = 0.99


def build_efficientnet_lite(architecture: str, shape: tuple[int, int, int]) -> keras.Model:
    """Return the backbone with random weights, from float32 (N, H, W, 3) to its last feature map (N, H/32, W/32, 1280).

    architecture: a key of VARIANTS. shape: (H, W, 3).
    """
    images = keras.layers.Input(shape)
    maps = _convolve(images, STEM_FILTERS, 3, "stem_", stride=2)
    for block in list_blocks(architecture):
        maps = _add_block(maps, block)
    return keras.Model(images, _convolve(maps, TOP_FILTERS, 1, "top_"), name=architecture)


def _add_block(inputs: keras.KerasTensor, block: Block) -> keras.KerasTensor:
    maps = inputs
    if block.expansion != 1:
        maps = _convolve(maps, block.channels * block.expansion, 1, f"{block.name}expand_")
    maps = keras.layers.DepthwiseConv2D(
        block.kernel,
        strides=block.stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{block.name}dwconv",
    )(maps)
    maps = _activate(_normalise(maps, block.name), block.name)
    maps = _convolve(maps, block.filters, 1, f"{block.name}project_", activate=False)
    return keras.layers.Add(name=f"{block.name}add")([maps, inputs]) if block.is_residual else maps


def _convolve(
    inputs: keras.KerasTensor, filters: int, kernel: int, name: str, *, stride: int = 1, activate: bool = True
) -> keras.KerasTensor:
    convolution = keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=_initializer(),
        name=f"{name}conv",
    )
    maps = _normalise(convolution(inputs), name)
    return _activate(maps, name) if activate else maps


def _normalise(maps: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=f"{name}bn")(
        maps
    )


def _activate(maps: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.ReLU(6.0, name=f"{name}activation")(maps)


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(scale=2.0, mode="fan_out", distribution="truncated_normal")
