"""What ends with its `with`."""

from __future__ import annotations

from typing import Self


class Closing:
    """A base for whatever has a close()."""

    def close(self) -> None:
        """End it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
