"""Suites: one file a suite, run by `shortcutscope bench`."""
