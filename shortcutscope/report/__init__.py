"""The audit as a page: pure data, figures, HTML."""
