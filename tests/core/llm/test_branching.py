"""Branching off the shared prefix equals running each full prompt alone, on the real default base."""

import numpy as np
import pytest
import torch

from proxqa_core.backends.torch_backend import TorchLanguageModel
from proxqa_core.llm.branching import (
    MAX_PADDING_RATIO,
    Branch,
    Tree,
    common_length,
    common_starts,
    pack,
    split_into_passes,
)
from proxqa_core.model.loading import NO_ADAPTER, load


@pytest.fixture(scope="module")
def base():
    return load("default", adapter=NO_ADAPTER, device="cpu", dtype="float32")


def test_branches_equal_full_prompts(base):
    lm, llm = TorchLanguageModel(base.llava), base.llava.model.language_model
    table = base.llava.get_input_embeddings()
    torch.manual_seed(1)
    prefix_ids = torch.randint(100, 40000, (70,))
    suffixes = [torch.randint(100, 40000, (n,)) for n in (5, 31, 17, 1)]
    digits = torch.tensor(base.prompter.digits)
    with torch.inference_mode():
        start = lm.run_prefixes([Branch(None, table(prefix_ids[:20]))])[0]
        (prefix,) = lm.run_prefixes([Branch(start, table(prefix_ids[20:]))])
        assert (start.length, prefix.length) == (20, 70)
        branches = [Branch(prefix, table(s), table(digits) if i % 2 == 0 else None) for i, s in enumerate(suffixes)]
        packed = lm.run_branches(branches)
        for suffix, branch, hidden in zip(suffixes, branches, packed, strict=True):
            alone = llm(torch.cat([prefix_ids, suffix])[None]).last_hidden_state[0, 70:]
            logits = [base.llava.lm_head(h) for h in (hidden[: len(suffix)], alone)]
            assert torch.allclose(*logits, atol=2e-3), (logits[0] - logits[1]).abs().max()
            if branch.tails is not None:
                for d, tail in zip(digits, hidden[len(suffix) :], strict=True):
                    full = torch.cat([prefix_ids, suffix, d[None]])
                    last = llm(full[None]).last_hidden_state[0, -1]
                    assert torch.allclose(base.llava.lm_head(tail), base.llava.lm_head(last), atol=2e-3)


def test_prefix_is_not_changed_by_its_branches(base):
    lm, table = TorchLanguageModel(base.llava), base.llava.get_input_embeddings()
    with torch.inference_mode():
        (prefix,) = lm.run_prefixes([Branch(None, table(torch.arange(200, 220)))])
        before = [keys.clone() for keys, _ in prefix.layers]
        branch = [Branch(prefix, table(torch.arange(300, 310)))]
        (first,) = lm.run_branches(branch)
        (again,) = lm.run_branches(branch)
    assert torch.equal(first, again)
    assert all(torch.equal(a, keys) for a, (keys, _) in zip(before, prefix.layers, strict=True))


def test_long_requests_are_cut_into_passes_without_changing_answers(base, monkeypatch):
    lm, table = TorchLanguageModel(base.llava), base.llava.get_input_embeddings()
    with torch.inference_mode():
        (prefix,) = lm.run_prefixes([Branch(None, table(torch.arange(200, 220)))])
        branches = [Branch(prefix, table(torch.arange(300 + i, 306 + 2 * i))) for i in range(7)]
        whole = lm.run_branches(branches)
        monkeypatch.setattr("proxqa_core.llm.branching.MAX_PASS_TOKENS", 25)
        cut = lm.run_branches(branches)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(whole, cut, strict=True))


def test_branches_of_different_prefixes_share_a_pass(base):
    """As those of several images, or of questions that begin alike."""
    lm, table = TorchLanguageModel(base.llava), base.llava.get_input_embeddings()
    with torch.inference_mode():
        starts = [Branch(None, table(torch.arange(200, 200 + n))) for n in (30, 12, 3)]
        prefixes = lm.run_prefixes(starts)
        assert [p.length for p in prefixes] == [30, 12, 3]
        rows = [table(torch.arange(300 + n, 308 + n)) for n in range(4)]
        branches = [Branch(p, r) for p, r in zip([*prefixes, None], rows, strict=True)]
        together = lm.run_branches(branches)
        alone = [lm.run_branches([b])[0] for b in branches]
        shortened = lm.run_branches([Branch(prefixes[0].first(12), rows[0])])[0]
        whole = lm.run_branches([Branch(None, torch.cat([table(torch.arange(200, 212)), rows[0]]))])[0][12:]
    assert all(torch.allclose(a, b, atol=2e-4) for a, b in zip(together, alone, strict=True))
    assert torch.allclose(shortened, whole, atol=2e-4)


def test_a_tree_is_read_as_its_trunk_and_then_its_branches_are(base):
    """Two of them in one pass, as of two images, one with tails; what is kept of a trunk can be continued."""
    lm, table = TorchLanguageModel(base.llava), base.llava.get_input_embeddings()
    with torch.inference_mode():
        (start,) = lm.run_prefixes([Branch(None, table(torch.arange(200, 212)))])
        trunks = [Branch(start, table(torch.arange(300, 330))), Branch(None, table(torch.arange(400, 407)))]
        rows = [[table(torch.arange(500 + n, 505 + 2 * n)) for n in range(count)] for count in (3, 2)]
        tails = table(torch.tensor(base.prompter.digits))
        trees = [Tree(t, tuple(Branch(None, r, tails) for r in of)) for t, of in zip(trunks, rows, strict=True)]
        read = lm.run_trees(trees)
        for (prefix, hidden), trunk, of in zip(read, trunks, rows, strict=True):
            (alone,) = lm.run_prefixes([trunk])
            assert prefix.length == alone.length
            expected = lm.run_branches([Branch(alone, r, tails) for r in of])
            continued = lm.run_branches([Branch(prefix, r, tails) for r in of])
            for a, b, c in zip(hidden, expected, continued, strict=True):
                assert a.shape == b.shape and torch.allclose(a, b, atol=2e-4) and torch.allclose(c, b, atol=2e-4)


def test_passes_hold_every_branch_once_and_little_padding(monkeypatch):
    monkeypatch.setattr("proxqa_core.llm.branching.MAX_PASS_TOKENS", 100)
    sizes = [5, 90, 40, 39, 41, 7, 300, 6]
    passes = list(split_into_passes(sizes))
    assert sorted(i for some in passes for i in some) == list(range(len(sizes)))
    for some in passes:
        padded = max(sizes[i] for i in some) * len(some)
        assert len(some) == 1 or (padded <= 100 and padded <= MAX_PADDING_RATIO * sum(sizes[i] for i in some))
    assert list(split_into_passes([])) == []


def test_what_a_group_begins_with_is_found():
    rows = [[1, 2, 3, 4], [1, 2, 5], [7, 8], [1, 2], [9, 9, 9], [9, 9, 9]]
    assert common_starts(rows, ["a", "a", "b", "a", "c", "c"]) == [1, 1, 0, 1, 2, 2]
    assert common_length([[1, 2], [1, 2, 3]]) == 2 and common_length([[1], [2]]) == 0


def test_pack_lets_tails_see_their_branch_and_themselves_only():
    position, allowed = pack([(2, 2), (1, 0)])
    assert position.tolist() == [0, 1, 2, 2, 0]
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert np.array_equal(allowed, np.array(expected, bool))
