"""Which words people use for which things: so that training asks for a thing in more ways than its label's.

Promises: `means(word, label)` holds where a thing labelled so may be called so; `unsure` where it may or may not be,
such as an "armchair" that is only labelled "chair": there a label says neither yes nor no.
"""

from __future__ import annotations

from functools import cache

from proxqa_training.scenes.names import SYNONYMS

KINDS: dict[str, tuple[str, ...]] = {
    "person": ("man", "woman", "boy", "girl", "child"),
    "child": ("boy", "girl"),
    "vehicle": ("car", "bus", "truck", "motorcycle", "van", "train", "tractor"),
    "table": ("dining table", "coffee table", "round table", "nightstand", "desk", "folding table"),
    "chair": ("armchair", "wheelchair", "deck chair"),
    "lamp": ("desk lamp", "ceiling lamp", "wall lamp", "street lamp"),
    "bottle": ("water bottle", "oil bottle", "wine bottle", "ketchup", "vinegar"),
    "can": ("corn can", "fish can", "tin can"),
    "cup": ("mug",),
    "glass": ("wine glass",),
    "animal": ("dog", "cat", "horse", "cow", "sheep", "bird", "elephant", "bear", "zebra", "giraffe"),
    "fruit": ("apple", "banana", "orange"),
    "bag": ("handbag", "backpack", "suitcase", "briefcase"),
    "ball": ("basketball", "soccer ball", "sports ball", "tennis ball"),
    "box": ("cardboard box", "crate", "cereal", "bread box"),
    "shelf": ("bookcase",),
    "plant": ("cactus", "bamboo", "flowers", "palm tree"),
    "tree": ("palm tree", "christmas tree"),
    "cabinet": ("wall cabinet", "filing cabinet", "dresser"),
    "bed": ("crib",),
    "computer": ("laptop",),
    "screen": ("tv",),
    "sofa": ("armchair",),
}
"""General words and what falls under them ("sofa": an armchair may be called one, so it is no counterexample)."""
UNSURE_KINDS = {"sofa", "computer", "screen"}

SAME: tuple[tuple[str, ...], ...] = (
    *((name, *(w for w in others if w not in KINDS)) for name, others in SYNONYMS.items()),
    ("person", "human", "pedestrian"),
    ("tv", "television", "tv monitor"),
    ("screen", "monitor", "display", "computer screen"),
    ("potted plant", "plant", "house plant"),
    ("phone", "cell phone", "mobile phone", "smartphone"),
    ("remote", "remote control"),
    ("computer mouse", "mouse"),
    ("dining table", "kitchen table"),
    ("nightstand", "bedside table", "night table"),
    ("airplane", "aeroplane", "plane"),
    ("handbag", "purse"),
    ("teddy bear", "stuffed toy", "plush toy"),
    ("sports ball", "ball"),
    ("tin can", "can"),
    ("faucet", "tap"),
    ("window blind", "blinds"),
    ("hair drier", "hair dryer"),
    ("traffic sign", "road sign"),
    ("soda", "soda can"),
    ("tape roll", "roll of tape"),
    ("gas stove", "stove"),
    ("countertop", "counter", "worktop"),
    ("heater", "radiator"),
    ("juice", "juice carton", "juice box"),
    ("milk", "milk carton"),
    ("cereal", "cereal box"),
    ("handle", "door handle"),
    ("water bottle", "bottle of water"),
    ("backpack", "rucksack"),
    ("mug", "coffee mug"),
    ("donut", "doughnut"),
)
"""Words that stand for the same thing."""


@cache
def same(word: str) -> frozenset[str]:
    """All words for the same thing, the word itself among them."""
    return frozenset({word}.union(*(set(group) for group in SAME if word in group)))


@cache
def general(label: str) -> frozenset[str]:
    """All words that a thing labelled so may be called by."""
    words = set(same(label))
    parts = label.split()
    words |= {" ".join(parts[i:]) for i in range(1, len(parts)) if " ".join(parts[i:]) in KINDS}
    for _ in range(3):
        for kind, members in KINDS.items():
            if kind not in UNSURE_KINDS and any(m in words for m in members):
                words |= same(kind)
    return frozenset(words)


def means(word: str, label: str) -> bool:
    """Whether a thing labelled `label` is rightly called `word`."""
    return word in general(label)


def unsure(word: str, label: str) -> bool:
    """Whether a thing labelled `label` might be called `word` but need not."""
    if means(word, label):
        return False
    if means(label, word) or label.endswith(" " + word) or word.endswith(" " + label):
        return True
    return any(word in same(k) and label in KINDS[k] for k in UNSURE_KINDS) or bool(general(word) & same(label))
