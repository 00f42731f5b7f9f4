"""How well a trained compact SDXL paints what a prompt asks for; used by `benchmarks.fill_quality`."""
