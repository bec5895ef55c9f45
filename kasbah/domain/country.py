"""The countries there are, by the two letters of ISO 3166-1."""

from __future__ import annotations

import difflib

_CODES = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ "
    "CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO "
    "FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE "
    "JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO "
    "MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW "
    "PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM "
    "TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
)
COUNTRIES = frozenset(_CODES.split())

MEANT = {"UK": "GB", "EL": "GR", "EN": "GB"}
"""What people write, and what the standard has."""


def country_error(text: str) -> str | None:
    """Why `text` is no country, or None where it is one."""
    if text in COUNTRIES:
        return None
    upper = text.upper()
    near = [upper] if upper in COUNTRIES else [MEANT[upper]] if upper in MEANT else []
    near = near or (difflib.get_close_matches(upper, COUNTRIES, n=1) if len(text) == 2 else [])
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"{text!r} is no country: write two capital letters (ISO 3166-1), such as MA{meant}"
