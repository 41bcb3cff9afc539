"""What people call the things of the catalogue: renaming, dropping, synonyms, colour words.

Promises: plain tables and functions of strings. Knows nothing of files, of models or of Blender.
"""

from __future__ import annotations

import re

SYNONYMS: dict[str, tuple[str, ...]] = {
    "sofa": ("couch", "settee"),
    "tv": ("television", "tv set"),
    "trash can": ("garbage can", "bin", "rubbish bin"),
    "man": ("person", "guy"),
    "woman": ("person", "lady"),
    "boy": ("child", "kid"),
    "girl": ("child", "kid"),
    "bicycle": ("bike",),
    "motorcycle": ("motorbike",),
    "car": ("automobile", "vehicle"),
    "truck": ("lorry",),
    "refrigerator": ("fridge",),
    "plant": ("potted plant",),
    "phone": ("mobile phone", "cell phone"),
    "cup": ("mug",),
    "mug": ("coffee mug", "cup"),
    "stove": ("cooker",),
    "wardrobe": ("closet",),
    "bookcase": ("bookshelf",),
    "picture frame": ("picture", "painting"),
    "washbasin": ("bathroom sink", "basin"),
    "hedge": ("bush",),
    "speaker": ("loudspeaker",),
    "laptop": ("notebook computer",),
    "screen": ("projection screen",),
    "computer": ("desktop computer", "monitor"),
    "coffee maker": ("coffee machine",),
    "washing machine": ("washer",),
    "stroller": ("pram", "baby carriage"),
    "armchair": ("easy chair",),
    "suitcase": ("luggage",),
    "box": ("carton",),
    "cardboard box": ("box", "carton"),
    "soccer ball": ("football", "ball"),
    "basketball": ("ball",),
    "desk": ("writing desk",),
    "fire hydrant": ("hydrant",),
    "umbrella": ("parasol",),
    "glasses": ("spectacles",),
}
"""Other words for a name; the name itself is not among them."""

COLOURS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "red": ((0.6, 0.02, 0.02), (0.75, 0.05, 0.03)),
    "green": ((0.03, 0.3, 0.05), (0.08, 0.5, 0.1)),
    "blue": ((0.02, 0.06, 0.5), (0.04, 0.2, 0.7)),
    "yellow": ((0.85, 0.65, 0.02), (0.9, 0.75, 0.06)),
    "orange": ((0.9, 0.25, 0.01), (0.85, 0.3, 0.02)),
    "purple": ((0.2, 0.03, 0.4), (0.3, 0.06, 0.5)),
    "black": ((0.008, 0.008, 0.008), (0.015, 0.015, 0.017)),
    "white": ((0.85, 0.85, 0.85), (0.8, 0.8, 0.78)),
    "brown": ((0.16, 0.06, 0.02), (0.22, 0.09, 0.035)),
    "grey": ((0.2, 0.2, 0.2), (0.27, 0.27, 0.28)),
    "pink": ((0.85, 0.25, 0.4), (0.85, 0.35, 0.5)),
}
"""Colour words with shades (linear RGB) that everybody calls by them."""

_KINDS_OF: dict[str, tuple[str, ...]] = {
    "chair": ("armchair", "wheelchair"),
    "bed": ("crib", "futon"),
    "plant": ("cactus",),
}

_DROPPED = re.compile(
    r"socket|switch|plug|light source|rail crossing|pedestrian crossing|^rails$|arrow|parking|sidewalk|swimming pool|"
    r"sandpit|diving|shower|curtain|blind|escalator|staircase|^bill |mannequin|cylinder|triangle|^tool$|entry bell|"
    r"intercom|detector|cctv|surveillance|conditioning|track lights|fluorescent|upper corner|porch|contemporary living|"
    r"balcony|rug|carpet|tatami|bathmat|doormat|^cap$|^ring$|emergency|suit$|dress$|short$|trousers|skirt|^jacket|"
    r"folded clothes|hanging clothes|garden hut|barnum|shipping|furnace|thermometer|cuckoo|puzzle|card game|railing|"
    r"fence|jacuzzi|sliding|faucet|speech|cooktop|induction|tape|pencil|keys|calendar|ruler|text marker|sponge|uplight|"
    r"spotlight|rigged fan|island extension|kitchen tools|towel rack|wall hanger|service hatch|frame$|chimney|elevator|"
    r"oil servers|spice tower|squeezer|potty|wire coathanger|bootie|mocassin|glove|plate, glass|relax chair|vanity|"
    r"triple|quadruple|gaz water|stone grill|children game",
    re.IGNORECASE,
)
_KEPT = re.compile(r"picture frame|^frame", re.IGNORECASE)
_RENAMES: tuple[tuple[str, str], ...] = (
    (r".*(ford|sedan|beetle|seat leon|peugeot|renault|chevrolet|smart car|suv).*", "car"),
    (r"yamaha.*|motorbike", "motorcycle"),
    (r"bike", "bicycle"),
    (r"indoor bike", "exercise bike"),
    (r".*bus", "bus"),
    (r"(holding |sitting |lying down )?(female)", "woman"),
    (r"(holding |sitting |lying down )?(male)", "man"),
    (r"(sitting |lying down )(boy|girl)", r"\2"),
    (r"apple iphone|wireless phone|mobile phone", "phone"),
    (r"apple ibook", "laptop"),
    (r"apple imac.*", "computer"),
    (r"hashtray", "ashtray"),
    (r"trunck", "trunk"),
    (r"(captain's|mezzanine|loft|iron|child|day|hospital|bunk|corner bunk) bed.*|bed \d.*", "bed"),
    (r"baby bed", "crib"),
    (r"(sofa \d seats|(winchester|clear|burlap|rattan|corner) sofa|couch|futon couch|.*convertible sofa bz)", "sofa"),
    (r"tv 16:9|wall flat tv|flat tv", "tv"),
    (r"tv remote control", "remote control"),
    (r".*trash ?can|dustbin", "trash can"),
    (r"(teck|osaka|oak|ryokan|plastic|cafe|children|child|class seat) ?(chair)?|chair with cushion", "chair"),
    (r"(winchester|modern|rattan) armchair|armchair ottoman", "armchair"),
    (r"(black|glass|oak|square|rattan|bar|cafe|children|technical|wooden|wooden alder|wooden teak) table", "table"),
    (r"table with tablecloth|table on trestles", "table"),
    (r"wooden desk|desk table", "desk"),
    (r"wood bank|little bank|painted bench|concrete bench", "bench"),
    (r"letters box", "mailbox"),
    (r"pine under snow|blue pine.*|pine|acacia|poplar|cypress|.*maple|copper beech|peach blossom", "tree"),
    (r"bended coconut tree|coconut tree", "palm tree"),
    (r"(indoor|decorative|little|spider|succulent) plant|ficus|yucca|spathiphyllum|plant box", "plant"),
    (r"orchids|tulips|white lily|flower box", "flowers"),
    (r"fridge|large fridge|fridge & freezer", "refrigerator"),
    (r".*\bwasher|clothes washing machine", "washing machine"),
    (r"dishwasher", "dishwasher"),
    (r"puff", "pouf"),
    (r"flacon|beer bottle|yogurt bottle|medicine bottle", "bottle"),
    (r"siamese cat", "cat"),
    (r"bulldog", "dog"),
    (r"flipper", "pinball machine"),
    (r"mower", "lawn mower"),
    (r"cone", "traffic cone"),
    (r"toilets? unit", "toilet"),
    (r"bath|fitted bath|island bath|corner bathtub", "bathtub"),
    (r"clothes horse", "drying rack"),
    (r"extinguisher", "fire extinguisher"),
    (r"coffee (brewer|machine|press)", "coffee maker"),
    (r"coffee mug", "mug"),
    (r"coffee cup|plastic cup", "cup"),
    (r"(beer|cocktail) glass", "glass"),
    (r"(high|low) hedge", "hedge"),
    (r"(filled|full) bookcase", "bookcase"),
    (r"(vertical )?shelves", "shelf"),
    (r"(little|classic|pedestal vase|work) ?lamp", "lamp"),
    (r"street light|classic lamppost|park light|outdoor lamp", "street lamp"),
    (r"hanging light|pendant lamp|ceiling lamp|chandelier lamp", "ceiling lamp"),
    (r"wall (lamp artwork|light)", "wall lamp"),
    (r"frame.*", "picture frame"),
    (r"(reflex )camera", "camera"),
    (r"(grand|upright) piano", "piano"),
    (r"(hot water |electric )radiator", "radiator"),
    (r"small oven|double oven", "oven"),
    (r"large stove|cooker|propane stove", "stove"),
    (r"(small )?step ladder", "ladder"),
    (r"(locked )locker", "locker"),
    (r"(small )?(lower|kitchen|high|lower corner|drawers|sink) cabinet|glass door cabinet", "cabinet"),
    (r"(small |kitchen )?upper (shelves )?cabinet", "wall cabinet"),
    (r"television cabinet|tv unit|tv stand", "tv stand"),
    (r"dresser with drawers", "dresser"),
    (r"(range )?hood", "range hood"),
    (r"(children )?swing|child swing", "swing"),
    (r"round table", "round table"),
    (r"(double |front |exterior |open |rounded |screen |glass )?door( with panes)?", "door"),
    (r".*window( \d panes| with large pane| small panes)?", "window"),
    (r"inkjet printer and scanner", "printer"),
    (r"penbox", "pencil case"),
    (r"large pan", "pan"),
    (r"(open )cardboard box", "cardboard box"),
    (r"bowl with (fruits|salad)", "bowl"),
    (r"kitchen knife", "knife"),
    (r"children table", "table"),
    (r"(washbasin with cabinet|small lavatory)", "washbasin"),
    (r"toilet paper dispenser", "toilet paper"),
    (r"mini stereo|stereo amplifier", "stereo"),
    (r"christmas tree", "christmas tree"),
    (r"woman shoes|sneakers|slippers", "shoes"),
    (r"table fan", "fan"),
    (r"apples", "apple"),
    (r"electric water heater", "water heater"),
    (r"electronic scale", "scale"),
    (r"lip stick", "lipstick"),
    (r"(pool lounge|deck chair|beach chair)", "deck chair"),
)


def is_asked_for(raw: str) -> bool:
    """False for catalogue names nobody would ask for: fittings, road markings, flat clothes and the like."""
    return not _DROPPED.search(raw) or bool(_KEPT.search(raw))


def common_name(raw: str) -> str:
    """The name people say for a catalogue name: lowercase and singular."""
    name = " ".join(raw.lower().split())
    for pattern, replacement in _RENAMES:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement)
    return name


def could_mean(name: str, other: str) -> bool:
    """True where someone saying `name` could also mean a thing called `other`."""
    return (
        other == name
        or other.endswith(" " + name)
        or name in SYNONYMS.get(other, ())
        or other in SYNONYMS.get(name, ())
        or other in _KINDS_OF.get(name, ())
    )
