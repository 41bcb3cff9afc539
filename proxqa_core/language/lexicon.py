"""The English that questions are read with: word lists, phrases that count as one word, typos, synonyms.

Promises: plain data, all lower case. Knows nothing of how questions are read.
"""

from __future__ import annotations


def words_of(text: str) -> frozenset[str]:
    """The words of a text that are separated by white space."""
    return frozenset(text.split())


CLOSER = words_of("closer nearer")
FARTHER = words_of("farther further deeper remoter")
NEAREST = words_of("closest nearest foremost")
FARTHEST = words_of("farthest furthest remotest deepest hindmost rearmost")
VIEWPOINT = words_of(
    "me us here myself ourselves camera robot viewer observer lens sensor viewpoint cam ego viewer's camera's robot's"
)
VIEWER_TAILS = words_of("position viewpoint view lens location standpoint perspective vantage")
DETERMINERS = words_of(
    "the a an my your our their his her its this that these those some any each every both either all of 's"
)
ARTICLES = words_of("the a an my your our their his her its this that these those")
ASKING = words_of("which what who whom where when why how whose")
AUXILIARY = words_of(
    "is are was were be am being been do does did can could will would shall should may might must has have had isn't "
    "aren't doesn't don't can't not"
)
FILLER = words_of(
    "please ok okay hey hi hello so well now right-now currently then actually really just exactly approximately "
    "roughly about around maybe perhaps still even much lot way slightly clearly significantly considerably relatively "
    "quite nearly almost only "
    "also there away off apart standing stand stands sit sits sitting lie lies lying located placed situated "
    "positioned seem seems appear appears look looks looking and or vs versus nor but if whether than as to at from "
    "between among amongst out by in on for with it they them one ones i we you he she tell say ask know think want "
    "need find show give let see guess estimate measure determine me us yes no more less compared comparison "
    "respectively together tends physically visually directly straight too very ahead like distance distances depth "
    "depths proximity range object's order"
)
GENERIC = words_of(
    "thing things object objects item items one ones something anything everything obstacle obstacles stuff them they "
    "it these those all both everybody anybody someone anyone everyone two three four five others other rest above "
    "following pair candidates options"
)
HOW_FAR = words_of("far close near distant deep long remote")
BESIDE = words_of("next closest nearest adjacent close opposite")
SEPARATORS = words_of("and or & vs versus nor plus")
PUNCTUATION = frozenset(",;:?!()[]{}/.\u2026")
REACHING = words_of("reach hit touch bump collide get meet pass arrive grab grasp encounter crash run")
MOTION = words_of(
    "i we you it me us my robot arm reach reaches hit hits touch touches bump bumps collide get gets meet meets pass "
    "passes arrive grab grasp encounter drive drives go goes move moves walk walks travel crash run fly have into with "
    "at to until first going"
)
LISTING = words_of("sort order rank list arrange enumerate sorted ranked ordered")
MEASURES = words_of("distance distances depth depths range proximity closeness nearness")
SAME = words_of("same similar equal identical comparable equally equidistant")
ORDERED = words_of("order sorted ranked ordered arranged")
NOTICED = words_of("visible seen detected known given named mentioned listed different various")
"""Adjectives that pick none of the "objects" that they stand before."""
EVERYTHING = words_of("everything all objects things")
ADVERBS_OF_PLACE = words_of("away off up down by back along")
COURTESY = words_of(
    "please hey hi hello ok okay so well robot can could would will you tell me us say i want to know like do need "
    "just now and wonder wondering am i'm i'd if whether let's let check verify"
)
"""Words of "please", "can you tell me", "I want to know", "hey robot" before the question proper."""
MORE = words_of("more greater larger bigger longer higher")
LESS = words_of("less smaller shorter lower")
COLOURS = words_of(
    "black white grey gray silver red green blue yellow orange purple pink brown beige gold golden violet turquoise "
    "cyan magenta dark light"
)
INTERJECTIONS = words_of("hello hi hey thanks thank stop help ok okay yes no bye goodbye sorry please")
COMMANDS = words_of(
    "say repeat write sing dance draw sketch describe explain translate spell summarise summarize caption "
    "count segment detect classify ignore forget remember delete imagine pretend push pull grab grasp pick lift "
    "raise open close shut unlock kick throw toss catch hit turn rotate move carry hold drag put "
    "fetch bring take get give wipe dry cook cut fold fill pour charge follow chase avoid "
    "approach visit leave enter drive walk run sit stay wait begin pause continue resume "
    "wake sleep shake wave greet thank buy sell fix repair build break destroy feed make"
)
"""Verbs at the start of an order: "push chair" is no thing whose depth is asked for."""
PEOPLE = ["man", "woman", "boy", "girl", "guy", "lady", "human", "pedestrian", "child", "kid", "adult"]
SYNONYMS = tuple(
    words_of(group.replace("_", " ")) if "_" not in group else frozenset(w.replace("_", " ") for w in group.split())
    for group in (
        "sofa couch settee",
        "tv television television_set tv_set telly",
        "monitor screen computer_monitor",
        "mouse computer_mouse",
        "phone telephone mobile cell_phone mobile_phone cellphone smartphone",
        "bike bicycle",
        "motorbike motorcycle",
        "plane airplane aeroplane aircraft",
        "fridge refrigerator",
        "plant potted_plant house_plant",
        "table dining_table",
        "rubbish_bin trash_can trash_bin garbage_can garbage_bin bin waste_basket",
        "cup mug",
        "couch_table coffee_table",
        "bookcase bookshelf book_shelf",
        "cupboard cabinet",
        "wardrobe closet",
        "laptop notebook laptop_computer",
        "lorry truck",
        "lamp light",
        "automobile car",
        # Every one of these may be called a person, but a man is no woman.
        *(f"person {someone}" for someone in PEOPLE),
    )
)
"""Groups of names for one thing. A word that is in two groups does not join them."""


def _typos() -> dict[str, str]:
    """Misspellings of the question words: two letters swapped, one left out or one doubled; and some others.

    Real words that arise this way ("father", "closet", "font") are left alone: they are names.
    """
    real = words_of("father font closet close closes lose loser clove cose rather fathers fort fares oder bhind")
    table: dict[str, str] = {}
    words = (
        "which closer nearer closest nearest farther further farthest furthest distance behind front between compare"
    )
    for word in words.split():
        for i in range(len(word)):
            left_out = word[:i] + word[i + 1 :]
            swapped = word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :]
            doubled = word[:i] + word[i] + word[i:]
            for wrong in (left_out, swapped, doubled):
                if wrong != word and wrong not in real and len(wrong) > 3:
                    table.setdefault(wrong, word)
    by_hand = {
        "wich": "which", "wat": "what", "waht": "what", "whta": "what", "hwo": "how",
        "hw": "how", "teh": "the", "hte": "the", "distence": "distance", "behide": "behind", "infront": "in-front",
        "compair": "compare", "fahrther": "farther", "clostest": "closest", "thier": "their", "fare": "far",
        "iz": "is", "versus": "vs", "meters": "metres",
    }  # fmt: skip
    return table | by_hand


TYPOS = _typos()
CONTRACTED = words_of("what which who where how that it there here whats")
PLACES = words_of("on in at with behind near under above in-front next by")
JOINS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    # Phrases of several words, and the one word that the rules look for instead. Longest first.
    (("in", "the", "front", "of"), ("in-front-of",)),
    (("in", "front", "of"), ("in-front-of",)),
    (("in-front", "of"), ("in-front-of",)),
    (("in", "the", "front"), ("in-front",)),
    (("in", "front"), ("in-front",)),
    (("at", "the", "front"), ("in-front",)),
    (("at", "the", "back"), ("at-back",)),
    (("in", "the", "back"), ("at-back",)),
    (("in", "back", "of"), ("behind",)),
    (("more", "distant"), ("farther",)),
    (("more", "remote"), ("farther",)),
    (("more", "far"), ("farther",)),
    (("less", "far"), ("closer",)),
    (("less", "distant"), ("closer",)),
    (("less", "close"), ("farther",)),
    (("most", "distant"), ("farthest",)),
    (("most", "remote"), ("farthest",)),
    (("least", "far"), ("nearest",)),
    (("least", "distant"), ("nearest",)),
    *((("by", "how", far), ("by", "distance")) for far in ("far", "close", "near", "distant")),
    *((("as", "far", "as", who, "can", does), ()) for who in ("i", "you", "we") for does in ("tell", "see", "judge")),
    (("how", "many", "metres"), ("how", "far")),
    (("a", "bit"), ("slightly",)),
    (("a", "little"), ("slightly",)),
    (("a", "lot"), ("much",)),
    (("right", "now"), ("now",)),
    (("at", "the", "moment"), ("now",)),
    (("as", "well", "as"), ("and",)),
    (("in", "metres"), ()),
    (("in", "meter"), ()),
    (("in", "feet"), ()),
    (("in", "cm"), ()),
    (("in", "centimetres"), ()),
    (("in", "view"), ()),
    (("in", "sight"), ()),
    *(((p, d, n), ()) for p in ("in", "of") for d in ("the", "this", "my")
      for n in ("image", "picture", "photo", "view", "scene", "frame", "photograph")),
)  # fmt: skip
