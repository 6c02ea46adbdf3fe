"""A run as a section of a Hugging Face model card, with its figures as ``model-index``."""

from __future__ import annotations

from shortcutscope.record.content import RunContent
from shortcutscope.record.markdown import modelcard


def huggingface(content: RunContent) -> str:
    """Write YAML metadata with every figure, slices as configurations of the data set, and the section."""
    from huggingface_hub import EvalResult, ModelCardData

    figures = [*content.figures, *(figure for line in content.concepts for figure in line.figures)]
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="audited",
            dataset_name="audited images",
            dataset_config=figure.part,
            metric_type=figure.name,
            metric_name=figure.name,
            metric_value=figure.value,
            metric_args=None if figure.low is None else {"low": figure.low, "high": figure.high},
        )
        for figure in figures
    ]
    data = ModelCardData(
        model_name=content.model,
        eval_results=results or None,
        tags=["shortcut-audit"],
        pipeline_tag="image-classification",
    )
    return f"---\n{data.to_yaml()}\n---\n\n{modelcard(content)}"
