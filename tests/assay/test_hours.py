import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from driftline.assay.hours import OpeningHours
from driftline.errors import InvalidInputError

S = 1_000_000_000
ZURICH = "Europe/Zurich"


def ns(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * S


def test_a_window_is_open_partly_or_closed():
    opening = OpeningHours.parse("Mon-Sat 07:00-20:00", ZURICH)
    # In June Zurich is two hours ahead.
    assert opening.is_open(ns("2026-06-01T05:00"), ns("2026-06-01T18:00")) == "open"
    assert opening.is_open(ns("2026-06-01T04:59"), ns("2026-06-01T05:02")) == "partly"
    assert opening.is_open(ns("2026-06-01T18:00"), ns("2026-06-02T05:00")) == "closed"
    assert opening.is_open(ns("2026-06-07T10:00"), ns("2026-06-07T11:00")) == "closed"
    # In January one.
    assert opening.is_open(ns("2026-01-05T05:00"), ns("2026-01-05T05:30")) == "closed"


def test_a_weekday_may_be_cut_short_or_written_out():
    for text in ("Tue-Thu", "tuesday - thursday", "Tues.-Thurs.", "TUE, Wed, Thur"):
        opening = OpeningHours.parse(f"{text} 07:00-20:00")
        assert [bool(day) for day in opening.spans] == [False, True, True, True, False, False, False]


def test_hours_may_go_past_midnight_and_meet_there():
    opening = OpeningHours.parse("Fri, Sat 20:00-02:00; Sun 02:00 - 04:00; Mon 00:00-24:00; Tue 0:00-1:00")
    assert opening.is_open(ns("2026-06-06T23:00"), ns("2026-06-07T04:00")) == "open"
    assert opening.is_open(ns("2026-06-07T01:00"), ns("2026-06-07T04:01")) == "partly"
    assert opening.is_open(ns("2026-06-08T23:00"), ns("2026-06-09T01:00")) == "open"
    assert OpeningHours.parse("Sat-Mon 10:00-12:00").is_open(ns("2026-06-07T10:00"), ns("2026-06-07T11:00")) == "open"


def test_an_hour_that_comes_twice_is_open_twice_and_one_that_is_skipped_is_not():
    night = OpeningHours.parse("Sun 01:00-02:30", ZURICH)
    assert night.is_open(ns("2026-10-24T23:00"), ns("2026-10-25T01:30")) == "open"
    assert night.is_open(ns("2026-10-25T01:30"), ns("2026-10-25T02:00")) == "closed"
    # On 29 March the clock goes from 02:00 to 03:00, at 01:00 UTC.
    assert night.is_open(ns("2026-03-29T00:00"), ns("2026-03-29T01:00")) == "open"
    assert night.is_open(ns("2026-03-29T01:00"), ns("2026-03-29T02:00")) == "closed"
    late = OpeningHours.parse("Sun 02:30-04:00", ZURICH)
    assert late.is_open(ns("2026-03-29T01:00"), ns("2026-03-29T02:00")) == "open"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no opening hours"),
        ("Mon-Sat", "no hours"),
        ("07:00-20:00", "no weekday"),
        ("Mo-Sa 7-20", "no weekday|no hours"),
        ("Monsoon 07:00-20:00", "'Monsoon' .* is no weekday"),
        ("Mon-Satyr 07:00-20:00", "'Satyr' .* is no weekday"),
        ("Mon 07:00-25:00", "from 00:00 to 24:00"),
        ("Mon 07:60-08:00", "from 00:00 to 24:00"),
        ("Mon 07:00-07:00", "begins where it ends"),
    ],
)
def test_hours_that_are_none_say_how_they_are_written(text: str, says: str):
    with pytest.raises(InvalidInputError, match=f"(?:{says}).*write them as|all day is"):
        OpeningHours.parse(text)
    with pytest.raises(InvalidInputError, match="no time zone"):
        OpeningHours.parse("daily 08:00-12:00", "Nowhere")


def test_a_week_knows_which_of_its_hours_are_open():
    opening = OpeningHours.parse("Mon-Fri 07:30-12:00")
    assert opening.asked("day").nonzero()[0].tolist() == [8, 9, 10, 11]
    assert int(opening.asked("week").sum()) == 20
    assert math.isclose(opening.asked("week")[:24].mean(), 4 / 24)
