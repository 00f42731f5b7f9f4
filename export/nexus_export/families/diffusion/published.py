"""The published checkpoints of SDXL and SD 1.5 inpainting, file by file."""

from nexus_export.downloads.checkpoints import PublishedCheckpoint, from_hub

_SDXL = ("diffusers/stable-diffusion-xl-1.0-inpainting-0.1", "115134f363124c53c7d878647567d04daf26e41e")
_SDXL_VAE = ("madebyollin/sdxl-vae-fp16-fix", "207b116dae70ace3637169f1ddd2434b91b3a8cd")
_SD15 = ("stable-diffusion-v1-5/stable-diffusion-inpainting", "8a4288a76071f7280aedbdb3253bdb9e9d5d84bb")

# For `from_hub`. Of the weights the FP16 variant is taken: half the download, the one that both model cards run, and
# the networks are FP32 either way.
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

_SDXL_ORIGINAL = tuple(from_hub(*_SDXL, _SDXL_FILES, variant=".fp16"))

SDXL = (
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
            *from_hub(*_SDXL_VAE, _SDXL_VAE_FILES, folder="vae/"),
        ),
        "CreativeML Open RAIL++-M; VAE: MIT",
        "the same, VAE fit for FP16",
    ),
)

SD15 = (
    PublishedCheckpoint(
        "sd15-inpainting",
        "sd15",
        tuple(from_hub(*_SD15, _SD15_FILES, variant=".fp16")),
        "CreativeML OpenRAIL-M",
        "Stable Diffusion 1.5 inpainting",
        hub=_SD15[0],
    ),
)
