"""What no update may do: `update` for every document, the other modules for one family of targets each."""

from calibrator.publish.constraints.update import check_update

__all__ = ["check_update"]
