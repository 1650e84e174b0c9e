"""Forecast and calibrate without a backtest: the next document, unsigned, for a look before publishing."""

from datetime import datetime
from pathlib import Path

from calibrator.config import Config
from calibrator.publish.canonical import digest as sha256
from calibrator.publish.document import ParameterDocument, decode, encode
from pipelines.champion import with_champion
from pipelines.forecasting import Progress
from pipelines.jobs import Now, job
from pipelines.loading import load
from pipelines.producing import produced
from pipelines.run import documented, save_frames
from pipelines.store import run_folder, save
from pipelines.tracked_calibration import track_calibration


def calibrate(
    config: Config, *, home: Path, as_of: datetime | None, now: Now, progress: Progress
) -> tuple[ParameterDocument, Path]:
    """Write ``home/runs/<as-of>/`` with the walk-forward's frames and the document, and nothing else.

    Parameters
    ----------
    config : Config
    home : pathlib.Path
    as_of : datetime, optional
        Later rows are not looked at; default: the last bar.
    now : callable
        The clock.
    progress : callable
        Called with (what, done, total).

    Raises
    ------
    CalibratorError
        Nothing was published or changed.
    """
    with job("calibrate", config, home=home, as_of=as_of, now=now) as work:
        loaded = load(config, as_of=as_of)
        live = with_champion(config, home)
        folder = run_folder(home, loaded.as_of)
        path = folder / "parameters.json"
        before = work.identify(live, as_of=loaded.as_of, data=loaded.data)
        if before is not None:
            return decode(path.read_bytes()), path
        with work.track(config.tracking) as tracked:
            production = produced(live, loaded, home=home, progress=work.progress(progress))
            document, _, _ = documented(production, loaded, home=home)
            files = save_frames(folder, production)
            work.fence()
            files["parameters"] = save(path, encode(document))
            work.facts["files"] = sorted(str(p.relative_to(home)) for p in files.values())
            work.facts |= {"document": sha256(encode(document)), "sequence": document.sequence}
            track_calibration(tracked, loaded, production, document)
        return document, path
