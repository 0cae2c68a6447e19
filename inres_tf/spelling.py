"""Names that a misspelt one may mean."""

import difflib
import math
import re
from collections.abc import Iterable

# The least similarity of a name that is suggested, and the most that a number of
# another size takes from it.
_CUTOFF, _PENALTY = 0.6, 0.3


def similar(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Returns the names that one may mean, the most similar first.

    Case and punctuation do not matter: names that differ in nothing else are the only
    ones returned. Otherwise the letters count more than the numbers, and of these the
    first should be of a similar size.

    Args:
        name: a name, misspelt.
        known: the right names.
        count: how many to return at most.

    Example:
        >>> from inres_tf import spelling
        >>> spelling.similar("InResNet20", ["resnet20", "in_resnet20"])
        ['in_resnet20']
        >>> spelling.similar("in_resnet18", ["in_resnet8", "in_resnet20", "plain18"])
        ['in_resnet20', 'in_resnet8']
    """
    scores = {other: _similarity(_plain(name), _plain(other)) for other in known}
    same = [other for other in scores if _plain(other) == _plain(name)]
    ranked = sorted(scores, key=lambda other: -scores[other])
    return same or [other for other in ranked if scores[other] >= _CUTOFF][:count]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the question whether similar names are meant, and a space, or nothing.

    Args:
        name: a name, misspelt.
        known: the right names.

    Example:
        >>> from inres_tf import spelling
        >>> spelling.did_you_mean("cifar-10", ["cifar10", "cifar100", "mnist"])
        "did you mean 'cifar10'? "
    """
    close = similar(name, known)
    return f"did you mean {' or '.join(map(repr, close))}? " if close else ""


def _plain(name):
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _similarity(one, other):
    letters = difflib.SequenceMatcher(
        None, *(re.sub(r"\d", "", name) for name in (one, other))
    )
    score = (letters.ratio() + difflib.SequenceMatcher(None, one, other).ratio()) / 2
    numbers = [int(found[0]) for n in (one, other) if (found := re.findall(r"\d+", n))]
    if len(numbers) == 2 and all(numbers):
        distance = abs(math.log(numbers[0] / numbers[1]))
        score -= min(_PENALTY, distance / 2)
    return score
