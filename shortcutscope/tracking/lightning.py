"""An audit at the end of a training by Lightning, or every few epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict, Unpack

from torch import nn

from shortcutscope.audit.audited_data import ConceptRequest, TrainingData
from shortcutscope.audit.stages import estimate_audit
from shortcutscope.data.table import ImageTable
from shortcutscope.disk import require_writable
from shortcutscope.errors import InputError, ModelError
from shortcutscope.extras import MissingExtraError, require_package
from shortcutscope.facade import Audit, audit
from shortcutscope.models.heads.head import Head
from shortcutscope.options import Recording, Running, Statistics
from shortcutscope.scan.plan import Scanning
from shortcutscope.tracking.figures import figures_of


class CallbackOptions(TypedDict, total=False):
    """Options of `shortcutscope.audit.stages.audit` that are handed on."""

    train: ImageTable | TrainingData | None
    head: Head | str | int | None
    scanning: Scanning | None
    statistics: Statistics | None
    running: Running | None
    record: Recording | None


def lightning_callback(
    data: ImageTable,
    out: str | Path,
    *,
    request: ConceptRequest | None = None,
    every: int | None = None,
    network: str | None = None,
    **options: Unpack[CallbackOptions],
) -> Any:
    """A callback for Lightning's ``Trainer`` that audits the network when its training ends.

    Figures go to the loggers under ``shortcuts/``, and the audits are in the callback's ``audits``. What
    an audit would refuse is refused before the training begins. Of several processes all take part.

    Parameters
    ----------
    data
        Held-out samples with labels.
    out
        Run directory; with `every` the folder of one run for each time, ``epoch-0005``.
    request
        The concepts; by default as in `audit`.
    every
        Audit after so many epochs, too.
    network
        Attribute of the LightningModule that is audited, such as ``"model"``; None for the module itself.
    **options
        Of `audit`: train, head, scanning, statistics, running, record.

    Raises
    ------
    InputError
        When Lightning is not installed, `data` is no table, `every` is no whole number of at least 1, or
        `out` cannot be written to.

    Examples
    --------
    >>> shortcuts = ss.lightning_callback(ss.ImageTable.from_csv("val.csv"), "runs/derm")  # doctest: +SKIP
    >>> lightning.Trainer(callbacks=[shortcuts]).fit(module)  # doctest: +SKIP
    """
    if not isinstance(data, ImageTable):
        raise InputError(f"data is a {type(data).__name__}; give an ImageTable of held-out samples")
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise InputError(f"every={every!r}; give a whole number of epochs, or None for the end alone")
    folder = Path(out)
    require_writable(folder.parent)
    asked = request or ConceptRequest()

    class AuditCallback(_callback()):  # type: ignore[misc]
        """Audits, at the times that were asked for; ``audits`` has the results."""

        def __init__(self) -> None:
            super().__init__()
            self.audits: list[Audit] = []

        def on_fit_start(self, trainer: Any, pl_module: nn.Module) -> None:
            known = {name: value for name, value in options.items() if name != "record"}
            try:
                estimate_audit(_network(pl_module, network), data, request=asked, **known)  # type: ignore[arg-type]
            except ModelError:
                return  # what an untrained network lacks, such as a gradient, a trained one may have

        def on_train_epoch_end(self, trainer: Any, pl_module: nn.Module) -> None:
            epoch = trainer.current_epoch + 1
            if every and epoch % every == 0 and epoch < (trainer.max_epochs or -1):
                self._audit(trainer, pl_module, folder / f"epoch-{epoch:04d}")

        def on_fit_end(self, trainer: Any, pl_module: nn.Module) -> None:
            if not trainer.fast_dev_run:
                last = folder / f"epoch-{trainer.current_epoch:04d}" if every else folder
                self._audit(trainer, pl_module, last)

        def _audit(self, trainer: Any, pl_module: nn.Module, path: Path) -> None:
            if self.audits and self.audits[-1].path == path:  # stopped early, after an epoch that counts
                return
            result = audit(
                _network(pl_module, network),
                data,
                path,
                concepts=asked.concepts,
                present=asked.present,
                discover=asked.discover,
                **options,
            )
            self.audits.append(result)
            if trainer.is_global_zero:
                for logger in trainer.loggers:
                    logger.log_metrics(figures_of(result), step=trainer.global_step)

    return AuditCallback()


def _callback() -> type:
    """Lightning's ``Callback``, of whichever of its two packages is there."""
    try:
        module = require_package("lightning.pytorch", "lightning_callback")
    except MissingExtraError:
        try:
            module = require_package("pytorch_lightning", "lightning_callback")
        except MissingExtraError as error:
            raise MissingExtraError("lightning_callback needs lightning: pip install lightning") from error
    callback: type = module.Callback
    return callback


def _network(module: nn.Module, name: str | None) -> nn.Module:
    network = module if name is None else getattr(module, name, None)
    if not isinstance(network, nn.Module):
        modules = ", ".join(n for n, _ in module.named_children()) or "none"
        raise InputError(f"network={name!r} is no module of {type(module).__name__}; there are {modules}")
    return network
