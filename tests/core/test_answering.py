"""Answers from depths and probabilities known by heart instead of a model: what each kind of question gets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxqa_core.answering import (
    Familiar,
    answer,
    as_found,
    as_queries,
    check_question,
    closer_answer,
    depths_answer,
    is_over_all,
    needs,
    needs_of_depths,
)
from proxqa_core.errors import NotUnderstoodError
from proxqa_core.language.questions import understand
from proxqa_core.protocols import ObjectLike
from proxqa_core.ranking import by_depth, pairs_of, rank
from proxqa_core.types import Box, ObjectDepth, ObjectQuery, ProximityAnswer, QuestionKind

DEPTHS = {"jug": 0.2, "plate": 0.23, "stove": 0.5, "tent": 0.8}


class KnownPerceiver:
    """Objects that are not in `depths` are unseen; the closer of a pair is so with `probability`."""

    def __init__(self, depths: Mapping[str, float], probability: float = 0.9) -> None:
        self.by_heart, self.probability = depths, probability
        self.known: Familiar | None = None
        self.seen: dict[str, list[Box]] = {}
        """Boxes of several things of one kind; the depth of each is its height above the lower edge."""

    def depths(self, objects: Sequence[ObjectQuery]) -> tuple[ObjectDepth, ...]:
        found = []
        for q in objects:
            depth = self.by_heart.get(q.name)
            if q.box in self.seen.get(q.name, []):
                assert q.box is not None
                found.append(ObjectDepth(q.name, 1 - q.box.y2 / 100, 0.03, 0.9, "", q.box))
                continue
            found.append(ObjectDepth(q.name, 0.5 if depth is None else depth, 0.03, 0.1 if depth is None else 0.9, ""))
        return tuple(found)

    def closer(self, a: ObjectQuery, b: ObjectQuery) -> ProximityAnswer:
        first, second = self.depths([a, b])
        return closer_answer((first, second), self._first_is_closer(first, second))

    def ranking(self, objects: Sequence[ObjectQuery], found: bool = False) -> list[int]:
        read = [as_found(o) if found else o for o in self.depths(objects)]
        order = by_depth(read)
        seen = sorted(i for i in order if read[i].is_answered)
        return [*(seen[i] for i in self._ranked([read[i] for i in seen])), *order[len(seen) :]]

    def _ranked(self, seen: Sequence[ObjectDepth]) -> list[int]:
        pairs = pairs_of(len(seen))
        return rank(len(seen), {(i, j): self._first_is_closer(seen[i], seen[j]) for i, j in pairs})

    def _first_is_closer(self, first: ObjectDepth, second: ObjectDepth) -> float:
        return self.probability if first.depth <= second.depth else 1 - self.probability

    def instances(self, name: str) -> list[ObjectQuery]:
        return [ObjectQuery(name, box) for box in self.seen.get(name, [])]

    def familiar(self) -> Familiar | None:
        return self.known

    def ask(self, question: str, objects: Sequence[ObjectLike] = ()) -> ProximityAnswer:
        known = as_queries(objects) if objects else []
        return answer(self, understand(question, [q.name for q in known]), known)


@pytest.mark.parametrize(
    ("question", "kind", "text", "names"),
    [
        ("Is the jug closer than the stove?", "closer", "Yes. The jug is closer than the stove (90 % sure).",
         ["jug", "stove"]),
        ("Is the stove closer than the jug?", "closer", "No. The jug is closer than the stove (90 % sure).",
         ["jug", "stove"]),
        ("Is the tent behind the stove?", "farther", "Yes. The stove is closer than the tent (90 % sure).",
         ["stove", "tent"]),
        ("Are the jug and the stove equally far?", "equal", "No. The jug is closer than the stove (90 % sure).",
         ["jug", "stove"]),
        ("Are the plate and the jug at the same distance?", "equal",
         "Yes. The jug and the plate are about equally far "
         "(at 0.20 ± 0.03 and 0.23 ± 0.03; relative depth: 0 nearest, 1 farthest; not metres).", ["jug", "plate"]),
        ("Are the tent, the plate and the jug equally far?", "equal",
         "No. The jug is closer than the tent (90 % sure).", ["jug", "plate", "tent"]),
        ("Sort the tent, the jug and the stove by distance.", "sort",
         "The jug is nearest, at 0.20 ± 0.03 of the view's depth; the stove 0.50 ± 0.03; the tent 0.80 ± 0.03 "
         "(relative depth: 0 nearest, 1 farthest; not metres).", ["jug", "stove", "tent"]),
        ("Which is nearest: the tent, the jug or the stove?", "nearest",
         "The jug is nearest, at 0.20 ± 0.03 of the view's depth; the stove 0.50 ± 0.03; the tent 0.80 ± 0.03 "
         "(relative depth: 0 nearest, 1 farthest; not metres).", ["jug", "stove", "tent"]),
    ],
)  # fmt: skip
def test_answers(question: str, kind: str, text: str, names: list[str]) -> None:
    answer = KnownPerceiver(DEPTHS).ask(question)
    assert (answer.question, answer.kind.value, answer.answer) == (question, kind, text)
    assert [o.name for o in answer.objects] == names
    assert (answer.closer, answer.farther) == (names[0], names[-1])
    chosen = answer.kind in (QuestionKind.CLOSER, QuestionKind.FARTHER, QuestionKind.EQUAL)
    assert answer.probability == pytest.approx(0.9) if chosen else math.isnan(answer.probability)


class DecidedPerceiver(KnownPerceiver):
    """Which is closer is known by heart too, and has nothing to do with the depths."""

    def __init__(self, depths: Mapping[str, float], decided: Mapping[tuple[str, str], float]) -> None:
        super().__init__(depths)
        self.decided = decided

    def _first_is_closer(self, first: ObjectDepth, second: ObjectDepth) -> float:
        pair = (first.name, second.name)
        return self.decided[pair] if pair in self.decided else 1 - self.decided[pair[::-1]]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_of_two_every_question_gets_the_same_decision(jug: float, tent: float, first: float) -> None:
    view = DecidedPerceiver({"jug": jug, "tent": tent}, {("jug", "tent"): first})
    closer = view.ask("Which is closer, the jug or the tent?")
    for question in (
        "What is nearest?",
        "What is farthest?",
        "Sort the jug and the tent by distance.",
        "How far are the jug and the tent?",
        "Are the jug and the tent equally far?",
    ):
        answer = view.ask(question, ["jug", "tent"])
        assert (answer.closer, answer.farther) == (closer.closer, closer.farther)
        assert answer.objects == closer.objects
        if answer.kind is QuestionKind.EQUAL:
            assert answer.probability == closer.probability
        elif answer.kind is QuestionKind.FARTHEST:
            assert answer.answer.startswith(f"The farthest is the {closer.farther}.")
        else:
            assert answer.answer.startswith(f"The {closer.closer} is nearest")
    assert depths_answer(view, [ObjectQuery("jug"), ObjectQuery("tent")]).objects == closer.objects


def test_of_several_what_is_nearest_is_closer_than_each_whatever_the_depths_say() -> None:
    decided = {("jug", "plate"): 0.2, ("jug", "stove"): 0.45, ("plate", "stove"): 0.9}
    view = DecidedPerceiver(DEPTHS, decided)
    answer = view.ask("What is nearest?", ["jug", "ghost", "plate", "stove"])
    assert [o.name for o in answer.objects] == ["plate", "stove", "jug", "ghost"]
    assert (answer.closer, answer.farther) == ("plate", "jug")
    assert "The order is told by more than these depths." in answer.answer
    assert view.ask("Sort the jug, the stove and the plate by distance.").objects == answer.objects[:3]


def test_which_of_a_kind_and_what_is_familiar_go_by_the_same_decisions() -> None:
    view = DecidedPerceiver({}, {("cup", "cup"): 0.3})
    view.seen = {"cup": [Box(0, 0, 20, 90), Box(60, 0, 80, 40)]}  # by depth the left one is nearer
    assert view.ask("Which cup is closer?").closer == "right cup"
    view.known = Familiar(3, tuple(view.instances("cup")))
    assert view.ask("What is nearest?").closer == "right cup"


def test_whether_several_are_equally_far_is_about_the_ends_of_the_order() -> None:
    view = DecidedPerceiver(DEPTHS, {("jug", "stove"): 0.2, ("jug", "tent"): 0.3, ("stove", "tent"): 0.7})
    answer = view.ask("Are the jug, the stove and the tent equally far?")
    assert [o.name for o in answer.objects] == ["stove", "tent", "jug"]
    assert (answer.closer, answer.farther) == ("stove", "jug") and answer.probability == pytest.approx(0.8)
    circle = DecidedPerceiver(DEPTHS, {("jug", "stove"): 0.9, ("stove", "tent"): 0.8, ("jug", "tent"): 0.4})
    answer = circle.ask("Are the jug, the stove and the tent equally far?")
    assert (answer.closer, answer.farther, answer.probability) == ("jug", "tent", 0.5)
    assert answer.answer.startswith("Yes.")  # by the decisions either end is closer


def test_whether_one_of_several_is_the_nearest_is_answered_by_yes_or_no() -> None:
    view = DecidedPerceiver(DEPTHS, {("jug", "plate"): 0.9, ("jug", "stove"): 0.9, ("plate", "stove"): 0.55})
    known = ["plate", "jug", "stove"]
    assert view.ask("Is the jug the nearest?", known).answer.startswith("Yes. The jug is nearest")
    assert view.ask("Is the plate the nearest?", known).answer.startswith("No. The jug is nearest")
    assert view.ask("Is the stove the farthest?", known).answer.startswith("Hard to say. The farthest is the stove.")
    assert view.ask("Is the jug the farthest? Answer yes or no.", known).answer == "No"
    assert view.ask("Is the jug the nearest? Answer yes or no.", known).answer == "Yes"
    assert view.ask("Is the jug the nearest?", [*known, "ghost"]).answer.startswith("The jug is nearest")
    circle = DecidedPerceiver(DEPTHS, {("jug", "plate"): 0.9, ("plate", "stove"): 0.8, ("jug", "stove"): 0.3})
    assert circle.ask("Is the stove the nearest?", known).answer.startswith("Hard to say. The jug is nearest")


@pytest.mark.parametrize("question", ["Sort the jug and the tent.", "How far are the jug and the tent?"])
def test_two_in_order_are_a_comparison_to_be_made_with_others(question: str) -> None:
    """So that a model that compares by stage 2 does so for all questions that wait, in one batch."""
    two = (ObjectQuery("jug"), ObjectQuery("tent"))
    assert needs(understand(question)).compared == needs_of_depths(two).compared == two
    assert needs(understand("How far is the jug?")).compared == ()
    assert needs(understand("Sort the jug, the tent and the stove.")).compared == ()


def test_known_objects_are_what_nearest_farthest_and_sort_range_over() -> None:
    view = KnownPerceiver(DEPTHS)
    for question, kind in (
        ("What is nearest?", "nearest"),
        ("What is farthest?", "farthest"),
        ("Sort everything by distance.", "sort"),
    ):
        answer = view.ask(question, ["tent", "jug", "stove"])
        assert answer.kind.value == kind and (answer.closer, answer.farther) == ("jug", "tent")
    assert view.ask("What is farthest?", ["tent", "jug"]).answer.startswith("The farthest is the tent.")
    assert view.ask("Are they equally far?", ["jug", "plate"]).answer.startswith("Yes.")
    with pytest.raises(NotUnderstoodError, match="two objects"):
        view.ask("Are they equally far?", ["jug"])


def test_nearest_of_nothing_named_is_over_what_is_familiar() -> None:
    view = KnownPerceiver(DEPTHS)
    view.seen = {"jug": [Box(0, 0, 9, 70), Box(50, 0, 59, 40)], "tent": [Box(20, 0, 29, 50)]}
    things = [ObjectQuery(name, box) for name, boxes in view.seen.items() for box in boxes]
    view.known = Familiar(87, (*things, ObjectQuery("ghost", Box(1, 1, 2, 2))))
    answer = view.ask("What is nearest?")
    assert answer.answer.startswith("The left jug is nearest, at 0.30 ±") and "ghost" not in answer.answer
    assert answer.answer.endswith("(Looked for: the 87 names that this model finds best.)")
    assert [o.name for o in answer.objects] == ["left jug", "tent", "right jug"]
    assert all(o.box is None and o.found_at is not None for o in answer.objects)
    assert view.ask("What is farthest?").answer.startswith("The farthest is the right jug.")
    assert view.ask("Sort everything by distance.").closer == "left jug"
    assert view.ask("What is nearest?", ["stove"]).objects[0].name == "stove"  # what is given comes first


def test_nothing_familiar_is_one_line_and_without_names_it_is_refused() -> None:
    view = KnownPerceiver(DEPTHS)
    view.known = Familiar(87, ())
    answer = view.ask("What is nearest?")
    assert answer.answer == "I see none of the 87 names that this model finds best; name what you mean."
    assert answer.objects == () and answer.closer == ""
    view.known = None
    with pytest.raises(NotUnderstoodError, match="names no object"):
        view.ask("What is nearest?")


@pytest.mark.parametrize(
    ("question", "over_all"),
    [("What is nearest?", True), ("what's the closest thing", True), ("Sort everything by distance.", True),
     ("Which is nearest: the jug or the tent?", False), ("How far is the jug?", False), ("Who are you?", False),
     ("", False)],
)  # fmt: skip
def test_questions_about_whatever_is_in_view(question: str, over_all: bool) -> None:
    assert is_over_all(question) is over_all


@pytest.mark.parametrize("question", ["Is the jug closer than the stove?", "Is the stove behind the jug?"])
def test_an_undecided_choice_says_so(question: str) -> None:
    answer = KnownPerceiver(DEPTHS, probability=0.53).ask(question)
    assert answer.answer == "Hard to say. The jug and the stove are about equally far (53 % for the jug)."
    assert answer.closer == "jug" and answer.probability == pytest.approx(0.53)
    which = KnownPerceiver(DEPTHS, probability=0.53).ask("Which is closer, the jug or the stove?")
    assert which.answer.startswith("The jug and the stove are about equally far")


@pytest.mark.parametrize("question", ["Are the jug and the ghost equally far?", "Is the jug closer than the ghost?"])
def test_what_is_not_seen_is_not_compared(question: str) -> None:
    answer = KnownPerceiver(DEPTHS).ask(question)
    assert "I see no ghost." in answer.answer and not answer.answer.startswith(("Yes", "No"))


@given(
    st.dictionaries(st.sampled_from(["ax", "bo", "cy", "du", "el"]), st.floats(0, 1), min_size=2), st.floats(0.51, 1)
)
def test_sorting_is_nearest_first_and_equal_is_yes_or_no(depths: dict[str, float], probability: float) -> None:
    view = KnownPerceiver(depths, probability)
    listed = view.ask("Sort by distance.", [ObjectQuery(n) for n in depths])
    assert [o.depth for o in listed.objects] == sorted(depths.values())
    equal = view.ask(f"Are the {' and the '.join(depths)} equally far?")
    assert equal.kind is QuestionKind.EQUAL and {o.name for o in equal.objects} == set(depths)
    assert equal.answer.startswith(("Yes. ", "No. ")) and 0.5 <= equal.probability <= 1


def test_which_of_several_of_a_kind() -> None:
    perceiver = KnownPerceiver(DEPTHS)
    perceiver.seen = {"cup": [Box(60, 0, 80, 90), Box(0, 0, 20, 40)]}
    answer = perceiver.ask("Which cup is closer?")
    assert answer.answer.startswith("The right cup is nearest, at 0.10 ± 0.03 of the view's depth; the left cup 0.60")
    assert (answer.closer, answer.farther) == ("right cup", "left cup")
    assert answer.objects[0].found_at == Box(60, 0, 80, 90) and answer.objects[0].box is None
    assert perceiver.ask("Which cup is farthest?").answer.startswith("The farthest is the left cup.")
    perceiver.seen["cup"] += [Box(30, 0, 50, 50), Box(82, 0, 99, 20)]
    assert perceiver.ask("Which cup is closest?").closer == "third cup from the left"


def test_of_one_that_is_seen_there_is_no_choice() -> None:
    assert KnownPerceiver(DEPTHS).ask("Which jug is closer?").answer.endswith("I see only one jug.")
    assert KnownPerceiver(DEPTHS).ask("Which ghost is closer?").answer == "I see no ghost."


def test_several_of_a_kind_that_were_given_are_chosen_from() -> None:
    perceiver = KnownPerceiver(DEPTHS)
    boxes = [Box(0, 0, 20, 40), Box(60, 0, 80, 90)]
    perceiver.seen = {"cup": boxes}
    given = [ObjectQuery("cup", box) for box in boxes]
    answer = perceiver.ask("Which cup is closer?", given)
    assert answer.closer == "right cup" and answer.objects[0].box == boxes[1]
    assert check_question("Which cup is closer?", given).names == ("cup",)


def test_whether_something_is_there() -> None:
    perceiver = KnownPerceiver(DEPTHS)
    assert perceiver.ask("Is there a jug?").answer.startswith("Yes. I see a jug (90 %). The jug is at 0.20")
    assert perceiver.ask("Do you see a ghost?").answer == "No. I see no ghost."
    assert perceiver.ask("Is there a ghost? Answer yes or no.").answer == "No"
    assert perceiver.ask("Is there a jug? Answer yes or no.").answer == "Yes"


def test_metres_that_are_asked_for_and_not_known() -> None:
    said = KnownPerceiver(DEPTHS).ask("How many meters away is the jug?").answer
    assert said.endswith("Metres are not known: nothing that measures distances has been learned from.")
    assert "Metres are not known" not in KnownPerceiver(DEPTHS).ask("How far is the jug?").answer
