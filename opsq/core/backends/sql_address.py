"""How a SQL database of results is reached: its URL, a driver that is installed, the engine of the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from opsq import plugins
from opsq.errors import ConfigError
from opsq.masking import mask_url
from opsq.settings import Settings

# What is taken where the URL names no driver and the one that SQLAlchemy would take is not installed.
_OTHER_DRIVERS: Final[Mapping[str, str]] = {
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}


def located(url: str) -> sa.URL:
    """The address, with a driver that is installed.

    Raises: ConfigError for a URL that SQLAlchemy cannot read, or no driver.
    """
    try:
        place = sa.make_url(url)
        try:
            place.get_dialect().import_dbapi()
        except ImportError:
            place = place.set(drivername=_OTHER_DRIVERS.get(place.drivername, place.drivername))
            place.get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ConfigError(f"result_backend {mask_url(url)!r}: {error}") from None
    except ImportError as error:
        plugins.require(error.name or "", f"result_backend {mask_url(url)!r}")
        raise
    return place


def engine_maker(place: sa.URL, settings: Settings) -> Callable[[], sa.Engine]:
    """What makes an engine as ``database_engine_options`` and ``database_engine_callback`` say.

    Raises: ConfigError for a callback that is none.
    """
    given = settings.database_engine_callback
    adjust = plugins.resolve(given, origin="database_engine_callback") if isinstance(given, str) else given
    if adjust is not None and not callable(adjust):
        raise ConfigError(f"database_engine_callback must be a function or its path, got {adjust!r}")

    def make() -> sa.Engine:
        engine = sa.create_engine(place, **settings.database_engine_options)
        if adjust is not None:
            adjust(engine)
        return engine

    return make
