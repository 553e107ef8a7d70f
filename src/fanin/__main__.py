"""``python -m fanin``: the command line."""

from fanin.cli.main import main

if __name__ == "__main__":
    main()
