"""What a rule needs of the forward pass, kept valid when the network writes into its tensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from torch import Tensor


class SavedTensor:
    """A tensor as it was when it was saved.

    No copy is made unless an operation in place is about to overwrite it (`SavedTensors.overwriting`).

    Attributes
    ----------
    output
        Saved as an output, of which only the product with its gradient is needed.
    rectified
        Holds what a ReLU made of the tensor: right wherever the gradient comes through that ReLU.
    """

    def __init__(self, tensor: Tensor, *, output: bool = False) -> None:
        self.output = output
        self.rectified = False
        self._tensor = tensor.detach()
        self._version = self._tensor._version

    @property
    def intact(self) -> bool:
        """Whether nothing has been written into it."""
        return self._tensor._version == self._version

    @property
    def storage(self) -> int:
        """Address of the memory."""
        return self._tensor.untyped_storage().data_ptr()

    def copy(self) -> None:
        """Keep a copy: somebody is about to overwrite the original."""
        if self.intact:
            self._tensor = self._tensor.clone()
            self._version = self._tensor._version

    def accept(self) -> None:
        """Take the tensor, which a ReLU has overwritten, for the saved one."""
        self._version = self._tensor._version
        self.rectified = True

    def get(self, recompute: Callable[[], Tensor] | None = None) -> Tensor:
        """The tensor, computed anew where it was overwritten unseen.

        Raises
        ------
        RuntimeError
            Overwritten, and `recompute` is None.
        """
        if self.intact:
            return self._tensor
        if recompute is None:
            raise RuntimeError("the input of a convolution or linear layer was overwritten in place")
        return recompute()


class SavedTensors:
    """All that is saved in a forward pass, found by memory, so that views are protected, too."""

    def __init__(self) -> None:
        self._by_storage: dict[int, list[weakref.ref[SavedTensor]]] = {}

    def save(self, tensor: Tensor, *, output: bool = False) -> SavedTensor:
        """Save a tensor."""
        saved = SavedTensor(tensor, output=output)
        self._by_storage.setdefault(saved.storage, []).append(weakref.ref(saved))
        return saved

    def overwriting(self, tensor: Tensor, *, rectified: bool = False) -> list[SavedTensor]:
        """Prepare for a tensor being overwritten: what was saved of its memory is copied.

        Parameters
        ----------
        tensor
            About to be overwritten.
        rectified
            By a ReLU: output x gradient is the same before and after it, so outputs need no copy.

        Returns
        -------
        kept
            Those that were not copied, to be accepted once they are overwritten.
        """
        storage = tensor.untyped_storage().data_ptr()
        living_tensors = [saved for reference in self._by_storage.get(storage, []) if (saved := reference())]
        living = [saved for saved in living_tensors if saved.intact and saved.storage == storage]
        outputs = [saved for saved in living if rectified and saved.output]
        for saved in living:
            if saved not in outputs:
                saved.copy()
        return outputs
