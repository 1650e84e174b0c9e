"""One bar of a venue as one pure transition, and the plain loop over bars: the oracle of the fast engines.

Order within a bar: breaches (at the start under the margin now in force, then at the worst price), rounds of
settlements (everything that is due is sold together, the price moves, further accounts breach), owners'
closings, and the recovery of the price for the next bar.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from calibrator.backtest.venue import (
    Account,
    Event,
    Holding,
    Kind,
    Moment,
    Rules,
    State,
    equity_of,
    is_below,
    key_of,
    multiplier,
    tier_terms,
)

__all__ = ["Transition", "loop", "step"]


@dataclass(frozen=True, slots=True)
class Transition:
    """The state after a bar, and what happened in it."""

    state: State
    events: tuple[Event, ...]


@dataclass(slots=True)
class _Book:
    """Working copy of one transition."""

    moment: Moment
    rules: Rules
    accounts: list[Account]
    fund: float
    displacement: list[float]
    events: list[Event]

    def prices(self) -> tuple[float, ...]:
        """Return the closes as the venue's own sales have moved them."""
        return tuple(
            q.close * multiplier(x) for q, x in zip(self.moment.quotes, self.displacement, strict=True)
        )


def step(state: State, moment: Moment, *, rules: Rules) -> Transition:
    """Move a venue through one bar.

    An account is exposed from the bar after its opening. It breaches when its equity is below its maintenance
    requirement at the bar's start or at the worst price (a cross-margined account: at all closes together,
    because lows and highs of different assets do not happen at one time), and is settled at the close
    ``latency`` bars later, or in the last bar. What is due in one bar is sold at one price: the close, moved
    by all forced sales so far. A breach goes before the owner's own closing in the same bar.

    Parameters
    ----------
    state : State
        Before the bar; it is left as it was.
    moment : Moment
    rules : Rules

    Returns
    -------
    Transition

    Examples
    --------
    >>> from calibrator.backtest.venue import Quote
    >>> quote = Quote(100.0, 93.0, 100.0, 93.0, (80_000,), (80_000,))
    >>> long = Account((Holding(0, 1.0),), 90.0, 100.0, 0, 9)
    >>> done = step(State((long,), 0.0, (0.0,)), Moment(1, (quote,)), rules=Rules(penalty=0.02))
    >>> [(e.kind.name, e.price, e.penalty, e.payout) for e in done.events], done.state.fund
    ([('LIQUIDATED', 93.0, 1.86, 1.14)], 1.86)
    """
    book = _Book(moment, rules, list(state.accounts), state.fund, list(state.displacement), [])
    _breach(book)
    while due := [i for i, a in enumerate(book.accounts) if _is_due(a, moment, rules)]:
        shares = _sell(book, due)
        for i, share in zip(due, shares, strict=True):
            _settle(book, i, share)
        _breach_again(book)
    _close(book)
    left = tuple(x * (1 - rules.recovery) for x in book.displacement)
    return Transition(State(tuple(book.accounts), book.fund, left), tuple(book.events))


def loop(state: State, moments: Iterable[Moment], *, rules: Rules) -> Transition:
    """Apply :func:`step` bar by bar: slow, obvious, what every fast engine must agree with.

    Examples
    --------
    >>> loop(State((), 5.0, ()), [Moment(0, ()), Moment(1, ())], rules=Rules()).state.fund
    5.0
    """
    events: list[Event] = []
    for moment in moments:
        done = step(state, moment, rules=rules)
        state = done.state
        events += done.events
    return Transition(state, tuple(events))


def _exposed(account: Account, moment: Moment) -> bool:
    return bool(account.holdings) and account.breached < 0 and account.opened < moment.bar


def _is_due(account: Account, moment: Moment, rules: Rules) -> bool:
    return account.breached >= 0 and (moment.final or moment.bar >= account.breached + rules.latency)


def _breach(book: _Book) -> None:
    moment = book.moment
    moved = [multiplier(x) for x in book.displacement]
    start = tuple(q.start * f for q, f in zip(moment.quotes, moved, strict=True))
    worst = {
        side: tuple((q.low if side else q.high) * f for q, f in zip(moment.quotes, moved, strict=True))
        for side in (True, False)
    }
    close = book.prices()
    for i, account in enumerate(book.accounts):
        if not _exposed(account, moment):
            continue
        at_start = is_below(account, moment, start)
        seen = close if account.cross else worst[account.holdings[0].quantity > 0]
        if at_start or is_below(account, moment, seen):
            forced = at_start and not is_below(account, moment, start, before=True)
            book.accounts[i] = replace(account, breached=moment.bar, self_inflicted=forced)


def _breach_again(book: _Book) -> None:
    """Find who is below the margin at the price that the sales have made."""
    prices, bar = book.prices(), book.moment.bar
    for i, account in enumerate(book.accounts):
        exposed = _exposed(account, book.moment) and account.touched < bar
        if exposed and is_below(account, book.moment, prices):
            book.accounts[i] = replace(account, breached=bar, self_inflicted=False)


def _sell(book: _Book, due: list[int]) -> list[float]:
    """Decide which share of each account is closed, and let all sales together move the prices."""
    prices = book.prices()
    shares = [_share(book, book.accounts[i], prices) for i in due]
    flow = [0.0] * len(prices)
    for i, share in zip(due, shares, strict=True):
        for held in book.accounts[i].holdings:
            flow[held.asset] += share * held.quantity
    for asset, quote in enumerate(book.moment.quotes):
        book.displacement[asset] += flow[asset] * quote.close / quote.depth
    return shares


def _share(book: _Book, account: Account, prices: tuple[float, ...]) -> float:
    rules = book.rules
    if rules.close_factor == 1:
        return 1.0
    notional = required = 0.0
    for held in account.holdings:
        value = abs(held.quantity) * prices[held.asset]
        notional += value
        margin, spared = tier_terms(book.moment.quotes[held.asset], value)
        required += value * margin - spared
    equity = equity_of(account, book.moment, prices)
    whole = equity <= 0 or equity < rules.full_below * required
    return 1.0 if whole or (1 - rules.close_factor) * notional < rules.dust else rules.close_factor


def _settle(book: _Book, number: int, share: float) -> None:
    account, rules, prices = book.accounts[number], book.rules, book.prices()
    notional = 0.0
    for held in account.holdings:
        notional += share * abs(held.quantity) * prices[held.asset]
    equity = equity_of(account, book.moment, prices)
    penalty = min(max(equity, 0.0), rules.penalty * notional)
    book.fund += penalty * rules.fund_share
    first = account.holdings[0]
    event = Event(
        book.moment.bar, number, Kind.LIQUIDATED, account.breached, share * first.quantity,
        prices[first.asset], notional, penalty, self_inflicted=account.self_inflicted,
    )  # fmt: skip
    if share < 1:
        book.accounts[number] = _reduced(account, book.moment, prices, (share, equity - penalty))
        book.events.append(event)
        return
    book.accounts[number] = replace(account, holdings=(), breached=-1, touched=book.moment.bar)
    shortfall = max(-equity, 0.0)
    from_fund = min(book.fund, shortfall)
    book.fund -= from_fund
    uncovered = shortfall - from_fund
    given: list[Event] = []
    if uncovered > 0 and rules.backstop == "deleverage" and not account.cross:
        uncovered, given = _deleverage(book, account, uncovered)
    payout = max(equity, 0.0) - penalty
    book.events.append(
        replace(event, payout=payout, shortfall=shortfall, from_fund=from_fund, uncovered=uncovered)
    )
    book.events += given


def _reduced(
    account: Account, moment: Moment, prices: tuple[float, ...], left: tuple[float, float]
) -> Account:
    """Return what is left of an account after a share is closed and its equity is ``left[1]``."""
    share, equity = left
    kept = tuple(Holding(h.asset, h.quantity - share * h.quantity) for h in account.holdings)
    if account.cross:
        key = equity / moment.index
        for held in kept:
            key -= held.quantity * (prices[held.asset] / moment.index - moment.quotes[held.asset].carry)
    else:
        asset = kept[0].asset
        bankruptcy = prices[asset] - equity / kept[0].quantity
        key = key_of(bankruptcy, index=moment.index, carry=moment.quotes[asset].carry)
    return replace(account, holdings=kept, key=key, breached=-1, touched=moment.bar, self_inflicted=False)


def _deleverage(book: _Book, broke: Account, loss: float) -> tuple[float, list[Event]]:
    """Close opposing accounts at the bankruptcy price of one that the fund could not save."""
    asset, moment = broke.holdings[0].asset, book.moment
    price = book.prices()[asset]
    bankruptcy = moment.index * (moment.quotes[asset].carry + broke.key)
    gap = abs(bankruptcy - price)
    rest, events = loss / gap, []
    while rest > 0:
        best, score = -1, 0.0
        for i, account in enumerate(book.accounts):
            own = _score(book, broke, account, (price, bankruptcy))
            if own is not None and (best < 0 or own > score):
                best, score = i, own
        if best < 0:
            break
        account = book.accounts[best]
        held = account.holdings[0]
        taken = min(abs(held.quantity), rest)
        equity = equity_of(account, moment, book.prices()) - taken * gap
        signed = taken if held.quantity > 0 else -taken
        rest -= taken
        loss -= taken * gap
        event = Event(
            moment.bar, best, Kind.DELEVERAGED, -1, signed, price, taken * price, given_up=taken * gap
        )
        if taken == abs(held.quantity):
            book.accounts[best] = replace(account, holdings=(), touched=moment.bar)
            event = replace(event, payout=equity)
        else:
            quantity = held.quantity - signed
            key = key_of(price - equity / quantity, index=moment.index, carry=moment.quotes[asset].carry)
            book.accounts[best] = replace(account, holdings=(replace(held, quantity=quantity),), key=key)
        events.append(event)
    return max(loss, 0.0), events


def _score(book: _Book, broke: Account, account: Account, at: tuple[float, float]) -> float | None:
    """Profit times leverage of an account that can be deleveraged, None for all others."""
    moment, (price, bankruptcy) = book.moment, at
    if account.cross or not _exposed(account, moment) or account.touched >= moment.bar:
        return None
    held, lost = account.holdings[0], broke.holdings[0]
    if held.asset != lost.asset or (held.quantity > 0) == (lost.quantity > 0):
        return None
    direction = 1 if held.quantity > 0 else -1
    own = moment.index * (moment.quotes[held.asset].carry + account.key)
    if direction * (bankruptcy - own) <= 0:
        return None
    profit = direction * (price - account.entry_price) / account.entry_price
    return profit * price / (direction * (price - own))


def _close(book: _Book) -> None:
    """Let owners close at the close, without penalty; their trades do not move the price."""
    moment, prices = book.moment, book.prices()
    for i, account in enumerate(book.accounts):
        wants = account.opened <= moment.bar and account.closes <= moment.bar
        if not account.holdings or account.breached >= 0 or not wants:
            continue
        first = account.holdings[0]
        notional = 0.0
        for held in account.holdings:
            notional += abs(held.quantity) * prices[held.asset]
        equity = equity_of(account, moment, prices)
        short = max(-equity, 0.0)
        paid = min(book.fund, short)
        book.fund -= paid
        book.events.append(
            Event(
                moment.bar,
                i,
                Kind.CLOSED,
                -1,
                first.quantity,
                prices[first.asset],
                notional,
                payout=max(equity, 0.0),
                shortfall=short,
                from_fund=paid,
                uncovered=short - paid,
            )
        )
        book.accounts[i] = replace(account, holdings=(), touched=moment.bar)
