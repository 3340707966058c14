"""What kshot is made of, and whether anything in it is known to be bad: `make audit`, `make licences`, `make sbom`.

A tool of those who develop and release kshot. It ships nowhere and imports nothing of ours.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("kshot", "service", "workers", "standalone", "migrations")
INSTALLED = "kshot[learn,s3,server,standalone,tracing]"
"""What `make serve` installs, and what a bucket and tracing need: licences and the bill of materials cover it."""
