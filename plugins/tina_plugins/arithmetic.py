"""Addition and subtraction problems, generated; two splits that cannot overlap."""


def problems(split: str, count: int, seed: int = 0) -> list[tuple[str, str]]:
    """`count` distinct (question, gold) pairs of the split "train" or "heldout", in a seeded order.

    A problem belongs to "heldout" where the last byte of the sha256 of its text is 0 modulo 10,
    whatever the seed, so the splits are disjoint by construction. The same arguments give the same
    problems anywhere. Raises ValueError for another split or more problems than there are.
    """
    import random

    if split not in ("train", "heldout"):
        raise ValueError(f"split {split!r}: expected 'train' or 'heldout'")
    texts = [f"{a} + {b}" for a in range(100) for b in range(100)]
    texts += [f"{a} - {b}" for a in range(100) for b in range(a + 1)]
    chosen = [text for text in texts if is_heldout(text) == (split == "heldout")]
    if count > len(chosen):
        raise ValueError(f"there are {len(chosen)} problems in '{split}', fewer than {count}")
    random.Random(f"arithmetic:{split}:{seed}").shuffle(chosen)
    return [(f"What is {text}?", solve(text)) for text in chosen[:count]]


def solve(text: str) -> str:
    """The result of "a + b" or "a - b"."""
    left, sign, right = text.split()
    return str(int(left) + int(right) if sign == "+" else int(left) - int(right))


def is_heldout(text: str) -> bool:
    """Whether the problem "a + b" is kept for evaluation."""
    import hashlib  # here, because listing names needs none of it

    return hashlib.sha256(text.encode()).digest()[-1] % 10 == 0
