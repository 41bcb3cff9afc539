"""Whatever is asked, in whatever words and about whatever objects: a sentence, or one line that says why not."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxqa_core.errors import BadObjectError, NotUnderstoodError
from proxqa_core.evaluation.bench import picture
from proxqa_core.language.lexicon import words_of
from proxqa_core.types import ObjectDepth

pytestmark = pytest.mark.model

WORDS = sorted(
    words_of(
        "how far what which who is are the a nearest closest farthest closer farther nearer than or and , ? from me "
        "away sort list order by distance same equally as near behind in front of left most chair Chair chairs table "
        "red lamp it they all objects between to you not <image> <|im_end|> 🙂 0.5"
    )
)
QUESTIONS = st.one_of(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), st.text(max_size=80))
NAMES = st.lists(
    st.one_of(st.sampled_from(["chair", "Chair", "table", "red lamp", "🪑"]), st.text(max_size=12)), max_size=4
)


@pytest.fixture(scope="module")
def view(engine):
    """A view whose numbers follow from the names: the model itself takes too long for hundreds of questions."""

    def perceive(queries):
        return [
            ObjectDepth(q.name, n % 100 / 100, 0.05, n // 100 % 3 / 2, "0.50", q.box)
            for q in queries
            for n in [zlib.crc32(q.name.encode())]
        ]

    view = engine.encode_image(picture(0))
    view._perceive = perceive
    view.choice_odds = lambda pairs, found, direct=False: np.array([[b.depth - a.depth] * 2 for a, b in found]) * 5
    return view


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(QUESTIONS, NAMES)
@example("Which is closer, the chair or the table?", [])
@example("Are the chair, the table and the 🪑 equally far?", [])
def test_a_sentence_or_a_clear_cannot(view, question, names):
    try:
        answer = view.ask(question, names)
    except (NotUnderstoodError, BadObjectError) as error:
        message = str(error)
        assert 10 < len(message) < 400 and "\n" not in message, message
    else:
        assert answer.answer.strip() and "\n" not in answer.answer
        assert answer.objects or answer.answer.startswith("I see none of the ")
        assert all(0 <= o.depth <= 1 for o in answer.objects)
        assert math.isnan(answer.probability) or (answer.closer and 0.5 <= answer.probability <= 1)
