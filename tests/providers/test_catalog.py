"""The catalog of models, the user's own over it, and the registry of providers."""

import json
import re
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import pytest

from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.providers.base import Tokens
from hurlicane_mcp.providers.catalog import Catalog, Model
from hurlicane_mcp.providers.claude import ClaudeProvider
from hurlicane_mcp.providers.codex import CodexProvider
from hurlicane_mcp.providers.registry import Providers
from tests.providers.recordings import DATA

CATALOG = Catalog.load()


@pytest.mark.parametrize(
    ("provider", "name", "full_id"),
    [
        ("claude", "opus", "claude-opus-5-5"),
        ("claude", "sonnet", "claude-sonnet-5-5"),
        ("claude", "sonnet[1m]", "claude-sonnet-5-5"),
        ("claude", "haiku", "claude-haiku-5-5"),
        ("claude", "claude-opus-5-5", "claude-opus-5-5"),
        ("codex", "gpt-6.1-sol", "gpt-6.1-sol"),
    ],
)
def test_a_name_leads_to_one_model(provider: str, name: str, full_id: str) -> None:
    model = CATALOG.resolve(provider, name)

    assert model is not None
    assert (model.provider, model.id) == (provider, full_id)


@pytest.mark.parametrize(("provider", "name"), [("codex", "opus"), ("claude", "x"), ("x", "opus")])
def test_an_unknown_name_leads_nowhere(provider: str, name: str) -> None:
    assert CATALOG.resolve(provider, name) is None


def test_no_name_means_two_models_of_one_provider() -> None:
    names = [
        (model.provider, name) for model in CATALOG.models for name in (model.id, *model.aliases)
    ]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", sorted((DATA / "claude").glob("*.ndjson")), ids=lambda p: p.stem)
def test_our_prices_give_the_costs_that_claude_code_printed(path: Path) -> None:
    events = [json.loads(line) for line in path.read_bytes().splitlines()]
    for event in (event for event in events if event["type"] == "result"):
        for name, usage in event["modelUsage"].items():
            model = CATALOG.resolve("claude", name)
            assert model is not None
            tokens = Tokens(
                input=usage["inputTokens"],
                output=usage["outputTokens"],
                cache_read=usage["cacheReadInputTokens"],
                cache_write=usage["cacheCreationInputTokens"],
            )
            assert model.cost(tokens) == pytest.approx(Decimal(str(usage["costUSD"])))
            assert model.context_tokens == usage["contextWindow"]


def test_a_million_tokens_cost_their_price() -> None:
    opus = CATALOG.resolve("claude", "opus")

    assert opus is not None
    assert opus.cost(Tokens(input=1_000_000)) == Decimal(4)
    assert opus.cost(Tokens(output=1_000_000)) == Decimal(20)
    assert opus.cost(Tokens(cache_write=1_000_000)) == Decimal(5)
    assert opus.cost(Tokens(cache_read=1_000_000)) == Decimal("0.20")


@pytest.mark.parametrize(
    ("tokens", "usd"),
    [
        # Each as Claude Code 2.1.330 printed it, one request a run.
        (Tokens(input=100_000), "0.01"),
        (Tokens(input=100_001), "0.0500005"),
        (Tokens(cache_read=100_000), "0.001"),
        (Tokens(cache_read=100_001), "0.00500005"),
        (Tokens(cache_write=100_000), "0.0125"),
        (Tokens(cache_write=100_001), "0.062500625"),
        (Tokens(99_998, 0, 1, 1), "0.009999935"),
        (Tokens(99_999, 0, 1, 1), "0.050000175"),
        (Tokens(60_000, 0, 60_000, 60_000), "0.0705"),
        (Tokens(100_000, 1000), "0.0105"),  # what comes out does not make a prompt longer
        (Tokens(0, 1_000_000), "0.5"),
        (Tokens(1_000_000, 1_000_000), "3"),
    ],
)
def test_a_long_prompt_may_cost_more_and_so_may_its_answer(tokens: Tokens, usd: str) -> None:
    assert CATALOG.cost("claude", "haiku", tokens) == Decimal(usd)


def test_a_model_without_prices_has_no_cost() -> None:
    assert Model(provider="codex", id="gpt-6-sol").cost(Tokens(input=1)) is None


def write(path: Path, *models: dict[str, object]) -> Path:
    path.write_text(json.dumps({"models": models}), encoding="utf-8")
    return path


def test_a_users_file_adds_models_and_changes_fields_of_ours(tmp_path: Path) -> None:
    prices = {"as_of": "2027-01-01", "input": 1.5, "output": "7", "cache_write": 0, "cache_read": 0}
    extra = write(
        tmp_path / "models.json",
        {"provider": "claude", "id": "claude-opus-5-5", "prices": prices},
        {"provider": "claude", "id": "our-gateway-model", "aliases": ["haiku"]},
    )

    catalog = Catalog.load(extra)

    opus = catalog.resolve("claude", "opus")
    assert opus is not None
    assert opus.cost(Tokens(input=1_000_000)) == Decimal("1.5")
    assert opus.context_tokens == 1_000_000
    haiku = catalog.resolve("claude", "haiku")
    assert haiku is not None
    assert haiku.id == "our-gateway-model"
    assert {model.id for model in CATALOG.models} < {model.id for model in catalog.models}
    ClaudeProvider(catalog=catalog).check_model("our-gateway-model")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="no JSON"),
        pytest.param("[]", id="no object"),
        pytest.param('{"models": [{"provider": "claude"}]}', id="no id"),
        pytest.param('{"models": [{"provider": {}, "id": []}]}', id="wrong types"),
        pytest.param('{"models": [{"provider": "a", "id": "b", "price": 1}]}', id="unknown field"),
        pytest.param(
            '{"models": [{"provider": "a", "id": "b", "prices": {"as_of": "2027-01-01", '
            '"input": 1, "output": 1, "cache_write": 1, "cache_read": 1, '
            '"long_prompt": {"input": 2}}}]}',
            id="half a tier",
        ),
    ],
)
def test_a_broken_users_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(Invalid, match=re.escape(str(path))):
        Catalog.load(path)


def test_a_missing_users_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"models\.json.*No such file"):
        Catalog.load(tmp_path / "models.json")


def test_a_provider_is_found_by_its_name() -> None:
    claude, codex = ClaudeProvider(), CodexProvider()
    providers = Providers(MappingProxyType({one.name: one for one in (claude, codex)}))

    assert providers.names == ("claude", "codex")
    assert providers.get("codex") is codex


def test_an_unknown_provider_is_refused_with_the_names_of_the_others() -> None:
    with pytest.raises(Invalid, match=r"no provider 'gemini'\. Known: claude\."):
        Providers({"claude": ClaudeProvider()}).get("gemini")
