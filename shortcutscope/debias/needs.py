"""What a recipe needs, and whether a problem has it."""

from __future__ import annotations

from shortcutscope.debias.groups import has_conflicting, training_groups
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.recipes import RECIPES, Recipe
from shortcutscope.errors import InputError

#: What a recipe may need, and where to have it from.
NEEDS = {
    "clean": "a few samples in which the shortcut tells nothing of the label (clean=)",
    "groups": "which training samples carry the shortcut (concept=, true or retrieved from a few marks)",
    "conflicting": "training samples that carry the shortcut against the correlation",
    "masks": "masks of the artifact on training images (masks=, true or drawn by annotate)",
    "annotations": "masks of what the label is about on training images (the table's mask column)",
}


def lacking(recipe: Recipe, problem: DebiasProblem) -> list[str]:
    """Which of a recipe's needs the problem does not meet, as keys of `NEEDS`."""
    has = {
        "clean": problem.clean is not None and len(problem.clean) > 0,
        "groups": problem.carries is not None,
        "conflicting": problem.carries is None or has_conflicting(problem),
        "masks": problem.masks is not None,
        "annotations": problem.train.masks is not None,
    }
    return sorted(need for need in recipe.needs if not has[need])


def require(recipe: Recipe, problem: DebiasProblem) -> None:
    """Refuse a recipe whose needs are not met.

    Raises
    ------
    InputError
        Names what is missing and where to have it from.
    """
    if problem.beside and not recipe.several:
        able = ", ".join(repr(name) for name, one in RECIPES.items() if one.several)
        raise InputError(
            f"recipe {recipe.name!r} unlearns one finding, and {len(problem.names)} were given "
            f"({', '.join(problem.names)}): take one of {able}, or give one finding"
        )
    missing = lacking(recipe, problem)
    if problem.beside and "conflicting" in missing:
        training_groups(problem, recipe.name)  # names the groups that are empty
    if missing:
        raise InputError(
            f"recipe {recipe.name!r} needs "
            + "; and ".join(NEEDS[need] for need in missing)
            + ". Give them, or "
            "choose another recipe: recipe='recommended' takes what there is into account"
        )
