"""python -m tokenswarm."""

from tokenswarm.cli import main

main()
