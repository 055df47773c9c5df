"""Studies: grids of ordinary configs, each cell trained by the ordinary Runner and measured in the same way."""
