#!/usr/bin/env bash
# Trains the compact SDXL in three hours on two CPU cores; what came of it is in its card in MODELS.md.
#
#     training/recipes/compact_sdxl.sh PHOTOS VOCABULARY OUT [OPTION...]
#
# PHOTOS is the folder of fetch_photos.sh, VOCABULARY is CLIP's bpe_simple_vocab_16e6.txt.gz (in the cache of
# nexus-export after a build). The checkpoint is OUT/checkpoint.
#
# A run by the clock gives similar weights, not the committed ones. For those, the first 38 % of the autoencoder's time
# had half the batch, and it saw photos alone at 256 pixels; until the UNet's 1,900th step crops were softer, objects
# could have the empty prompt and half as many photos were plain; until its 2,655th the original pixels were the target
# under an empty prompt, too.
set -euo pipefail

if [ $# -lt 3 ]; then echo "usage: $0 PHOTOS VOCABULARY OUT [OPTION...]" >&2; exit 2; fi

photos=$1 vocabulary=$2 out=$3
shift 3
"${PYTHON:-python}" -m nexus_training.sdxl.train --photos "$photos/photos" "$photos/sdxl" \
    --held-out "$(dirname "$0")/../../demo/photos" --vocabulary "$vocabulary" --out "$out" \
    --minutes-vae 42 --batch-vae 32 --minutes-unet 141 --fresh 3 "$@"
