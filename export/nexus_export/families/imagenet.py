"""The pixel statistics of ImageNet, with which networks that were trained from its weights normalise."""

# Mean and standard deviation of RGB in [0, 1]; rembg has them for U2-Net, SAM2Transforms for SAM 2.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
