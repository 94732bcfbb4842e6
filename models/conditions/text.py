"""Text: a row has a weight for each word of a vocabulary at each position."""

import re
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from latentd.models.conditions.base import ConditionKind
from latentd.models.stage_input import Rows

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


class TextCondition(ConditionKind):
    """The generator takes a text of at most `length` words of a vocabulary, in their order.

    A row has one number for each position and word: 1 for the word that stands there. Positions after the text are
    zero. A mean of rows has weights between 0 and 1.
    """

    kind: Literal["text"] = "text"
    vocabulary: tuple[str, ...] = Field(min_length=1, max_length=65536, fail_fast=True)
    """Words in lower case."""
    length: int = Field(ge=1, le=256)
    examples: tuple[str, ...] = Field(min_length=1, max_length=65536, fail_fast=True)
    """Texts. If a request has no text, its seed draws one of these."""

    @model_validator(mode="after")
    def _words_can_be_read(self) -> Self:
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("the words of the vocabulary must be distinct")
        if unreadable := [word for word in self.vocabulary if _words_in(word) != [word]]:
            raise ValueError(f"{unreadable[0]!r} is not one word in lower case")
        for example in self.examples:
            self._indices(example)
        return self

    @property
    def size(self) -> int:
        return self.length * len(self.vocabulary)

    @property
    def field(self) -> str:
        return "prompt"

    def parse(self, value: Any) -> Rows:
        """Return the row of a text, or of {"words": [{"red": 0.5, "blue": 0.5}, …]}: the weights at each position."""
        row = np.zeros((self.length, len(self.vocabulary)), dtype=np.float32)
        if isinstance(value, dict):
            self._fill(row, value)
        elif isinstance(value, str):
            indices = self._indices(value)
            row[np.arange(len(indices)), indices] = 1.0
        else:
            raise ValueError("a prompt is a text")
        return row.reshape(-1)

    def draw(self, stream: np.random.RandomState) -> Rows:
        return self.parse(self.examples[int(stream.randint(len(self.examples)))])

    def describe_row(self, row: Rows) -> Any:
        positions = row.reshape(self.length, len(self.vocabulary))
        used = [np.flatnonzero(weights).tolist() for weights in positions]
        used = used[: max((index + 1 for index, words in enumerate(used) if words), default=0)]
        if all(len(words) == 1 and positions[index, words[0]] == 1.0 for index, words in enumerate(used)):
            return " ".join(self.vocabulary[words[0]] for words in used)
        weights = (
            {self.vocabulary[word]: float(str(positions[index, word])) for word in words}
            for index, words in enumerate(used)
        )
        return {"words": list(weights)}

    def describe(self) -> dict[str, Any]:
        return {"prompt": {"type": "string", "description": f"at most {self.length} of: {', '.join(self.vocabulary)}"}}

    def _indices(self, text: str) -> list[int]:
        words = _words_in(text)
        known = {word: index for index, word in enumerate(self.vocabulary)}
        if unknown := [word for word in words if word not in known]:
            raise ValueError(f"unknown words {', '.join(dict.fromkeys(unknown))}; GET /models has the known ones")
        if len(words) > self.length:
            raise ValueError(f"{len(words)} words; this model takes at most {self.length}")
        return [known[word] for word in words]

    def _fill(self, row: Rows, value: dict[str, Any]) -> None:
        """Write weights as `describe_row` gives them into `row` [length, words]."""
        positions = value.get("words")
        if value.keys() != {"words"} or not isinstance(positions, list) or len(positions) > self.length:
            raise ValueError(f'a blend is {{"words": [...]}} with at most {self.length} positions')
        known = {word: index for index, word in enumerate(self.vocabulary)}
        for place, weights in zip(row, positions, strict=False):
            if not isinstance(weights, dict):
                raise ValueError("a position of a blend has a weight for each of its words")
            for word, weight in weights.items():
                if word not in known:
                    raise ValueError(f"unknown words {word}; GET /models has the known ones")
                if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
                    raise ValueError("a weight is a number from 0 to 1")
                place[known[word]] = weight


def _words_in(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


KIND = TextCondition
