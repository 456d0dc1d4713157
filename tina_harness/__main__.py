"""python -m tina_harness: the same as `tina`."""

from tina_harness.cli import main

if __name__ == "__main__":
    main()
