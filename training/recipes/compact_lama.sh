#!/usr/bin/env bash
# Trains the compact LaMa in two hours on two CPU cores; what came of it is in its card in MODELS.md.
#
#     training/recipes/compact_lama.sh PHOTOS OUT [OPTION...]
#
# PHOTOS is the folder of fetch_photos.sh; textures in PHOTOS/textures are added. Options go to both runs: for a trial
# take `--minutes 0.1 --crop 64 --batch 1 --cached-crops 20`. The weights are OUT/lama_compact.safetensors.
#
# It does not reproduce the committed weights. They began with TRUNK, the weights of 16.5 minutes on an H100 (sha256
# 16dcc167a191d689d824ce174e733013e0188f70de64d77475fb7bc249c4e5f2), whose last layer was widened by twelve outputs of
# amplitude 0.01; without TRUNK a run starts from the pyramid's fill. The first run stands for three, of 36, 13 and 60
# minutes, under losses that have changed since.
set -euo pipefail

if [ $# -lt 2 ]; then echo "usage: $0 PHOTOS OUT [OPTION...]" >&2; exit 2; fi

photos=$1 out=$2
shift 2
python=${PYTHON:-python}
data=(--photos "$photos/photos" --validation "$photos/validation")
if [ -d "$photos/textures" ]; then data+=(--photos "$photos/textures"); fi
settings=(--batch 8 --crop 192 --cached-crops 3000)

"$python" -m nexus_training.lama.train "${data[@]}" --out "$out/first" ${TRUNK:+--weights "$TRUNK"} \
    --minutes 109 "${settings[@]}" --seed 3 "$@"
# At a lower rate; the first run to average the amplitude over 9 x 9 pixels.
"$python" -m nexus_training.lama.train "${data[@]}" --out "$out/second" --weights "$out/first/lama_compact.safetensors" \
    --minutes 15 "${settings[@]}" --learning-rate 6e-4 --seed 6 "$@"
# Chosen on the validation photos, in the middle of the range that meets the aims of both SSIM and spectrum.
"$python" -m nexus_training.lama.scale_grain "$out/second/lama_compact.safetensors" "$out/lama_compact.safetensors" 0.75
