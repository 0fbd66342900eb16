"""`python -m fewlabel`, and `accelerate launch -m fewlabel`."""

from fewlabel.cli import main

main()
