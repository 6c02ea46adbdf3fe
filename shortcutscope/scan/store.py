"""The scan on disk: safetensors shards under one manifest.

    manifest.json                   what was scanned and how, one entry per finished shard
    shard-<rank>-<k>.safetensors    a run of rows of every statistic, float16 with a power-of-two scale
    part-<rank>.json                while several processes write: the shards that one of them finished
    pending.safetensors             after an interruption: the rows of the next shard so far, as they are
    samples.parquet                 one row per sample; written last

Shards begin at multiples of their size, whoever makes them in which order: what is missing follows from those
that there are. A shard counts only once the manifest, or a part of it, names it, and every file is written
under a temporary name, flushed to the disk and renamed: after a crash or a full disk the store is what the
manifest says, and writing goes on there. Array shapes never stand for progress (zarr and HDF5 stores were
read back with silently wrong rows after a kill).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd

from shortcutscope.errors import InputError
from shortcutscope.files import read_frame, read_object, refuse_other_inputs, to_json, write_frame, write_json
from shortcutscope.locking import remove_leftovers
from shortcutscope.scan.shard import Shard, row_count
from shortcutscope.types import JSON, Array, Record
from shortcutscope.versions import SCAN_FORMAT

MANIFEST = "manifest.json"
SAMPLES = "samples.parquet"
PENDING = "pending.safetensors"

#: Arrays kept as they are; the others become scaled float16.
EXACT = frozenset({"logits", "target"})


class ShardWriter:
    """Appends rows to a store, or goes on with one that was interrupted.

    Of several processes the first one opens the store and finishes it; each makes the shards that it was
    given by `take`.

    Use it as a context manager: on ``KeyboardInterrupt`` the rows at hand are kept beside the shards, in full
    precision, so that the shards of a store do not depend on where it was interrupted.

    Parameters
    ----------
    folder
        Made when it does not exist.
    inputs
        What the rows depend on (fingerprints, layers, target, ...). A store of other inputs is refused.
    n_rows
        Rows of the finished store.
    shard_rows
        Rows of a shard. An interrupted store keeps its own.
    rank
        Process number; all but 0 write into a store that is open, until its first one finishes it.

    Raises
    ------
    StaleRunError
        The folder holds a store of other inputs; the message names in what they differ.
    InputError
        The folder holds something else.
    """

    def __init__(
        self,
        folder: Path,
        inputs: JSON,
        *,
        n_rows: int,
        shard_rows: int,
        rank: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self._rank, self._file = rank, MANIFEST if rank == 0 else _part(rank)
        self._pending: list[dict[str, Array]] = []
        inputs = to_json(dict(inputs))
        stored = _kept_manifest(self.folder)
        if stored is not None:
            refuse_other_inputs(self.folder, stored["inputs"], inputs)
        self._own: list[int] = []
        if rank:
            assert stored is not None
            self._manifest = {**stored, "shards": [], "pending": None}
            return
        if stored is not None:
            self._manifest = stored
            self.take_parts()
            self._drop_damaged_shards()
            self._own = self.missing
            self._pending = self._kept_rows()
        else:
            self._manifest = {
                "format": SCAN_FORMAT,
                "inputs": inputs,
                "n_rows": n_rows,
                "shard_rows": shard_rows,
                "complete": False,
                "shards": [],
            }
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write_manifest()
            self._own = self.missing
        self._remove_leftovers()

    @property
    def missing(self) -> list[int]:
        """First rows of the shards that are not finished."""
        there = {shard["start"] for shard in self._manifest["shards"]}
        return [row for row in range(0, self.n_rows, self._manifest["shard_rows"]) if row not in there]

    def take(self, missing: Sequence[int]) -> None:
        """Make these of the missing shards, by their first rows, and not all of them."""
        if self._own[:1] != list(missing[:1]):
            self._pending = []
        self._own = list(missing)

    @property
    def runs(self) -> list[range]:
        """The rows that this process is to append, in runs without a gap."""
        runs: list[range] = []
        for start in self._own:
            if runs and runs[-1].stop == start:
                runs[-1] = range(runs[-1].start, self._stop(start))
            else:
                runs.append(range(start, self._stop(start)))
        if runs:
            runs[0] = range(runs[0].start + self._n_pending, runs[0].stop)
        return runs

    @property
    def rows_done(self) -> int:
        """Where to go on: rows before the first one that is missing, those at hand included."""
        return self._own[0] + self._n_pending if self._own else self.n_rows

    @property
    def n_rows(self) -> int:
        """Rows of the finished store."""
        return int(self._manifest["n_rows"])

    @property
    def complete(self) -> bool:
        """Whether `finish` was reached."""
        return bool(self._manifest["complete"])

    def append(self, rows: Mapping[str, Array]) -> None:
        """Add the next rows of every array; a shard is committed whenever enough have come together.

        Raises
        ------
        InputError
            Arrays of different lengths, more rows than are missing there, non-finite values, or a full disk.
        """
        lengths = {len(values) for values in rows.values()}
        if len(lengths) != 1:
            raise InputError(f"arrays of a batch differ in their number of rows: {sorted(lengths)}")
        if lengths.pop() > sum(map(len, self.runs[:1])):
            raise InputError(f"more rows than the {self.n_rows} that the store was opened for, or lacks")
        self._pending.append(dict(rows))
        while self._own and self._n_pending >= self._stop(self._own[0]) - self._own[0]:
            self._commit(self._stop(self._own[0]) - self._own[0])

    def finish(self, samples: pd.DataFrame, remarks: JSON | None = None) -> None:
        """Write the table of samples, and declare the store complete.

        Parameters
        ----------
        samples
            One row per row of the store.
        remarks
            JSON values to keep in the manifest that say how the store came to be; no row depends on them.

        Raises
        ------
        InputError
            Rows are missing, or the disk is full.
        """
        if self.missing or self.rows_done != self.n_rows or len(samples) != self.n_rows:
            raise InputError(
                f"the store has {self.rows_done} rows and {len(samples)} samples; it was opened "
                f"for {self.n_rows}"
            )
        write_frame(self.folder / SAMPLES, samples)
        self._manifest = {**self._manifest, "complete": True, "remarks": dict(remarks or {})}
        self._write_manifest()

    def read(self, key: str) -> Array:
        """The rows of one array in the finished shards."""
        return np.concatenate([shard.read(self.folder, key) for shard in _shards(self._manifest)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Of several processes the first one goes on with the first missing rows, so that its own are kept.
        if kind is not None and issubclass(kind, KeyboardInterrupt) and self._pending and self._rank == 0:
            rows = frozenset(self._pending[0])
            pending = Shard.write(self.folder / PENDING, self._own[0], self._pending, rows)
            self._manifest = {**self._manifest, "pending": asdict(pending)}
            self._write_manifest()

    def _kept_rows(self) -> list[dict[str, Array]]:
        """The rows that were at hand when the store was interrupted, if they are still whole."""
        if not self._manifest.get("pending"):
            return []
        shard = Shard(**self._manifest["pending"])
        if [shard.start] != self._own[:1] or shard.damage(self.folder):
            return []
        return [{key: shard.read(self.folder, key) for key in shard.keys(self.folder)}]

    def _stop(self, start: int) -> int:
        """End of the shard that begins with a row."""
        return min(start + int(self._manifest["shard_rows"]), self.n_rows)

    @property
    def _n_pending(self) -> int:
        return sum(map(row_count, self._pending))

    def _take(self, n: int) -> list[dict[str, Array]]:
        """The first `n` pending rows, batch by batch; what is left stays pending."""
        rows: list[dict[str, Array]] = []
        while n:
            batch = self._pending.pop(0)
            if row_count(batch) > n:
                self._pending.insert(0, {key: values[n:] for key, values in batch.items()})
                batch = {key: values[:n] for key, values in batch.items()}
            rows.append(batch)
            n -= row_count(batch)
        return rows

    def _commit(self, n: int) -> None:
        """Make a shard of the first `n` pending rows."""
        shards, start = self._manifest["shards"], self._own[0]
        try:
            file = f"shard-{self._rank:03d}-{start // self._manifest['shard_rows']:05d}.safetensors"
            shard = Shard.write(self.folder / file, start, self._take(n), EXACT)
            self._manifest = {
                **self._manifest,
                "shards": _in_order([*shards, asdict(shard)]),
                "pending": None,
            }
            self._write_manifest()
            self._own.pop(0)
            if self._rank == 0:
                (self.folder / PENDING).unlink(missing_ok=True)
        except BaseException:
            # Whatever still waits comes after the rows just lost, so it must never be written in their place.
            self._manifest = {**self._manifest, "shards": shards}
            self._pending.clear()
            raise

    def _write_manifest(self) -> None:
        write_json(self.folder / self._file, {**self._manifest, "checksum": _digest(self._manifest)})

    def take_parts(self) -> None:
        """Take in the shards that other processes have finished, and that the manifest does not name yet."""
        parts = sorted(self.folder.glob(_part("*")))
        for path in parts:
            part = _manifest_in(path)
            if part["inputs"] == self._manifest["inputs"]:
                there = {shard["start"] for shard in self._manifest["shards"]}
                new = [shard for shard in part["shards"] if shard["start"] not in there]
                self._manifest["shards"] = _in_order([*self._manifest["shards"], *new])
        if parts:
            self._write_manifest()
            for path in parts:
                path.unlink()

    def _drop_damaged_shards(self) -> None:
        shards = _shards(self._manifest)
        for k, shard in enumerate(shards):
            damage = shard.damage(self.folder)
            if damage:
                warnings.warn(
                    f"{damage}; the scan goes on from row {shard.start}, the {len(shards) - k} shards from "
                    "there on are made again",
                    stacklevel=3,
                )
                self._manifest["shards"] = self._manifest["shards"][:k]
                self._manifest["complete"] = False
                self._write_manifest()
                return

    def _remove_leftovers(self) -> None:
        """Files of a write that was cut short: temporary ones, and shards that the manifest does not name."""
        remove_leftovers(self.folder)
        names = {shard["file"] for shard in self._manifest["shards"]}
        for path in self.folder.glob("shard-*.safetensors"):
            if path.name not in names:
                path.unlink()
        if not self._pending:
            (self.folder / PENDING).unlink(missing_ok=True)


class ShardReader:
    """A complete store, opened for reading; arrays are read from the disk when asked for.

    Parameters
    ----------
    folder
        Of a `ShardWriter`.

    Raises
    ------
    InputError
        No store, one that is not complete, or a shard that is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        manifest = _kept_manifest(self.folder)
        if manifest is None:
            raise InputError(f"{self.folder} holds no scan (no {MANIFEST})")
        self._shards = _shards(manifest)
        if not manifest["complete"]:
            done = self._shards[-1].stop if self._shards else 0
            raise InputError(
                f"the scan in {self.folder} has {done} of {manifest['n_rows']} samples; run the same scan "
                "again, it goes on from there"
            )
        self.inputs: Record = manifest["inputs"]
        self.n_rows: int = manifest["n_rows"]
        self.remarks: Record = manifest.get("remarks") or {}
        self.verify()

    def read(self, key: str) -> Array:
        """One array (n_rows, ...): float32 where it was stored in half precision.

        Raises
        ------
        InputError
            No such array.
        """
        if key not in self.keys():
            raise InputError(f"the scan in {self.folder} holds no {key!r}")
        return np.concatenate([shard.read(self.folder, key) for shard in self._shards])

    def read_rows(self, key: str, start: int, stop: int, out: Array) -> None:
        """Rows start:stop of an array that there is (`keys`), as `read` gives them, into another."""
        for shard in self._shards:
            first, last = max(start, shard.start), min(stop, shard.stop)
            if first < last:
                rows = slice(first - shard.start, last - shard.start)
                shard.read_rows(self.folder, key, rows, out[first - start : last - start])

    def row_shape(self, key: str) -> tuple[int, ...]:
        """Shape of one row of an array that there is (`keys`)."""
        return self._shards[0].shape(self.folder, key)[1:]

    def keys(self) -> list[str]:
        """Names of the stored arrays."""
        return self._shards[0].keys(self.folder)

    def samples(self) -> pd.DataFrame:
        """The table of samples."""
        return read_frame(self.folder / SAMPLES)

    def verify(self) -> None:
        """Compare every shard with its checksum, those that this process has not seen since they changed.

        Raises
        ------
        InputError
            Names the first damaged shard.
        """
        for shard in self._shards:
            damage = shard.damage(self.folder)
            if damage:
                raise InputError(f"{damage}; run the same scan again, it makes the lost rows anew")


def refuse_other_scan(folder: Path, inputs: JSON) -> None:
    """Raise StaleRunError where a folder holds a scan of other inputs; nothing is written."""
    stored = _kept_manifest(folder)
    if stored is not None:
        refuse_other_inputs(folder, stored["inputs"], to_json(dict(inputs)))


def require_free_space(folder: Path, n_bytes: int) -> None:
    """Refuse to start writing what the disk cannot hold.

    Raises
    ------
    InputError
        Says how much is needed and how much there is.
    """
    existing = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise InputError(
            f"the scan needs about {n_bytes / 2**20:.1f} MiB and {existing} has {free / 2**20:.1f} MiB free; "
            "free some space, choose another folder, or scan fewer layers"
        )


def _kept_manifest(folder: Path) -> Record | None:
    """The manifest of a folder, None where there is nothing yet."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; the scan needs a folder")
    path = folder / MANIFEST
    if not path.exists():
        # A write that was cut short may have left its temporary file behind.
        if folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise InputError(f"{folder} is not empty and holds no scan; give a folder of its own")
        return None
    return _manifest_in(path)


def _manifest_in(path: Path) -> Record:
    """A manifest, or a part of one, compared with its checksum."""
    manifest = read_object(path)
    if manifest.get("format") != SCAN_FORMAT:
        raise InputError(
            f"{path} is not a manifest of format {SCAN_FORMAT}; it belongs to another program or version: "
            "give another folder, or delete this one"
        )
    if manifest.pop("checksum", None) not in (None, _digest(manifest)):
        raise InputError(f"{path} is damaged: delete {path.parent} and run the same scan again")
    return manifest


def _digest(manifest: JSON) -> str:
    """Of the list of shards, whose numbers (scales, rows) nothing else would show to be damaged."""
    return hashlib.sha256(json.dumps(manifest["shards"], sort_keys=True).encode()).hexdigest()


def _part(rank: int | str) -> str:
    """Name of the file of the shards that one of several processes has finished."""
    return f"part-{rank:03d}.json" if isinstance(rank, int) else f"part-{rank}.json"


def _in_order(shards: list[Record]) -> list[Record]:
    return sorted(shards, key=lambda shard: int(shard["start"]))


def _shards(manifest: JSON) -> list[Shard]:
    return [Shard(**entry) for entry in manifest["shards"]]
