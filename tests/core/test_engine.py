"""The engine with the real default model: one encoding, many answers, equal to asking one by one."""

import itertools
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from proxqa_core.engine import ProximityEngine
from proxqa_core.errors import BadImageError, BadObjectError, NotUnderstoodError
from proxqa_core.evaluation.bench import ask_one_by_one, picture
from proxqa_core.llm.readout import read_depth, read_visibility
from proxqa_core.types import MAX_OBJECTS, Box, ObjectQuery, QuestionKind

NAMES = ["chair", "table", "red lamp", "person"]


@pytest.fixture(scope="module")
def view(engine):
    return engine.encode_image(picture(3))


def test_depths_are_in_range_and_in_the_order_asked(view):
    found = view.depths(NAMES)
    assert [o.name for o in found] == NAMES
    for o in found:
        assert 0 <= o.depth <= 1 and 0 < o.depth_stddev < 0.5 and 0 <= o.score <= 1
        assert math.isnan(o.distance) and math.isnan(o.distance_stddev)


def test_an_object_is_answered_alike_alone_and_among_others(exact):
    image, asked = picture(4), [*NAMES[:2], ObjectQuery("box", Box(10, 20, 300, 400))]
    together = exact.encode_image(image).depths(asked)
    for index, name in enumerate(asked):
        alone = exact.encode_image(image).depths([name])[0]
        assert alone.depth == pytest.approx(together[index].depth, abs=2e-4)
        assert alone.score == pytest.approx(together[index].score, abs=2e-4)


def test_the_likeliest_leaf_is_what_generate_says(exact):
    """The whole path, image encoder included, against Hugging Face's own forward pass and greedy decoding."""
    for seed in range(2):
        image = picture(seed)
        trees = exact.encode_image(image).digit_trees([ObjectQuery(name) for name in NAMES])
        generated = ask_one_by_one(exact, image, NAMES)
        for name, o, text in zip(NAMES, map(read_depth, trees), generated, strict=True):
            if o.visible > 0.5 and text[:3] == o.text[:3]:  # greedy's second digit belongs to its own first digit
                assert text[:4] == o.text, name
            elif o.visible <= 0.5:
                assert text.startswith("not"), name


def test_image_features_are_those_of_hugging_face(exact):
    pixels = exact.model.preprocessing.pixels([picture(1)])
    with torch.inference_mode():
        theirs = exact.model.llava.get_image_features(pixel_values=pixels).pooler_output[0]
        ours = exact.language_model.project(exact.encoder.encode(pixels)[0])
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_what_is_asked_by_name_is_found_and_asked_by_box(exact):
    view = exact.encode_image(picture(3))
    by_name = view.depths(["chair", "leftmost chair"])
    for o in by_name:
        assert o.box is None and o.found_at is not None
        assert 0 <= o.found_at.x1 < o.found_at.x2 <= view.width and 0 <= o.found_at.y1 < o.found_at.y2 <= view.height
        query = ObjectQuery(o.name, o.found_at)
        by_box = view.depths([query])[0]
        assert by_box.found_at is None
        assert by_box.depth == pytest.approx(o.depth, abs=1e-3)
        weights = exact.model.adapter.visibility_in_box
        evidence = view.visibility_evidence(query, view.digit_trees([query])[0])
        assert by_box.score == pytest.approx(read_visibility(evidence, weights), abs=1e-4)
    found = view.ground(["chair"])[0]
    assert found and [f.score for f in found] == sorted((f.score for f in found), reverse=True)


def test_different_images_and_boxes_get_different_answers(engine):
    dark, bright = np.zeros((120, 160, 3), np.uint8), picture(9)
    assert (
        engine.encode_image(dark).depths(["chair"])[0].depth != engine.encode_image(bright).depths(["chair"])[0].depth
    )
    boxes = [ObjectQuery("chair", Box(0, 0, 200, 200)), ObjectQuery("chair", Box(400, 300, 640, 480))]
    first, second = engine.encode_image(bright).depths(boxes)
    assert first.depth != second.depth and first.box == boxes[0].box


def test_closer_does_not_depend_on_the_order_of_naming(exact):
    view = exact.encode_image(picture(3))
    one, other = view.closer("chair", "table"), view.closer("table", "chair")
    assert {o.name for o in one.objects} == {"chair", "table"}
    assert one.objects[0].name == other.objects[0].name and one.closer == other.closer
    assert one.raw_probability == pytest.approx(other.raw_probability, abs=1e-4)
    assert 0.5 <= one.raw_probability <= 1


def test_what_is_not_seen_is_not_compared(exact):
    view = exact.encode_image(picture(3))
    answer = view.closer("chair", "table")
    seen = all(o.score >= 0.5 for o in answer.objects)
    assert not seen and (answer.closer, answer.farther) == ("", "") and math.isnan(answer.probability)
    assert "closer" not in answer.answer
    asked = view.ask("is the chair closer than the table?")
    assert asked.closer == "" and not asked.answer.startswith(("Yes", "No"))


def test_many_pairs_in_one_batch_equal_single_ones(view):
    pairs = [("chair", "table"), ("red lamp", "person"), ("person", "chair")]
    for pair, answer in zip(pairs, view.closer_many(pairs), strict=True):
        assert view.closer(*pair).raw_probability == pytest.approx(answer.raw_probability, abs=0.02)  # bfloat16
    direct = view.closer_many(pairs, direct=True)
    assert all(0.5 <= a.raw_probability <= 1 for a in direct)


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How far is the chair?", QuestionKind.DEPTH),
        ("Which is closer, the chair or the table?", QuestionKind.CLOSER),
        ("What is the nearest object?", QuestionKind.NEAREST),
        ("Sort the chair, the table and the person by distance.", QuestionKind.SORT),
    ],
)
def test_free_questions_are_answered(view, question, kind):
    answer = view.ask(question, NAMES)
    assert answer.kind is kind and answer.answer and answer.objects


def test_nearest_ranges_over_the_known_objects(view):
    answer = view.ask("what is nearest?", NAMES)
    seen = [o.is_answered for o in answer.objects]
    assert seen == sorted(seen, reverse=True) and len(answer.objects) == len(NAMES)


# Boxes of a picture, each lower than that before: where they stand tells another order than their depths do.
STANDING = [ObjectQuery(f"box {i}", Box(20 + 128 * i, 96 + 58 * i, 126 + 128 * i, 168 + 58 * i)) for i in range(4)]


def _is_closer(view, near, far):
    return view.closer(near, far).objects[0].name == near.name


def test_nearest_farthest_and_sorting_agree_with_closer(view):
    order = [STANDING[i] for i in view.ranking(STANDING)]
    assert all(_is_closer(view, a, b) for a, b in itertools.combinations(order, 2))  # there is no circle
    names = [q.name for q in order]
    for question in ("what is nearest?", "what is farthest?", "sort everything by distance", "are they equally far?"):
        answer = view.ask(question, STANDING)
        assert [o.name for o in answer.objects] == names
        assert (answer.closer, answer.farther) == (names[0], names[-1])
    assert "more than these depths" in view.ask("what is nearest?", STANDING).answer


def test_of_two_all_questions_are_decided_alike_in_a_picture(view):
    for pair in itertools.permutations(STANDING, 2):
        closer = view.closer(*pair)
        for question in ("what is nearest?", "how far are they?", "are they equally far?"):
            answer = view.ask(question, pair)
            assert (answer.closer, answer.farther) == (closer.closer, closer.farther)


def test_an_adapter_that_reasons_puts_two_in_order_by_stage_2_and_more_by_depths(engine, monkeypatch):
    model = replace(engine.model, adapter=replace(engine.model.adapter, reasons=True))
    view = ProximityEngine(model, engine.networks).encode_image(picture(3))
    stage_2 = []
    monkeypatch.setattr(view, "choice_odds", lambda pairs, *a: stage_2.append(pairs) or np.full((len(pairs), 2), odds))
    for a, b, odds in ((*STANDING[:2], 3.0), (*STANDING[2:], -3.0)):
        order = view.ranking([a, b])
        assert order == ([0, 1] if odds > 0 else [1, 0]) and view.closer(a, b).objects[0].name == (a, b)[order[0]].name
    assert stage_2 == [[tuple(STANDING[:2])], [tuple(STANDING[2:])]]
    assert view.ranking([STANDING[0], STANDING[0]]) == [0, 1]  # the same twice is nothing to be compared
    depths = [o.depth for o in view.depths(STANDING)]
    assert [depths[i] for i in view.ranking(STANDING)] == sorted(depths) and len(stage_2) == 2


def test_what_was_found_is_put_in_order_as_by_name(engine):
    """Boxes that are found weigh otherwise than those that are given, in an order as in "which is closer"."""
    by_depth, by_ground, seen = (1.0, 0.0, 0.0), (0.01, 9.0, 0.0), (0.0, 0.0, 9.0)
    adapter = replace(
        engine.model.adapter, closer_weights=by_depth, closer_weights_in_box=by_ground, visibility_in_box=seen
    )
    view = ProximityEngine(replace(engine.model, adapter=adapter), engine.networks).encode_image(picture(3))
    assert view.ranking(STANDING) == [3, 2, 1, 0]  # the lowest first
    depths = [o.depth for o in view.depths(STANDING)]
    assert [depths[i] for i in view.ranking(STANDING, found=True)] == sorted(depths)


def test_a_choice_by_name_is_less_sure_where_it_is_not_sure_that_things_were_found(engine):
    def closer(doubt, *pair):
        model = replace(engine.model, adapter=replace(engine.model.adapter, closer_doubt=doubt))
        return ProximityEngine(model, engine.networks).encode_image(picture(3)).closer(*pair)

    plain, less = closer(0.0, "chair", "table"), closer(0.5, "chair", "table")
    found = math.prod(o.score for o in plain.objects)
    assert 0 < found < 1 and [o.name for o in less.objects] == [o.name for o in plain.objects]
    assert less.raw_probability - 0.5 == pytest.approx((plain.raw_probability - 0.5) * found**0.5)
    assert closer(0.5, *STANDING[:2]).raw_probability == closer(0.0, *STANDING[:2]).raw_probability  # given by box


def test_objects_outside_the_image_come_last(view):
    outside = ObjectQuery("moon", Box(1000, 10, 1100, 90))
    assert view.ranking([outside, *STANDING[:2]])[-1] == 0
    assert view.ranking([outside]) == [0]


def test_known_objects_lend_their_boxes_to_names_in_the_question(view):
    box = Box(10, 10, 100, 100)
    answer = view.ask("how far is the chair?", [ObjectQuery("chair", box)])
    assert answer.objects[0].box == box


def test_the_word_general_questions_are_refused_by_a_model_not_taught_them(view):
    with pytest.raises(NotUnderstoodError, match="not about proximity"):
        view.ask("What colour is the sky on a sunny day?")


def test_nearest_of_nothing_named_is_over_what_the_model_was_taught(view, engine):
    familiar = view.familiar()
    assert familiar.names == len(engine.model.taught_names.reliable)
    assert {thing.name for thing in familiar.things} <= set(engine.model.taught_names.reliable)
    assert all(thing.box.clipped(view.width, view.height) for thing in familiar.things)
    answer = view.ask("what is nearest?")
    assert f"the {familiar.names} names" in answer.answer and len(answer.objects) <= len(familiar.things)
    assert all(o.score >= 0.5 and o.found_at is not None for o in answer.objects)


def test_a_model_that_does_not_say_what_it_was_taught_wants_names(view, monkeypatch):
    monkeypatch.setattr(view._model, "taught_names", None)
    with pytest.raises(NotUnderstoodError, match="names no object"):
        view.ask("what is nearest?")


@pytest.mark.parametrize(
    "objects",
    [
        [],
        [""],
        ["x" * 200],
        [f"n{i}" for i in range(MAX_OBJECTS + 1)],
        "chair",
    ],
)
def test_bad_objects_are_one_clear_line(view, objects):
    with pytest.raises(BadObjectError) as error:
        view.depths(objects)
    assert "\n" not in str(error.value) and str(error.value)


def test_a_box_outside_the_image_silences_its_own_object_alone(view):
    outside, inside = ObjectQuery("a", Box(900, 0, 999, 9)), ObjectQuery("b", Box(10, 10, 90, 90))
    lost, found = view.depths([outside, inside])
    assert lost.score == 0 and "outside the image" in lost.text and math.isnan(lost.depth)
    assert found == view.depths([inside])[0]
    answer = view.closer(outside, inside)
    assert answer.closer == "" and "a" in answer.answer and math.isnan(answer.probability)
    other = view.closer_many([(outside, inside), (inside, ObjectQuery("c", Box(100, 10, 200, 90)))])[1]
    alone = view.closer(inside, ObjectQuery("c", Box(100, 10, 200, 90)))
    assert other.raw_probability == pytest.approx(alone.raw_probability, abs=0.02)


def test_answers_of_a_view_are_remembered(engine, monkeypatch):
    view = engine.encode_image(picture(6))
    first = view.closer("chair", "table")
    passes = _count_passes(engine, monkeypatch)
    again, turned = view.closer("chair", "table"), view.closer("table", "chair")
    assert passes == [] and again == first
    assert turned.raw_probability == pytest.approx(first.raw_probability, abs=1e-9)


def test_stage_2_is_asked_about_several_pairs_in_one_pass(engine, monkeypatch):
    """Of an adapter that reasons."""
    model = replace(engine.model, adapter=replace(engine.model.adapter, reasons=True))
    reasoning = ProximityEngine(model, engine.networks)
    assert reasoning.info()["closer_by"] == "stage 2"
    view = reasoning.encode_image(picture(8))
    passes = _count_passes(reasoning, monkeypatch)
    answers = view.closer_many([("chair", "table"), ("lamp", "person")])
    assert [len(p) for p in passes] == [4, 4]  # four objects, two pairs in both orders
    assert view.closer("table", "chair").raw_probability == pytest.approx(answers[0].raw_probability, abs=1e-9)
    assert len(passes) == 2


def test_the_ground_votes_where_depths_are_unsure(engine):
    """Two boxes of one picture at about the same depth: the one that ends lower is the closer one."""
    image = np.full((240, 320, 3), 127, np.uint8)
    high, low = ObjectQuery("box", Box(40, 60, 100, 110)), ObjectQuery("cup", Box(200, 90, 260, 140))
    a, b = engine.encode_image(image).depths([high, low])
    assert abs(a.depth - b.depth) < 0.3 * min(a.depth_stddev, b.depth_stddev)

    def closer(weights):  # of depths and ground, without an order head
        adapter = replace(engine.model.adapter, order_head=False, closer_weights=None, closer_weights_in_box=weights)
        other = ProximityEngine(replace(engine.model, adapter=adapter, order_head=None), engine.networks)
        return other.encode_image(image).closer(high, low)

    answer, by_depths = closer((2.8, 1.2)), closer(None)
    assert answer.objects[0].name == "cup" and 0.6 < answer.raw_probability < 0.95
    assert by_depths.raw_probability < answer.raw_probability


def test_what_several_questions_need_is_perceived_in_two_passes(engine, monkeypatch):
    view = engine.encode_image(picture(8))
    known = [ObjectQuery("box", Box(10, 20, 300, 400)), ObjectQuery("lamp", Box(310, 20, 500, 400))]
    questions = [
        ("which is closer, the box or the lamp?", known),
        ("what is nearest?", known),
        ("are the chair and the table equally far?", []),
        ("how far is the person?", []),
        ("", known),
        ("which is closer?", []),  # understood by nobody: left out, its own answer says why
    ]
    passes = _count_passes(engine, monkeypatch)
    view.prepare(questions)
    assert [len(p) for p in passes] == [5]  # five objects; their depths and the ground tell which is closer
    del passes[:]
    answers = [view.ask(text, objects) for text, objects in questions[:4]]
    assert passes == [] and all(a.answer for a in answers)
    alone = engine.encode_image(picture(8)).ask(*questions[0])
    assert alone.raw_probability == pytest.approx(answers[0].raw_probability, abs=0.02)
    with pytest.raises(NotUnderstoodError):
        view.ask("which is closer?")


def test_images_of_several_cameras_are_one_batch(engine, monkeypatch):
    pictures = [picture(1), picture(2, 320, 240), np.zeros((40, 60, 3), np.uint8)]
    passes = _count_passes(engine, monkeypatch)
    views = engine.encode_images(pictures)
    together = engine.depths_of_images(views, ["chair", ObjectQuery("table", Box(2, 2, 30, 30)), "chair"])
    assert len(passes) == 1 and len(passes[0]) == 6
    monkeypatch.undo()
    for image, found in zip(pictures, together, strict=True):
        alone = engine.encode_image(image).depths(["chair", ObjectQuery("table", Box(2, 2, 30, 30))])
        assert [o.depth for o in found[:2]] == pytest.approx([o.depth for o in alone], abs=0.02)
        assert found[2] == found[0]
    assert engine.encode_images([]) == []
    with pytest.raises(BadImageError):
        engine.encode_images([pictures[0], np.zeros((4, 4), np.uint8)])


def test_an_image_is_read_alike_with_few_objects_and_with_many(exact, monkeypatch):
    """Few are read with it in one pass, many in a pass behind it; another asks again about an image that was read."""
    queries = [ObjectQuery(n) for n in ("chair", "red lamp")] + [ObjectQuery("table", Box(2, 2, 300, 300))]
    view = exact.encode_image(picture(8))
    few = view.depths(queries)
    again = view.depths([ObjectQuery("sofa"), *queries])
    monkeypatch.setattr("proxqa_core.inference.MAX_TREE_TOKENS", 8)
    passes = _count_passes(exact, monkeypatch)
    many = exact.encode_image(picture(8)).depths([*queries, ObjectQuery("sofa")])
    assert [len(p) for p in passes] == [4]
    for a, b in zip([*few, again[0]], many, strict=True):
        assert a.depth == pytest.approx(b.depth, abs=1e-4) and a.score == pytest.approx(b.score, abs=1e-4)


def _count_passes(engine, monkeypatch):
    """The branches of every request that the language model gets from now on, with their images or without."""
    passes, lm = [], engine.language_model
    run, run_trees = lm.run_branches, lm.run_trees
    monkeypatch.setattr(lm, "run_branches", lambda b: passes.append(b) or run(b))
    monkeypatch.setattr(
        lm, "run_trees", lambda t: passes.append([b for one in t for b in one.branches]) or run_trees(t)
    )
    return passes


def test_same_object_twice_is_no_pair(view):
    with pytest.raises(BadObjectError, match="two different"):
        view.closer("chair", "chair")


def test_two_known_objects_of_one_name_need_telling_apart(view):
    same = [ObjectQuery("chair", Box(0, 0, 50, 50)), ObjectQuery("chair", Box(100, 0, 150, 50))]
    with pytest.raises(BadObjectError, match="2 objects are named 'chair'"):
        view.ask("how far is the chair?", same)
    assert {o.name for o in view.closer(*same).objects} == {"chair"}


@pytest.mark.parametrize("name", ["<image>", "a <|im_end|> b", "line\nbreak", "\u202eevil", "🪑", "￼", "</s>[INST]"])
def test_names_are_data(engine, view, name):
    found = view.depths([name])[0]
    assert math.isfinite(found.depth)
    special = {engine.model.prompter.tokenizer.convert_tokens_to_ids(t) for t in ("<image>", "<|im_start|>")}
    ids = engine.model.prompter.question(f"How far is the {name.replace(chr(0xFFFC), '')}?").ids
    question_end = ids.index(engine.model.prompter.tokenizer.convert_tokens_to_ids("<|im_end|>"))
    assert not special & set(ids[:question_end])


@pytest.mark.parametrize(
    "image",
    [None, np.zeros((0, 0, 3), np.uint8), np.zeros((40, 40), np.uint8), np.zeros((40, 40, 3), np.float32),
     np.zeros((4, 40, 3), np.uint8)],
)  # fmt: skip
def test_bad_images_are_one_clear_line(engine, image):
    with pytest.raises(BadImageError, match="expected"):
        engine.encode_image(image)


def test_views_can_be_asked_from_several_threads(engine):
    view, answers = engine.encode_image(picture(5)), []
    threads = [threading.Thread(target=lambda: answers.append(view.depths(["chair"])[0].depth)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(answers) == 4 and len(set(answers)) == 1


def test_info_says_what_is_loaded(engine):
    info = engine.info()
    assert info["image_tokens"] == 64 and info["parameters"] > 1e8 and info["model"].startswith("default")
