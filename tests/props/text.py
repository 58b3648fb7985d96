#!/usr/bin/env python3
"""A text to learn from: text.py BYTES [SEED] > text. Always the same, and long enough that a small
model does not learn it by heart.

Words are made of syllables; how often a word comes falls as 1 / rank, and a word prefers eight
successors, as in a language."""
import random
import sys


def words(rng, count):
    syllables = [c + v + e for c in "bdfgklmnprstv" for v in "aeiou" for e in ("", "n", "r", "s")]
    found = {}
    while len(found) < count:
        found["".join(rng.choice(syllables) for _ in range(rng.choice((1, 2, 2, 3))))] = None
    return list(found)


def text(size, seed):
    rng = random.Random(seed)
    vocabulary = words(rng, 2000)
    often = [1 / (rank + 1) for rank in range(len(vocabulary))]
    follows = {w: rng.choices(vocabulary, often, k=8) for w in vocabulary}
    word, out, length = vocabulary[0], [], 0
    while length < size:
        out.append(word + rng.choice((" ", " ", " ", " ", " ", ", ", ".\n")))
        length += len(out[-1])
        word = rng.choice(follows[word] if rng.random() < 0.3 else vocabulary)
    return "".join(out)[:size]


if __name__ == "__main__":
    sys.stdout.write(text(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
