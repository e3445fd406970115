"""`python -m partfit`: the same as the command `partfit`."""

from partfit.cli import main

if __name__ == "__main__":
    main(prog_name="partfit")
