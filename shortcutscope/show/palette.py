"""The colours of everything that is shown, as CSS variables, in a light and in a dark page."""

from __future__ import annotations

from typing import Final

LIGHT: Final = (
    "color-scheme: light; --ss-surface: #ffffff; --ss-panel: #f1f2f2; --ss-ink: #1a1e23; "
    "--ss-muted: #59626c; --ss-line: #d5d9de; --ss-blue: #0a6aa6; --ss-orange: #b34a00; "
    "--ss-shortcut: #b03a00; "
    "--ss-used: #7a5000; --ss-encoded: #0a6aa6; --ss-absent: #00705a; --ss-untestable: #59626c;"
)
DARK: Final = (
    "color-scheme: dark; --ss-surface: #14171b; --ss-panel: #22272e; --ss-ink: #e6e9ed; "
    "--ss-muted: #a3acb7; --ss-line: #39414b; --ss-blue: #63b3e6; --ss-orange: #f0924f; "
    "--ss-shortcut: #ff8f5e; "
    "--ss-used: #e6b450; --ss-encoded: #6cbaee; --ss-absent: #52c7a5; --ss-untestable: #a3acb7;"
)
#: What JupyterLab, nbconvert, VS Code and Sphinx's themes say of a page that is light or dark.
_SAYS_LIGHT = (
    'body[data-jp-theme-light="true"]', "body.vscode-light", 'html[data-theme="light"]',
)  # fmt: skip
_SAYS_DARK = (
    'body[data-jp-theme-light="false"]', "body.vscode-dark", 'html[data-theme="dark"]',
)  # fmt: skip


def palette(selector: str) -> str:
    """Rules that give an element the colours of its page: as the page says, else as the reader's system does.

    Examples
    --------
    >>> palette(".ss-host").startswith(".ss-host { color-scheme: light;")
    True
    """
    light = ", ".join(f"{page} {selector}" for page in _SAYS_LIGHT)
    dark = ", ".join(f"{page} {selector}" for page in _SAYS_DARK)
    return (
        f"{selector} {{ {LIGHT} }}\n"
        f"@media (prefers-color-scheme: dark) {{ {selector} {{ {DARK} }} }}\n"
        f"{light} {{ {LIGHT} }}\n{dark} {{ {DARK} }}\n"
        f"@media print {{ {selector} {{ {LIGHT} }} }}"
    )
