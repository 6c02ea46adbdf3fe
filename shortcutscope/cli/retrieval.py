"""``shortcutscope retrieve``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from shortcutscope.cli.inputs import layer_choice
from shortcutscope.cli.marking import MarkReading, marks_of, samples_of
from shortcutscope.cli.options import DataOptions, KeepPaths, ModelOptions, ReadingOptions, expanded
from shortcutscope.cli.origin import Origin, origin_of
from shortcutscope.disk import require_writable
from shortcutscope.errors import InputError

if TYPE_CHECKING:
    from shortcutscope.data.table import ImageTable
    from shortcutscope.retrieval.representation import FeatureSource
    from shortcutscope.retrieval.retrieval import Retrieval
    from shortcutscope.retrieval.search import View

#: Rows printed; the CSV file has all of them.
_PRINTED = 10


@expanded
def retrieve(
    *,
    run: Annotated[Path, typer.Argument(help="Run directory of an audit.")],
    finding: Annotated[str, typer.Argument(help="Name of a finding of that run, or with --marks a new one.")],
    csv: Annotated[
        Path,
        typer.Option(
            help="CSV file to write: rank, sample_id, score, mark, ..., with boxes also the surest place."
        ),
    ],
    k: Annotated[
        int | None,
        typer.Option(help="Length of the list; by default all samples in the CSV file, else 200.", min=1),
    ] = None,
    fiftyone: Annotated[
        Path | None,
        typer.Option(help="Folder to write the hits to as a FiftyOne data set; --keep-paths names images."),
    ] = None,
    marks: Annotated[
        Path | None,
        typer.Option(
            help="Marks to take first: CSV, TSV or Parquet, with x0, y0, x1, y1 also where; "
            "FiftyOne or COCO JSON, CVAT XML, or a folder of LabelMe."
        ),
    ] = None,
    marks_column: Annotated[
        str | None, typer.Option(help="Column of the answers; default: mark, value, answer, review or tags.")
    ] = None,
    carrier: Annotated[
        str | None,
        typer.Option(
            help="Word, tag or label that means 'carries it'; other words and tags mean 'free of it'."
        ),
    ] = None,
    who: Annotated[str, typer.Option(help="Who marked, kept with the marks.")] = "",
    when: Annotated[str, typer.Option(help="When, kept with the marks.")] = "",
    view: Annotated[
        str,
        typer.Option(
            help="Rank by layers, by places in the images, by features, or auto: by what recovers marks best."
        ),
    ] = "auto",
    layers: Annotated[
        str, typer.Option(help="early, all, auto (chosen by the marks) or comma-separated names.")
    ] = "early",
    data: Annotated[
        Path | None,
        typer.Option(help="DATA of the audit, whose images are ranked by, too; default: what the run knows."),
    ] = None,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Rank by the scan alone; the images need not be there.")
    ] = False,
    crops: Annotated[
        Path | None,
        typer.Option(
            help="Folder: mined crops are written there, with a table to keep (1) or drop (0) them, which is "
            "read the next time."
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Another representation to rank by, too: a model (timm:NAME, FILE.py:factory, ...) "
            "or a file of features (npz, parquet) with sample ids."
        ),
    ] = None,
    features_weights: Annotated[
        Path | None, typer.Option(help="Safetensors file, checkpoint or published weights of --features.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="HTML file to write: pictures of the first 48.")] = None,
    queries: Annotated[
        int, typer.Option(help="Also name this many unmarked samples to look at next.", min=0)
    ] = 0,
    keep_paths: KeepPaths = False,
    reading: DataOptions,
    running: ReadingOptions,
    seed: Annotated[int, typer.Option(help="Seed of folds and draws.")] = 0,
) -> None:
    """Rank the samples that carry a finding, and take marks that were made elsewhere."""
    from shortcutscope.discover.filters import IMAGE_AXES
    from shortcutscope.retrieval.findings import retrieval_of
    from shortcutscope.retrieval.hits import refuse_other_csv

    if csv.suffix.lower() != ".csv":
        raise InputError(f"--csv {str(csv)!r} must end in .csv")
    if no_images and (data is not None or page is not None):
        raise InputError(f"--no-images and {'--data' if data is not None else '--page'} exclude each other")
    origin = None if no_images else origin_of(run, None, ModelOptions(), data, reading)
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--page {str(page)!r} must end in .html")
    if crops is not None and (origin is None or origin.data is None):
        raise InputError("--crops shows pictures: give --data, the DATA of the audit")
    if crops is not None and view == "layers":
        raise InputError("--crops are of places in the images, which --view layers does not search")
    if page is not None and (origin is None or origin.data is None):
        raise InputError("--page shows pictures: give --data, the DATA of the audit")
    for path in (csv, page, crops, fiftyone):
        if path is not None:
            require_writable(path.parent)
    refuse_other_csv(csv)
    how = running.reading()
    images = None if origin is None or origin.data is None else origin.table().keeping(how)
    answered = crops is not None and _check_crops(crops, run)
    files = files_of(run, images)
    if keep_paths and not files:
        raise InputError("--keep-paths: the run does not name its files; give --data, the DATA of the audit")
    answers = None
    if marks is not None:
        answers = marks_of(marks, run, files, MarkReading(marks_column, carrier, who, when))
    beside = None if features is None else _features(features, features_weights, origin)
    layer_option = layers if layers in ("early", "all", "auto") else layer_choice(layers)
    if data is None and images is not None and len(images.shape) != IMAGE_AXES:
        images = None  # volumes and signals are ranked by the scan alone
    ranked = retrieval_of(
        run,
        finding,
        marks=answers,
        layers=layer_option,
        images=images,
        seed=seed,
        running=how,
        view=cast("View", view),
        crops=crops if answered else None,
        features=beside,
    )
    told_of_crops = "" if crops is None else _told_of_crops(ranked, crops, answered=answered)
    hits = ranked.hits() if k is None else ranked.hits(k)
    listed = replace(hits, frame=ranked.to_frame()) if k is None else hits
    listed.to_csv(csv, files if keep_paths else None)
    if page is not None:
        hits.to_html(page)
    console = Console()
    table = Table(title=f"{finding}: the first {min(_PRINTED, len(hits))} of {len(listed)}")
    for name in ("rank", "sample_id", "score", "mark", "label"):
        table.add_column(name, overflow="fold")
    for row in hits.frame.head(_PRINTED).to_dict("records"):
        mark = {1.0: "carrier", 0.0: "free of it"}.get(row["mark"], "")
        name = files.get(row["sample_id"], row["sample_id"]) if keep_paths else row["sample_id"]
        table.add_row(str(row["rank"]), name, f"{row['score']:.3f}", mark, str(row["label"]))
    console.print(table)
    for note in hits.notes:
        console.print(note, markup=False, highlight=False)
    if queries:
        names = [files.get(name, name) if keep_paths else name for name in ranked.next_queries(queries)]
        query_names = ", ".join(names) or "no sample is left that is not known"
        console.print(f"look at next: {query_names}", markup=False, highlight=False)
    if told_of_crops:
        console.print(told_of_crops, markup=False, highlight=False, soft_wrap=True)
    console.print(f"hits: {csv}", markup=False, highlight=False, soft_wrap=True)
    if fiftyone is not None:
        hits.to_fiftyone(fiftyone, files if keep_paths else None)
        console.print(f"FiftyOne: {fiftyone}", markup=False, highlight=False, soft_wrap=True)
    if page is not None:
        console.print(f"pictures: {page}", markup=False, highlight=False, soft_wrap=True)


def _features(features: str, weights: Path | None, origin: Origin | None) -> FeatureSource:
    """A file of features, or an encoder, with the images as the source of its weights reads them."""
    from shortcutscope.cli.inputs import open_model, published
    from shortcutscope.models.loading import own_preprocessing

    if Path(features).suffix in (".npz", ".npy", ".parquet"):
        if weights is not None:
            raise InputError(f"--features-weights: {features!r} is a file of features, and no model")
        return features
    if origin is None or origin.data is None:
        raise InputError("--features MODEL has to be shown the images: give --data, the DATA of the audit")
    encoder = open_model(features, ModelOptions(weights=weights))
    if own_preprocessing(encoder) is None:
        return encoder
    choice = published(weights)
    name = f"{features}@{choice}" if choice else features
    reading = replace(
        origin.reading, preprocessing=name, size=None, mode=None, mean=None, std=None, value_range=None
    )
    return encoder, replace(origin, reading=reading).table()


def _check_crops(folder: Path, run: Path) -> bool:
    """Whether a folder of crops has answers; what is no such folder, or has others, is refused."""
    from shortcutscope.retrieval.detecting.sheet import is_answered, read_kept

    if folder.exists() and not folder.is_dir():
        raise InputError(f"--crops {str(folder)!r} is a file; give a folder")
    answered = is_answered(folder)
    if answered:
        read_kept(folder, samples_of(run))
    return answered


def _told_of_crops(retrieval: Retrieval, folder: Path, *, answered: bool) -> str:
    """Write crops that were mined, unless those that were kept are searched for; what was done, in words."""
    from shortcutscope.retrieval.detecting.sheet import TABLE, write_crops

    if answered:
        return f"crops: as {folder / TABLE} says"
    crops = retrieval.crops
    if crops is None or not crops.mined:
        return "crops: nobody needs to look at any, since none were mined"
    write_crops(crops, folder)
    return f"crops: {folder}; write 1 or 0 into column keep of {TABLE}, and run the same command again"


def files_of(run: Path, images: ImageTable | None) -> dict[str, str]:
    """Sample id to the name of its image's file, by the table or the run; empty where neither knows."""
    from shortcutscope.files import read_frame

    if images is not None:
        return images.files
    kept = run / "files.parquet"
    if not kept.exists():
        return {}
    frame = read_frame(kept)
    return dict(zip(frame["sample_id"].astype(str), frame["image"].astype(str), strict=True))
