"""The pipelines: geometry, masks, limits, and the order in which networks are called.

One module an operation:

    segment             clicks or a box on a photo -> the mask of one object
    cleanup             a photo and a mask -> the photo with the masked pixels filled
    smart_remove        clicks, a box or a rough mask on a photo -> the photo without that object
    remove_background   a photo -> its salient object on a colour, or on nothing
    generative_fill     a photo, a mask and a prompt -> the photo with the masked pixels repainted

An operation is a coroutine (generative_fill: an asynchronous generator). It takes a `Networks` object and plain values,
and returns its outputs by name:

    outputs = await cleanup.run(networks, image=photo_bytes, mask=mask_bytes, dilate=3)

Only the package `triton` knows that Triton exists, and only `local` knows onnxruntime (in-process, for debugging).
"""
