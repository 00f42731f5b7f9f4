"""The contents and captions of training pictures: objects, colours, materials, sizes, scenes."""

from dataclasses import dataclass

import numpy as np

# RGB, 0 to 255, fully lit.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (212, 28, 30),
    "orange": (245, 130, 20),
    "yellow": (248, 215, 35),
    "green": (40, 158, 52),
    "turquoise": (35, 195, 190),
    "blue": (32, 78, 214),
    "purple": (128, 44, 178),
    "pink": (250, 120, 180),
    "brown": (122, 74, 38),
    "black": (28, 28, 32),
    "grey": (132, 132, 134),
    "white": (243, 243, 240),
}

# The words for each shape; the more common one twice as often.
SHAPES: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "ball", "sphere"),
    "cube": ("cube", "cube", "box"),
    "cylinder": ("cylinder",),
    "cone": ("cone",),
    "star": ("star",),
    "ring": ("ring", "ring", "donut"),
    "heart": ("heart",),
    "door": ("door",),
    "flower": ("flower",),
}

MATERIALS = ("plain", "shiny", "matte", "wooden", "striped", "dotted")

SCENES: dict[str, tuple[str, ...]] = {
    "grass": ("grass", "green grass"),
    "sand": ("sand", "yellow sand"),
    "water": ("water", "blue water"),
    "sky": ("a cloudy sky", "a blue sky with clouds", "clouds"),
    "bricks": ("a brick wall", "bricks"),
    "wood": ("wood", "wooden planks"),
    "leaves": ("green leaves", "leaves"),
    "stone": ("stone", "grey stone"),
    "snow": ("snow", "white snow"),
}

# Scenes that an object lies on; it stands in front of the others.
GROUND = ("grass", "sand", "water", "wood", "leaves", "stone", "snow")

PREFIXES = ("", "", "", "a photo of ", "a picture of ", "photo of ")

# Negative prompts, the pipelines' default among them; they caption every kind of picture, objects included.
NEGATIVE = ("blurry, low quality", "low quality", "blurry")

# Prompts that ask for nothing. The empty one captions only plain photos, whose masks
# `latent_buffer.continue_background` fills.
UNCONDITIONAL = ("", *NEGATIVE)

# Shares of the training pictures; the others show an object.
PLAIN_SHARE, SCENE_SHARE = 0.35, 0.1

# Share of plain photos with the empty caption; the others get a negative one.
EMPTY_SHARE = 0.7


@dataclass(frozen=True)
class SceneSpec:
    """The contents of one training picture: indices into the tables above, -1 for none."""

    shape: int
    colour: int
    material: int
    scene: int
    # 0 for the smallest object, 1 for the largest.
    size: float
    caption: str


def sample_spec(rng: np.random.Generator) -> SceneSpec:
    """Sample a picture's contents with a caption: an object, a scene or a plain photo."""
    kind = rng.random()
    if kind < PLAIN_SHARE:
        return SceneSpec(-1, -1, -1, -1, 0.0, "" if rng.random() < EMPTY_SHARE else _choose(rng, NEGATIVE))
    if kind < PLAIN_SHARE + SCENE_SHARE:
        scene = int(rng.integers(len(SCENES)))
        phrase = _choose(rng, list(SCENES.values())[scene])
        return SceneSpec(-1, -1, -1, scene, 0.0, _drop_caption(rng, _choose(rng, PREFIXES) + phrase))
    return sample_object(rng)


def sample_object(rng: np.random.Generator) -> SceneSpec:
    """Sample an object, on a photo or on one of the scenes."""
    shape = int(rng.integers(len(SHAPES)))
    material = int(rng.choice(len(MATERIALS), p=(0.35, 0.2, 0.09, 0.12, 0.12, 0.12)))
    scene = int(rng.integers(len(SCENES))) if rng.random() < 0.3 else -1
    size = float(rng.random())
    colour = int(rng.integers(len(COLOURS)))
    named = rng.random() < 0.94
    if MATERIALS[material] == "wooden" and not named:
        colour = list(COLOURS).index("brown")
    if named and is_held_out(shape, colour, material):
        colour = (colour + 1) % len(COLOURS)
    words = [list(COLOURS)[colour]] if named else []
    if MATERIALS[material] != "plain":
        words.insert(0, MATERIALS[material])
    if size < 0.3 and rng.random() < 0.5:
        words.insert(0, "small")
    elif size > 0.7 and rng.random() < 0.5:
        words.insert(0, "big" if rng.random() < 0.7 else "large")
    words.append(_choose(rng, list(SHAPES.values())[shape]))
    article = "an" if words[0] == "orange" else "a"
    phrase = f"{article} {' '.join(words)}" if rng.random() < 0.85 else " ".join(words)
    if scene >= 0 and rng.random() < 0.8:
        name = list(SCENES)[scene]
        phrase += (" on " if name in GROUND else " in front of ") + _choose(rng, SCENES[name])
    return SceneSpec(
        shape, colour, material, scene, size, _drop_caption(rng, _choose(rng, PREFIXES) + phrase)
    )


def is_held_out(shape: int, colour: int, material: int) -> bool:
    """Whether this combination is never named by a caption: one in six."""
    return (shape + colour + material) % 6 == 0


CAPTION_DROP = 0.1


def _drop_caption(rng: np.random.Generator, caption: str) -> str:
    """The caption, or sometimes a negative prompt, for classifier-free guidance (arXiv:2207.12598)."""
    return _choose(rng, NEGATIVE) if rng.random() < CAPTION_DROP else caption


def _choose(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
