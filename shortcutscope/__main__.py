"""``python -m shortcutscope``: the command line where the console script is not on the path."""

from shortcutscope.cli import main

if __name__ == "__main__":
    main()
