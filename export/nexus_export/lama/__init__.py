"""LaMa: the generator, its published and compact weights, and the network around it."""
