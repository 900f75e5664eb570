"""`python -m ocibuild`: the command line."""

from ocibuild.cli import entry

if __name__ == "__main__":
    entry()
