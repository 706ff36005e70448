"""Is a head too large? Judged by the sizes of its parts, the same whether it has arrived whole or in part.

Invariant: what is refused while it arrives would be refused once it is whole, and the other way round, so that the
answer does not depend on how the network cuts it.
"""

from gateway.policies.refusal import Refusal
from gateway.proxy import answers


def too_large(data: bytes, line_limit: int, section_limit: int) -> Refusal | None:
    """`data` begins with the head. The section is what follows the request line, without the empty line at its end."""
    line = data.find(b"\r\n")
    if (len(data) - 1 if line < 0 else line) > line_limit:  # less one: it may be a CR
        return answers.URI_TOO_LONG
    end = data.find(b"\r\n\r\n")
    section = (len(data) - 3 if end < 0 else end) - line  # less three: they may be the beginning of its end
    return answers.HEAD_TOO_LARGE if line >= 0 and section > section_limit else None
