"""Who may do what, written down by hand: what the rules are held against, in `decide` and through the API."""

from __future__ import annotations

READS = frozenset({"project.read", "service.read", "service.usage", "site.read", "policy.read"})
SERVICES = frozenset(
    {"service.plan", "service.deploy", "service.scale", "service.sleep", "service.env", "service.traffic"}
    | {"service.rollback", "service.delete", "service.logs", "service.exec"}
)
SECRETS = frozenset({"secret.read", "secret.set", "secret.delete"})
SITES = frozenset({"site.gc", "site.volumes", "site.drain", "installation.gc"})
CREDENTIALS = frozenset(
    f"{noun}.{verb}" for noun in ("key", "token") for verb in ("read", "create", "revoke", "disable", "enable")
)
OWN = frozenset(
    {"site.declare", "project.create", "project.quota", "project.delete", "policy.apply", "audit.read", "audit.accept"}
)

MAY = {
    "owner": READS | SERVICES | SECRETS | SITES | CREDENTIALS | OWN,
    "deployer": READS | SERVICES | SECRETS,
    "operator": READS | SITES,
    "auditor": READS | {"secret.read", "key.read", "token.read", "audit.read"},
}
"""By role, its actions. Whoever has any may read the installation as well."""

OF_THE_INSTALLATION = frozenset(
    {"installation.read", "installation.gc", "project.create", "project.quota", "project.delete"}
    | {"policy.read", "policy.apply", "audit.read", "audit.accept"}
    | {"site.read", "site.gc", "site.volumes", "site.drain", "site.declare"}
)
"""What no project has: a grant in a project gives none of it, but for reading which installation this is."""

ROUTES = {
    "POST /gc": "installation.gc",
    "GET /installation": "installation.read",
    "POST /keys": "key.create",
    "GET /keys": "key.read",
    "GET /keys/{key}/arrival": "key.read",
    "DELETE /keys/{key}": "key.revoke",
    "POST /keys/{key}/disable": "key.disable",
    "POST /keys/{key}/enable": "key.enable",
    "GET /projects": "project.read",
    "POST /projects": "project.create",
    "GET /projects/{name}": "project.read",
    "DELETE /projects/{name}": "project.delete",
    "POST /projects/{name}/quota": "project.quota",
    "GET /rollouts/{rollout_id}": "service.read",
    "GET /secrets": "secret.read",
    "PUT /secrets/{name}": "secret.set",
    "PUT /secrets/{name}/label": "secret.set",
    "DELETE /secrets/{name}": "secret.delete",
    "GET /services": "service.read",
    "GET /services/{name}": "service.read",
    "DELETE /services/{name}": "service.delete",
    "POST /services/{name}/deploys": "service.deploy",
    "GET /services/{name}/env": "service.env",
    "POST /services/{name}/env": "service.env",
    "POST /services/{name}/exec-door": "service.exec",
    "GET /services/{name}/explain": "service.read",
    "POST /services/{name}/log-door": "service.logs",
    "POST /services/{name}/plan": "service.plan",
    "GET /services/{name}/revisions": "service.read",
    "POST /services/{name}/rollback": "service.rollback",
    "GET /services/{name}/rollouts": "service.read",
    "POST /services/{name}/scale": "service.scale",
    "POST /services/{name}/sleep": "service.sleep",
    "POST /services/{name}/traffic": "service.traffic",
    "POST /services/{name}/upload-doors": "service.deploy",
    "POST /services/{name}/wake": "service.sleep",
    "GET /services/{name}/where": "service.read",
    "GET /joining": "site.declare",
    "GET /sites": "site.read",
    "GET /sites/{site}": "site.read",
    "POST /sites/plan": "policy.read",
    "PUT /sites": "site.declare",
    "PUT /sites/{site}": "site.declare",
    "DELETE /sites/{site}": "site.declare",
    "POST /sites/{site}/approve": "site.declare",
    "GET /sites/{site}/charter": "site.read",
    "POST /sites/{site}/drain": "site.drain",
    "POST /sites/{site}/tokens": "site.declare",
    "POST /sites/{name}/gc-door": "site.gc",
    "POST /sites/{name}/volumes-door": "site.volumes",
    "POST /tokens": "token.create",
    "GET /tokens": "token.read",
    "DELETE /tokens/{token}": "token.revoke",
    "POST /tokens/{token}/disable": "token.disable",
    "POST /tokens/{token}/enable": "token.enable",
    "GET /usage": "service.usage",
    "GET /audit/entries": "audit.read",
    "GET /audit/entries/{sequence}": "audit.read",
    "GET /audit/bundles/{number}": "audit.read",
    "GET /audit/logs": "audit.read",
    "POST /audit/logs/{log}/accept": "audit.accept",
    "GET /policy": "policy.read",
    "GET /policy/coverage": "policy.read",
    "GET /policy/lawbooks": "policy.read",
    "GET /policy/lawbooks/{version}": "policy.read",
    "POST /policy/plan": "policy.read",
    "POST /policy/lawbooks": "policy.apply",
    "POST /policy/lawbooks/{version}/approve": "policy.apply",
    "POST /policy/lawbooks/{version}/resume": "policy.apply",
    "GET /policy/grants": "policy.read",
    "POST /policy/grants": "policy.apply",
    "DELETE /policy/grants/{grant}": "policy.apply",
}
"""By route below /api/v1, the one action that it is."""

LATER: frozenset[str] = frozenset()
"""Actions that no route is yet."""
