"""How a question wants its answer: "Answer with the option's letter", "yes or no", "(A) the chair (B) the table".

Promises: `read_request` takes such wording off a question and says what it asked for; what is left is the question
alone. It also takes off what benchmarks put around a question ("<image>", "Question:") and how an object is marked
in the image ("highlighted by a red box"). Linear in the text. Knows nothing of the kinds of question.

Sources of the wording: LLaVA-1.5 (arXiv 2310.03744, section 3.2), CV-Bench (2406.16860), BLINK (2404.12390),
SpatialBot (2406.13642), SpatialRGPT (2406.01584), VLMEvalKit and lmms-eval.
"""

# ruff: noqa: E501 (regular expressions, one wording a line)

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class AnswerStyle(Enum):
    """What an answer is made of."""

    SENTENCE = "sentence"
    LETTER = "letter"
    YES_NO = "yes_no"
    WORD = "one_word"
    NUMBER = "number"
    METRES = "metres"


@dataclass(frozen=True)
class Option:
    """One of the choices of a question.

    Attributes:
        label: As an answer gives it: "A", or "(A)" where the question writes it so.
        text: What it says, such as "the chair" or "Yes".
    """

    label: str
    text: str


@dataclass(frozen=True)
class Request:
    """A question without the wording that is about its answer.

    Attributes:
        question: What is left.
        style: What the answer is made of.
        options: The lettered choices, in order.
        marked: Whether wording of marks in the image was taken off.
    """

    question: str
    style: AnswerStyle = AnswerStyle.SENTENCE
    options: tuple[Option, ...] = ()
    marked: bool = False


_PLACEHOLDERS = re.compile(
    r"<\|?/?(?:image|img|im_start|im_end|video|vision_start|vision_end|image_pad)[\w \-]{0,9}\|?>", re.I
)
_SPEAKERS = re.compile(r"^\s*(?:question|q|user|human|instruction|query)\s*:\s*", re.I)
_ASIDES = re.compile(
    r"(?m)^[ \t]*(?:hint|context|image|system)[ \t]*:.*$|\[(?:vqa|refer|grounding|caption|identify)\]", re.I
)
_LATER_SPEAKERS = re.compile(r"(?m)^[ \t]*question[ \t]*:[ \t]*", re.I)
_TYPOGRAPHY = str.maketrans(
    {
        "？": "?",
        "！": "!",
        "，": ",",
        "：": ":",
        "；": ";",
        "（": "(",
        "）": ")",
        "。": ". ",
        "、": ", ",
        "\u00a0": " ",
        "\r": "\n",
    }
)
_ANSWER_LEAD = re.compile(r"\s*(?:\b(?:assistant|answer|a)\s*:\s*)+$", re.I)
_OPTION = re.compile(
    r"(?:(?<=^)|(?<=[\s,;:]))(?:(?:option|choice) (?=\W?[A-F1-6]\b))?(?:([(\[])([A-Fa-f1-6])[)\]]|([A-Fa-f1-6])[.):](?=\s)|(?<=\n)([A-F1-6])[.):](?=\w))\s*",
    re.I,
)
_LABELS = ("ABCDEF", "123456")
_CHOICES_LEAD = re.compile(
    r"[\s,;]*(?:(?:please )?(?:select|choose|pick) (?:one )?(?:from|of|among|between) the (?:following|given|below|options)[^.:\n]{0,40}[.:]?"
    r"|\b(?:please )?(?:consider|review|here are|think about)\b[^.?\n]{0,25}\boptions\b[^.?:\n]{0,25}:"
    r"|\b(?:answer choices|answer options|options?|choices|candidates|answer options)\s*:)[\s,]*$",
    re.I,
)
_HUE = "red|green|blue|yellow|orange|purple|pink|white|black|cyan|magenta"
_BOX = r"(?:bounding[ -]?box(?:es)?|bbox|box(?:es)?|rectangles?|circles?|points?|dots?|marks?|markers?|masks?|contours?|outlines?|arrows?|crosses)"
_MARK_WORD = re.compile(
    rf"\b(?:highlighted|outlined|marked|circled|annotated|bounding[ -]?box|bbox|(?:{_HUE}) {_BOX})\b", re.I
)
_IN_PARENTHESES = re.compile(r"\s*[(\[]([^()\[\]]{1,80})[)\]]")
_MARKED = re.compile(
    r",?\s+(?:(?:which|that)(?: is| are|'s) )?(?:"
    rf"(?:highlighted|outlined|marked|circled|annotated|enclosed|surrounded|indicated|labell?ed|boxed|shown)"
    rf" (?:by|with|in|inside|using|as) (?:(?:a|an|the|its) )?(?:[\w-]+ ){{0,3}}?{_BOX}\b(?: [A-Z0-9]\b)?"
    rf"|(?:in|inside|within|with) (?:(?:a|an|the|its) )?(?:[\w-]+ )?(?:bounding[ -]?box|bbox)(?:es)?\b"
    rf"|(?:highlighted|outlined|marked|circled|boxed) (?:in|with|by) (?:red|green|blue|yellow|orange|purple|pink|white|black)\b"
    r"),?",
    re.I,
)
_SENTENCE = re.compile(r"[^.!?\n]*(?:\.(?=\S)[^.!?\n]*)*[.!?\n]*\s*")
_NOTE = re.compile(r"^\W*(?:note|hint|remember)\s*:\s*", re.I)
_COMMAND = re.compile(
    r"^\W*(?:now |and |so |then )?(?:note: ?|hint: ?|remember: ?)?(?:please |kindly )?(?:just |only |simply |directly |briefly |first )*(?:"
    r"(?:answer|respond|reply|think|explain|justify|reason|be (?:concise|brief|short|precise))\b"
    r"|let'?s (?:think|reason|work)|let us think|take a deep breath|you (?:only|just|need|must|should|may|can|are|will)\b|your (?:answer|response|reply)\b"
    r"|(?:the |final |your |the final )?(?:answer|response) (?:should|must|is|in|with)|do not\b|don'?t (?:explain|add|include|give|output)|no (?:explanation|other|extra|further)|without (?:explanation|any)"
    r"|(?:give|provide|output|return|write|choose|select|pick|state|say|use|express|limit|keep|put|format|report|submit|specify|print|end|start|begin)\b"
    r".*\b(?:answer|letter|options?|choices?|number|numeric(?:al)?|value only|single|words?|phrase|yes|explanation|reasoning|format|json|decimals?|integer|brackets|boxed|sentences?|\d)\b"
    r"|(?:return|output|give|say|reply with|write) (?:only |just )?\W?[a-f1-6]\W? or \W?[a-f1-6]\b"
    r"|(?:only |just )?(?:the )?(?:letter|number|name|option)(?: only| alone)?\W*$"
    r"|(?:in|with|using) (?:a |one |just |only )*(?:single |one )?(?:words?|phrase|letter|number|sentences?)\b.{0,40}$"
    r"|(?:choose|select|pick) the (?:correct|right|best|appropriate) one\b"
    r"|(?:choose|select|pick) (?:one )?(?:from|among|between)\b|round (?:it |the |to |your |off)"
    r"|yes (?:or|/) no\W*$|yes/no\W*$|a number\b.*|from 0(?:\.0)? to 1\b.*|one word\b.*|the unit\b.*|(?:reply|answer)s? "
    r"|(?:a|an|the) (?:short|brief) (?:answer|response)\b.*"
    r")",
    re.I,
)  # fmt: skip
_ASIDE_COMMAND = re.compile(
    r"^\W*(?:please )?(?:calculate|compute|judge|evaluate|measure|base|choose|pick|select|assume|use|refer|remember|make sure|ignore|focus|think about|review)\b[^?]*$",
    re.I,
)
"""Sentences that, beside a question, say how to find or give its answer."""
_ASKS = re.compile(
    r"\?|^\W*(?:which|what|who|how|is|are|does|do|determine|estimate|identify|report|measure the|tell|sort|rank|order|list|arrange)\b",
    re.I,
)
_SETTING = re.compile(
    r"^\W*(?:consider|given|considering|based on|judge) (?:the )?[^?,]*\b(?:locations?|orientations?|positions?|real-world|3d|2d|geometry|distances?)\b[^?]*$",
    re.I,
)
_CONTEXT = re.compile(
    r"^\W*(?:these are frames|you are (?:an?|given)|this is an? (?:image|photo|picture)|(?:two|three|four|several|some) (?:points|regions|objects|boxes|locations|positions) (?:are|have been)"
    r"|(?:look at|consider|examine|view|observe|given|see) (?:the|this|an?) (?:image|photo|picture|photograph|scene)"
    r"|(?:look|think) carefully)[^?]*$",
    re.I,
)
_IMAGE_LEAD = re.compile(
    r"^\W*(?:(?:given|based on|according to|from|considering|looking at|look at) (?:the |this )?(?:provided |given |following )?(?:image|photo|picture|photograph|scene|depth map)(?: provided| above| below)?\s*[,:]\s*)+",
    re.I,
)
_TAILS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.I), text)
    for pattern, text in (
        (r"[\s,;(\[-]*(?:answer |respond |reply )?(?:with )?[\"']?yes[\"']?\s*(?:or|/)\s*[\"']?no[\"']?[)\]]*\s*(?=[?.!,;]|$)", "yes or no"),
        (r"[\s,;(]*(?:answer |respond |reply )?(?:in|with|using) (?:a single|one|just one|only one|a) word(?: or (?:short )?phrase)?[)]*(?=\s*[?.!,;:]|$)", "one word"),
        (r"[\s,;(]*(?:(?:as|with|give|in) )?(?:(?:a|the) )?(?:(?:real |decimal |single )?(?:number|float|value|score)s? )?(?:in the range |on a scale |in a range |ranging )?"
         r"(?:(?:of|from|between|in)\s)?\s*[\[(]?0(?:\.0+)?\s*(?:to|and|,|-|–|\.\.)\s*1(?:\.0+)?\b[\])]*(?: \([^()]{0,80}\))?(?: scale)?", "number"),
        (r"[\s,;(]*(?:as|with) (?:a|one|only a|just a) (?:single )?(?:number|decimal|float|score|value)(?: only)?[)]*(?=\s*[?.!,;:]|$)", "number"),
    )
)  # fmt: skip
_METRES = re.compile(r"\b(?:met(?:er|re)s?|in m)\b", re.I)
_OTHER_UNITS = re.compile(
    r"\b(?:(?:centi|milli|kilo)met(?:er|re)s?|cm|mm|feet|foot|ft|inch(?:es)?|yards?|percent)\b", re.I
)


def asks_for_length(text: str) -> bool:
    """Whether a question wants metres, or another unit of length."""
    return bool(_METRES.search(text) or ((found := _OTHER_UNITS.search(text)) and found.group() != "percent"))


def read_request(text: str) -> Request:
    """Take a question apart into what it asks and how it wants the answer.

    Args:
        text: The question as it came, with its line breaks.

    Returns:
        The question alone and what is asked of its answer. Where nothing but instructions is left, the text as it is.
    """
    # 1. what a prompt puts around a question
    body = re.sub(r"\s[–—]\s", " , ", text.translate(_TYPOGRAPHY))
    body = _LATER_SPEAKERS.sub("", _ASIDES.sub("", _PLACEHOLDERS.sub(" ", body))).strip()
    body = _ANSWER_LEAD.sub("", _SPEAKERS.sub("", body))
    # 2. marks in the image, before parentheses are taken for options
    body, marked = _without_marks(body)
    # 3. lettered options
    body, options, after = _without_options(body)
    # 4. instructions, sentence by sentence
    question, styles = _without_instructions(body)
    _, more = _without_instructions(after)
    question, tails = _without_tails(question)
    style = _style_of([*styles, *more, *tails], text, bool(options))
    question = _IMAGE_LEAD.sub("", question).strip()
    return Request(question or text, style, options, marked)


def _without_marks(text: str) -> tuple[str, bool]:
    """The text without "(highlighted by a red box)" and the like."""

    def dropped(match: re.Match[str]) -> str:
        return " " if _MARK_WORD.search(match[1]) else match[0]

    out = _MARKED.sub(" ", _IN_PARENTHESES.sub(dropped, text))
    return re.sub(r" +(?=[?.!,;])", "", out) if out != text else text, out != text


def _without_options(text: str) -> tuple[str, tuple[Option, ...], str]:
    """The text before its lettered options, the options, and what follows the last one."""
    found = [m for m in _OPTION.finditer(text)]
    for start in range(len(found)):
        run = _run_from(found, start)
        if len(run) >= 2:
            return _cut_options(text, run)
    return text, (), ""


def _run_from(found: list[re.Match[str]], start: int) -> list[re.Match[str]]:
    """The markers that go on A, B, C … or 1, 2, 3 … from the first of these."""
    labels = next((labels for labels in _LABELS if _label(found[start]) == labels[0]), "")
    run: list[re.Match[str]] = []
    for match, label in zip(found[start:], labels, strict=False):
        if _label(match) != label:
            break
        run.append(match)
    return run


def _label(marker: re.Match[str]) -> str:
    return (marker[2] or marker[3] or marker[4]).upper()


def _cut_options(text: str, run: list[re.Match[str]]) -> tuple[str, tuple[Option, ...], str]:
    ends = [*(m.start() for m in run[1:]), len(text)]
    options, after = [], ""
    for match, end in zip(run, ends, strict=True):
        said = text[match.end() : end]
        if match is run[-1]:
            said, after = _last_option(said)
        letter = _label(match)
        said = re.sub(r"(?:[\s,;]+(?:or|and))?[\s,;.?!]*$", "", said).strip().strip("\"'")
        options.append(Option({"(": f"({letter})", "[": f"[{letter}]"}.get(match[1] or "", letter), said))
    return _CHOICES_LEAD.sub("", text[: run[0].start()]), tuple(options), after


def _last_option(text: str) -> tuple[str, str]:
    """The last option and what follows it: the next line, or the next sentence that is an instruction."""
    line, _, rest = text.partition("\n")
    match = re.search(r"[.?!;]\s+(?=[A-Z])", line)
    if match and _COMMAND.match(line[match.end() :]):
        return line[: match.start()], f"{line[match.end() :]}\n{rest}"
    match = re.search(r",? and (?=(?:choose|select|pick) )", line)
    if match and _COMMAND.match(line[match.end() :]):
        return line[: match.start()], f"{line[match.end() :]}\n{rest}"
    match = re.search(r"\s+(?=(?:Please |Answer |Respond |Select |Choose ))", line)
    if match and _COMMAND.match(line[match.end() :]):
        return line[: match.start()], f"{line[match.end() :]}\n{rest}"
    return line, rest


def _without_instructions(text: str) -> tuple[str, list[str]]:
    """The text without the sentences that say how to answer, and those sentences."""
    kept, instructions = [], []
    for sentence in (m.group().strip() for m in _SENTENCE.finditer(text)):
        if not sentence:
            continue
        if _CONTEXT.match(sentence):
            continue
        if not _COMMAND.match(sentence):
            kept.append(sentence)
            continue
        lead, colon, rest = _NOTE.sub("", sentence).partition(":")
        if not colon:
            lead, colon, rest = _comma_question(sentence)
        instructions.append(lead)
        if colon and rest.strip():
            kept.append(rest.strip())
    kept, asides = _without_asides(kept)
    return (" ".join(kept), [*instructions, *asides]) if kept else (text.strip(), instructions)


def _without_asides(sentences: list[str]) -> tuple[list[str], list[str]]:
    """The sentences without those that are no part of the question beside them, and those."""
    asked = [bool(_ASKS.search(s)) for s in sentences]
    if not any(asked):
        return sentences, []
    aside = [
        not a and bool(_ASIDE_COMMAND.match(s) or _SETTING.match(s)) for s, a in zip(sentences, asked, strict=True)
    ]
    return (
        [s for s, is_aside in zip(sentences, aside, strict=True) if not is_aside],
        [s for s, is_aside in zip(sentences, aside, strict=True) if is_aside],
    )


def _comma_question(sentence: str) -> tuple[str, str, str]:
    """Cut 'In one word, which is closer …?' into the instruction and the question."""
    match = re.search(r",\s*(?=(?:which|what|who|how|is|are|does)\b)", sentence, re.I)
    return (sentence[: match.start()], ",", sentence[match.end() :]) if match else (sentence, "", "")


def _without_tails(text: str) -> tuple[str, list[str]]:
    """The text without "yes or no?", "in one word", "between 0 and 1" at the end of a clause; what they ask for."""
    asked = []
    for pattern, meaning in _TAILS:
        shorter = pattern.sub("", text)
        if shorter != text and re.search(r"\w{2}", shorter):
            text = shorter
            asked.append(meaning)
    return text, asked


def _style_of(instructions: list[str], text: str, has_options: bool) -> AnswerStyle:
    """What the instructions ask for; the last that says so counts. With options and nothing said: their letter."""
    style = AnswerStyle.LETTER if has_options else AnswerStyle.SENTENCE
    for said in instructions:
        lower = said.casefold()
        if re.search(r"\byes\b.{0,8}\bno\b", lower):
            style = AnswerStyle.YES_NO
        elif has_options and re.search(
            r"letter|option|choice|number of the|only the number|\ba\b.{0,5}\bor\b.{0,3}\bb\b", lower
        ):
            style = AnswerStyle.LETTER
        elif re.search(r"\bnumber|numeric|decimal|\b0(?:\.0)? (?:to|and) 1\b", lower):
            style = _number_style(text, AnswerStyle.NUMBER)
        elif re.search(
            r"\b(?:single|one) (?:word|name)|word or (?:short )?phrase|\bonly the (?:name|object)|(?:name|object) only|just the name",
            lower,
        ):
            style = _number_style(text, AnswerStyle.WORD)
    return style


def _number_style(text: str, style: AnswerStyle) -> AnswerStyle:
    """A bare number has no unit: metres where those are asked for, a sentence with its unit where another is."""
    if _OTHER_UNITS.search(text):
        return AnswerStyle.SENTENCE
    return AnswerStyle.METRES if _METRES.search(text) else style
