"""Long-winded English as the words that the rules look for: "the camera taking this photo" is "the camera".

Promises: `plainer` keeps what a question asks; where a wording cannot be kept (a scale that runs the other way) it
refuses with one line. Linear in the text. Knows nothing of kinds of question.
"""

# ruff: noqa: E501 (regular expressions, one wording a line)

from __future__ import annotations

import re

from proxqa_core.errors import NotUnderstoodError

_NEAR = r"(?:closer|nearer|in front of)"
_FAR = r"(?:farther|further|more distant|behind)"
_COMPARED = r"closer|nearer|farther|further|closest|nearest|farthest|furthest"
_AWAY = r"(?: away| back| off)?(?: (?:to|from) (?:the |me\b|us\b)?(?:camera|viewer|observer|robot)?)?"
_POINT_OF_VIEW = r"(?:position|location|viewpoint|perspective|point of view|vantage point|standpoint)"
_PHOTO = r"(?:photo|photograph|picture|image|shot|scene|video)"

_REWRITTEN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.I), instead)
    for pattern, instead in (
        # 1. the viewpoint
        (rf"\bcamera (?:(?:that|which) )?(?:is |was )?(?:taking|took|capturing|captured|shooting|shot) (?:this|the) {_PHOTO}", "camera"),
        (rf"\b(?:photographer|cameraman|camera ?person|(?:person|one) (?:who is |who )?(?:filming|taking (?:this|the) {_PHOTO}|took (?:this|the) {_PHOTO}))\b", "camera"),
        (r"\bcamera \(or (?:the )?camera\)", "camera"),
        (rf"(?:^|,? )(?:in relation to|relative to|with respect to|as seen from|viewed from|measured from|from) (?:your|my|our|the)(?: (?:camera|viewer|observer|robot)(?:'s)?)?(?: current)? {_POINT_OF_VIEW},?", " "),
        (rf"\bfrom (?:the )?(?:camera|viewer|observer|robot)(?:'s)? {_POINT_OF_VIEW}", ""),
        (r"\b(how far\b.*?) and (?:the )?(?:camera|viewer|observer|robot|me)(?=\s*[?.!]*$)", r"\1"),
        (r",?\s*\b(?:at|in|of|on) frame \d+(?: of \d+)?", ""),
        (r"\b(?:from|to) the (?:image )?(?:capture|capturing|recording|shooting) (?:point|position|location)\b", "from the camera"),
        (r"\balong (?:the |its )?(?:camera(?:'s)? )?(?:viewing|depth|optical|view|z|line of)[ -](?:direction|axis|ray|sight)\b(?: from (?=the camera))?", ""),
        # 2. words around an object
        (r"\b(?:the )?(?:positions?|locations?) of (?=the |an? )", ""),
        (r"\bthat of (?=the |an? )", ""),
        (r"\b(?:the )?(?:closest|nearest) (?:point|part|edge|side) (?:of|on) (?=the |an? )", ""),
        (r"\bholds the (closest|nearest|farthest|furthest) (?:placement|position)\b", r"is the \1"),
        (r"^\W*is it (?:true|correct|right|the case|so) that (.+?) (is|are) (.+)", r"\2 \1 \3"),
        (r"^\W*(?:select|choose|pick|identify|find|output|return|print|name|give(?: me)?|state) (?:only |just )?(?:the name of )?(?=the (?:closer|nearer|farther|further|closest|nearest|farthest|furthest)\b)", "which is "),
        (r"\bobjects? (?=(?:among|of|out of)\b)", ""),
        (r"^\W*(?:select|choose|pick|identify|find) (?=the (?:object|item|thing|one|option)\b.{0,30}\b(?:closest|nearest|farthest|furthest)\b)", "what is "),
        (r",? or (?:are|is) (?:they|both|it|there)\b[^?]*", ""),
        (r"\b(?:the )?cent(?:er|re)s? (?:point )?of (?=the |an? )", ""),
        (r"\b(?:the )?(?:objects|items|things)(?: (?:listed|named|shown|given|below|above|mentioned))?,? (?=(?!(?:which one|listed|that|which|who|in|on|by|from|to|at|with|is|are|as|closest|nearest)\b)[\w' -]{1,40},)", ""),
        (r"\b(?:the )?(?:objects|items|things) (?:listed|named|shown|given|below|above|mentioned)\b", "them"),
        (r"\bis (?:this|it|there) (?:a |an )?(?:photo|photograph|picture|image) of (.+?) (in front of|behind) ", r"is \1 \2 "),
        (r"\band how (?:far|close|near|distant)(?: away)?(?: is| are)?\b", "and"),
        # layers of a picture, and what renderers call depth
        (r"\b(?:more |further |closer )(?:in|into|to|towards?) the foreground\b", "closer"),
        (r"\b(?:more |further |farther |deeper )(?:in|into|to|towards?) the background\b", "farther"),
        (r"\b(closest|nearest|foremost) (?:in|to) the foreground\b|\b(?:most|furthest) in the foreground\b", "nearest"),
        (r"\b(?:most|farthest|furthest|deepest) (?:in|into) the background\b", "farthest"),
        (r"^(\W*(?:which|who|what)\b(?: \w+){0,2}? (?:is|are)) in the foreground(?=[,:;?]? .*\bor\b)", r"\1 closer"),
        (r"^(\W*(?:which|who|what)\b(?: \w+){0,2}? (?:is|are)) in the background(?=[,:;?]? .*\bor\b)", r"\1 farther"),
        (r"^\W*(?:is|are) (.+?) in the (?:foreground or (?:in )?(?:the )?background|background or (?:in )?(?:the )?foreground)\b", r"how far is \1"),
        (r",? \bif (?:it|i|we|you|the robot) (?:moves?|drives?|goes?|go|keeps?|continues?|drove|moved|went)\b[^,?]*", ""),
        (r"\bz[- ](?:depth|distance|value|coordinate)s?\b", "depth"),
        (r"\bhow (?:deep|far) (?:in|into|inside|back in) (?:the |this )?(?:scene|image|picture|photo) (?=is|are)", "how far "),
        # 3. measures
        (r"\bhow many (?:(?:centi|milli)?met(?:er|re)s|cm|mm|feet|ft|inches|yards|steps)(?: away)? (?=is|are)", "how far "),
        (r"\bhow many (?:met(?:er|re)s|feet|m) separates? (?:the )?(?:camera|robot|viewer|observer|me|us) (?:from|and)\b", "how far is"),
        (r"\bhow (?:much distance|many (?:met(?:er|re)s|feet|m)) separates?\b", "how far apart are"),
        (r"\bcorresponds? to (?=the |an? )", "of "),
        (r"\bat (?:the )?(farthest|furthest|nearest|closest) distance\b", r"\1"),
        (r"\bat (?:the )?(?:greatest|largest|longest) distance\b", "farthest"),
        (r"\b(?:relative |estimated |normali[sz]ed |approximate )*depth[- ]values?\b", "depth"),
        (r"\b(?:approximate|estimated|relative) (?=distance|depth)", ""),
        (r"\bwhose (?:distance|depth) is (?:the )?(?:shorter|smaller|lower|lesser|smallest|lowest|shortest)\b", "which is closer"),
        (r"\bwhose (?:distance|depth) is (?:the )?(?:longer|greater|larger|higher|bigger|largest|greatest|highest)\b", "which is farther"),
        (r"\b(?:shorter|smaller|lower|lesser|lowest|smallest|shortest|least) (?:relative )?(?:distance|depth)\b", "@near"),
        (r"\b(?:longer|greater|larger|higher|bigger|highest|largest|greatest|longest) (?:relative )?(?:distance|depth)\b", "@far"),
        (r"\s*[(\[](?:the )?(?:in|unit|units)\b:? ?[^()\[\]]{1,20}[)\]]|,?\s*\bin (?:meters?|metres?|centimeters?|centimetres?|millimeters?|feet|inches|cm|mm|m)\b", ""),
        (r",?\s*\bwhere (?:the )?(?:value )?[01](?:\.0)?\b[^?.]*\b[01](?:\.0)?\b[^?.]*", ""),
        # 4. ordering
        (r"^\W*(?:(?:can|could|would) you )?(?:please )?(?:organi[sz]e|sequence|place|put|arrange|order|rank|sort) (?=.*\b(?:order|depths?|distances?|proximity|near|nearest|closest|shallowest|farthest|furthest)\b)", "sort "),
        (r"^\W*(?:which|what) (?:order|ordering|sequence|ranking)\b[^,?]*? (?:correctly )?(?:places|lists|orders|ranks|arranges|sorts) ", "sort "),
        (r"\b(?:based on|according to|in order of|in (?:increasing|ascending) order of|in order of increasing|with respect to) (?:their |the |its )?(?:relative )?(depths?|distances?|proximity)\b", r"by \1"),
        (r"\bby (?:their|its|the) (depths?|distances?|proximity)\b", r"by \1"),
        (r"\bfrom (?:the )?shallowest to (?:the )?deepest\b", "from nearest to farthest"),
        (r"\bfrom (?:the )?deepest to (?:the )?shallowest\b", "from farthest to nearest"),
        (r",? (?:starting|beginning) (?:with|from|at) the (?:one )?(closest|nearest|farthest|furthest)(?: one)?\b", r", \1 first"),
        # 5. comparing
        (r"\bbehind of\b|\b(?:positioned |located |placed )?(?:at|in|on) the (?:back|rear) of\b|\bbeyond\b", "behind"),
        (r"\bmore (?:forward|in front|to the front)\b", "closer"),
        (r"\bmore (?:backward|to the back|behind)s?\b", "farther"),
        (r"\bleast (?:close|near)\b", "farthest"),
        (r"\bless near\b", "farther"),
        (r"\b(?:as |when |if )?(?:compared|in comparison) (?:to|with)\b", "than"),
        (r"\bcomes? (?=in front|behind|closer|nearer|farther|further)", ""),
        (r"\bpositioned (?=in front|behind|closer|nearer|farther|further)", ""),
    )
)  # fmt: skip
_LEAD = re.compile(
    r"^\W*(?:(?:considering|given|judging by|measuring from|to (?:determine|answer|find|solve)|taking into account)\b[^,?]*,"
    r"(?:[^,?]*,)??\s*)(?=(?:who|which|what|is|are|does|do|how|can|among|between|of)\b)",
    re.I,
)
_LED_IN = re.compile(
    r"^\W*(?:please )?(?:determine|identify|decide|tell (?:me )?|state|find out|figure out|name|say|indicate|specify) (?=(?:which|what|who|how)\b)",
    re.I,
)
_LISTED_FIRST = re.compile(
    r"^\W*(?:given|considering|consider|comparing|compare|look at|looking at|take|regard|observe|between|among|from|of|out of) "
    r"([^.?:]{1,200}?)[.,:;] ?(?:which|what|who|please|identify|determine|tell me which|order|sort|rank|arrange|sequence)\b",
    re.I,
)
_ABSTRACT = re.compile(
    r"\b(?:positions?|locations?|distances?|depths?|perspective|viewpoint|image|photo|picture|scene|orientations?|sizes?|coordinates?|view|real-world|context|information|3d|2d|points?|you|robot)\b",
    re.I,
)
_ONE_OF_THEM = re.compile(
    r",? ?\b(?:identify|determine|find|name|select|choose|pick|tell me) (?:the|which) (?:one )?(?:that |which )?(?:is )",
    re.I,
)
_STATEMENT = (
    re.compile(
        r"^\W*(?:is it |say if it is |decide if it is )?(?:true or false|false or true|true/false|right or wrong|correct or incorrect)\W+(.+?) (is|are) (.+?)[.?!]*$",
        re.I,
    ),
    re.compile(
        r"^\W*(.+?) (is|are) (.+?)[.?!,]+\s*(?:is (?:this|that|the) (?:statement|claim|caption|sentence)?\s*)?(?:is it )?(?:true or false|true/false|right or wrong|correct or incorrect|correct|true|right)\W*$",
        re.I,
    ),
    re.compile(
        r"^\W*(?:determine|decide|say|tell me|judge) (?:whether|if) the (?:statement|claim|caption|sentence) is (?:true|correct|right)(?: or not| or false)?\W+(.+?) (is|are) (.+?)[.?!]*$",
        re.I,
    ),
    re.compile(
        r"^\W*(?:i (?:think|believe|guess) (?:that )?)?(.+?) (is|are) (.+?)[.,]+\s*(?:am i right|right|isn't it|aren't they|is it not|is that (?:right|so|true)|correct)\W*$",
        re.I,
    ),
    re.compile(
        r"^\W*(?:please )?(?:assess|determine|decide|check|verify|judge|evaluate|find out|say|state) (?:whether|if) (.+?) (is|are) (.+?)[.?!]*$",
        re.I,
    ),
    re.compile(
        r"^\W*is (?:this|the|the following) (?:statement|claim|caption|sentence) (?:true|correct|right)\W+(.+?) (is|are) (.+?)[.?!\"']*$",
        re.I,
    ),
)
"""Statements that are to be judged: "The cat is in front of the box. True or false?"."""
_EXISTENCE = re.compile(r"^\W*(?:is|are|was|were) there\b.*\b(?:behind|in front of)\b", re.I)
_JSON = re.compile(r"^\s*[\[{]\s*\"[^\"]{1,60}\"\s*[:,\]]")
_THAN_FIRST = re.compile(r"^\W*than ([^,?]+), ((?:is|are|does|do|was|were)\b[^?]*)", re.I)
_EITHER = re.compile(
    rf"^\W*(?:is|are) (.+?) (?:{_NEAR}{_AWAY}(?: than)? or {_FAR}|{_FAR}{_AWAY}(?: than)? or {_NEAR}){_AWAY}(?: than| of)? (.+)",
    re.I,
)
_OPPOSITE_SCALE = re.compile(
    r"\b1(?:\.0)?\b ?(?:is|means|being|=|for|as|represents|\()[^?.,;\d]{0,20}\b(?:near|clos)|\b0(?:\.0)?\b ?(?:is|means|being|=|for|as|represents|\()[^?.,;\d]{0,20}\b(?:far|deep)",
    re.I,
)
_OTHER_SCALE = re.compile(r"\b(?:from|between|range|scale(?: of| from)?) [\[(]?\d+ ?(?:to|and|-|,|–) ?\d+\b", re.I)
_OTHER_VIEW = re.compile(
    r"\bfrom (?:the |its |their |his |her )?[\w' -]{0,60}\b(?:perspective|point of view|vantage point|viewpoint)\b",
    re.I,
)
_OTHER_MEASURE = re.compile(
    rf"\b(?:{_COMPARED}) in (?:time|colou?r|size|shape|height|width|weight|age|price|value|kind|type|brightness|style|spirit)\b"
    rf"|\b(?:farther|further|farthest|furthest|higher|closer|nearer|closest|nearest) (?:up|along|left|right|to the (?:left|right|top|bottom))\b"
    r"|\b(?:sort|order|rank|arrange|list|sorted|ordered|ranked)\b.*\bby (?:their |its |the )?(?:sizes?|heights?|widths?|weights?|ages?|prices?|colou?rs?|names?|brightness|area|volume|importance|alphabet)\b"
    r"|\balphabetical(?:ly)?\b|\b(?:from )?(?:left to right|right to left|top to bottom|bottom to top|small(?:est)? to larg(?:e|est)|larg(?:e|est) to small(?:est)?)\b"
    rf"|\b(?:what|which) (?:colou?r|size|shape|kind|type|brand|material|time)\b[^?]*\b(?:{_COMPARED})\b|\bhow (?:many|tall|big|large|wide|high|heavy|old)\b[^?]*\b(?:{_COMPARED})\b"
    r"|\bhow (?:far|close) (?:can|could|has|have|had|did|will)\b(?!.*\b(?:reach|until|before|hitting|reaching|touching)\b)",
    re.I,
)
"""What is compared or measured is something else than distance from the camera."""
_INVERSE = re.compile(r"\b(?:inverse[ -]depths?|disparit(?:y|ies))\b", re.I)
_TOGETHER = re.compile(
    r"\b(?:close|near|far|closer|nearer|farther|further)\b(?: together\b|[^?]*\b(?:to|from) (?:each other|one another)\b)",
    re.I,
)
_WHATS_BEHIND = re.compile(
    r"^\W*(?:what|who)(?:'s| is| are) (?:behind|under|on|beside|next to|above|in front of) the (?:nearest|closest|farthest|furthest)\b",
    re.I,
)
_MOTION = re.compile(
    r"\b(?:camera|robot|you|we)\b[^?]{0,20}\b(?:mov|travel|rotat|turn)\w*\b[^?]*\bframe|\bdid the camera\b", re.I
)
_COORDINATES = re.compile(r"\b(?:bounding[ -]?box(?:es)?|coordinates?|segmentation|pixel position)\b", re.I)
_DISTANCE = re.compile(r"\b(?:how far|distance|depth|clos\w+|near\w*|far\w*|furthe\w*|distant|front|behind)\b", re.I)


def plainer(text: str) -> str:
    """A question in fewer words.

    Args:
        text: One question, without instructions.

    Returns:
        The same question.

    Raises:
        NotUnderstoodError: It asks for another scale of depth, for coordinates, or how the camera moved.
    """
    _refuse_others(text)
    text = _as_a_question(text.replace("(or the person filming)", ""))
    for pattern, instead in _REWRITTEN:
        text = pattern.sub(instead, text)
    if _OTHER_VIEW.search(text):
        raise NotUnderstoodError(
            "the question is asked from another viewpoint than the camera's; distances are measured from the camera"
        )
    text = re.sub(r"\b(?:an?|the) (?=@)", "", text)
    text = _measured(text)
    if match := _LEAD.match(text):
        text = text[match.end() :]
    if match := _THAN_FIRST.match(text):
        text = f"{match[2].rstrip(' .')} than {match[1]}?"
    if match := _EITHER.match(text):
        text = f"which is closer, {match[1]} or {match[2]}"
    return " ".join(text.split())


def _as_a_question(text: str) -> str:
    """A statement to be judged, or a question after the list that it is about, in the words of a question."""
    for pattern in _STATEMENT:
        if match := pattern.match(text):
            text = f"{match[2]} {match[1]} {match[3]}?"
    text = _LED_IN.sub("", text)
    match = _LISTED_FIRST.match(text)
    if match and _ABSTRACT.search(match[1]) and re.match(r"\W*(?:given|considering)\b", text, re.I):
        text = text[match.end(1) + 1 :].strip()
    elif match and not _ABSTRACT.search(match[1]):
        text = f"of {match[1]}, {_ONE_OF_THEM.sub('which is ', text[match.end(1) + 1 :].strip())}"
        if sorting := re.match(
            r"of (.+?), (?:please )?(order|sort|rank|arrange|sequence) (?:them|these|those)\b(.*)", text, re.I
        ):
            text = f"sort {sorting[1]}{sorting[3]}"
    return text


def _measured(text: str) -> str:
    """Say 'is closer' for 'has the smaller distance'; of three or more the rules make the nearest of it."""
    text = re.sub(r"\b(?:has|have|had|got|at) (?=@)", "is ", text)
    return text.replace("@near", "closer").replace("@far", "farther")


def _refuse_others(text: str) -> None:
    if _JSON.match(text):
        raise NotUnderstoodError("the question is JSON; expected the question itself, such as 'how far is the chair?'")
    if _EXISTENCE.match(text):
        raise NotUnderstoodError(
            "the question asks whether something is there, not how far; ask for example 'is the chair behind the table?'"
        )
    if _OPPOSITE_SCALE.search(text):
        raise NotUnderstoodError(
            "the question wants 1 for the nearest, but relative depth is 0 at the nearest and 1 at the farthest; ask "
            "'how far is the chair?' and subtract"
        )
    if match := _OTHER_SCALE.search(text):
        raise NotUnderstoodError(
            f"the question wants a number {match.group()!r}, but relative depth is from 0 (nearest) to 1 (farthest); ask "
            "'how far is the chair?'"
        )
    if _INVERSE.search(text):
        raise NotUnderstoodError(
            "the question asks for disparity, which is larger where it is nearer; depth is 0 at the nearest and 1 at the "
            "farthest; ask 'how far is the chair?'"
        )
    if _TOGETHER.search(text):
        raise NotUnderstoodError(
            "the question asks for the distance between objects, but distances are measured from the camera; "
            "ask 'how far is the chair?'"
        )
    if _MOTION.search(text):
        raise NotUnderstoodError(
            "the question is about motion over time, but one image is seen; ask 'how far is the chair?'"
        )


def is_about_something_else(text: str) -> bool:
    """Whether words of nearness mean something else than distance from the camera: "closer in colour", "sort by size".

    Args:
        text: The question as it came.

    Returns:
        Whether it is none that depths answer.
    """
    return bool(_OTHER_MEASURE.search(text) or _WHATS_BEHIND.search(text))


def refuse_coordinates(text: str) -> None:
    """Raise on a request for a place in the image, which is none about distance.

    Args:
        text: The question as it came, with its instructions.

    Raises:
        NotUnderstoodError: It asks for a box or coordinates and says nothing of distance.
    """
    if _COORDINATES.search(text) and not _DISTANCE.search(text):
        raise NotUnderstoodError(
            "the question asks for a place in the image; expected one about distance, such as 'how far is the chair?'"
        )


_LIMIT = re.compile(
    r"\b(?:within|under|over|beyond|below|above|at (?:least|most)|(?:closer|nearer|less|more|farther|further|greater|fewer) than)"
    r" (?:about |around |roughly )?((?:\d+(?:[.,]\d+)?|an?|half an?|one|two|three|four|five|six|seven|eight|nine|ten)"
    r"[ -]?(?:m|(?:centi|milli|kilo)?met(?:er|re)s?|cm|mm|km|feet|foot|ft|inch(?:es)?|yards?))\b(?! (?:long|high|tall|wide|deep|in))",
    re.I,
)  # fmt: skip


def refuse_limits(text: str) -> None:
    """Raise on a question of whether something is within a length: nothing compares with one.

    Args:
        text: The question as it came.

    Raises:
        NotUnderstoodError: It asks that.
    """
    if limit := _LIMIT.search(text):
        raise NotUnderstoodError(
            f"the question asks whether something is within a limit ({limit[1]!r}); ask how far it is, for example "
            "'how far is the chair in metres?', and compare the distance with the limit"
        )
