"""Stages and letters that a process looks for or writes, against the stage file of its path."""

from collections.abc import Iterator

from formats.resource_file import ResourceFile
from formats.stage_file import StageFile
from formats.triggers import OsfTrigger


def check_columns(resource: ResourceFile, stages: StageFile) -> tuple[list[str], list[str]]:
    """Problems and warnings, each with file, line and keyword.

    A stage must be there, and a letter that is written must have a meaning, else the blackboard
    refuses it; one that is only looked for will just never come.
    """
    problems: list[str] = []
    warnings: list[str] = []
    for name, title, letter, written in _columns(resource):
        keyword = resource.find(name)
        where = resource.where(keyword) if keyword else f"{resource.path}: {name}"
        stage = stages.stage(title)
        if stage is None:
            has = ", ".join(stages.titles()) or "none"
            problems.append(f"{where}: a stage of {stages.path} expected; it has {has}")
        elif not stage.knows(letter):
            has = ", ".join(stage.letters) or "none"
            found = f"{where}: {letter!r} has no meaning in {stages.path}; stage {title} has {has}"
            (problems if written else warnings).append(found)
    return problems, warnings


def _columns(resource: ResourceFile) -> Iterator[tuple[str, str, str, bool]]:
    """Keyword, stage and letter of all that is about a stage, and whether it is written."""
    for trigger in resource.triggers:
        if isinstance(trigger, OsfTrigger):
            for match in trigger.matches:
                for title, letter in match.columns.items():
                    yield f"OSF_TRIGGER{match.number}.{title}", title, letter, False
            for title, letter in trigger.processing.items():
                yield f"OSF_PROCESSING.{title}", title, letter, True
                if trigger.absent:
                    yield "OSF_ABSENT", title, trigger.absent, True
    for name, outcome in resource.outcomes.items():
        for title, letter in outcome.osf.items():
            yield f"{name}.{title}", title, letter, True
