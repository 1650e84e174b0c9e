"""One page per protocol with a complete example, made from the terms of a published document."""

from pathlib import Path
from typing import Final

from calibrator.errors import ConstraintError
from calibrator.publish.adapters.base import ExposureCap, Intent, LoanTerms, PerpetualTerms, State
from calibrator.publish.constraints.targets import TARGETS, target
from pipelines.payloads import payload_of, read_state
from pipelines.protocol_texts import TEXTS, Text
from pipelines.store import save

TERMS: Final = "demo-terms.json"
CAP: Final = ExposureCap(open_interest=30_000_000, supply=20_000_000, borrow=15_000_000)
REFUSED: Final = {"gmx-v2": "keeper"}
"""Route whose refusal a page shows beside its example."""


def write_pages(intent: Intent, *, states: Path, folder: Path) -> list[Path]:
    """Write the terms, one page per protocol and an index; returns the files.

    Parameters
    ----------
    intent : Intent
        Of a published document; caps are added for the example where it has none.
    states : pathlib.Path
        Folder of the example states.
    folder : pathlib.Path
        Receives the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out = [save(folder / TERMS, intent.model_dump_json(indent=1) + "\n")]
    shown = capped(intent)
    out += [save(folder / f"{name}.md", page(name, shown, states)) for name in sorted(TARGETS)]
    out.append(save(folder / "README.md", index()))
    return out


def capped(intent: Intent) -> Intent:
    """Return ``intent`` with example caps for every market that has none."""
    steps = []
    for step in intent.steps:
        perpetuals = tuple(
            t if t.cap.open_interest else t.model_copy(update={"cap": CAP}) for t in step.perpetuals
        )
        loans = tuple(t if t.cap.supply else t.model_copy(update={"cap": CAP}) for t in step.loans)
        steps.append(step.model_copy(update={"perpetuals": perpetuals, "loans": loans}))
    return intent.model_copy(update={"steps": tuple(steps)})


def page(name: str, intent: Intent, states: Path) -> str:
    """Return the Markdown page of one protocol."""
    adapter, rules = target(name)
    text, state = TEXTS[name], read_state(adapter, states / f"{name}.json")
    payload = payload_of(adapter, rules, state, intent)
    units = "\n".join(f"| {what} | {unit} | {direction} |" for what, unit, direction in text.units)
    return f"""# {text.title}

Set `publish.target: {{protocol: {name}, state: FILE}}`; the payload is published as
`payloads/{name}.json`, signed together with the document.

## What is published

{text.what}

| quantity | unit | rounded |
|---|---|---|
{units}

## Who submits it

{text.who}

## How to check it

`calibrator verify` checks the signatures. Then, against what the target holds now:
`python -m pipelines protocols check payloads/{name}.json --protocol {name} --state FILE`. {text.check}

## Example

The terms are those of the demo's document (`make run`; `{TERMS}`), sequence {intent.sequence}, SHA-256
`{intent.document}`. The demo has no fund and its data no depth, so the exposure caps are examples.
{_asked(intent, adapter.takes)}
The state file, `states/{name}.json` (addresses are placeholders):

```json
{(states / f"{name}.json").read_text().rstrip()}
```

The payload, accepted by the simulation of this update and of the {len(intent.steps) - 1} steps of its plan:

```json
{(payload or b"").decode().rstrip()}
```
{_refusal(name, intent, state)}"""


def _asked(intent: Intent, takes: str) -> str:
    step = intent.steps[0]
    perpetuals = step.perpetuals if takes != "loans" else ()
    loans = step.loans if takes != "perpetuals" else ()
    rows = [_perpetual(one) for one in perpetuals] + [_loan(one) for one in loans]
    return "\n| market | terms of the first tier, ppm | caps |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _perpetual(terms: PerpetualTerms) -> str:
    first, cap = terms.tiers[0], terms.cap.open_interest
    asked = f"initial {first.initial_margin_ppm}, maintenance {first.maintenance_margin_ppm}"
    return f"| {terms.symbol} | {asked} | open interest {cap} |"


def _loan(terms: LoanTerms) -> str:
    asked = (
        f"loan-to-value {terms.loan_to_value_ppm}, threshold {terms.liquidation_threshold_ppm}, "
        f"penalty {terms.liquidation_penalty_ppm}"
    )
    return f"| {terms.symbol} | {asked} | supply {terms.cap.supply}, borrow {terms.cap.borrow} |"


def _refusal(name: str, intent: Intent, state: State) -> str:
    if name not in REFUSED:
        return ""
    adapter, rules = target(name)
    route = REFUSED[name]
    try:
        payload_of(adapter, rules, state.model_copy(update={"route": route}), intent)
    except ConstraintError as error:
        return f"\nThe same terms by the route `{route}` are refused:\n\n```\n{error}\n```\n"
    return ""


def index() -> str:
    """Return the index of the pages."""
    rows = "\n".join(f"- [{text.title}]({name}.md): `{name}`" for name, text in _sorted())
    return f"""# Protocols

What is published for each protocol, who submits it and how to check it, with a complete example. Nothing
is signed that the protocol would refuse, clip or misread: update and plan are simulated
against a state file, as read and after each of its `pending` actions; the error names the rule.

{rows}

## The state file

JSON, read from the target by the operator and refused if it is not complete; every page shows one.

| key | meaning |
|---|---|
| `chain` | CAIP-2 name, or `off-chain`; must be the audience of the document |
| `read_at`, `max_age_hours` | when it was read, and how far from the document's issue that may be (24) |
| `sender` | who submits: a Safe, an authority, an admin |
| `route` | by which way, where a protocol has several |
| `delay_seconds` | voting and timelock between issue and execution |
| `markets` | what each market holds, by symbol; a collateral with several debts: `SYMBOL/DEBT@LOCATION` |
| `notional` | of a market: whose tier is published where the target takes one number (0: the first) |
| `price` | of a collateral: millionths of a unit of the debt per token, needed for supply caps |
| `ignored` | markets of the document that the target does not list, on purpose |
| `shared` | markets on one tier that ask for different values: `exact` refuses, `largest` takes the safest |
| `pending` | actions submitted earlier that may have been executed wholly, in part or not at all |

The examples: `python -m pipelines protocols pages --home home --write-docs`, after `make run`.
"""


def _sorted() -> list[tuple[str, Text]]:
    return sorted(TEXTS.items())


def read_terms(path: Path) -> Intent:
    """Read the terms that the committed pages were made from."""
    return Intent.model_validate_json(path.read_bytes())
