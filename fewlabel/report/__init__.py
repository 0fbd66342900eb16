"""Figures, image grids and the HTML page: import the submodule that you need."""
