"""What every part of a document is made of: frozen models of integers and printable text."""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from calibrator.domain import PPM
from calibrator.publish import canonical


def _printable(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError(f"text must be printable, without spaces around it, was {value!r}")
    return value


Ppm = Annotated[int, Field(ge=0, le=PPM)]
SafeInteger = Annotated[int, Field(ge=-canonical.MAX_SAFE_INTEGER, le=canonical.MAX_SAFE_INTEGER)]
Count = Annotated[int, Field(ge=1, le=canonical.MAX_SAFE_INTEGER)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Symbol = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_printable)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]
Term = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Protocol = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Chain = Annotated[str, StringConstraints(pattern=r"^(off-chain|[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32})$")]
OFF_CHAIN: Final = "off-chain"


class Part(BaseModel):
    """Base of every part of a document: frozen, strict about types and unknown keys.

    Examples
    --------
    >>> class Margin(Part):
    ...     margin_ppm: Ppm
    >>> Margin(margin_ppm=50_000)
    Margin(margin_ppm=50000)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
