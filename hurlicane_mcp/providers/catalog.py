"""Which models there are, what they are called and what they cost: data in `catalog.json`."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel, Field, ValidationError

from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers.base import Tokens

Entry: TypeAlias = dict[str, object]

MILLION = Decimal(1_000_000)


class Rates(BaseModel, frozen=True, extra="forbid"):
    """US dollars for a million tokens of each kind."""

    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)
    cache_write: Decimal = Field(ge=0)
    cache_read: Decimal = Field(ge=0)

    def cost(self, tokens: Tokens) -> Decimal:
        """US dollars for *tokens*."""
        millions = (
            tokens.input * self.input
            + tokens.output * self.output
            + tokens.cache_write * self.cache_write
            + tokens.cache_read * self.cache_read
        )
        return millions / MILLION


class LongPrompt(Rates, frozen=True, extra="forbid"):
    """What a request costs, its answer included, whose prompt is longer than `above_tokens`."""

    above_tokens: int = Field(gt=0)  #: whether they are sent, written to a cache or read from it


class Prices(Rates, frozen=True, extra="forbid"):
    """The list prices of a model on one day."""

    as_of: date
    long_prompt: LongPrompt | None = None  #: None when they do not depend on the prompt

    def of_request(self, tokens: Tokens) -> Rates:
        """The prices of one request that used *tokens*."""
        prompt = tokens.input + tokens.cache_write + tokens.cache_read
        if self.long_prompt is not None and prompt > self.long_prompt.above_tokens:
            return self.long_prompt
        return self


class Model(BaseModel, frozen=True, extra="forbid"):
    """One model of one provider."""

    provider: str
    id: str = Field(min_length=1)  #: the full id, as the CLI resolves its aliases
    aliases: tuple[str, ...] = ()
    context_tokens: int | None = Field(default=None, gt=0)  #: None when it is not known
    family: str | None = None  #: whose sessions it can go on with; None: all of its provider's
    prices: Prices | None = None  #: None when they are not known

    def cost(self, tokens: Tokens) -> Decimal | None:
        """US dollars for one request that used *tokens*; None when the prices are not known.

        The sum of several requests comes out too dear where a long prompt costs more.
        """
        return self.prices.of_request(tokens).cost(tokens) if self.prices is not None else None


class CatalogFile(BaseModel, extra="forbid"):
    """The outline of a catalog file; each model is checked after files are merged."""

    about: str = ""
    models: list[Entry]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models known by name. A CLI may have others, which its provider lets through."""

    models: tuple[Model, ...]

    @staticmethod
    def load(extra: Path | None = None) -> "Catalog":
        """The catalog of this package, with the user's file *extra* over it.

        An entry of *extra* with the provider and id of a known model changes the fields that it
        names; another one adds a model. Its aliases win over ours.

        Raises:
            Invalid: *extra* cannot be read or is no catalog; the message says why.
        """
        ours = files("hurlicane_mcp.providers").joinpath("catalog.json").read_text(encoding="utf-8")
        known = _by_id(CatalogFile.model_validate_json(ours))
        if extra is None:
            return _catalog(known.values())
        try:
            theirs = _by_id(CatalogFile.model_validate_json(extra.read_bytes()))
            changed = [{**known.pop(key, {}), **entry} for key, entry in theirs.items()]
            return _catalog([*changed, *known.values()])
        except OSError as error:
            raise Invalid(f"The model catalog {extra} cannot be read: {error}") from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise Invalid(
                f"The model catalog {extra} is wrong at {where or 'its start'}: {first['msg']}."
            ) from error

    def of(self, provider: str) -> tuple[Model, ...]:
        """The models of *provider*."""
        return tuple(model for model in self.models if model.provider == provider)

    def resolve(self, provider: str, name: str) -> Model | None:
        """The model of *provider* with this id or alias; None if it is not in the catalog."""
        return next(
            (model for model in self.of(provider) if name == model.id or name in model.aliases),
            None,
        )

    def id_of(self, provider: str, name: str | None) -> str:
        """The full id of a model; *name* itself if it is not in the catalog, empty for None."""
        known = self.resolve(provider, name) if name else None
        return known.id if known is not None else name or ""

    def cost(self, provider: str, name: str, tokens: Tokens) -> Decimal | None:
        """US dollars for one request; None when the model or its prices are not known."""
        known = self.resolve(provider, name)
        return known.cost(tokens) if known is not None else None

    def check(self, provider: str, name: str, full_id: re.Pattern[str]) -> None:
        """Accept what is in the catalog, and any name that has the shape of a *full_id*.

        Raises:
            Invalid: *name* is neither; the message lists what is known.
        """
        if self.resolve(provider, name) is None and full_id.fullmatch(name) is None:
            names = [name for model in self.of(provider) for name in (*model.aliases, model.id)]
            raise Invalid(
                f"{provider} has no model {name!r}. Known: {', '.join(names)}. "
                "Other full ids of this vendor's models are accepted too."
            )


def _by_id(file: CatalogFile) -> dict[tuple[str, str], Entry]:
    return {(str(entry.get("provider")), str(entry.get("id"))): entry for entry in file.models}


def _catalog(entries: Iterable[Entry]) -> Catalog:
    # By way of JSON, in which a date is a string and a tuple a list.
    return Catalog(tuple(Model.model_validate_json(json.dumps(entry)) for entry in entries))
