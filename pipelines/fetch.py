"""``python -m pipelines fetch``: bring data in, once, and know afterwards exactly what is there.

Each request of a source is answered, parsed and recorded before the next: a restart after a kill asks only
for what is missing and ends with the same digests. What is recorded is not asked for again, apart from its
checksum: a file that was republished is an alert, and the content in use stays.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from calibrator.config_fetch import FetchConfig, FetchSource
from calibrator.data.asking import Feed, Query, Request, step_of
from calibrator.data.catalogue import FEEDS
from calibrator.data.payloads import Payload
from calibrator.data.rows import Finding, findings_frame
from calibrator.data.transport import Limits, Transport
from calibrator.errors import ChangedError, ConfigError, DataError, PublishError
from calibrator.frames import BARS, IMPLIED_VOLATILITY, conform
from calibrator.publish.storage import lock
from pipelines.forecasting import Progress
from pipelines.snapshots import Record, Shelf, finding_of, sha256, spelled
from pipelines.store import save_json

REPUBLISHED: Final = "republished file"
ABSENT: Final = "not published"
_AT_END: Final = (BARS.name, IMPLIED_VOLATILITY.name)
"""Frames whose time is the end of what it labels: it may equal the end of a query, not its start."""
_MAX_PAGES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one source brought.

    Attributes
    ----------
    source : str
        Name of the source.
    feed : str
        Name of the feed.
    path : pathlib.Path
        ``current/<source>.parquet``.
    digest : str
        Of all its rows.
    frame : pandas.DataFrame
        The rows.
    findings : pandas.DataFrame
        ``Findings`` of the venue, the parser and the transport.
    asked : int
        Requests that went out in this run, checksums apart.
    note : str
        What the venue's terms or limits ask a user to know.
    """

    source: str
    feed: str
    path: Path
    digest: str
    frame: pd.DataFrame
    findings: pd.DataFrame
    asked: int
    note: str


def run(config: FetchConfig, *, now: pd.Timestamp, progress: Progress) -> list[Fetched]:
    """Bring in every source.

    Parameters
    ----------
    config : FetchConfig
    now : pandas.Timestamp
        UTC: nothing later is asked for, and answers about now carry it.
    progress : callable
        Called with (source, requests done, requests).

    Raises
    ------
    CalibratorError
        What was recorded before is as it was; a rerun goes on from there.

    Examples
    --------
    >>> source = {"name": "x", "feed": "no-such-feed", "markets": ["A"], "from": "2024-01-01"}
    >>> run(FetchConfig(sources=[source]), now=pd.Timestamp("2025-01-01", tz="UTC"), progress=print)
    Traceback (most recent call last):
    ...
    calibrator.errors.ConfigError: fetch source 'x': no feed 'no-such-feed'; there are ...
    """
    feeds = [_feed(source) for source in config.sources]
    try:
        config.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublishError(f"{config.folder}: cannot be created: {error.strerror}") from error
    with lock(config.folder / "fetch.lock"):
        return [
            _source(config, source, feed, now, progress)
            for source, feed in zip(config.sources, feeds, strict=True)
        ]


def _feed(source: FetchSource) -> Feed:
    if source.feed not in FEEDS:
        known = ", ".join(list(FEEDS)[:5])
        raise ConfigError(f"fetch source {source.name!r}: no feed {source.feed!r}; there are {known}, ...")
    return FEEDS[source.feed]


def _source(
    config: FetchConfig, source: FetchSource, feed: Feed, now: pd.Timestamp, progress: Progress
) -> Fetched:
    job = _Job(Shelf(config.folder), config, source, feed, now)
    with job.venue() as venue:
        todo = job.requests()
        for number, (market, request) in enumerate(todo):
            progress(source.name, number, len(todo))
            job.bring(venue, market, request)
        progress(source.name, len(todo), len(todo))
    return job.finish([request.key for _, request in todo])


class _Job:
    """One source on its way in."""

    def __init__(
        self, shelf: Shelf, config: FetchConfig, source: FetchSource, feed: Feed, now: pd.Timestamp
    ) -> None:
        self.shelf, self.config, self.source, self.feed, self.now = shelf, config, source, feed, now
        self.found: list[Finding] = []
        self.asked = 0
        self.changed: list[str] = []

    @contextmanager
    def venue(self) -> Iterator[Transport]:
        c = self.config
        limits = Limits(
            c.step_seconds, c.whole_seconds, c.attempts, c.wait_seconds, c.max_wait_seconds,
            c.max_megabytes * 1_000_000,
        )  # fmt: skip
        with Transport(limits, self.source.headers) as transport:
            yield transport

    def requests(self) -> list[tuple[str, Request]]:
        source = self.source
        step_of(source.interval)
        start = pd.Timestamp(source.from_).tz_convert("UTC").as_unit("us")
        until = self.now if source.until is None else min(pd.Timestamp(source.until), self.now)
        if source.files:
            return [(source.markets[0], Request(path.name, str(path), until)) for path in source.files]
        base = (source.base or self.feed.home).rstrip("/")
        if not base:
            raise ConfigError(
                f"fetch source {source.name!r}: {source.feed} needs `base`, the venue's address"
            )
        if until <= start:
            raise ConfigError(f"fetch source {source.name!r}: starts at {start}, after now ({self.now})")
        made = []
        for market in source.markets:
            end = until.tz_convert("UTC").as_unit("us")
            query = Query(market, start, end, source.interval, base, source.options)
            made += [(market, request) for request in self.feed.plan(query)]
        return made

    def bring(self, venue: Transport, market: str, request: Request) -> None:
        """Answer, parse and record one request, unless that is done."""
        before = self.shelf.read(self.source.name, request.key)
        if before is not None and before.final and request.key not in self.source.accept_changed:
            self._recheck(venue, market, request, before)
            return
        pages = self._pages(venue, request)
        if not pages:
            first = request.until
            self.found.append(Finding(market, ABSENT, 1, first, first, "reported"))
            return
        parsed = [self._parse(market, place, content) for place, content in pages]
        frame = pd.concat([p[0] for p in parsed], ignore_index=True) if len(parsed) > 1 else parsed[0][0]
        frame = frame.drop_duplicates(ignore_index=True)
        frame = conform(_ordered(frame), self.feed.schema, source=request.url)
        record = Record(
            request.key,
            request.url,
            tuple(sha256(content) for _, content in pages),
            self.shelf.put(frame),
            len(frame),
            final=request.until <= self.now,
            findings=tuple(spelled(f) for _, found in parsed for f in found),
        )
        self.shelf.write(self.source.name, record)

    def _pages(self, venue: Transport, request: Request) -> list[tuple[str, bytes]]:
        if self.source.files:
            return [(request.url, _bytes(Path(request.url), self.config.max_megabytes))]
        pages: list[tuple[str, bytes]] = []
        step: Request | None = request
        while step is not None:
            if pages or self.asked:
                time.sleep(self.config.pause_seconds)
            self.asked += 1
            content = venue.get(step)
            if content is None:
                break
            pages.append((step.url, content))
            if len(pages) > _MAX_PAGES:
                raise DataError(f"{request.url}: has more than {_MAX_PAGES} pages")
            step = self.feed.follow(content, step)
        return pages

    def _parse(self, market: str, place: str, content: bytes) -> tuple[pd.DataFrame, list[Finding]]:
        source = self.source
        received = self.now if not source.files else source.captured_at
        at = None if received is None else pd.Timestamp(received).tz_convert("UTC")
        query = Query(market, self.now, self.now, source.interval)
        return self.feed.parse(Payload(content, place, market, query.step, at))

    def _recheck(self, venue: Transport, market: str, request: Request, before: Record) -> None:
        """Compare what was used with what the venue publishes now, or with the file."""
        if self.source.files:
            now = sha256(_bytes(Path(request.url), self.config.max_megabytes))
        elif request.checksum is not None:
            now = venue.checksum(request) or ""
        else:
            return
        if now in before.sha256:
            return
        what = "is gone" if not now else "changed"
        self.found.append(Finding(market, REPUBLISHED, 1, request.until, request.until, f"{what}, old kept"))
        self.changed.append(f"{request.key} ({what})")

    def finish(self, keys: list[str]) -> Fetched:
        """Put the parts together, cut to the period, as one snapshot; then raise the alerts."""
        records = self.shelf.records(self.source.name)
        if not self.feed.live:
            records = [r for r in records if r.key in set(keys)]
        if not records:
            raise DataError(
                f"fetch source {self.source.name!r}: the venue has none of its {len(keys)} answers"
            )
        frame = pd.concat([self.shelf.take(r.digest, self.feed.schema) for r in records], ignore_index=True)
        frame = _ordered(self._cut(frame).drop_duplicates(ignore_index=True))
        frame = conform(frame, self.feed.schema, source=f"fetch source {self.source.name!r}")
        name = self.shelf.put(frame)
        path = self.shelf.point(self.source.name, name)
        findings = findings_frame([*self.found, *(finding_of(f) for r in records for f in r.findings)])
        manifest = {
            "source": self.source.name,
            "feed": self.feed.name,
            "frame": str(self.feed.schema.name),
            "digest": name,
            "rows": len(frame),
            "parts": {r.key: {"sha256": list(r.sha256), "digest": r.digest, "rows": r.rows} for r in records},
        }
        save_json(self.shelf.folder / "manifests" / f"{self.source.name}.json", manifest)
        if self.changed and self.source.on_changed == "refuse":
            raise ChangedError(
                f"fetch source {self.source.name!r}: the venue changed files that are in use: "
                f"{', '.join(self.changed[:5])}; the old content stays in use; accept_changed fetches anew, "
                "on_changed: report goes on"
            )
        return Fetched(
            self.source.name, self.feed.name, path, name, frame, findings, self.asked, self.feed.note
        )

    def _cut(self, frame: pd.DataFrame) -> pd.DataFrame:
        if self.feed.live or self.source.files:
            return frame
        start, until = pd.Timestamp(self.source.from_), pd.Timestamp(self.source.until or self.now)
        at = frame["time"]
        ends = self.feed.schema.name in _AT_END
        kept = (at > start) & (at <= until) if ends else (at >= start) & (at < until)
        return frame[kept]


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    keys = [n for n in ("market", "time", "notional_floor", "distance", "event_id") if n in frame]
    return frame.sort_values(keys, kind="stable", ignore_index=True)


def _bytes(path: Path, megabytes: int) -> bytes:
    try:
        if path.stat().st_size > megabytes * 1_000_000:
            raise DataError(f"{path}: must not exceed {megabytes} MB")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
