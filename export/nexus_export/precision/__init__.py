"""Lower precision: graphs in, graphs with fewer bits out."""
