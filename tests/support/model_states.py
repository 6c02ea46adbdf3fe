"""What of a model must not change, for tests that nothing did."""

from torch import Tensor, nn

from shortcutscope.models.fingerprint import tensor_digest
from shortcutscope.models.frozen import HOOK_TABLES


def model_state(model: nn.Module) -> dict[str, object]:
    """Everything about a model that measuring must not change, in a form that ``==`` compares.

    Returns
    -------
    state
        One entry per fact (``"layer1.0 training"``, ``"conv1.weight requires_grad"``, ...), so that a
        failed comparison names what differs. Tensors stand as sha256 of their bytes.
    """
    state: dict[str, object] = {}
    for name, module in model.named_modules():
        state[f"{name} training"] = module.training
        if hasattr(module, "inplace"):
            state[f"{name} inplace"] = module.inplace
        for table in HOOK_TABLES:
            state[f"{name} {table}"] = list(getattr(module, table, {}).items())
        state[f"{name} _is_full_backward_hook"] = module._is_full_backward_hook
    for name, parameter in model.named_parameters():
        state[f"{name} requires_grad"] = parameter.requires_grad
        state[f"{name} grad"] = None if parameter.grad is None else tensor_digest(parameter.grad)
        state[f"{name} parameter"] = _tensor_state(parameter)
    for name, buffer in model.named_buffers():
        state[f"{name} buffer"] = _tensor_state(buffer)
    state["state_dict"] = list(model.state_dict().keys())
    return state


def _tensor_state(tensor: Tensor) -> tuple[object, ...]:
    return (tensor.data_ptr(), str(tensor.device), tensor.dtype, tensor.stride(), tensor_digest(tensor))
