"""A graph written by hand: the serving environment has onnxruntime, but not onnx to make one with.

Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
"""

from __future__ import annotations

from collections.abc import Mapping

FLOAT = 1


def sum_model(metadata: Mapping[str, str]) -> bytes:
    """total = left + right: FP32 [batch, width] each, any batch and width; `metadata` are its properties."""
    node = text(1, "left") + text(1, "right") + text(2, "total") + text(4, "Add")
    graph = (
        field(1, node)
        + text(2, "sum")
        + field(11, value("left"))
        + field(11, value("right"))
        + field(12, value("total"))
    )
    opset = number(2, 17)
    properties = (field(14, text(1, key) + text(2, content)) for key, content in metadata.items())
    return number(1, 8) + field(7, graph) + field(8, opset) + b"".join(properties)


def value(name: str) -> bytes:
    """A ValueInfoProto: FP32 [batch, width]."""
    shape = field(1, text(2, "batch")) + field(1, text(2, "width"))
    return text(1, name) + field(2, field(1, number(1, FLOAT) + field(2, shape)))


def number(tag: int, content: int) -> bytes:
    return bytes([tag << 3, content])


def text(tag: int, content: str) -> bytes:
    return field(tag, content.encode())


def field(tag: int, content: bytes) -> bytes:
    """A length-delimited field; the length as a varint."""
    length, head = len(content), bytes([tag << 3 | 2])
    while length > 0x7F:
        head += bytes([length & 0x7F | 0x80])
        length >>= 7
    return head + bytes([length]) + content
