"""How does Cedar see this data and this place? Each is read into it once, however often it is asked about.

Reading an entity, and holding it against the schema, takes as long as an answer does; a few dozen of each are asked
about again and again. Their names mean nothing: no rule can speak of one by its name (`decide/rule_words.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cedarpy

from kasbah.decide.conclusions import Attribute, attributes
from kasbah.decide.policies import Law
from kasbah.domain.law import Data, Place

Uid = dict[str, str]
MOST_READ = 200
"""Data and places that are held at a time: reading one more into many takes longer than beginning again with few."""
NOTHING = cedarpy.Entities.from_json_str("[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What was read, and under which name. Never changed: who asks while another reads more has all of what he asks
    about, or Cedar would take its facts for undeclared."""

    entities: cedarpy.Entities = NOTHING
    uids: Mapping[Data | Place, Uid] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Reading:
    """What was read of data and places for the questions of one law."""

    law: Law
    _read: Read = field(default_factory=Read)

    def of(self, *things: Data | Place) -> Read:
        """These and what was read before. Raises ValueError where one does not fit the schema."""
        read = self._read
        new = [one for one in dict.fromkeys(things) if one not in read.uids]
        if new:
            if len(read.uids) + len(new) > MOST_READ:
                read, new = Read(), [*dict.fromkeys(things)]
            read = self._read = self._with(read, new)
        return read

    def _with(self, read: Read, new: Sequence[Data | Place]) -> Read:
        uids, entities = dict(read.uids), []
        for one in new:
            uids[one] = {"type": f"Kasbah::{'Data' if isinstance(one, Data) else 'Site'}", "id": str(len(uids))}
            said = _data(one) if isinstance(one, Data) else attributes(one, self.law.geography)
            entities.append({"uid": uids[one], "attrs": said, "parents": []})
        return Read(entities=read.entities.with_added_json_str(json.dumps(entities), schema=self.law.schema), uids=uids)


def _data(data: Data) -> Mapping[str, Attribute | dict[str, object]]:
    label = {
        "level": int(data.label.level),
        "categories": list(data.label.categories),
        "regimes": list(data.label.regimes),
    }
    return {"kind": data.kind.value, "label": label} | ({} if data.risk is None else {"risk": data.risk.value})
