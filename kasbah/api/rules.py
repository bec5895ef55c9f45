"""A rule of the law as it is shown: in plans, in explanations, on the command line."""

from __future__ import annotations

from pydantic import Field

from kasbah.api.shape import Shape
from kasbah.domain.law import Rule


class RuleView(Shape):
    """What a policy says of itself."""

    id: str
    pack: str
    title: str
    advice: str = Field(description="What would change the answer.")
    citation: str = Field(description="The law that it comes from.")
    verified: str = Field(description="When it was last held against its source, or that it never was.")
    approval: str = Field(default="", description="The approval that lifts it; empty where none can.")


def rule_view(rule: Rule) -> RuleView:
    """A rule as it is shown."""
    return RuleView(
        id=rule.id,
        pack=rule.pack,
        title=rule.title,
        advice=rule.advice,
        citation=rule.citation,
        verified=rule.verified,
        approval=rule.approval,
    )
