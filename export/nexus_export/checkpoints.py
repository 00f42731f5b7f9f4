"""The published checkpoints: where their authors put them, and what every file must be, to the byte.

Each sum was found in public texts that state it for this very file: pins of other projects, large-file records of the
hub; most in several, those of SDXL's text encoders, VAE and configurations in one project's. For a few small
configurations none was found: they are pinned by their repository's revision alone, see `checkpoint_cache`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Archive:
    """The zip file that a file is published in."""

    member: str  # the file's path in it
    sha256: str
    bytes: int


@dataclass(frozen=True)
class PublishedFile:
    """One file of a checkpoint, identified by its content."""

    path: str  # in the checkpoint's folder
    url: str  # the file's, or its archive's
    sha256: str | None  # None: nobody published it
    bytes: int | None
    archive: Archive | None = None


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint that `build` takes by name."""

    name: str
    group: str  # the network, or group of networks, that is built from it: see `networks`
    files: tuple[PublishedFile, ...]
    licence: str
    note: str
    hub: str = ""  # its id on the Hugging Face hub, which stands for the name too

    @property
    def bytes(self) -> int:
        """What it takes on the disk, but for small files of unknown size."""
        return sum(file.bytes or 0 for file in self.files)


_META = "https://dl.fbaipublicfiles.com"
_REMBG = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
_SDXL = ("diffusers/stable-diffusion-xl-1.0-inpainting-0.1", "115134f363124c53c7d878647567d04daf26e41e")
_SDXL_VAE = ("madebyollin/sdxl-vae-fp16-fix", "207b116dae70ace3637169f1ddd2434b91b3a8cd")
_SD15 = ("stable-diffusion-v1-5/stable-diffusion-inpainting", "8a4288a76071f7280aedbdb3253bdb9e9d5d84bb")

# A line a file: sha256, path, bytes; "-" is unknown. Of the weights the FP16 variant is taken: half the download, what
# both model cards run, and the networks come out in FP32 either way. It lies under the name without the variant, so
# that diffusers and our code find it unasked.
_SDXL_FILES = """
308a792b15086bf89807b88729ef80d33d5b8264b14a96b57d2c92b5ab7f5a53 model_index.json 690
a8e9a8517e8739938ea85819012bad195d41ccb3e11e2501cf196da64099b1f6 scheduler/scheduler_config.json 479
46ae51fa8bde7817168d97faa0556cc0ac42ec0a7a53248bab4a52f8f5866f13 text_encoder/config.json 746
fc83cf401d930147807e7c44021c164bcc5508c9d4cc0ff35f4e354685ca9cd0 text_encoder/model.safetensors 246144867
fbcd3aad07a99e28d4c51550bd798903922083527ec69ad026f25699518af82d text_encoder_2/config.json 758
a8622bd41f8d359df484fdf9de091edb9337a2fd747f0a5c9c320a62e24d1fd3 text_encoder_2/model.safetensors 1389382884
9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a tokenizer/merges.txt 524619
c4864a9376a8401918425bed71fc14fc0e81f9b59ec45c1cf96cccb2df508eac tokenizer/special_tokens_map.json 472
19d7b034cb0cc3ce9766c2231373ab8aa8991fc72e2c8f76558bfaae3de0d563 tokenizer/tokenizer_config.json 737
e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349 tokenizer/vocab.json 1059962
9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a tokenizer_2/merges.txt 524619
f118ab3a983206e4f32583448de6bd6aae4ee21869135cef1f5848a753cdaab6 tokenizer_2/special_tokens_map.json 460
c9d23941f76a41cbd50eda9290f57be7828f0a7a677939e9ef181f7e12bd1bdf tokenizer_2/tokenizer_config.json 725
e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349 tokenizer_2/vocab.json 1059962
aaedf41fbcb29d2d8725241413b8525bd97005dea3f86d8056199469032537e9 unet/config.json 1932
6470840731e98cc16713ddf3ac7ee458c9fdbcb881a98c6727cd4a938f227d3f unet/diffusion_pytorch_model.safetensors 5135178560
b822341e6125efedebffb8e3f35e7288aab06bb4c49853d50a16964bf104a727 vae/config.json 659
4ad62825e5c8b31eefb77355ba6693785619bf7d669d9b1a6fd9f19dec6d65b3 vae/diffusion_pytorch_model.safetensors 167335338
"""
# Published in FP32 alone.
_SDXL_VAE_FILES = """
f18b16fa4381c90ab44a3d7abd2e90afd05a2c31b8ca69998bc93c6453aeb7b7 config.json 631
1b909373b28f2137098b0fd9dbc6f97f8410854f31f84ddc9fa04b077b0ace2c diffusion_pytorch_model.safetensors 334643238
"""
_SD15_FILES = """
- model_index.json -
- scheduler/scheduler_config.json -
- text_encoder/config.json -
77795e2023adcf39bc29a884661950380bd093cf0750a966d473d1718dc9ef4e text_encoder/model.safetensors 246144864
9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a tokenizer/merges.txt 524619
- tokenizer/special_tokens_map.json -
- tokenizer/tokenizer_config.json -
e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349 tokenizer/vocab.json 1059962
- unet/config.json -
24b788b4a777748377cc20364eea4ae113c8c42f4468c16bc8c02fdae5492af9 unet/diffusion_pytorch_model.safetensors 1719154104
- vae/config.json -
4fbcf0ebe55a0984f5a5e00d8c4521d52359af7229bb4d81890039d2aa16dd7c vae/diffusion_pytorch_model.safetensors 167335342
"""


def _from_hub(
    hub: tuple[str, str], listing: str, folder: str = "", variant: str = ""
) -> Iterator[PublishedFile]:
    for line in listing.strip().splitlines():
        sha256, path, size = line.split()
        stem, _, suffix = path.rpartition(".")
        source = f"{stem}{variant}.{suffix}" if suffix == "safetensors" else path
        yield PublishedFile(
            folder + path,
            f"https://huggingface.co/{hub[0]}/resolve/{hub[1]}/{source}",
            None if sha256 == "-" else sha256,
            None if size == "-" else int(size),
        )


def _single(
    name: str, group: str, url: str, sha256: str, size: int, note: str, licence: str = "Apache-2.0"
) -> PublishedCheckpoint:
    file = PublishedFile(url.rsplit("/", 1)[1], url, sha256, size)
    return PublishedCheckpoint(name, group, (file,), licence, note)


_SDXL_ORIGINAL = tuple(_from_hub(_SDXL, _SDXL_FILES, variant=".fp16"))

CHECKPOINTS: Mapping[str, PublishedCheckpoint] = MappingProxyType(
    {
        checkpoint.name: checkpoint
        for checkpoint in (
            _single(
                "mobile_sam",
                "sam",
                "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/"
                "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
                "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
                40_728_226,
                "MobileSAM: a TinyViT encodes",
            ),
            _single(
                "sam_vit_b",
                "sam",
                f"{_META}/segment_anything/sam_vit_b_01ec64.pth",
                "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
                375_042_383,
                "SAM, the smallest encoder",
            ),
            _single(
                "sam_vit_l",
                "sam",
                f"{_META}/segment_anything/sam_vit_l_0b3195.pth",
                "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
                1_249_524_607,
                "SAM, the middle one",
            ),
            _single(
                "sam_vit_h",
                "sam",
                f"{_META}/segment_anything/sam_vit_h_4b8939.pth",
                "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
                2_564_550_879,
                "SAM, the largest",
            ),
            _single(
                "sam2.1_hiera_tiny",
                "sam2",
                f"{_META}/segment_anything_2/092824/sam2.1_hiera_tiny.pt",
                "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
                156_008_466,
                "SAM 2.1, the smallest encoder",
            ),
            _single(
                "sam2.1_hiera_small",
                "sam2",
                f"{_META}/segment_anything_2/092824/sam2.1_hiera_small.pt",
                "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
                184_416_285,
                "SAM 2.1, the second",
            ),
            _single(
                "sam2.1_hiera_base_plus",
                "sam2",
                f"{_META}/segment_anything_2/092824/sam2.1_hiera_base_plus.pt",
                "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
                323_606_802,
                "SAM 2.1, the third",
            ),
            _single(
                "sam2.1_hiera_large",
                "sam2",
                f"{_META}/segment_anything_2/092824/sam2.1_hiera_large.pt",
                "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
                898_083_611,
                "SAM 2.1, the largest",
            ),
            _single(
                "big-lama",
                "lama",
                "https://github.com/Sanster/models/releases/download/add_big_lama/big-lama.pt",
                "344c77bbcb158f17dd143070d1e789f38a66c04202311ae3a258ef66667a9ea9",
                205_669_692,
                "as IOPaint has it, TorchScript",
            ),
            PublishedCheckpoint(
                "big-lama-lightning",
                "lama",
                (
                    PublishedFile(
                        "best.ckpt",
                        "https://huggingface.co/smartywu/big-lama/resolve/"
                        "05cb2be7f8dbe6ca7c6e78f4fc827a4b2baaa4a9/big-lama.zip",
                        "fccb7adffd53ec0974ee5503c3731c2c2f1e7e07856fd9228cdcc0b46fd5d423",
                        410_046_389,
                        Archive(
                            "big-lama/models/best.ckpt",
                            "f1b358ca24093b93a106183b98a3dea6e8ed09f3b43ea7251eb2c81e7b4575f6",
                            381_428_720,
                        ),
                    ),
                ),
                "Apache-2.0",
                "as LaMa's README has it",
            ),
            _single(
                "u2net",
                "u2net",
                f"{_REMBG}/u2net.onnx",
                "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
                175_997_641,
                "U²-Net, rembg's default",
            ),
            _single(
                "u2netp",
                "u2net",
                f"{_REMBG}/u2netp.onnx",
                "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
                4_574_861,
                "U²-Net-p, the small one",
            ),
            _single(
                "isnet-general-use",
                "isnet",
                f"{_REMBG}/isnet-general-use.onnx",
                "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
                178_648_008,
                "IS-Net, finer outlines",
            ),
            PublishedCheckpoint(
                "sdxl-inpainting",
                "sdxl",
                _SDXL_ORIGINAL,
                "CreativeML Open RAIL++-M",
                "SDXL inpainting, VAE in FP32",
                hub=_SDXL[0],
            ),
            PublishedCheckpoint(
                "sdxl-inpainting-fp16-vae",
                "sdxl",
                (
                    *(file for file in _SDXL_ORIGINAL if not file.path.startswith("vae/")),
                    *_from_hub(_SDXL_VAE, _SDXL_VAE_FILES, folder="vae/"),
                ),
                "CreativeML Open RAIL++-M; VAE: MIT",
                "the same, VAE fit for FP16",
            ),
            PublishedCheckpoint(
                "sd15-inpainting",
                "sd15",
                tuple(_from_hub(_SD15, _SD15_FILES, variant=".fp16")),
                "CreativeML OpenRAIL-M",
                "Stable Diffusion 1.5 inpainting",
                hub=_SD15[0],
            ),
        )
    }
)
