"""The bundled default model's tokenizer, by the library beneath transformers' own class.

Promises: what prompts and answers take gives what that class gives; all else that class can do, it does itself, once it
is asked. Importing it takes half a second, a fifth of a start.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer

_LOCK = threading.Lock()


class StoredTokenizer:
    """A tokenizer out of its files.

    Args:
        folder: Holds `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`, as transformers writes them.
        make_whole: Reads the same folder by transformers' class.

    Attributes:
        bos_token: See transformers.
        chat_template: See transformers.
        all_special_ids: See transformers.
    """

    def __init__(self, folder: Path, make_whole: Callable[[], Any]):
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self._fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._make_whole, self._whole = make_whole, None
        self.bos_token: str = settings["bos_token"]
        self.chat_template = self._own_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        named = [settings[f"{which}_token"] for which in ("bos", "eos", "unk", "pad")]
        special = dict.fromkeys([*named, *settings["extra_special_tokens"]])
        self.all_special_ids: list[int | None] = [self._fast.token_to_id(token) for token in special]

    def __call__(self, text: str, add_special_tokens: bool = True, split_special_tokens: bool = False) -> Any:
        """The text's `input_ids`, as transformers' class has them."""
        with _LOCK:  # the setting is the tokenizer's, not the call's
            self._fast.encode_special_tokens = split_special_tokens
            return SimpleNamespace(input_ids=self._fast.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        text: str = self._fast.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def convert_ids_to_tokens(self, token_id: int) -> str | None:
        """The token of an id."""
        token: str | None = self._fast.id_to_token(token_id)
        return token

    def get_added_vocab(self) -> dict[str, int]:
        """Ids of the tokens that are no pieces of words."""
        return {token.content: number for number, token in self._fast.get_added_tokens_decoder().items()}

    def apply_chat_template(self, messages: Sequence[Any], tokenize: bool, add_generation_prompt: bool) -> Any:
        """The text of a conversation, or its ids; by another template than its own transformers' class makes it."""
        if tokenize or self.chat_template != self._own_template:
            whole = self._by_transformers()
            whole.chat_template = self.chat_template
            done: Any = whole.apply_chat_template(
                messages, tokenize=tokenize, add_generation_prompt=add_generation_prompt
            )
            return done
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(self.chat_template)
        return template.render(messages=messages, add_generation_prompt=add_generation_prompt, bos_token=self.bos_token)

    def __getattr__(self, name: str) -> Any:
        """What only transformers' class has."""
        if name.startswith("_"):  # also while it is copied, before there is anything
            raise AttributeError(name)
        return getattr(self._by_transformers(), name)

    def _by_transformers(self) -> Any:
        if self._whole is None:
            self._whole = self._make_whole()
        return self._whole
