"""What a client's state.db is given by hand."""

from mirror.records import QUEUED, NewFileset
from mirror.state import State


def queue(state: State, *names: str, product: str = "gpc1", kind: str = QUEUED) -> list[int]:
    """Queue filesets; returns their numbers."""
    header, first = state.header_id(""), state.next_id()
    numbers = list(range(first, first + len(names)))
    new = [
        NewFileset(number, name, "", "", header, "", kind)
        for number, name in zip(numbers, names, strict=True)
    ]
    state.add(state.product(product).id, new)
    return numbers
