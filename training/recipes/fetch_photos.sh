#!/usr/bin/env bash
# Fetches the photos that the compact LaMa and the compact SDXL were trained on (licences: MODELS.md).
#
#     training/recipes/fetch_photos.sh FOLDER
#
# Needs the apt sources of Debian 12, unzip and pip. Writes FOLDER/photos (42, of both trainings), FOLDER/validation (4,
# of LaMa's) and FOLDER/sdxl (8 more of SDXL's). The 130 textures that LaMa was also trained on are of Debian's
# ufoai-textures 2.5-2; which of its files they were is not recorded.
set -euo pipefail

mkdir -p "$1"/{photos,validation,sdxl}
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download lomiri-wallpapers-16.04=20.04.0-2 lomiri-wallpapers-20.04=20.04.0-2 mate-backgrounds=1.26.0-1 \
    plasma-workspace-wallpapers=4:5.27.5-2 palapeli-data=4:22.12.3-1 ukui-wallpapers=20.04.3-1.1
for package in *.deb; do
    dpkg-deb -x "$package" "${package%%_*}"
done
"${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary :all: --python-version 3.11 scikit-image==0.25.2
unzip -q -j scikit_image-*.whl skimage/data/{brick,camera,grass,gravel}.png -d skimage

cp lomiri-wallpapers-16.04/usr/share/backgrounds/*.jpg "$out/photos"
# The published figures are measured on these four.
(cd "$out/photos" && rm {Bridge_by_Sander_Klootwijk,picosdeeuropa_by_Aitzol_Berasategi,Dragonfly_by_Bolly,Wine_by_Jakkub_Mede}.jpg)
cp lomiri-wallpapers-20.04/usr/share/backgrounds/{Kleiber,Infinite-Sea}_by_*.jpg "$out/photos"
cp mate-backgrounds/usr/share/backgrounds/mate/nature/*.jpg "$out/photos"
for name in BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite OneStandsOut Path summer_1am; do
    cp "plasma-workspace-wallpapers/usr/share/wallpapers/$name/contents/images/2560x1600.jpg" "$out/photos/$name.jpg"
done
puzzles=palapeli-data/usr/share/palapeli/collection
cp "$puzzles"/{cincinnati-bridge,european-honey-bee}.jpg "$out/photos"
cp skimage/{brick,camera,grass,gravel}.png "$out/photos"

cp lomiri-wallpapers-20.04/usr/share/backgrounds/Fossa_by_*.jpg "$out/validation"
cp "$puzzles"/{castle-maintenon,panther-chameleon-female,citrus-fruits}.jpg "$out/validation"

cp "$puzzles"/{castle-maintenon,panther-chameleon-female,citrus-fruits}.jpg "$out/sdxl"
cp ukui-wallpapers/usr/share/backgrounds/{2004default.jpg,calla.png,city.png,desert.png,goldfish.png} "$out/sdxl"

for folder in photos validation sdxl; do
    echo "$out/$folder: $(find "$out/$folder" -type f | wc -l) photos"
done
