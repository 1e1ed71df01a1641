"""``solar``: at dawn, sunrise, noon, sunset and dusk of a place.

Source: Jean Meeus, Astronomical Algorithms, 2nd edition, chapters 12 (sidereal time), 15 (rising and setting) and 25
(the sun, low accuracy: 0.01 degrees, so some seconds of time at middle latitudes). Horizons as Celery's: sunrise and
sunset are of the upper limb with 34 minutes of arc of refraction; the dawns and dusks are of the centre.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, Final

from opsq.core.schedules.base import BaseSchedule
from opsq.core.schedules.zones import DAY_S
from opsq.errors import UsageError

#: Event → (height of the sun's centre in degrees, -1 before noon, 1 after it, 0 at noon).
EVENTS: Final[Mapping[str, tuple[float, int]]] = {
    "dawn_astronomical": (-18.0, -1),
    "dawn_nautical": (-12.0, -1),
    "dawn_civil": (-6.0, -1),
    "sunrise": (-0.8333, -1),
    "solar_noon": (0.0, 0),
    "sunset": (-0.8333, 1),
    "dusk_civil": (-6.0, 1),
    "dusk_nautical": (-12.0, 1),
    "dusk_astronomical": (-18.0, 1),
}
#: Near the poles an event may stay away for half a year.
SEARCHED_DAYS: Final = 400
_J2000_S: Final = 946_728_000.0
_ROUNDS: Final = 8


class solar(BaseSchedule):
    """When the sun does something.

    event: one of ``EVENTS``. lat, lon: degrees, north and east positive. Raises: UsageError (also a ValueError).
    """

    def __init__(
        self,
        event: str,
        lat: float,
        lon: float,
        *,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
        tz: str | tzinfo | None = None,
    ) -> None:
        super().__init__(nowfun, app, tz)
        if event not in EVENTS:
            raise SolarError(f"solar event: expected one of {', '.join(EVENTS)}, got {event!r}")
        if not -90 <= lat <= 90:
            raise SolarError(f"latitude: expected -90 to 90 degrees, got {lat}")
        if not -180 <= lon <= 180:
            raise SolarError(f"longitude: expected -180 to 180 degrees, got {lon}")
        self.event = event
        self.lat = lat
        self.lon = lon

    def next_after(self, at: float) -> float | None:
        """The first such moment later than ``at``, to the second; None when the sun does not do it in a year."""
        height, side = EVENTS[self.event]
        first = math.floor((at + self.lon * 240) / DAY_S) - 1
        for number in range(first, first + SEARCHED_DAYS):
            found = self._on(number, height, side)
            if found is not None and found > at + 1:
                return found
        return None

    def _on(self, number: int, height: float, side: int) -> float | None:
        """The moment on the solar day ``number`` since 1970; None when the sun stays above or below."""
        noon = number * DAY_S + DAY_S / 2 - self.lon * 240
        at = noon
        for _ in range(_ROUNDS):
            declination, hour_angle = _sun(at, self.lon)
            wanted = _angle_at(height, math.radians(self.lat), declination) if side else 0.0
            if wanted is None:
                return None
            step = (side * wanted - hour_angle) / math.tau * DAY_S
            # The short way round, or the answer would be of another day.
            step -= round(step / DAY_S) * DAY_S
            at += step
            if abs(step) < 0.1:
                break
        return float(round(at))

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __eq__(self, other: object) -> bool:
        return self._parts() == other._parts() if isinstance(other, solar) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[object, ...]:
        return self.event, self.lat, self.lon

    def __reduce__(self) -> Any:
        return type(self), self._parts()


class SolarError(UsageError, ValueError):
    """An event or a place that does not exist."""


def _angle_at(height: float, latitude: float, declination: float) -> float | None:
    """How far from noon the sun stands at ``height`` degrees, in radians; None when it never does that day."""
    across = math.cos(latitude) * math.cos(declination)
    if abs(across) < 1e-9:
        return None
    cosine = (math.sin(math.radians(height)) - math.sin(latitude) * math.sin(declination)) / across
    return math.acos(cosine) if -1 <= cosine <= 1 else None


def _sun(at: float, longitude: float) -> tuple[float, float]:
    """The sun's declination and local hour angle at an instant, radians; the angle from -pi to pi."""
    days = (at - _J2000_S) / DAY_S
    century = days / 36_525
    anomaly = math.radians(357.52911 + 35_999.05029 * century - 0.0001537 * century**2)
    centre = (
        (1.914602 - 0.004817 * century) * math.sin(anomaly)
        + 0.019993 * math.sin(2 * anomaly)
        + 0.000289 * math.sin(3 * anomaly)
    )
    node = math.radians(125.04 - 1934.136 * century)
    true = 280.46646 + 36_000.76983 * century + 0.0003032 * century**2 + centre
    apparent = math.radians(true - 0.00569 - 0.00478 * math.sin(node))
    tilt = math.radians(23.439291 - 0.0130042 * century + 0.00256 * math.cos(node))
    declination = math.asin(math.sin(tilt) * math.sin(apparent))
    ascension = math.atan2(math.cos(tilt) * math.sin(apparent), math.cos(apparent))
    sidereal = math.radians(280.46061837 + 360.98564736629 * days + longitude)
    angle = (sidereal - ascension) % math.tau
    return declination, angle - math.tau if angle > math.pi else angle
