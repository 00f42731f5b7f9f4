"""What the pipelines do: geometry, masks, limits, and the order in which networks are called.

A pipeline is one coroutine. It takes a `Networks` object and plain values, and returns its outputs by name:

    outputs = await cleanup.run(networks, image=photo_bytes, mask=mask_bytes, dilate=3)

Only `triton` knows that Triton exists, and only `local` knows onnxruntime (in-process, for debugging).
"""
