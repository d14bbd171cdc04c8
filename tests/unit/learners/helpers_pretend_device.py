"""A device that computes on the CPU and refuses, as a GPU does, to work with tensors that were left on the CPU."""

from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pretend")

DEVICE = torch.device("pretend", 0)

# What may read tensors of both devices on a GPU, too: copies, and places.
_MIXES = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_"}


class Pretended(torch.Tensor):
    """A tensor on the pretended device; ``raw`` holds its numbers."""

    @staticmethod
    def __new__(cls, raw):
        return torch.Tensor._make_wrapper_subclass(
            cls, raw.size(), strides=raw.stride(), dtype=raw.dtype, device=DEVICE
        )

    def __init__(self, raw):
        self.raw = raw

    def new_tensor(self, data):  # torch's own calls nothing that a mode sees
        return Pretended(self.raw.new_tensor(data))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


class PretendedDevice(TorchDispatchMode):
    """Lets torch make tensors on the device; ``calls`` counts the operators that computed there."""

    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        self.calls += any(isinstance(each, Pretended) for each in tensors)
        return _compute(func, args, kwargs or {})


def _raw(value):
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.raw if isinstance(value, Pretended) else value


def _compute(func, args, kwargs):
    name = func.overloadpacket.__name__
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    there = [isinstance(each, Pretended) for each in tensors]
    left = [each for each, is_there in zip(tensors, there, strict=True) if not is_there and each.ndim]
    if any(there) and left and name not in _MIXES:
        raise RuntimeError(f"{name} got tensors of the CPU, of shape {tuple(left[0].shape)}, and of {DEVICE}")
    place = next((each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.device)), None)
    raw_args, raw_kwargs = tree_map(_raw, (args, kwargs))
    found = func(*raw_args, **raw_kwargs)
    if name.endswith("_") and isinstance(found, torch.Tensor):
        return args[0]
    if isinstance(args[0] if args else None, Pretended) and name == "copy_":
        return args[0]
    on_device = any(there) if place is None else place.type == DEVICE.type
    return tree_map(
        lambda each: Pretended(each) if isinstance(each, torch.Tensor) and on_device else each, found
    )


class _Making(TorchFunctionMode):
    """Makes tensors of numbers on the CPU first: torch's own calls nothing that the other mode sees."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == DEVICE.type:
            return Pretended(torch.tensor(*args, **kwargs | {"device": "cpu"}))
        return func(*args, **kwargs)


@contextmanager
def pretended_device():
    """Let torch use the device inside."""
    # Tensors of a subclass have no views in inference mode.
    without_gradients = mock.patch.object(
        torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else nullcontext()
    )
    with without_gradients, PretendedDevice() as mode, _Making():
        yield mode
