"""The words of the pages: those of ``opsq.words``, which the command line and the diagnoses speak too."""

from __future__ import annotations

from opsq.words import ID_LENGTH as ID_LENGTH
from opsq.words import NBSP as NBSP
from opsq.words import NOT_APPLICABLE as NOT_APPLICABLE
from opsq.words import UNKNOWN as UNKNOWN
from opsq.words import age as age
from opsq.words import ago as ago
from opsq.words import clock as clock
from opsq.words import clock_ms as clock_ms
from opsq.words import clock_seconds as clock_seconds
from opsq.words import count as count
from opsq.words import cut as cut
from opsq.words import day as day
from opsq.words import duration as duration
from opsq.words import duration_parts as duration_parts
from opsq.words import full_time as full_time
from opsq.words import iso as iso
from opsq.words import ordinal as ordinal
from opsq.words import percent as percent
from opsq.words import percent_parts as percent_parts
from opsq.words import plural as plural
from opsq.words import rate as rate
from opsq.words import rate_parts as rate_parts
from opsq.words import short_host as short_host
from opsq.words import short_id as short_id
from opsq.words import short_name as short_name
from opsq.words import short_ordinal as short_ordinal
from opsq.words import significant as significant
from opsq.words import size as size
from opsq.words import utc as utc
