"""blackboard: an entry for each fileset on the blackboard of an OPUS path, a column for each step.

So processes wake on a mirrored fileset (OPUS, "The blackboard"). The server half writes them, in a
process of its own, a page in one transaction. What the blackboard has is recorded after it has it;
a page that was sent and not recorded is sent again, and changes nothing.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mirror.errors import LocalError, MirrorError
from mirror.halt import Halt, HaltedError
from mirror.loop import Loop
from mirror.records import Post
from mirror.report import Report
from mirror.server_half import ask_server, read_answers
from mirror.state import State

if TYPE_CHECKING:
    from formats.mirror_yaml import BoardPlace

PAGE = 500
"""Filesets that are posted at once."""

EVERY = 200
"""Filesets that are done, after which they are posted though the run goes on."""

MAX_REFUSED = 100
"""Refused entries of one run after which it gives up: something is wrong with all of them."""

REFUSED = "refused"
"""What `osf post` says of an entry that cannot be one; all else says that it is there."""

Outcome = tuple[list[tuple[Post, str, str]], str | None]
"""Posts, what became of each, and why; and what went wrong beside that."""


class Poster:
    """Posts what has moved since it was last posted; the coordinator's thread calls it.

    Trouble is told once and ends the posting of this run; what is owed is posted by the next one.
    """

    def __init__(self, place: "BoardPlace", state: State, report: Report, halt: Halt) -> None:
        self._place = place
        self._state = state
        self._report = report
        self._halt = halt
        self._pool = ThreadPoolExecutor(1, "post")
        self._refused: set[int] = set()
        self._done = 0
        self._more = True
        self._busy = self._failed = False
        # Under other names everything is posted anew.
        state.owed.begin_posts(f"{place.type} {place.path}{' @PRODUCT' * place.product}")

    def add(self) -> None:
        """One more fileset is done."""
        self._done += 1

    def start(self, loop: Loop) -> None:
        """Post a page beside the transfers, if none is under way: after the listing what that has
        brought, then again whenever some hundred filesets are done."""
        due = self._more or self._done >= EVERY
        if self._busy or self._failed or not due or self._halt.reason:
            return
        page = self._page()
        self._done, self._more = 0, len(page) == PAGE
        if page:
            self._busy = True
            work = partial(send, self._place, page, self._halt)
            loop.submit(self._pool, work, self._posted, self._give_up)

    def finish(self) -> None:
        """Post what is left, at the end of the run.

        A page is always sent, for a night that ends with its deadline is to be posted too; more
        of them while nothing ends the run. Raises HaltedError on a signal.
        """
        while not self._failed and (page := self._page()):
            self._halt.check()
            try:
                self._posted(send(self._place, page, self._halt))
            except LocalError as error:
                self._give_up(error)
            if self._halt.reason:
                return

    def close(self) -> None:
        """Begin nothing more beside the transfers."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _page(self) -> list[Post]:
        owed = self._state.owed.posts(PAGE + len(self._refused))
        page = [one for one in owed if one.fileset not in self._refused][:PAGE]
        return [replace(one, full_name=True) for one in page] if self._place.product else page

    def _posted(self, outcome: Outcome) -> None:
        self._busy = False
        answers, trouble = outcome
        self._state.owed.posted(post for post, what, _ in answers if what != REFUSED)
        for post, what, why in answers:
            if what == REFUSED:
                self._refused.add(post.fileset)
                self._report.fault(f"blackboard {self._place.path}: {why}", post.product, post.name)
        if trouble:
            self._give_up(LocalError(f"{trouble}; posted with the next run"))
        self._failed |= len(self._refused) >= MAX_REFUSED

    def _give_up(self, error: MirrorError) -> None:
        """The blackboard itself is in the way: told once, and tried again with the next run."""
        self._busy, self._failed = False, True
        if not isinstance(error, HaltedError):
            self._report.fault(f"blackboard {self._place.path}: {error}")


def send(place: "BoardPlace", page: list[Post], halt: Halt) -> Outcome:
    """Have a page written to the blackboard.

    Raises LocalError where the server half is not there, or cannot be run.
    """
    arguments = ["osf", "post", "-p", place.path, "-t", place.type, "--list", "-"]
    arguments += ["--by", "update_mirror"]
    # Killed, this run must not write behind the back of the next one.
    arguments += ["--parent", str(os.getpid())]
    answer = ask_server(arguments, "".join(map(_line, page)), halt)
    answers = read_answers(answer.said, [(one.dataset, one) for one in page])
    if len(answers) == len(page):
        return answers, None
    return answers, answer.complaint or f"osf post ended with status {answer.status}"


def _line(post: Post) -> str:
    states = ",".join(f"{step}={letter}" for step, letter in post.states.items())
    return f"{post.dataset}|{states}|{'anew|' if post.anew else ''}\n"
