"""Scale the grain of a trained compact LaMa: `python -m nexus_training.lama.scale_grain WEIGHTS OUT FACTOR`.

The amplitude of the grain trades SSIM for the right spectrum; a factor moves the balance without training.
"""

import argparse
from pathlib import Path

from nexus_export.families.lama.checkpoint import read_compact, write_compact
from nexus_export.families.lama.generator import OUT_CHANNELS


def scale_grain(weights: Path, out: Path, factor: float) -> None:
    """Write the weights with the amplitudes of all noise bands multiplied by `factor`."""
    generator = read_compact(weights)
    for values in generator.model[-1].parameters():
        values.data[OUT_CHANNELS:] *= factor
    write_compact(generator, out)


def main() -> None:
    """Read the command line and scale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("factor", type=float)
    options = parser.parse_args()
    scale_grain(options.weights, options.out, options.factor)


if __name__ == "__main__":
    main()
