"""pytorch-grad-cam on torchvision's DenseNet-121 with the same head and weights, on the CPU.

In float32: the library converts the feature maps to NumPy, which has no bfloat16.
"""

from collections.abc import Callable

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM

from tests.benchmarks.engine_process import EngineOutput
from tests.benchmarks.peers.inputs import as_network_input
from worker.model.bundle.bundle import Bundle
from worker.model.ordinal import OUTPUTS

_KINDS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def load(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    """Load probabilities and saliency at `features[-1]`, the layer that the library recommends for DenseNet."""
    network = _build(bundle).to(memory_format=torch.channels_last)
    # Faster than in the library's examples, where the backward pass goes through the whole network.
    network.requires_grad_(requires_grad=False)
    network.features[-1].requires_grad_(requires_grad=True)
    images = torch.from_numpy(as_network_input(bundle, pictures)).permute(0, 3, 1, 2)
    cam = GradCAM(model=network, target_layers=[network.features[-1]])
    # The target is computed from the outputs, so that one forward pass is enough.
    targets = [lambda logits: logits[max(int((logits > 0).sum()) - 1, 0)]] * len(pictures)

    def run() -> EngineOutput:
        saliency = cam(input_tensor=images, targets=targets)
        return torch.sigmoid(cam.outputs).detach().numpy(), saliency

    return run


def _build(bundle: Bundle) -> torch.nn.Module:
    network = torchvision.models.densenet121(weights=None)
    network.classifier = torch.nn.Linear(network.classifier.in_features, OUTPUTS)
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear)
    # Both list the layers in the order of the network.
    layers = dict.fromkeys(name.split("/")[0] for name in bundle.weights)
    modules = [module for module in network.modules() if isinstance(module, kinds)]
    with torch.no_grad():
        for layer, module in zip(layers, modules, strict=True):
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1.001e-5
                for kind, theirs in _KINDS.items():
                    getattr(module, theirs).copy_(torch.tensor(bundle.weights[f"{layer}/{kind}"]))
            else:
                kernel = torch.tensor(bundle.weights[f"{layer}/kernel"])
                module.weight.copy_(kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T)
                if module.bias is not None:
                    module.bias.copy_(torch.tensor(bundle.weights[f"{layer}/bias"]))
    return network.eval()
