"""What tenants were told of each other: nothing."""

from pathlib import Path

from benchmarks.faults.audit.findings import Audit
from benchmarks.faults.audit.told import Index
from benchmarks.faults.ledger import Told, read


def audit_tenants(ledger: Path, index: Index, audit: Audit) -> None:
    """No answer names what another tenant sent (labels and metadata say whose they are); no prying was rewarded."""
    marks = {tenant: (f'"{tenant}-', f'"owner":"{tenant}"') for tenant in index.tenants}
    for entry in read(ledger):
        if not isinstance(entry, Told) or not entry.is_accepted:
            continue
        audit.checked["answers read for what is another tenant's"] += 1
        for tenant, words in marks.items():
            if tenant != entry.tenant and any(word in entry.body for word in words):
                audit.find(
                    "mixed", f"{entry.tenant} was told what is {tenant}'s: {entry.act} {entry.about}: {entry.body}"
                )
    audit.checked["models that were pried for"] = len(index.pried)
    for told in index.pried:
        if told.is_accepted:
            audit.find("mixed", f"{told.tenant} pried for {told.about['model']} and was answered: {told.body}")
