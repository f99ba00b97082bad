"""The content hash of a node: what the WebSocket protocol calls `h`, and the ETag of the REST API.

Source: `Node.hash` of the JavaScript SDK. A leaf is hashed as "type:value" (numbers as the hexadecimal digits of their
big-endian IEEE 754 double), a branch as ":key:hash" of its children in priority order, both after an optional
"priority:type:value:"; SHA-1, base64.
"""

import base64
import hashlib
import struct

from emulator.rtdb.ordering import key_order, value_order
from emulator.rtdb.tree import Branch, Leaf, Node, Scalar

NULL_ETAG = "null_etag"


def etag(node: Node | None) -> str:
    """The ETag of a location; that of an empty one is the constant `null_etag`."""
    return NULL_ETAG if node is None else digest(node)


def digest(node: Node | None) -> str:
    """The hash of a node, remembered by the node; the empty string for nothing."""
    if node is None:
        return ""
    if node.digest is None:
        text = "" if node.priority is None else f"priority:{_scalar_text(node.priority)}:"
        text += _scalar_text(node.value) if isinstance(node, Leaf) else _children_text(node)
        # SHA-1 is what the protocol prescribes; nothing secret depends on it.
        hashed = hashlib.sha1(text.encode("utf-8"), usedforsecurity=False)
        node.digest = base64.b64encode(hashed.digest()).decode("ascii")
    return node.digest


def _scalar_text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "boolean:true" if value else "boolean:false"
    if isinstance(value, str):
        return f"string:{value}"
    return f"number:{struct.pack('>d', value).hex()}"


def _children_text(branch: Branch) -> str:
    def order(item: tuple[str, Node]) -> tuple[object, object]:
        return value_order(item[1].priority), key_order(item[0])

    return "".join(f":{key}:{digest(child)}" for key, child in sorted(branch.children.items(), key=order))
