"""Branching off the shared prefix equals running each full prompt alone, on the real default base."""

import numpy as np
import pytest
import torch

from proxqa_core.backends.torch_backend import TorchLanguageModel
from proxqa_core.llm.branching import Branch, pack
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
        prefix = lm.run_prefix(table(prefix_ids))
        branches = [Branch(table(s), table(digits) if i % 2 == 0 else None) for i, s in enumerate(suffixes)]
        packed = list(lm.run_branches(prefix, branches))
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
        prefix = lm.run_prefix(table(torch.arange(200, 220)))
        before = [keys.clone() for keys, _ in prefix.layers]
        branch = [Branch(table(torch.arange(300, 310)))]
        first = next(iter(lm.run_branches(prefix, branch)))
        again = next(iter(lm.run_branches(prefix, branch)))
    assert torch.equal(first, again)
    assert all(torch.equal(a, keys) for a, (keys, _) in zip(before, prefix.layers, strict=True))


def test_long_requests_are_cut_into_passes_without_changing_answers(base, monkeypatch):
    lm, table = TorchLanguageModel(base.llava), base.llava.get_input_embeddings()
    with torch.inference_mode():
        prefix = lm.run_prefix(table(torch.arange(200, 220)))
        branches = [Branch(table(torch.arange(300 + i, 312 + i))) for i in range(7)]
        whole = list(lm.run_branches(prefix, branches))
        monkeypatch.setattr("proxqa_core.llm.branching.MAX_PACKED_TOKENS", 25)
        cut = list(lm.run_branches(prefix, branches))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(whole, cut, strict=True))


def test_pack_lets_tails_see_their_branch_and_themselves_only():
    position, allowed = pack([(2, 2), (1, 0)])
    assert position.tolist() == [0, 1, 2, 2, 0]
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert np.array_equal(allowed, np.array(expected, bool))
